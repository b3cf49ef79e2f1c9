package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Replan is a person's decision to rerun stages of a run.
type Replan struct {
	// Plan is the run's plan from now on. The earlier ones are kept.
	Plan trimtab.Plan
	// Stage is the first stage that is rerun.
	Stage     string
	Overrides []trimtab.Override
	// Stale are the stages whose attempts become stale.
	Stale []string
	// Status and Next are what the run shows until the stages run.
	Status trimtab.RunStatus
	Next   string
	Actor  string
	Reason string
	// Taken is the decision that it carries out. From an older build it has no
	// request.
	Taken Decision
}

// Replan records the decision in one transaction: the new plan, the attempts
// that become stale, and the state that the run shows. The same decision
// again changes nothing. Errors: those of CheckRequest, and Conflict
// "run_closed" for a run that has ended.
func (s *Store) Replan(ctx context.Context, r Replan) error {
	id := r.Plan.Run
	return s.write(ctx, "setting the plan of run "+id, func(tx pgx.Tx) error {
		was, err := lockRun(ctx, tx, id)
		if err != nil {
			return err
		}
		if !was.status.Open() {
			return trimtab.NewError(trimtab.Conflict, "run_closed", "rerun it as a new one", "run %s is %s", id,
				was.status)
		}
		// The plan changes only if the decision is still open, in one
		// transaction.
		if r.Taken.Sequence != 0 {
			body, known, err := r.Taken.accept(ctx, tx)
			if known || err != nil {
				return err
			}
			if err := appendEvent(ctx, tx, r.Taken.subject(), r.Actor, trimtab.EventDecision, body); err != nil {
				return err
			}
		}
		if err := changePlan(ctx, tx, r); err != nil {
			return err
		}
		if err := markStale(ctx, tx, id, r.Stale, r.Actor, r.Reason); err != nil {
			return err
		}
		return was.change(ctx, tx, id, r.Status, r.Next, nil, r.Actor)
	})
}

// changePlan gives a locked run another plan, as its next revision. The plan
// that it has already is not written again.
func changePlan(ctx context.Context, tx pgx.Tx, r Replan) error {
	var revision int
	var raw []byte
	err := tx.QueryRow(ctx, "select revision, plan from run_plan where run = $1 order by revision desc limit 1",
		r.Plan.Run).Scan(&revision, &raw)
	if err != nil {
		return err
	}
	if now, err := trimtab.EncodeJSON(r.Plan); err != nil || string(now) == string(raw) {
		return err
	}
	if err := putPlan(ctx, tx, r.Plan.Run, revision+1, r.Plan, r.Actor, r.Reason); err != nil {
		return err
	}
	return appendEvent(ctx, tx, subject{stream: r.Plan.Run}, r.Actor, trimtab.EventRunPlanned, runPlannedBody{
		Overrides: r.Overrides,
		Plan:      r.Plan,
		Reason:    r.Reason,
		Revision:  revision + 1,
		Stage:     r.Stage,
	})
}

// PlanChange is what a person changed to rerun a stage of a run, or of the
// run that it reruns.
type PlanChange struct {
	Revision  int // of the plan that it led to
	Stage     string
	Overrides []trimtab.Override
	Reason    string
	Actor     string
	At        time.Time
}

// PlanChanges lists what was changed about a run, by its full id, in order:
// by the rerun that it is, and by reruns of its own stages.
func (s *Store) PlanChanges(ctx context.Context, run string) ([]PlanChange, error) {
	changes, err := queryRows(ctx, s.pool, scanPlanChange, `
		select at, actor, body from event where stream = $1 and (type = 'run_planned' or type = 'run_created'
			and sequence = 1)
		order by sequence`, run)
	return changes, wrapError(ctx, "reading the changes of run "+run, err)
}

// scanPlanChange reads the body of run_created or run_planned. That of a run
// that is no rerun has none of the fields.
func scanPlanChange(row pgx.CollectableRow) (c PlanChange, err error) {
	var body []byte
	if err := row.Scan(&c.At, &c.Actor, &body); err != nil {
		return c, err
	}
	var decoded runPlannedBody
	err = json.Unmarshal(body, &decoded)
	c.Revision = decoded.Revision
	c.Stage = decoded.Stage
	c.Overrides = decoded.Overrides
	c.Reason = decoded.Reason
	return c, err
}
