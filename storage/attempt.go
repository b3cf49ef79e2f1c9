package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Attempt is one execution of one stage of a run: its input in the table
// attempt, which never changes, and its state in attempt_state.
type Attempt struct {
	// ID is the key of the row, for the program; people use Run, Stage and
	// Number.
	ID               int64
	Run, Stage, Kind string
	// Number is 1, 2, 3 … within (Run, Stage).
	Number int
	// Status is queued if it is empty at creation.
	Status trimtab.AttemptStatus
	// Config is the digest of a document: the resolved config of the stage.
	Config trimtab.Digest
	// CacheKey covers everything that the outputs depend on. Equal keys give
	// equal bytes; an attempt with an empty one is never reused.
	CacheKey trimtab.Digest
	// Inputs and Outputs are in the order in which the stage names them.
	Inputs, Outputs []trimtab.Named
	// Steps is the number of steps of the stage, 0 until it is started.
	Steps int
	// Step is the number of steps that are in the record.
	Step int
	// Metrics are the final ones, of a completed attempt.
	Metrics []trimtab.Metric
	// ReusedFrom is the id of the attempt whose outputs these are, 0 for none.
	ReusedFrom int64
	// FromCheckpoint is the state that it started from; empty is from scratch.
	FromCheckpoint trimtab.Digest
	// Error is why it failed or is being retried.
	Error *trimtab.Error
	// Reason and Actor say why and by whom it was created.
	Reason, Actor string
	// BuildID is that of the program that last started a segment.
	BuildID string
	// CreatedAt, StartedAt and EndedAt are by the database's clock. The last
	// two are nil until it happens.
	CreatedAt          time.Time
	StartedAt, EndedAt *time.Time
	// Seconds is the time from StartedAt to EndedAt, or to now.
	Seconds float64
}

// CreateAttempt records a new attempt and returns it with its id.
//
// It is idempotent on (Run, Stage, Number): if that attempt exists, it comes
// back as it is now. If its kind, config or cache key are not those given, a
// deterministic plan gave two answers: Verification "replay_diverged".
//
// Outputs and Metrics are those of a reused attempt, and empty for others.
//
// An earlier attempt of the stage that is still open was abandoned, for
// example because an operator terminated its workflow. It is failed with
// "attempt_abandoned", so that at most one attempt of a run is open.
func (s *Store) CreateAttempt(ctx context.Context, a Attempt) (Attempt, error) {
	if a.Status == "" {
		a.Status = trimtab.AttemptQueued
	}
	var stored Attempt
	err := s.write(ctx, fmt.Sprintf("creating attempt %d of %s", a.Number, a.Stage), func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			insert into attempt (run, stage, kind, number, config, cache_key, reused_from, from_checkpoint, reason,
				actor)
			values ($1, $2, $3, $4, $5, $6, nullif($7::bigint, 0), $8, $9, $10)
			on conflict (run, stage, number) do nothing returning id`,
			a.Run, a.Stage, a.Kind, a.Number, a.Config, a.CacheKey, a.ReusedFrom, a.FromCheckpoint,
			storableText(a.Reason), storableText(a.Actor)).Scan(&a.ID)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			stored, err = checkSameAttempt(ctx, tx, a)
			return err
		case err != nil:
			return err
		}
		// The row is new, so this attempt takes the stage over from any
		// before it.
		if err := failEarlierAttempts(ctx, tx, a); err != nil {
			return err
		}
		if err := insertAttemptDetails(ctx, tx, a); err != nil {
			return err
		}
		stored, err = oneAttempt(ctx, tx, "a.id = $1", a.ID)
		return err
	})
	return stored, err
}

// failEarlierAttempts fails the open attempts of a stage that precede a new
// one, and raises their fences: a worker that still holds such an attempt can
// write no more, though no other worker has the token.
func failEarlierAttempts(ctx context.Context, tx pgx.Tx, a Attempt) error {
	ids, err := queryRows(ctx, tx, pgx.RowTo[int64], `
		select a.id from attempt a join attempt_state s on s.attempt = a.id
		where a.run = $1 and a.stage = $2 and a.number < $3 and s.status in ('queued', 'running', 'retrying')
			order by a.id`, a.Run, a.Stage, a.Number)
	if err != nil {
		return err
	}
	for _, id := range ids {
		// No worker has the new token: the one that has the old token is fenced.
		if _, err := tx.Exec(ctx, "update fence set token = token + 1 where attempt = $1", id); err != nil {
			return err
		}
		st, err := lockAttemptState(ctx, tx, id)
		if err != nil {
			return err
		}
		e := trimtab.NewError(trimtab.Unavailable, "attempt_abandoned", "",
			"its workflow ended before it did: attempt %d replaces it", a.Number)
		if err := changeStatus(ctx, tx, id, st, trimtab.AttemptFailed, e, "trimtab", ""); err != nil {
			return err
		}
	}
	return nil
}

// insertAttemptDetails writes the rows that go with a new attempt, and its
// event.
func insertAttemptDetails(ctx context.Context, tx pgx.Tx, a Attempt) error {
	_, err := tx.Exec(ctx, "insert into fence (attempt, token) values ($1, 0)", a.ID)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		insert into attempt_state (attempt, status, steps, build, error, started_at, ended_at)
		values ($1, $2, $3, $4, $5, case when $6 then clock_timestamp() end, case when $7 then clock_timestamp() end)`,
		a.ID, a.Status, a.Steps, a.BuildID, errorJSON(a.Error), a.Status == trimtab.AttemptRunning, ended(a.Status))
	if err != nil {
		return err
	}
	if err := putNamed(ctx, tx, "attempt_input", a.ID, a.Inputs); err != nil {
		return err
	}
	if err := putResult(ctx, tx, a.ID, a.Outputs, a.Metrics); err != nil {
		return err
	}
	return appendEvent(ctx, tx, a.subject(), a.Actor, trimtab.EventAttemptCreated, attemptCreatedBody{
		CacheKey:       a.CacheKey,
		Config:         a.Config,
		FromCheckpoint: a.FromCheckpoint,
		Inputs:         a.Inputs,
		Kind:           a.Kind,
		Outputs:        a.Outputs,
		Reason:         a.Reason,
		ReusedFrom:     a.ReusedFrom,
		Status:         a.Status,
	})
}

