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

// Wrap turns an error into what a workflow can read: an application error
// whose type is the trimtab type and whose details are the Error and its
// class. Workflows decide about retries, so every one of a segment is final
// to Temporal; small activities retry what is Unavailable.
func Wrap(err error) error {
	if err == nil {
		return nil
	}
	e := sanitize(classify(err))
	return temporal.NewApplicationErrorWithOptions(e.Error(), e.Type, temporal.ApplicationErrorOptions{
		NonRetryable: e.Class != trimtab.Unavailable, Details: []any{*e, e.Class}})
}

// maxMessageBytes bounds an error's text, bytes: Temporal refuses large failures, and then nobody learns of the error.
const maxMessageBytes = 4096

// sanitize makes an error that Temporal can carry and everybody may read: not too long, UTF-8, no secrets.
func sanitize(e *trimtab.Error) *trimtab.Error {
	short := func(s string) string {
		if len(s) > maxMessageBytes {
			s = s[:maxMessageBytes] + " …"
		}
		return strings.ToValidUTF8(s, "�")
	}
	c := *e
	c.Message, c.Remedy = short(redact.Text(e.Message)), short(redact.Text(e.Remedy))
	return &c
}

// DiskFull is the type of an error that lasts until a person frees some space,
// for files or for Postgres, FilesUnavailable of one of the disk or the machine's
// limits, FileSizeLimit of the limit of a file's size.
const (
	DiskFull         = "disk_full"
	FilesUnavailable = "files_unavailable"
	FileSizeLimit    = "file_size_limit"
)

// workerLost is the type of the error of a worker from which nothing is heard.
const workerLost = "worker_lost"

// NeedsOperator reports whether an error of this type lasts until somebody mends the
// machine: it is waited for, however long that takes.
func NeedsOperator(typ string) bool {
	return typ == DiskFull || typ == FilesUnavailable || typ == FileSizeLimit || typ == MemoryShort
}

// machineErrnos are the faults of a disk or a machine that have nothing to do with what was asked of it.
var machineErrnos = []syscall.Errno{syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EIO, syscall.ESTALE,
	syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}

// classify finds what kind of fault err is.
func classify(err error) *trimtab.Error {
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return trimtab.NewError(trimtab.Unavailable, DiskFull, "free some space; the stage goes on by itself", "%w",
			err)
	case errors.Is(err, syscall.EFBIG):
		return trimtab.NewError(trimtab.Unavailable, FileSizeLimit,
			"raise the limit (ulimit -f unlimited) and start the worker again: the stage goes on by itself", "%w", err)
	case slices.ContainsFunc(machineErrnos, func(e syscall.Errno) bool { return errors.Is(err, e) }):
		return trimtab.NewError(trimtab.Unavailable, FilesUnavailable,
			"look at the disk of the data folder and at the machine's limits; the stage goes on by itself", "%w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return trimtab.NewError(trimtab.Unavailable, "interrupted", "", "%w", err)
	}
	return trimtab.AsError(err)
}

// ClassOf is the class of an error that goes to an activity; JSON leaves it out.
func ClassOf(e *trimtab.Error) trimtab.Class {
	if e == nil {
		return trimtab.Internal
	}
	return e.Class
}

// withClass puts the class back.
func withClass(e *trimtab.Error, class trimtab.Class) *trimtab.Error {
	if e != nil {
		e.Class = class
	}
	return e
}

// Unwrap is the inverse of Wrap, for errors that come out of Temporal.
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
			"the stage goes on from its last checkpoint as soon as a worker is there",
			"the worker stopped answering")
	}
	if errors.As(err, &app) { // a panic in an activity, or an error of the SDK's
		return &trimtab.Error{Type: "activity_failed", Message: app.Error(), Class: trimtab.Internal}
	}
	return trimtab.AsError(err)
}
