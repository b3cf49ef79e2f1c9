package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Checkpoint is the row of a saved state of an attempt. The state itself is a
// file of the checkpoint store, named by its digest.
type Checkpoint struct {
	Attempt int64 // its id
	// Step is the next step to take: the state is that after step Step-1.
	Step      int
	Digest    trimtab.Digest
	CreatedAt time.Time
}

// StepReport is what one step of a stage reported.
type StepReport struct {
	Step    int            // from 0
	Report  trimtab.Report // its metrics and, of ppo, its rollouts
	Seconds float64        // wall-clock time that the step took
}

// stepLoad is the load of table step: one row for each step, with the numbers
// of its metrics and rollouts.
var stepLoad = load{table: "step", key: []string{"attempt", "step"}, columns: []string{"metrics", "rollouts"}}

// Commit records every report since the previous commit and, if there is one,
// the checkpoint after them, in one transaction.
//
// Steps and checkpoints that are stored already are compared with the given
// ones bit for bit, except for times. An equal repeat changes nothing; a
// different one is Verification "replay_diverged" and undoes the whole
// commit. So a worker may repeat a commit whose outcome it does not know.
func (l Lease) Commit(ctx context.Context, reports []StepReport, c *Checkpoint) error {
	if err := checkReports(reports); err != nil {
		return err
	}
	return l.write(ctx, "committing steps of an attempt", func(tx pgx.Tx, of subject) error {
		// Rows first, event last: the event's facts are the digests of these
		// rows.
		added, err := putSteps(ctx, tx, l.attempt, of, reports)
		if err != nil {
			return err
		}
		isNew, err := putCheckpoint(ctx, tx, l.attempt, of, c)
		if err != nil || added == 0 && !isNew {
			return err
		}
		// The event names the checkpoint only if it adds it.
		if !isNew {
			c = nil
		}
		return appendEvent(ctx, tx, of, "worker", trimtab.EventStepsCommitted, commitBody(reports, added, c))
	})
}

// checkReports refuses reports in which a step, or a metric or rollout of a
// step, occurs twice: the tables would take the second for a repeat of the
// first and drop it.
func checkReports(reports []StepReport) error {
	steps := map[int]bool{}
	for _, r := range reports {
		if steps[r.Step] {
			return invalid("invalid_report", "step %d is reported twice", r.Step)
		}
		steps[r.Step] = true
		names, indexes := map[string]bool{}, map[int]bool{}
		for _, m := range r.Report.Metrics {
			if names[m.Name] {
				return invalid("invalid_report", "step %d reports metric %q twice", r.Step, m.Name)
			}
			names[m.Name] = true
		}
		for _, o := range r.Report.Rollouts {
			if indexes[o.Index] {
				return invalid("invalid_report", "step %d reports rollout %d twice", r.Step, o.Index)
			}
			indexes[o.Index] = true
		}
	}
	return nil
}

// putSteps loads all rows of the reports and returns how many steps were new.
// The step rows come first, so that a concurrent repeat waits for this
// transaction at its first row.
func putSteps(ctx context.Context, tx pgx.Tx, attempt int64, of subject, reports []StepReport) (added int, err error) {
	if len(reports) == 0 {
		return 0, nil
	}
	var metrics, rollouts [][]any
	for _, r := range reports {
		for _, m := range r.Report.Metrics {
			metrics = append(metrics, []any{attempt, r.Step, m.Name, m.Value})
		}
		for i := range r.Report.Rollouts {
			rollouts = append(rollouts, rolloutRow(attempt, r.Step, &r.Report.Rollouts[i]))
		}
	}
	steps := stepLoad.forAttempt(of)
	timings := timingLoad.forAttempt(of)
	numbers := metricLoad.forAttempt(of)
	episodes := rolloutLoad.forAttempt(of)
	loads := []load{steps, numbers, timings}
	if len(rollouts) > 0 {
		loads = append(loads, episodes)
	}
	if err := createStagingTables(ctx, tx, loads...); err != nil {
		return 0, err
	}
	added, err = steps.write(ctx, tx, len(reports), func(i int) ([]any, error) {
		r := reports[i]
		return []any{attempt, r.Step, len(r.Report.Metrics), len(r.Report.Rollouts)}, nil
	})
	if err != nil {
		return 0, err
	}
	_, err = timings.write(ctx, tx, len(reports), func(i int) ([]any, error) {
		return []any{attempt, reports[i].Step, "step", reports[i].Seconds}, nil
	})
	if err != nil {
		return 0, err
	}
	if _, err := numbers.write(ctx, tx, len(metrics), rowsOf(metrics)); err != nil {
		return 0, err
	}
	if _, err := episodes.write(ctx, tx, len(rollouts), rowsOf(rollouts)); err != nil || added == len(reports) {
		return added, err
	}
	return added, countSteps(ctx, tx, attempt, of, reports)
}

// countSteps finds steps that have more rows than they should: a repeat that
// computed a metric of another name adds it beside those of the first time,
// and no comparison of equal keys notices. The step's row says how many
// metrics and rollouts there are.
func countSteps(ctx context.Context, tx pgx.Tx, attempt int64, of subject, reports []StepReport) error {
	steps := make([]int, len(reports))
	for i, r := range reports {
		steps[i] = r.Step
	}
	var step int
	err := tx.QueryRow(ctx, `
		select s.step from step s where s.attempt = $1 and s.step = any($2) and (
			s.metrics <> (select count(*) from metric m where m.attempt = s.attempt and m.step = s.step) or
			s.rollouts <> (select count(*) from rollout r where r.attempt = s.attempt and r.step = s.step))
		order by s.step limit 1`, attempt, steps).Scan(&step)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	return diverged("step %d of %s is already stored with other metrics or rollouts", step, of.displayName())
}

