package runs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// token identifies the plan of a rerun, as `trimtab rerun --dry-run` prints it.
// It is a digest of everything that the plan depends on, in four parts, so that
// --plan can say which of them has changed since. It is never stored.
type token [4]string

// The parts of a token.
const (
	// tokenRun covers the run's status and plan, and the runs that rerun it.
	tokenRun = iota
	// tokenAttempts covers number and status of the newest attempt of each stage.
	tokenAttempts
	// tokenRequest covers the stage, the plan that the overrides lead to, and the
	// checkpoint.
	tokenRequest
	// tokenActions covers what the rerun does to each stage, and why.
	tokenActions
)

// tokenPartDigits is the number of hexadecimal digits that a token has of the
// digest of each part. They are 24 bits, so that a change goes unnoticed with a
// probability of one in 16 million, and a token stays short enough to type.
const tokenPartDigits = 6

// String returns the token in the form that --plan takes.
func (t token) String() string { return strings.Join(t[:], "-") }

// computeToken returns the token of a plan. The JSON that is hashed must not
// change within a version of the program; a token from another version is
// merely stale.
func (p rerunPlan) computeToken() (t token, err error) {
	type attempt struct {
		Stage  string
		Number int
		Status trimtab.AttemptStatus
	}
	var attempts []attempt
	for _, st := range p.run.Plan.Stages {
		if a := newestAttemptOf(p.attempts, st.Name); a != nil {
			attempts = append(attempts, attempt{a.Stage, a.Number, a.Status})
		}
	}
	for i, part := range [len(t)]any{
		tokenRun:      []any{p.run.ID, p.run.Status, p.run.Revision, p.run.Plan, p.reruns},
		tokenAttempts: attempts,
		tokenRequest:  []any{p.stage, p.next, p.checkpointRef, p.checkpoint.Digest},
		tokenActions:  p.actions,
	} {
		b, err := json.Marshal(part)
		if err != nil {
			return t, err
		}
		t[i] = trimtab.DigestOf(b).Hex()[:tokenPartDigits]
	}
	return t, nil
}

// checkToken compares a plan with the token of the plan that the user looked
// at. An empty token always agrees. A difference is Conflict "plan_stale" with
// what changed; a malformed token is Usage "bad_plan".
func (p rerunPlan) checkToken(given string) error {
	if given == "" || given == p.token.String() {
		return nil
	}
	parts := strings.Split(given, "-")
	if len(parts) != len(p.token) || slices.ContainsFunc(parts,
		func(s string) bool { return len(s) != tokenPartDigits }) {
		return trimtab.NewError(trimtab.Usage, "bad_plan", "give the token that `trimtab rerun … --dry-run` printed",
			"--plan %s is not the token of a plan", given)
	}
	var changes []string
	for i, part := range parts {
		if part != p.token[i] {
			changes = append(changes, p.describeChange(i))
		}
	}
	return planStaleError(p.run, strings.Join(changes, "; "))
}

// describeChange says what a part of the token is now, given that it was
// different when the plan was made.
func (p rerunPlan) describeChange(part int) string {
	switch part {
	case tokenRun:
		text := fmt.Sprintf("the run has changed: it is now %s, at revision %d of its plan",
			p.run.Status, p.run.Revision)
		if len(p.reruns) > 0 {
			text += ", and was rerun as " + strings.Join(p.reruns, ", ")
		}
		return text
	case tokenAttempts:
		var now []string
		for _, st := range p.run.Plan.Stages {
			if a := newestAttemptOf(p.attempts, st.Name); a != nil {
				now = append(now, fmt.Sprintf("%s %d is %s", a.Stage, a.Number, a.Status))
			}
		}
		return "the attempts have changed: " + strings.Join(now, ", ")
	case tokenRequest:
		return "the request leads to a different plan, because of other flags, a newer version of a dataset or " +
			"another checkpoint"
	}
	return "other stages would be reused or run"
}

// planStaleError returns Conflict "plan_stale"; change says what has changed since
// the plan was made.
func planStaleError(run storage.Run, change string) error {
	return trimtab.NewError(trimtab.Conflict, "plan_stale",
		"look at the run with `trimtab show`, and plan again with --dry-run",
		"the plan for run %s is out of date: %s", run.ID, change)
}