// subject is the subject of the attempt's events.
func (a Attempt) subject() subject { return subject{a.Run, a.Stage, a.Number} }

// displayName is an attempt as people know it: by its number within its
// stage, never by the id of its row.
func (s subject) displayName() string {
	return fmt.Sprintf("attempt %d of stage %s of run %s", s.attempt, s.stage, s.stream)
}

// checkSameAttempt returns the stored attempt if the one given could be it.
func checkSameAttempt(ctx context.Context, tx pgx.Tx, a Attempt) (Attempt, error) {
	have, err := oneAttempt(ctx, tx, "a.run = $1 and a.stage = $2 and a.number = $3", a.Run, a.Stage, a.Number)
	if err != nil {
		return have, err
	}
	if have.Kind != a.Kind || have.Config != a.Config || have.CacheKey != a.CacheKey {
		return have, diverged("%s is already stored with another kind, config or cache key",
			a.subject().displayName())
	}
	return have, nil
}

// ended reports whether an attempt in this state has ended. A failed one may
// be started again.
func ended(s trimtab.AttemptStatus) bool {
	switch s {
	case trimtab.AttemptQueued, trimtab.AttemptRunning, trimtab.AttemptRetrying:
		return false
	}
	return true
}

// putNamed inserts the inputs or outputs of an attempt; both tables have the
// same columns. position keeps the order in which the stage names them.
func putNamed(ctx context.Context, tx pgx.Tx, table string, attempt int64, named []trimtab.Named) error {
	for i, n := range named {
		_, err := tx.Exec(ctx, "insert into "+table+" (attempt, position, name, digest) values ($1, $2, $3, $4)",
			attempt, i, n.Name, n.Digest)
		if err != nil {
			return err
		}
	}
	return nil
}

// putResult inserts the outputs and the final metrics of an attempt.
func putResult(ctx context.Context, tx pgx.Tx, attempt int64, outputs []trimtab.Named, metrics []trimtab.Metric) error {
	if err := putNamed(ctx, tx, "attempt_output", attempt, outputs); err != nil {
		return err
	}
	for i, m := range metrics {
		_, err := tx.Exec(ctx, "insert into attempt_metric (attempt, position, name, value) values ($1, $2, $3, $4)",
			attempt, i, m.Name, m.Value)
		if err != nil {
			return err
		}
	}
	return nil
}

