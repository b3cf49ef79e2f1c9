package workflows

import (
	"errors"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
)

// The mark of an attempt without a row survives Temporal, in its form today and
// in that of histories of earlier builds, and so does the error that it marks.
func TestNotCreatedCrossesTemporal(t *testing.T) {
	e := trimtab.NewError(trimtab.Unavailable, "files_unavailable", "look at the disk", "no row")
	legacy := temporal.NewApplicationErrorWithOptions(e.Error(), e.Type,
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{*e, e.Class, true}})
	converter := temporal.GetDefaultFailureConverter()
	carried := func(err error) error { return converter.FailureToError(converter.ErrorToFailure(err)) }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"here":            {notCreated(e), true},
		"carried":         {carried(notCreated(e)), true},
		"carried twice":   {carried(carried(notCreated(e))), true},
		"earlier build":   {carried(legacy), true},
		"created":         {carried(applicationError(e)), false},
		"of an activity":  {carried(activities.Wrap(e)), false},
		"other":           {errors.New("no row"), false},
		"without details": {carried(temporal.NewApplicationError("x", "y")), false},
		"nil":             {nil, false},
	} {
		if got := isNotCreated(c.err); got != c.want {
			t.Errorf("%s: %v, want %v: %v", name, got, c.want, c.err)
		}
		if !c.want {
			continue
		}
		if u := activities.Unwrap(c.err); u.Type != e.Type || u.Class != e.Class || u.Remedy != e.Remedy {
			t.Errorf("%s: the error inside is %+v of class %v", name, u, u.Class)
		}
	}
}
