package activities

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/redact"
	"go.temporal.io/sdk/temporal"
)

// Wrap turns an error into the form that a workflow can read: an ApplicationError
// whose type is the trimtab type, and whose details are the Error and its class.
// Temporal retries what is Unavailable, in small activities; a segment is
// scheduled for one try, and its workflow decides about another. Unwrap is the
// inverse.
func Wrap(err error) error {
	if err == nil {
		return nil
	}
	e := sanitize(classify(err))
	return temporal.NewApplicationErrorWithOptions(e.Error(), e.Type, temporal.ApplicationErrorOptions{
		NonRetryable: e.Class != trimtab.Unavailable, Details: []any{*e, e.Class}})
}

// maxMessageBytes bounds the text of an error, bytes. Temporal refuses larger
// failures, and the error would be lost.
const maxMessageBytes = 4096

// sanitize returns e in a form that Temporal can carry and that everybody may
// read: of bounded length, valid UTF-8, without secrets.
func sanitize(e *trimtab.Error) *trimtab.Error {
	short := func(s string) string { // bytes first; ToValidUTF8 repairs a character that was cut
		if len(s) > maxMessageBytes {
			s = s[:maxMessageBytes] + " …"
		}
		return strings.ToValidUTF8(s, "�")
	}
	c := *e
	c.Message, c.Remedy = short(redact.Text(e.Message)), short(redact.Text(e.Remedy))
	return &c
}

// Types of errors that last until a person acts on the machine. DiskFull is a
// full disk or quota, of files or of Postgres; FilesUnavailable a fault of the
// disk, or a limit of the machine; FileSizeLimit the limit of a file's size.
const (
	DiskFull         = "disk_full"
	FilesUnavailable = "files_unavailable"
	FileSizeLimit    = "file_size_limit"
)

// workerLost is the type of the error of a worker that sends no heartbeat any more.
const workerLost = "worker_lost"

// NeedsOperator reports whether an error of this type lasts until a person acts
// on the machine. The stage waits for that without end, and shows what to do. A new
// type here changes workflow code: see needsOperator in package workflows.
func NeedsOperator(typ string) bool {
	return typ == DiskFull || typ == FilesUnavailable || typ == FileSizeLimit || typ == MemoryShort
}

// machineErrnos are faults of a disk or a machine that do not depend on what was
// asked of it, so the same request can succeed later.
var machineErrnos = []syscall.Errno{syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EIO, syscall.ESTALE,
	syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}

// classify returns the trimtab.Error of err, or makes one: errors of the machine
// are Unavailable, and so are cancelled contexts; anything else is Internal.
func classify(err error) *trimtab.Error {
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	switch {
	case trimtab.IsDiskFull(err):
		return trimtab.NewError(trimtab.Unavailable, DiskFull, "free some space; the stage resumes by itself",
			"%w", err)
	case errors.Is(err, syscall.EFBIG):
		return trimtab.NewError(trimtab.Unavailable, FileSizeLimit,
			"raise the limit (ulimit -f unlimited) and start the worker again: the stage resumes by itself", "%w", err)
	case slices.ContainsFunc(machineErrnos, func(e syscall.Errno) bool { return errors.Is(err, e) }):
		return trimtab.NewError(trimtab.Unavailable, FilesUnavailable,
			"look at the disk of the data folder and at the machine's limits; the stage resumes by itself", "%w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return trimtab.NewError(trimtab.Unavailable, "interrupted", "", "%w", err)
	}
	return trimtab.AsError(err)
}

// ClassOf returns the class of an error that is sent to an activity, beside the
// error, because the JSON of an Error leaves the class out.
func ClassOf(e *trimtab.Error) trimtab.Class {
	if e == nil {
		return trimtab.Internal
	}
	return e.Class
}

// withClass puts the class back into an error that was sent to an activity.
func withClass(e *trimtab.Error, class trimtab.Class) *trimtab.Error {
	if e != nil {
		e.Class = class
	}
	return e
}

// Unwrap is the inverse of Wrap, for errors that come out of Temporal. A timeout
// means that the worker was lost; an ApplicationError without the details of Wrap
// is a panic in an activity, or an error of the SDK, and is Internal.
func Unwrap(err error) *trimtab.Error {
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.HasDetails() {
		var e trimtab.Error
		var class trimtab.Class
		if app.Details(&e, &class) == nil {
			e.Class = class
			return &e
		}
	}
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return trimtab.NewError(trimtab.Unavailable, workerLost,
			"the stage resumes from its last checkpoint as soon as a worker is available",
			"the worker stopped answering")
	}
	if errors.As(err, &app) {
		return &trimtab.Error{Type: "activity_failed", Message: app.Error(), Class: trimtab.Internal}
	}
	return trimtab.AsError(err)
}