// selectAttempt selects the fields of an Attempt in the order of scanAttempt.
// A condition follows it. The step is derived from the rows of steps and
// checkpoints, whichever is further: an attempt that started from a
// checkpoint may have one before it has steps.
const selectAttempt = `
	select a.id, a.run, a.stage, a.kind, a.number, s.status, a.config, a.cache_key, s.steps,
		greatest(coalesce((select max(step) + 1 from step where attempt = a.id), 0),
			coalesce((select max(step) from checkpoint where attempt = a.id), 0)),
		coalesce(a.reused_from, 0), a.from_checkpoint, s.error, a.reason, a.actor, s.build, a.created_at,
			s.started_at, s.ended_at,
		coalesce(extract(epoch from coalesce(s.ended_at, clock_timestamp()) - s.started_at), 0)::double precision,
		array(select name from attempt_input where attempt = a.id order by position),
		array(select digest::text from attempt_input where attempt = a.id order by position),
		array(select name from attempt_output where attempt = a.id order by position),
		array(select digest::text from attempt_output where attempt = a.id order by position),
		array(select name from attempt_metric where attempt = a.id order by position),
		array(select value from attempt_metric where attempt = a.id order by position)
	from attempt a join attempt_state s on s.attempt = a.id `

// scanAttempt reads a row of selectAttempt. Postgres returns the inputs,
// outputs and metrics as parallel arrays.
func scanAttempt(row pgx.CollectableRow) (a Attempt, err error) {
	var raw []byte
	var inNames, outNames, metricNames []string
	var inDigests, outDigests []string
	var values []float64
	err = row.Scan(&a.ID, &a.Run, &a.Stage, &a.Kind, &a.Number, &a.Status, &a.Config, &a.CacheKey, &a.Steps, &a.Step,
		&a.ReusedFrom, &a.FromCheckpoint, &raw, &a.Reason, &a.Actor, &a.BuildID, &a.CreatedAt, &a.StartedAt, &a.EndedAt,
		&a.Seconds, &inNames, &inDigests, &outNames, &outDigests, &metricNames, &values)
	if err != nil {
		return a, err
	}
	a.Inputs, a.Outputs, a.Metrics = zipNamed(inNames, inDigests), zipNamed(outNames,
		outDigests), zipMetrics(metricNames, values)
	a.Error, err = parseError(raw)
	return a, err
}

// zipNamed joins parallel arrays of names and digests.
func zipNamed(names, digests []string) []trimtab.Named {
	var named []trimtab.Named
	for i := range names {
		named = append(named, trimtab.Named{Name: names[i], Digest: trimtab.Digest(digests[i])})
	}
	return named
}

// zipMetrics joins parallel arrays of names and values.
func zipMetrics(names []string, values []float64) []trimtab.Metric {
	var metrics []trimtab.Metric
	for i := range names {
		metrics = append(metrics, trimtab.Metric{Name: names[i], Value: values[i]})
	}
	return metrics
}

// oneAttempt returns the first attempt that meets a condition, or
// pgx.ErrNoRows.
func oneAttempt(ctx context.Context, q querier, where string, args ...any) (Attempt, error) {
	found, err := queryRows(ctx, q, scanAttempt, selectAttempt+"where "+where, args...)
	if err == nil && len(found) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Attempt{}, err
	}
	return found[0], nil
}

// attemptNotFound does not show the id: people know an attempt by its number
// within its stage.
func attemptNotFound() error {
	return trimtab.NewError(trimtab.NotFound, "attempt_not_found", "", "the record has no such attempt")
}

// Attempt returns the attempt with an id, or NotFound "attempt_not_found".
func (s *Store) Attempt(ctx context.Context, id int64) (Attempt, error) {
	a, err := oneAttempt(ctx, s.pool, "a.id = $1", id)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, attemptNotFound()
	}
	return a, wrapError(ctx, "reading an attempt", err)
}

// Attempts lists the attempts of a run, by its full id, in the order in which
// they were created.
func (s *Store) Attempts(ctx context.Context, run string) ([]Attempt, error) {
	attempts, err := queryRows(ctx, s.pool, scanAttempt, selectAttempt+"where a.run = $1 order by a.id", run)
	return attempts, wrapError(ctx, "listing the attempts of run "+run, err)
}

