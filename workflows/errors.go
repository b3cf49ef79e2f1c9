package workflows

import (
	"errors"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
)

// applicationError returns e in the form that crosses workflow boundaries: an
// ApplicationError with e's type, and with e and its class as details (the JSON
// of an Error leaves the class out). activities.Unwrap is the inverse.
func applicationError(e *trimtab.Error) error {
	return temporal.NewApplicationErrorWithOptions(e.Error(), e.Type,
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{*e, e.Class}})
}

// ErrorOf returns the trimtab.Error inside an error of a workflow or of an Update.
func ErrorOf(err error) *trimtab.Error { return activities.Unwrap(err) }

// NotCreatedError marks the failure of an attempt that has no row in the
// record: people have never seen it, so the run gives its number to the next
// attempt. It travels as the cause of an applicationError. Temporal names a
// cause by its Go type, so the name of this type is part of stored histories.
type NotCreatedError struct{}

// Error says what the mark means; people see the error that it marks.
func (*NotCreatedError) Error() string { return "the attempt was not created" }

// notCreatedType is the name of NotCreatedError in a failure that Temporal has carried.
const notCreatedType = "NotCreatedError"

// notCreated returns e as the failure of an attempt that has no row. It is
// marked twice: by the cause, and by a third detail for workers of earlier
// builds, which know no other mark.
func notCreated(e *trimtab.Error) error {
	return temporal.NewApplicationErrorWithOptions(e.Error(), e.Type, temporal.ApplicationErrorOptions{
		NonRetryable: true, Details: []any{*e, e.Class, true}, Cause: &NotCreatedError{}})
}

// isNotCreated reports whether err comes from notCreated, of this workflow or
// of a child.
func isNotCreated(err error) bool {
	var mark *NotCreatedError
	if errors.As(err, &mark) {
		return true
	}
	for err != nil {
		var app *temporal.ApplicationError
		if !errors.As(err, &app) {
			return false
		}
		if app.Type() == notCreatedType || hasNotCreatedDetail(app) {
			return true
		}
		err = app.Unwrap()
	}
	return false
}

// hasNotCreatedDetail reads the mark of histories of earlier builds: a third
// detail, true, behind the error and its class.
func hasNotCreatedDetail(app *temporal.ApplicationError) bool {
	var e trimtab.Error
	var class trimtab.Class
	var mark bool
	return app.HasDetails() && app.Details(&e, &class, &mark) == nil && mark
}

// moreSevere returns the error that decides what happens to a segment whose
// rollouts failed in several ways: one that no retry can fix before one that
// may pass, any failure before a cancellation, and otherwise the first.
func moreSevere(first, second error) error {
	if first == nil || severity(second) > severity(first) {
		return second
	}
	return first
}

// severity orders errors for moreSevere.
func severity(err error) int {
	if temporal.IsCanceledError(err) {
		return 0
	}
	switch activities.Unwrap(err).Class {
	case trimtab.Unavailable:
		return 1
	case trimtab.Internal:
		return 2
	}
	return 3
}

// isUnreadable reports whether a file or a row that rollouts need is damaged or missing.
func isUnreadable(err error) bool {
	if err == nil || temporal.IsCanceledError(err) {
		return false
	}
	class := activities.Unwrap(err).Class
	return class == trimtab.Verification || class == trimtab.NotFound
}
