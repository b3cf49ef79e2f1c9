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
	ofRun      = iota // its status, its plan, and the runs that rerun it
	ofAttempts        // the newest of each stage: number and status
	ofRequest         // the stage, the plan that its overrides come to, and the checkpoint
	ofFates           // of the stages
)

// tokenPart is how many hexadecimal digits of a part's digest a token has: 24
// bits, so that one difference in 16 million is overlooked.
const tokenPart = 6

func (t token) String() string { return strings.Join(t[:], "-") }

// sum makes the token of a plan.
func (p rerunPlan) sum() (t token, err error) {
	type attempt struct {
		Stage  string
		Number int
		Status trimtab.AttemptStatus
	}
	var attempts []attempt
	for _, st := range p.run.Plan.Stages {
		if a := newestOf(p.attempts, st.Name); a != nil {
			attempts = append(attempts, attempt{a.Stage, a.Number, a.Status})
		}
	}
	for i, of := range [len(t)]any{
		ofRun:      []any{p.run.ID, p.run.Status, p.run.Revision, p.run.Plan, p.reruns},
		ofAttempts: attempts,
		ofRequest:  []any{p.stage, p.next, p.continued, p.from.Digest},
		ofFates:    p.fates,
	} {
		b, err := json.Marshal(of)
		if err != nil {
			return t, err
		}
		t[i] = trimtab.DigestOf(b).Hex()[:tokenPart]
	}
	return t, nil
}

// sameAs compares the plan with the one that was looked at; no token is any.
func (p rerunPlan) sameAs(seen string) error {
	if seen == "" || seen == p.token.String() {
		return nil
	}
	parts := strings.Split(seen, "-")
	if len(parts) != len(p.token) || slices.ContainsFunc(parts, func(s string) bool { return len(s) != tokenPart }) {
		return trimtab.NewError(trimtab.Usage, "bad_plan", "give what `trimtab rerun … --dry-run` printed", "--plan %s is not the token of a plan", seen)
	}
	var moved []string
	for i, part := range parts {
		if part != p.token[i] {
			moved = append(moved, p.now(i))
		}
	}
	return stale(p.run, strings.Join(moved, "; "))
}

// now says how a part stands that stood otherwise when the plan was looked at.
func (p rerunPlan) now(part int) string {
	switch part {
	case ofRun:
		text := fmt.Sprintf("the run has moved on: it is %s, at revision %d of its plan", p.run.Status, p.run.Revision)
		if len(p.reruns) > 0 {
			text += ", and was rerun as " + strings.Join(p.reruns, ", ")
		}
		return text
	case ofAttempts:
		var now []string
		for _, st := range p.run.Plan.Stages {
			if a := newestOf(p.attempts, st.Name); a != nil {
				now = append(now, fmt.Sprintf("%s %d is %s", a.Stage, a.Number, a.Status))
			}
		}
		return "its attempts have: " + strings.Join(now, ", ")
	case ofRequest:
		return "what is asked for comes to another plan: other flags, a newer version of a dataset, or another checkpoint"
	}
	return "other stages would be reused or run"
}

func stale(run storage.Run, moved string) error {
	return trimtab.NewError(trimtab.Conflict, "plan_stale", "look at it with `trimtab show`, and plan again with --dry-run",
		"the plan for run %s does not hold any more: %s", run.ID, moved)
}