// LastStages maps each of these runs to the stage of its newest attempt. Runs
// without an attempt are left out.
func (s *Store) LastStages(ctx context.Context, runs []string) (map[string]string, error) {
	type last struct {
		Run, Stage string
	}
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[last],
		"select distinct on (run) run, stage from attempt where run = any($1) order by run, id desc", runs)
	stages := make(map[string]string, len(rows))
	for _, r := range rows {
		stages[r.Run] = r.Stage
	}
	return stages, wrapError(ctx, "finding the last stages of runs", err)
}

// Reusable returns the newest attempt with a cache key that was completed, if
// there is one: its outputs can be taken over. One that has become stale
// counts as well, since stale means that its inputs were replaced, and the
// inputs are part of the key. A reused attempt does not count; the one it
// names does.
func (s *Store) Reusable(ctx context.Context, cacheKey trimtab.Digest) (Attempt, bool, error) {
	a, err := oneAttempt(ctx, s.pool, `
		a.cache_key = $1 and a.cache_key <> '' and (s.status = 'completed' or s.status = 'stale'
		and a.reused_from is null and exists (select from attempt_output where attempt = a.id)) order by a.id desc
			limit 1`, cacheKey)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, false, nil
	}
	return a, err == nil, wrapError(ctx, "looking for a reusable attempt", err)
}

// attemptState is a row of attempt_state, read under a lock before it
// changes.
type attemptState struct {
	of     subject
	status trimtab.AttemptStatus
	steps  int
	build  string
	error  []byte // JSON of a failure, nil for none
}

// lockAttemptState locks and returns the state of an attempt, so that changes
// of it take turns.
func lockAttemptState(ctx context.Context, tx pgx.Tx, id int64) (st attemptState, err error) {
	err = tx.QueryRow(ctx, `
		select a.run, a.stage, a.number, s.status, s.steps, s.build, s.error
		from attempt_state s join attempt a on a.id = s.attempt where s.attempt = $1 for update of s`, id).
		Scan(&st.of.stream, &st.of.stage, &st.of.attempt, &st.status, &st.steps, &st.build, &st.error)
	if errors.Is(err, pgx.ErrNoRows) {
		err = attemptNotFound()
	}
	return st, err
}

// updateAttemptState writes the state back. started_at is set once, by the
// first start; ended_at is that of the last end and cleared by a restart.
func updateAttemptState(ctx context.Context, tx pgx.Tx, id int64, st attemptState) error {
	_, err := tx.Exec(ctx, `
		update attempt_state set status = $2, steps = $3, build = $4, error = $5,
			started_at = coalesce(started_at, case when $6 then clock_timestamp() end),
			ended_at = case when $7 then coalesce(ended_at, clock_timestamp()) end
		where attempt = $1`,
		id, st.status, st.steps, storableText(st.build), json.RawMessage(st.error), st.status == trimtab.AttemptRunning,
		ended(st.status))
	return err
}

// Start begins or resumes the steps of the attempt: it is running, with this
// many steps, on this build with these kernels. data counts how many of its
// items the stage reads, cuts or leaves out.
//
// A start with the same steps on the same build while it is running changes
// nothing: that is an activity that is retried. An attempt that has ended,
// other than by failing, is Conflict "attempt_closed".
func (l Lease) Start(ctx context.Context, steps int, buildID, kernels string, data ...trimtab.Metric) error {
	return l.write(ctx, "starting an attempt", func(tx pgx.Tx, _ subject) error {
		st, err := lockAttemptState(ctx, tx, l.attempt)
		if err != nil {
			return err
		}
		if ended(st.status) && st.status != trimtab.AttemptFailed {
			return attemptClosed(st.of, st.status)
		}
		was := st.status
		// A retried activity starts again with what it started with; there is
		// nothing new to record.
		if was == trimtab.AttemptRunning && st.steps == steps && st.build == storableText(buildID) {
			return nil
		}
		st.status = trimtab.AttemptRunning
		st.steps = steps
		st.build = buildID
		st.error = nil
		if err := updateAttemptState(ctx, tx, l.attempt, st); err != nil {
			return err
		}
		return appendEvent(ctx, tx, st.of, "worker", trimtab.EventAttemptStarted, attemptStartedBody{
			Build:   buildID,
			Data:    finiteMetrics(data),
			From:    was,
			Kernels: kernels,
			Steps:   steps,
			Token:   l.token,
		})
	})
}

// attemptClosed is the error of writing to an attempt that has ended.
func attemptClosed(of subject, status trimtab.AttemptStatus) error {
	return trimtab.NewError(trimtab.Conflict, "attempt_closed", "rerun the stage for a new attempt", "%s is already %s",
		of.displayName(), status)
}

