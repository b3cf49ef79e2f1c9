package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// runCreated is the sentence for a launch: the recipe, the run's name where
// it is another, and the seed. The first event of a rerun also says which run
// it repeats, from which stage on, and what was changed.
func runCreated(h annotatedEvent, b struct {
	Name, Origin, Reason, Seed, Stage string
	SpecDigest                        trimtab.Digest `json:"spec_digest"`
	Overrides                         []trimtab.Override
}) string {
	text := "launched"
	if h.note.Recipe != "" {
		text += " from recipe " + h.note.Recipe
	}
	// A run is named after its recipe unless it was given a name.
	if b.Name != h.note.Recipe {
		text += fmt.Sprintf(" as %s", b.Name)
	}
	text += fmt.Sprintf(" with seed %s", b.Seed)
	if b.Origin != "" {
		text += fmt.Sprintf("; a rerun of %s from %s: %s", b.Origin, b.Stage,
			formatChanges(b.Overrides, h.note.Changes))
	}
	return withReason(text, b.Reason)
}

// runPlanned is the sentence for a rerun within an open run, which replaces
// the plan of the stage and of those after it.
func runPlanned(h annotatedEvent, b struct {
	Stage, Reason string
	Overrides     []trimtab.Override
}) string {
	return withReason(fmt.Sprintf("replanned the run from %s: %s", b.Stage, formatChanges(b.Overrides, h.note.Changes)),
		b.Reason)
}

// formatChanges lists the overrides of a rerun, each with the value before it
// where that is known. One --set can change several values, and one of a
// dataset is formatted as it was typed.
func formatChanges(overrides []trimtab.Override, changes []runs.SpecDifference) string {
	if len(overrides) == 0 {
		return "no changes"
	}
	var parts []string
	for _, o := range overrides {
		// The event has what was typed; the service's note has the values
		// before and after, as far as both specs are in the database.
		path, _, _ := strings.Cut(o.Set, "=")
		was := changesBelow(strings.TrimSpace(path), changes)
		if o.Set == "" || len(was) == 0 {
			was = []string{formatOverrides([]trimtab.Override{o})}
		}
		parts = append(parts, was...)
	}
	return strings.Join(parts, ", ")
}

// changesBelow lists the changes at a path of the spec and below it, as old
// -> new: one --set may replace a whole mapping.
func changesBelow(path string, changes []runs.SpecDifference) []string {
	var parts []string
	for _, c := range changes {
		if isBelow(c.Path, path) || isBelow(c.StoredPath, path) {
			parts = append(parts, fmt.Sprintf("%s %s -> %s", c.Path, formatValue(c.Values[0]),
				formatValue(c.Values[len(c.Values)-1])))
		}
	}
	return parts
}

// isBelow reports whether a path of a spec is at or below another one.
func isBelow(path, at string) bool { return path == at || strings.HasPrefix(path, at+".") }

// formatValue formats a value of a spec for people: digests shortened, text
// without quotes, (none) for what is not there.
func formatValue(v json.RawMessage) string {
	var text string
	switch {
	case len(v) == 0:
		return "(none)"
	case json.Unmarshal(v, &text) != nil:
		return string(bytes.ReplaceAll(v, []byte(`"`), nil))
	case text == "":
		return "(empty)"
	}
	return summarizeValue(text)
}

// statusBody is the body of run_status and attempt_status.
type statusBody struct {
	Status, From, Next, Reason string
	Error                      *trimtab.Error
}

// cause is ": " and the message of the error, or empty.
func (b statusBody) cause() string {
	if b.Error == nil {
		return ""
	}
	return ": " + b.Error.Message
}

// runStatusChanged is the sentence for a change of a run's status, or for the
// same status with another cause. A waiting run either waits for a service,
// which is an error, or for time to pass, which Next describes.
func runStatusChanged(_ annotatedEvent, b statusBody) string {
	still := ""
	if b.From == b.Status {
		still = "still "
	}
	switch s := trimtab.RunStatus(b.Status); {
	case s == trimtab.RunRunning && b.From == string(trimtab.RunQueued):
		return "the run started"
	case s == trimtab.RunRunning:
		return "the run continued"
	case s == trimtab.RunWaiting && b.Error == nil && b.Next != "":
		return "the run is " + still + "waiting: " + b.Next
	case s == trimtab.RunWaiting:
		return "the run is " + still + "waiting" + b.cause()
	case s == trimtab.RunCompleted:
		return "the run completed"
	case s == trimtab.RunFailed:
		return "the run failed" + b.cause()
	}
	return "the run is " + still + b.Status + b.cause()
}

// decisionMade is the sentence for a decision that was carried out. The
// database role is named where it is not the one that every worker has:
// somebody decided through a login of their own, which vouches for the name
// more than the setting "actor" does.
func decisionMade(h annotatedEvent, b struct {
	Decision string
	Details  struct{ Reason string }
}) string {
	of := h.subject()
	if of == "" {
		of = "the run"
	}
	text := map[string]string{
		"approve": "approved " + of + ", which missed its gate", "skip": "skipped " + of,
		"cancel": "cancelled " + of, "pause": "paused " + of, "resume": "resumed " + of, "rerun": "reran " + of,
	}[b.Decision]
	if text == "" {
		text = fmt.Sprintf("decided on %s: %s", of, b.Decision)
	}
	if h.role != "" && h.role != storage.AppRole {
		text += ", as database role " + h.role
	}
	if b.Details.Reason != "" {
		text += ": " + b.Details.Reason
	}
	return text
}

// decisionRequested is the sentence for a request. Its actor is a database
// role, which vouches for the name of the person.
func decisionRequested(h annotatedEvent, b struct{ Decision, Actor, Reason string }) string {
	return withReason(fmt.Sprintf("requested on behalf of %s: %s %s", b.Actor, b.Decision,
		cmp.Or(h.subject(), "the run")), b.Reason)
}

// decisionRefused is the sentence for a request that the state of the run
// does not allow. The request itself is left out of the history then.
func decisionRefused(h annotatedEvent, b struct {
	Decision string
	Error    *trimtab.Error
}) string {
	return fmt.Sprintf("refused to %s %s%s", b.Decision, cmp.Or(h.subject(), "the run"),
		statusBody{Error: b.Error}.cause())
}

// runReproduced is the sentence for a reproduction: identical, or the first
// stage that differs or could not be recomputed.
func runReproduced(h annotatedEvent, b struct {
	Identical bool
	Kernels   string
	Stages    []struct {
		Stage, First string
		Error        *trimtab.Error // why it could not be recomputed
	}
}) string {
	what := cmp.Or(h.subject(), "the run")
	if b.Identical {
		return fmt.Sprintf("reproduced %s on %s: identical", what, b.Kernels)
	}
	// The first stage that is not identical is the news; the report has all
	// of them.
	for _, st := range b.Stages {
		switch {
		case st.First != "":
			return fmt.Sprintf("recomputed %s on %s: %s differs: %s", what, b.Kernels, st.Stage, st.First)
		case st.Error != nil:
			return fmt.Sprintf("recomputed %s on %s: %s failed: %s", what, b.Kernels, st.Stage, st.Error.Message)
		}
	}
	return fmt.Sprintf("recomputed %s on %s: not shown to be identical", what, b.Kernels)
}

// evaluationMade is the sentence for an evaluation report.
func evaluationMade(h annotatedEvent, b struct{ Document trimtab.Digest }) string {
	return strings.TrimSpace(fmt.Sprintf("%s wrote report %s", h.subject(), b.Document.Short()))
}