// rowsOf adapts a slice of rows to the function that load.write takes.
func rowsOf(rows [][]any) func(i int) ([]any, error) {
	return func(i int) ([]any, error) { return rows[i], nil }
}

// putCheckpoint inserts c, if it is not nil, and reports whether it is new.
// One with another digest for the same step is "replay_diverged".
func putCheckpoint(ctx context.Context, tx pgx.Tx, attempt int64, of subject, c *Checkpoint) (isNew bool, err error) {
	if c == nil {
		return false, nil
	}
	tag, err := tx.Exec(ctx,
		"insert into checkpoint (attempt, step, digest) values ($1, $2, $3) on conflict do nothing",
		attempt, c.Step, c.Digest)
	if err != nil || tag.RowsAffected() == 1 {
		return err == nil, err
	}
	var have trimtab.Digest
	err = tx.QueryRow(ctx, "select digest from checkpoint where attempt = $1 and step = $2", attempt,
		c.Step).Scan(&have)
	if err == nil && have != c.Digest {
		err = diverged("the checkpoint of %s before step %d is already stored as %s, and is now %s", of.displayName(),
			c.Step, have.Short(), c.Digest.Short())
	}
	return false, err
}

// ReportDamage records that the file of a checkpoint has other bytes than
// were written, or is gone, and is therefore not used. A file that is gone is
// reported once; one that is altered is reported at every encounter, since
// each quarantines a file.
func (l Lease) ReportDamage(ctx context.Context, c Checkpoint, gone bool, e *trimtab.Error) error {
	return l.write(ctx, "reporting a damaged checkpoint", func(tx pgx.Tx, of subject) error {
		var reported bool
		err := tx.QueryRow(ctx, `
			select exists (select from event where stream = $1 and stage = $2 and attempt = $3
				and type = 'checkpoint_damaged'
				and convert_from(body, 'UTF8')::json ->> 'digest' = $4)`,
			of.stream, of.stage, of.attempt, c.Digest).Scan(&reported)
		if err != nil || gone && reported {
			return err
		}
		return appendEvent(ctx, tx, of, "worker", trimtab.EventCheckpointDamaged,
			checkpointDamagedBody{Digest: c.Digest, Error: e, Gone: gone, Step: c.Step})
	})
}

// commitBody is the body of steps_committed for reports, of which the last
// added were new, and for a new checkpoint, which may be nil. from and until
// are the reported steps, first is the first new one.
func commitBody(reports []StepReport, added int, c *Checkpoint) map[string]any {
	body := map[string]any{"steps": len(reports)}
	if len(reports) > 0 {
		byStep := func(a, b StepReport) int { return a.Step - b.Step }
		body["from"] = slices.MinFunc(reports, byStep).Step
		until := slices.MaxFunc(reports, byStep).Step + 1
		body["first"], body["until"] = until-added, until
	}
	if c != nil {
		body["checkpoint"] = map[string]any{"digest": c.Digest, "step": c.Step}
	}
	return body
}

// selectCheckpoint selects the checkpoints of attempt $1; an order follows
// it.
const selectCheckpoint = "select attempt, step, digest, created_at from checkpoint where attempt = $1 "

// LatestCheckpoint returns the checkpoint of an attempt with the highest
// step, and false if it has none.
func (s *Store) LatestCheckpoint(ctx context.Context, attempt int64) (Checkpoint, bool, error) {
	var c Checkpoint
	err := s.pool.QueryRow(ctx, selectCheckpoint+"order by step desc limit 1", attempt).Scan(&c.Attempt, &c.Step,
		&c.Digest, &c.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, false, nil
	}
	return c, err == nil, wrapError(ctx, "reading the checkpoint of an attempt", err)
}

// FindCheckpoint returns the checkpoint of any attempt of a stage whose
// digest, with or without "sha256:", begins with prefix. Of several, it is
// the newest attempt's, and of those the one with the highest step. None is
// NotFound "checkpoint_not_found".
func (s *Store) FindCheckpoint(ctx context.Context, run, stage, prefix string) (Checkpoint, error) {
	var c Checkpoint
	err := s.pool.QueryRow(ctx, `
		select c.attempt, c.step, c.digest, c.created_at from checkpoint c join attempt a on a.id = c.attempt
		where a.run = $1 and a.stage = $2 and starts_with(c.digest, 'sha256:' || $3)
			order by a.number desc, c.step desc limit 1`,
		run, stage, strings.TrimPrefix(prefix, "sha256:")).Scan(&c.Attempt, &c.Step, &c.Digest, &c.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c,
			notFound("checkpoint", prefix, fmt.Sprintf("stage %s of the run has none like it: rerun from the beginning",
				stage))
	}
	return c, wrapError(ctx, "reading a checkpoint of stage "+stage, err)
}

// Checkpoints lists the checkpoints of an attempt in order of step.
func (s *Store) Checkpoints(ctx context.Context, attempt int64) ([]Checkpoint, error) {
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[Checkpoint], selectCheckpoint+"order by step", attempt)
	return rows, wrapError(ctx, "reading the checkpoints of an attempt", err)
}
