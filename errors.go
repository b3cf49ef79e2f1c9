package trimtab

import (
	"errors"
	"fmt"
)

// Class says who has to act on an error, and so what the workflow and the
// exit code do with it.
type Class int

// The classes of error.
const (
	Internal     Class = iota // a fault of ours: exit 1; retried 3 times inside a stage
	Usage                     // exit 2: the caller's words are off
	NotFound                  // exit 3
	Conflict                  // exit 4: the state has moved on, or does not allow it
	Verification              // exit 5: bytes are not what their digest says
	Unavailable               // exit 6: a service or the machine; retried for ever by workflows
	Invalid                   // exit 1: wrong input or arithmetic; never retried, the stage blocks
)

// Error is an error with a stable type, a place in its message, and a remedy.
type Error struct {
	Type    string `json:"type"` // snake_case and stable, for example "dataset_digest_mismatch"
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
	Class   Class  `json:"-"`
	cause   error
}

// NewError makes an Error; format takes %w for a cause.
func NewError(class Class, typ, remedy, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Type: typ, Message: err.Error(), Remedy: remedy, Class: class, cause: errors.Unwrap(err)}
}

func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Message
	}
	return e.Message + ": " + e.Remedy
}

func (e *Error) Unwrap() error { return e.cause }

// AsError finds the Error in err's chain, or wraps err as an internal one.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Type: "internal", Message: err.Error(), Class: Internal, cause: err}
}

// ExitCode is the process exit code that err deserves.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	switch c := AsError(err).Class; c {
	case Usage, NotFound, Conflict, Verification, Unavailable:
		return int(c) + 1
	}
	return 1
}
