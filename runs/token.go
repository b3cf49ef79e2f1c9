package runs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// token sums up everything that a rerun's plan stands on, in parts, so that a
// difference can be named.
type token [4]string

// The parts of a token.
const (
	tokenRun      = iota // its status, its plan, and the runs that rerun it
	tokenAttempts        // the newest of each stage: number and status
	tokenRequest         // the stage, the plan that its overrides come to, and the checkpoint
	tokenActions         // of the stages
)

// tokenPartDigits is how many hexadecimal digits of a part's digest a token has: 24
// bits, so that one difference in 16 million is overlooked.
const tokenPartDigits = 6

func (t token) String() string { return strings.Join(t[:], "-") }

// computeToken makes the token of a plan.
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
	for i, of := range [len(t)]any{
		tokenRun:      []any{p.run.ID, p.run.Status, p.run.Revision, p.run.Plan, p.reruns},
		tokenAttempts: attempts,
		tokenRequest:  []any{p.stage, p.next, p.checkpointRef, p.checkpoint.Digest},
		tokenActions:  p.actions,
	} {
		b, err := json.Marshal(of)
		if err != nil {
			return t, err
		}
		t[i] = trimtab.DigestOf(b).Hex()[:tokenPartDigits]
	}
	return t, nil
}

// checkToken compares the plan with the one that was looked at; no token is any.
func (p rerunPlan) checkToken(seen string) error {
	if seen == "" || seen == p.token.String() {
		return nil
	}
	parts := strings.Split(seen, "-")
	if len(parts) != len(p.token) || slices.ContainsFunc(parts,
		func(s string) bool { return len(s) != tokenPartDigits }) {
		return trimtab.NewError(trimtab.Usage, "bad_plan", "give what `trimtab rerun … --dry-run` printed",
			"--plan %s is not the token of a plan", seen)
	}
	var moved []string
	for i, part := range parts {
		if part != p.token[i] {
			moved = append(moved, p.describeChange(i))
		}
	}
	return planStaleError(p.run, strings.Join(moved, "; "))
}

// describeChange says how a part stands that stood otherwise when the plan was looked at.
func (p rerunPlan) describeChange(part int) string {
	switch part {
	case tokenRun:
		text := fmt.Sprintf("the run has moved on: it is %s, at revision %d of its plan", p.run.Status, p.run.Revision)
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
		return "its attempts have: " + strings.Join(now, ", ")
	case tokenRequest:
		return "what is asked for comes to another plan: other flags, a newer version of a dataset, or another " +
			"checkpoint"
	}
	return "other stages would be reused or run"
}

func planStaleError(run storage.Run, moved string) error {
	return trimtab.NewError(trimtab.Conflict, "plan_stale",
		"look at it with `trimtab show`, and plan again with --dry-run",
		"the plan for run %s does not hold any more: %s", run.ID, moved)
}