// SetAttemptStatus changes the state of an attempt on behalf of the workflow
// or of a person, without a lease. The state that it has already changes
// nothing and appends no event.
func (s *Store) SetAttemptStatus(ctx context.Context, id int64, status trimtab.AttemptStatus, e *trimtab.Error,
	actor string) error {
	return s.write(ctx, "setting the status of an attempt", func(tx pgx.Tx) error {
		st, err := lockAttemptState(ctx, tx, id)
		if err != nil {
			return err
		}
		return changeStatus(ctx, tx, id, st, status, e, actor, "")
	})
}

// changeStatus changes a locked state and appends attempt_status. reason is
// that of a person, empty for none.
func changeStatus(ctx context.Context, tx pgx.Tx, id int64, st attemptState, status trimtab.AttemptStatus,
	e *trimtab.Error, actor, reason string) error {
	was, failure := st.status, errorJSON(e)
	if was == status && string(st.error) == string(failure) {
		return nil
	}
	st.status, st.error = status, failure
	if err := updateAttemptState(ctx, tx, id, st); err != nil {
		return err
	}
	return appendEvent(ctx, tx, st.of, actor, trimtab.EventAttemptStatus,
		attemptStatusBody{Error: e, From: was, Reason: reason, Status: status})
}

// Complete records the outputs and final metrics of the attempt and makes it
// completed. Repeated with the same ones it changes nothing; with others it
// is Verification "replay_diverged". A cancelled, skipped, reused or stale
// attempt is Conflict "attempt_closed".
func (l Lease) Complete(ctx context.Context, outputs []trimtab.Named, metrics []trimtab.Metric) error {
	return l.write(ctx, "completing an attempt", func(tx pgx.Tx, _ subject) error {
		st, err := lockAttemptState(ctx, tx, l.attempt)
		if err != nil {
			return err
		}
		switch {
		// The worker does not know that an earlier call succeeded, or another
		// worker computed the same stage: equal bytes are expected either
		// way.
		case st.status == trimtab.AttemptCompleted:
			return checkSameResult(ctx, tx, l.attempt, outputs, metrics)
		case ended(st.status) && st.status != trimtab.AttemptFailed:
			return attemptClosed(st.of, st.status)
		}
		if err := putResult(ctx, tx, l.attempt, outputs, metrics); err != nil {
			return err
		}
		st.status, st.error = trimtab.AttemptCompleted, nil
		if err := updateAttemptState(ctx, tx, l.attempt, st); err != nil {
			return err
		}
		return appendEvent(ctx, tx, st.of, "worker", trimtab.EventAttemptCompleted,
			attemptCompletedBody{Metrics: finiteMetrics(metrics), Outputs: outputs})
	})
}

// checkSameResult compares the outputs and metrics of a completed attempt
// with those of a repeated completion. Metrics are compared by their bits, so
// that NaN equals itself and 0 is not -0.
func checkSameResult(ctx context.Context, tx pgx.Tx, id int64, outputs []trimtab.Named,
	metrics []trimtab.Metric) error {
	have, err := oneAttempt(ctx, tx, "a.id = $1", id)
	if err != nil {
		return err
	}
	sameBits := func(a, b trimtab.Metric) bool {
		return a.Name == b.Name && math.Float64bits(a.Value) == math.Float64bits(b.Value)
	}
	if !slices.Equal(have.Outputs, outputs) || !slices.EqualFunc(have.Metrics, metrics, sameBits) {
		return diverged("%s is already completed with other outputs or metrics", have.subject().displayName())
	}
	return nil
}

// markStale makes the completed, reused and skipped attempts of these stages
// stale: something that they were made from is being made again.
func markStale(ctx context.Context, tx pgx.Tx, run string, stages []string, actor, reason string) error {
	ids, err := queryRows(ctx, tx, pgx.RowTo[int64], `
		select a.id from attempt a join attempt_state s on s.attempt = a.id
		where a.run = $1 and a.stage = any($2) and s.status in ('completed', 'reused', 'skipped')
		order by a.id`, run, stages)
	if err != nil {
		return err
	}
	for _, id := range ids {
		st, err := lockAttemptState(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := changeStatus(ctx, tx, id, st, trimtab.AttemptStale, nil, actor, reason); err != nil {
			return err
		}
	}
	return nil
}
