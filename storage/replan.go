package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Replan is a person's decision to have stages of a run made again.
type Replan struct {
	Plan      trimtab.Plan // the run's from now on; the earlier ones are kept
	Stage     string       // the first that is made again
	Overrides []trimtab.Override
	Stale     []string // stages whose attempts no longer count
	Status    trimtab.RunStatus
	Next      string
	Actor     string
	Reason    string
	Taken     Decision // what it stands on; of an older build it has no request
}

// Replan writes the decision down in one transaction: the plan, what it makes
// stale, and what the run shows. The same one again changes nothing. Errors:
// those of CheckRequest, and Conflict run_closed for a run that has ended.
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
		if r.Taken.Sequence != 0 {
			told, known, err := r.Taken.accept(ctx, tx)
			if known || err != nil {
				return err
			}
			if err := appendEvent(ctx, tx, r.Taken.subject(), r.Actor, "decision", told); err != nil {
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

// changePlan gives a locked run another plan; the same one is not written again.
func changePlan(ctx context.Context, tx pgx.Tx, r Replan) error {
	var revision int
	var raw []byte
	err := tx.QueryRow(ctx, "select revision, plan from run_plan where run = $1 order by revision desc limit 1",
		r.Plan.Run).Scan(&revision, &raw)
	if err != nil {
		return err
	}
	if now, err := canonicalJSON(r.Plan); err != nil || string(now) == string(raw) {
		return err
	}
	if err := putPlan(ctx, tx, r.Plan.Run, revision+1, r.Plan, r.Actor, r.Reason); err != nil {
		return err
	}
	return appendEvent(ctx, tx, subject{stream: r.Plan.Run}, r.Actor, "run_planned",
		map[string]any{"overrides": r.Overrides, "plan": r.Plan, "reason": r.Reason, "revision": revision + 1,
			"stage": r.Stage})
}

// PlanChange is what a person changed to have a stage of a run, or of the run
// that it reruns, made again.
type PlanChange struct {
	Revision  int // of the plan that came of it
	Stage     string
	Overrides []trimtab.Override
	Reason    string
	Actor     string
	At        time.Time
}

// PlanChanges lists what was changed about a run (its full id), in the order in
// which it was: by the rerun that it is, and by reruns of its own stages.
func (s *Store) PlanChanges(ctx context.Context, run string) ([]PlanChange, error) {
	changes, err := queryRows(ctx, s.pool, scanPlanChange, `
		select at, actor, body from event where stream = $1 and (type = 'run_planned' or type = 'run_created' and sequence = 1)
		order by sequence`, run)
	return changes, wrapError(ctx, "reading the changes of run "+run, err)
}

func scanPlanChange(row pgx.CollectableRow) (c PlanChange, err error) {
	var body []byte
	if err := row.Scan(&c.At, &c.Actor, &body); err != nil {
		return c, err
	}
	var told struct {
		Revision  int
		Stage     string
		Overrides []trimtab.Override
		Reason    string
	}
	err = json.Unmarshal(body, &told)
	c.Revision, c.Stage, c.Overrides, c.Reason = told.Revision, told.Stage, told.Overrides, told.Reason
	return c, err
}
