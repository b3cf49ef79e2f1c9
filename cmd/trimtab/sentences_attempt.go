package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// attemptCreated is the sentence for a new attempt: queued, or completed at
// once by reusing the output of another, which is named by stage, attempt
// and, if it is not this one, run.
func attemptCreated(h annotatedEvent, b struct {
	Status, Reason string
	From           trimtab.Digest `json:"from_checkpoint"`
	Inputs         []trimtab.Named
	Outputs        []trimtab.Named
	ReusedFrom     int64 `json:"reused_from"`
}) string {
	text := h.subject() + " was queued"
	switch {
	case b.ReusedFrom != 0:
		maker := "an earlier attempt"
		if h.note.ReusedFrom != nil {
			maker = h.note.ReusedFrom.Within(h.Stream)
		}
		text = fmt.Sprintf("%s is unchanged and reuses the output of %s: %s", h.subject(), maker,
			formatNamed(b.Outputs))
	case b.From != "":
		text += " to resume from checkpoint " + b.From.Short()
	case len(b.Inputs) > 0:
		text += " with " + formatNamed(b.Inputs)
	}
	return withReason(text, b.Reason)
}

// formatNamed lists inputs or outputs by name and digest.
func formatNamed(list []trimtab.Named) string {
	var parts []string
	for _, n := range list {
		parts = append(parts, n.Name+" "+n.Digest.Short())
	}
	return strings.Join(parts, ", ")
}

// attemptStarted is the sentence for a worker that starts or resumes an
// attempt. What of the data is cut or left out is said once, at the start.
func attemptStarted(h annotatedEvent, b struct {
	Build, From, Kernels string
	Steps                int
	Data                 []trimtab.Metric // older events have none
}) string {
	verb, data := "resumed", ""
	if b.From == string(trimtab.AttemptQueued) {
		verb = "started"
		// The counts are metrics of the attempt; Fits turns them back into
		// what was read of each kind of item.
		for _, f := range trimtab.Fits(b.Data) {
			if !f.Whole() && f.Items != "text" {
				data += "; " + f.String()
			}
		}
	}
	build := shortBuild(b.Build)
	if b.Kernels != "" { // empty in older events
		build += " (" + b.Kernels + ")"
	}
	return fmt.Sprintf("%s %s on build %s with %s%s", h.subject(), verb, build, plural(b.Steps, "step"), data)
}

// attemptStatusChanged is the sentence for a change of an attempt's status.
// Retrying means that the worker or a service is gone, and that another
// attempt of the activity will resume from the last checkpoint; failed is
// final.
func attemptStatusChanged(h annotatedEvent, b statusBody) string {
	text := h.subject()
	switch trimtab.AttemptStatus(b.Status) {
	case trimtab.AttemptRetrying:
		text += " was interrupted and will be resumed" + b.cause()
	case trimtab.AttemptRunning:
		text += " continued" + b.cause()
	case trimtab.AttemptFailed:
		text += " failed" + b.cause()
	case trimtab.AttemptStale:
		text += " was superseded by a rerun"
	default:
		text += " is " + b.Status + b.cause()
	}
	return withReason(text, b.Reason)
}

// attemptCompleted is the sentence for an attempt that completed, with its
// main metrics and its outputs. An attempt without outputs, which no stage
// has today, would still read well.
func attemptCompleted(h annotatedEvent, b struct {
	Outputs []trimtab.Named
	Metrics []trimtab.Metric
}) string {
	var parts []string
	if m := formatMetrics(metricsByName(b.Metrics), 4); m != "" {
		parts = append(parts, strings.ReplaceAll(m, "  ", ", "))
	}
	if out := formatNamed(b.Outputs); out != "" {
		parts = append(parts, out)
	}
	if len(parts) == 0 {
		return h.subject() + " completed"
	}
	return h.subject() + " completed: " + strings.Join(parts, "; ")
}

