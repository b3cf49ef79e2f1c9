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

// Checkpoint is the state of an attempt between two steps.
type Checkpoint struct {
	Attempt   int64
	Step      int // the next step to take: 0 … Step-1 are in the state
	Digest    trimtab.Digest
	CreatedAt time.Time
}

// StepReport is what one step told, and how long it took.
type StepReport struct {
	Step    int
	Report  trimtab.Report
	Seconds float64
}

var stepLoad = load{table: "step", key: []string{"attempt", "step"}, columns: []string{"metrics", "rollouts"}}

// Commit writes a checkpoint, if there is one, and every report since the last
// in one transaction. Steps and checkpoints that are stored already are
// compared bit for bit, times apart: an equal repeat changes nothing, another
// is "replay_diverged" and undoes the whole. It is "fenced" if token is not
// the attempt's holder.
func (s *Store) Commit(ctx context.Context, attempt int64, token int64, reports []StepReport, c *Checkpoint) error {
	if err := checkReports(reports); err != nil {
		return err
	}
	return s.write(ctx, "committing steps of an attempt", func(tx pgx.Tx) error {
		of, err := holdFence(ctx, tx, attempt, token)
		if err != nil {
			return err
		}
		added, err := putSteps(ctx, tx, attempt, of, reports)
		if err != nil {
			return err
		}
		isNew, err := putCheckpoint(ctx, tx, attempt, of, c)
		if err != nil || added == 0 && !isNew {
			return err
		}
		if !isNew {
			c = nil
		}
		return appendEvent(ctx, tx, of, "worker", "steps_committed", commitBody(reports, added, c))
	})
}

// checkReports refuses what the tables would take for a repeat.
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

// putSteps loads every row of the reports and returns how many steps were new.
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
	steps, timings, numbers, episodes := stepLoad.forAttempt(of), timingLoad.forAttempt(of), metricLoad.forAttempt(of), rolloutLoad.forAttempt(of)
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

// countSteps finds rows that a repeat added beside those of the first time, such as a metric of another name: the
// step's row tells how many there are.
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
	return diverged("step %d of %s is stored already with other metrics or rollouts", step, of.displayName())
}

func rowsOf(rows [][]any) func(i int) ([]any, error) {
	return func(i int) ([]any, error) { return rows[i], nil }
}

// putCheckpoint writes c and reports whether it is new; one with another digest for the same step diverged.
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
		err = diverged("the checkpoint of %s before step %d is stored already as %s, and now is %s", of.displayName(),
			c.Step, have.Short(), c.Digest.Short())
	}
	return false, err
}

// ReportDamage records that a checkpoint's file is not what was written, and is not used. One whose file is gone is
// reported once.
func (s *Store) ReportDamage(ctx context.Context, attempt, token int64, c Checkpoint, gone bool,
	e *trimtab.Error) error {
	return s.write(ctx, "reporting a damaged checkpoint", func(tx pgx.Tx) error {
		of, err := holdFence(ctx, tx, attempt, token)
		if err != nil {
			return err
		}
		var reported bool
		err = tx.QueryRow(ctx, `
			select exists (select from event where stream = $1 and stage = $2 and attempt = $3 and type = 'checkpoint_damaged'
				and convert_from(body, 'UTF8')::json ->> 'digest' = $4)`, of.stream, of.stage, of.attempt, c.Digest).Scan(&reported)
		if err != nil || gone && reported {
			return err
		}
		return appendEvent(ctx, tx, of, "worker", "checkpoint_damaged",
			map[string]any{"digest": c.Digest, "error": e, "gone": gone, "step": c.Step})
	})
}

// commitBody tells of reports, of which the last ones were new, and of a new checkpoint.
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

const selectCheckpoint = "select attempt, step, digest, created_at from checkpoint where attempt = $1 "

// LatestCheckpoint returns the checkpoint of an attempt with the highest step, if there is one.
func (s *Store) LatestCheckpoint(ctx context.Context, attempt int64) (Checkpoint, bool, error) {
	var c Checkpoint
	err := s.pool.QueryRow(ctx, selectCheckpoint+"order by step desc limit 1", attempt).Scan(&c.Attempt, &c.Step,
		&c.Digest, &c.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, false, nil
	}
	return c, err == nil, wrapError(ctx, "reading the checkpoint of an attempt", err)
}

// FindCheckpoint returns the checkpoint of any attempt of a stage whose digest, with or without "sha256:", begins with
// prefix: of the newest attempt that has one, the one with the highest step.
func (s *Store) FindCheckpoint(ctx context.Context, run, stage, prefix string) (Checkpoint, error) {
	var c Checkpoint
	err := s.pool.QueryRow(ctx, `
		select c.attempt, c.step, c.digest, c.created_at from checkpoint c join attempt a on a.id = c.attempt
		where a.run = $1 and a.stage = $2 and starts_with(c.digest, 'sha256:' || $3) order by a.number desc, c.step desc limit 1`,
		run, stage, strings.TrimPrefix(prefix, "sha256:")).Scan(&c.Attempt, &c.Step, &c.Digest, &c.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c,
			notFound("checkpoint", prefix, fmt.Sprintf("stage %s of the run has none like it: rerun from the beginning",
				stage))
	}
	return c, wrapError(ctx, "reading a checkpoint of stage "+stage, err)
}

// Checkpoints lists the checkpoints of an attempt, ordered by step.
func (s *Store) Checkpoints(ctx context.Context, attempt int64) ([]Checkpoint, error) {
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[Checkpoint], selectCheckpoint+"order by step", attempt)
	return rows, wrapError(ctx, "reading the checkpoints of an attempt", err)
}
