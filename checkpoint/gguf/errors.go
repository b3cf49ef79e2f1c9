package gguf

import (
	"errors"
	"fmt"

	"github.com/trimtab/trimtab"
)

// corruptError is the error of a file that breaks the format.
func corruptError(format string, args ...any) error {
	return trimtab.NewError(trimtab.Invalid, "gguf_corrupt", "download the file again, or convert the model again",
		format, args...)
}

// unsupportedError is the error of a file that is in order, and cannot be read here.
func unsupportedError(remedy, format string, args ...any) error {
	return trimtab.NewError(trimtab.Invalid, "gguf_unsupported", remedy, format, args...)
}

// writeError is the error of metadata, tensors or data that cannot be written.
func writeError(remedy, format string, args ...any) error {
	return trimtab.NewError(trimtab.Invalid, "gguf_unwritable", remedy, format, args...)
}

// annotate puts what was being done in front of an error's message. The class,
// type and remedy of a trimtab.Error stay.
func annotate(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return trimtab.NewError(e.Class, e.Type, e.Remedy, "%s: %s", what, e.Message)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// internalError is the error of a caller that breaks the contract.
func internalError(format string, args ...any) error {
	return trimtab.NewError(trimtab.Internal, "internal", "", format, args...)
}