// stepCommit is the body of steps_committed: the steps From to Until-1 became
// durable in one transaction, with the checkpoint written after them, if any.
// It also holds the sum of several consecutive commits.
type stepCommit struct {
	// From is the first step, Until the one after the last, and Steps their
	// number.
	From, Until, Steps int
	// Checkpoint is the state before Step, if one was written.
	Checkpoint *struct {
		Digest trimtab.Digest
		Step   int
	}
}

// sentence puts a commit into words; parts is the number of commits that were
// merged into c.
func (c stepCommit) sentence(h annotatedEvent, parts int) string {
	text := h.subject() + ": "
	switch {
	// A checkpoint alone: nothing was computed since the last commit.
	case c.Steps == 0 && c.Checkpoint != nil:
		return fmt.Sprintf("%scheckpoint %s before step %s", text, c.Checkpoint.Digest.Short(),
			withThousands(c.Checkpoint.Step))
	case c.Until == c.From+1:
		text += fmt.Sprintf("step %s committed", withThousands(c.From))
	default:
		text += fmt.Sprintf("steps %s to %s committed", withThousands(c.From), withThousands(c.Until-1))
	}
	if parts > 1 {
		text += fmt.Sprintf(" in %d parts", parts)
	}
	if c.Checkpoint != nil {
		text += ", checkpoint " + c.Checkpoint.Digest.Short()
	}
	return text
}

// countConsecutiveCommits counts the commits at the beginning of events that
// continue one another in the same attempt; at least 1. A gap, which appears
// where steps were recomputed after a crash, begins a new line.
func countConsecutiveCommits(events []storage.Event) int {
	n, next := 0, -1
	for n < len(events) && events[n].Type == trimtab.EventStepsCommitted && events[n].Stage == events[0].Stage &&
		events[n].Attempt == events[0].Attempt {
		var c stepCommit
		if json.Unmarshal(events[n].Body, &c) != nil || c.Steps == 0 || next >= 0 && c.From != next {
			break
		}
		next = c.Until
		n++
	}
	return max(1, n)
}

// commitsSentence is one sentence for consecutive commits; the checkpoint is
// the last one.
func commitsSentence(events []storage.Event) string {
	var all stepCommit
	for i, e := range events {
		var c stepCommit
		_ = json.Unmarshal(e.Body, &c) // countConsecutiveCommits has decoded it before
		if i == 0 {
			all.From = c.From
		}
		all.Until, all.Steps = c.Until, all.Steps+c.Steps
		if c.Checkpoint != nil {
			all.Checkpoint = c.Checkpoint
		}
	}
	return all.sentence(annotatedEvent{Event: events[0]}, len(events))
}

// checkpointDamaged is the sentence for a checkpoint that could not be read;
// the attempt resumes from an earlier one.
func checkpointDamaged(h annotatedEvent, b struct {
	Digest trimtab.Digest
	Step   int
	Gone   bool
	Error  *trimtab.Error
}) string {
	what := "is damaged"
	if b.Gone {
		what = "is gone"
	}
	return fmt.Sprintf("%s: checkpoint %s before step %s %s and was skipped%s", h.subject(), b.Digest.Short(),
		withThousands(b.Step), what, statusBody{Error: b.Error}.cause())
}

// artifactMade is the sentence for a new model. An event with a stage is
// about the output of an attempt; without one, the model was imported by the
// actor.
func artifactMade(h annotatedEvent, b struct {
	Digest     trimtab.Digest
	Kind, Name string
	Parameters float64
}) string {
	what := "model"
	if b.Kind == "reward" {
		what = "reward model"
	}
	if h.Stage == "" {
		return fmt.Sprintf("imported %s %s as %s, %s parameters", what, b.Digest.Short(), b.Name,
			strings.TrimSpace(formatCount(b.Parameters)))
	}
	return fmt.Sprintf("%s produced %s %s, %s parameters", h.subject(), what, b.Digest.Short(),
		strings.TrimSpace(formatCount(b.Parameters)))
}
