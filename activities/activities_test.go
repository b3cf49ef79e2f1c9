package activities

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
)

func TestErrorsCrossTemporal(t *testing.T) {
	for _, c := range []struct {
		err   error
		typ   string
		class trimtab.Class
	}{
		{trimtab.NewError(trimtab.Invalid, "no_text", "give text", "nothing to read"), "no_text", trimtab.Invalid},
		{fmt.Errorf("step 3: %w", trimtab.NewError(trimtab.Verification, "artifact_corrupt", "", "bits")),
			"artifact_corrupt", trimtab.Verification},
		{fmt.Errorf("write: %w", syscall.ENOSPC), "disk_full", trimtab.Unavailable},
		{fmt.Errorf("write: %w", syscall.EDQUOT), "disk_full", trimtab.Unavailable},
		{fmt.Errorf("write: %w", syscall.EFBIG), "file_size_limit", trimtab.Unavailable},
		{fmt.Errorf("write: %w", syscall.EROFS), "files_unavailable", trimtab.Unavailable},
		{fmt.Errorf("open: %w", syscall.EMFILE), "files_unavailable", trimtab.Unavailable},
		{context.Canceled, "interrupted", trimtab.Unavailable},
		{errors.New("odd"), "internal", trimtab.Internal},
	} {
		wrapped := Wrap(c.err)
		var app *temporal.ApplicationError
		if !errors.As(wrapped, &app) || app.NonRetryable() != (c.class != trimtab.Unavailable) {
			t.Errorf("%v: wrapped as %v", c.err, wrapped)
		}
		for _, err := range []error{wrapped, throughTemporal(wrapped)} {
			if e := Unwrap(err); e.Type != c.typ || e.Class != c.class {
				t.Errorf("%v comes back as %s of class %d: %v", c.err, e.Type, e.Class, e)
			}
		}
	}
	if Wrap(nil) != nil {
		t.Error("no error is one")
	}
	if e := Unwrap(temporal.NewHeartbeatTimeoutError()); e.Class != trimtab.Unavailable || e.Type != "worker_lost" {
		t.Errorf("a silent worker is %+v", e)
	}
}

// A text that Temporal could not carry would be an error that nobody hears of.
func TestLongAndBrokenMessages(t *testing.T) {
	for _, text := range []string{strings.Repeat("é", 1<<21), "name \xff\x00"} {
		err := Wrap(trimtab.NewError(trimtab.Invalid, "odd_text", "", "%s", text))
		e := Unwrap(throughTemporal(err))
		if e.Type != "odd_text" || e.Class != trimtab.Invalid || len(e.Message) > maxMessageBytes+8 ||
			len(err.Error()) > 2*maxMessageBytes ||
			!utf8.ValidString(err.Error()) || !utf8.ValidString(e.Message) || e.Message[:1] != text[:1] {
			t.Errorf("%d bytes come back as %s of class %d with %d bytes", len(text), e.Type, e.Class, len(e.Message))
		}
	}
}

// throughTemporal encodes and decodes an error as the server would.
func throughTemporal(err error) error {
	c := temporal.NewDefaultFailureConverter(
		temporal.DefaultFailureConverterOptions{DataConverter: converter.GetDefaultDataConverter()})
	return c.FailureToError(c.ErrorToFailure(err))
}

func TestGates(t *testing.T) {
	half, one := .5, 1.
	metrics := []trimtab.Metric{{Name: "accuracy", Value: .75}, {Name: "nan", Value: math.NaN()}}
	for _, c := range []struct {
		gate  trimtab.Gate
		wants string // "" is passed
	}{
		{trimtab.Gate{Metric: "accuracy", Min: &half}, ""},
		{trimtab.Gate{Metric: "accuracy", Max: &one}, ""},
		{trimtab.Gate{Metric: "accuracy", Min: &one}, "accuracy is 0.75, the gate requires at least 1"},
		{trimtab.Gate{Metric: "accuracy", Max: &half}, "at most 0.5"},
		{trimtab.Gate{Metric: "acuracy", Min: &half}, "was not measured"},
		{trimtab.Gate{Metric: "nan", Min: &half}, "at least"},
	} {
		got := strings.Join(checkGates([]trimtab.Gate{c.gate}, metrics), "; ")
		if (c.wants == "") != (got == "") || !strings.Contains(got, c.wants) {
			t.Errorf("%+v: %q, want %q", c.gate, got, c.wants)
		}
	}
}

func TestCachedStageIsTakenOnce(t *testing.T) {
	var w stageCache
	j := &modelJob{}
	w.put(3, "c", j)
	if w.takeAt(3, "d") != nil || w.takeAt(3, "c") != nil {
		t.Error("a stage was handed over for another checkpoint, or after that")
	}
	w.put(3, "c", j)
	if w.takeAt(4, "c") != nil {
		t.Error("a stage was handed over to another attempt")
	}
	w.put(3, "c", j)
	if w.takeAt(3, "c") != job(j) || w.takeAt(3, "c") != nil {
		t.Error("a stage is handed over exactly once")
	}
	w.put(3, "", j)
	if w.takeAt(3, "") != nil {
		t.Error("a stage without a checkpoint was handed over")
	}
}

func TestStallTimeout(t *testing.T) {
	for longest, want := range map[time.Duration]time.Duration{0: firstStepTimeout, time.Second: minStallTimeout,
		time.Hour: 10 * time.Hour} {
		if got := stallTimeout(longest); got != want {
			t.Errorf("after a step of %s the next may take %s, want %s", longest, got, want)
		}
	}
	if e := trimtab.AsError(stalledError(time.Minute)); e.Class != trimtab.Unavailable {
		t.Errorf("a stalled stage is %+v", e)
	}
}
