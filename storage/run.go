package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Run is one launch of a spec: what was launched, in table run, its newest
// plan in run_plan, and its state in run_state.
type Run struct {
	// ID is unique and chosen by the caller. Name is a person's and need not be
	// unique.
	ID, Name string
	// Status is queued if it is empty at creation.
	Status trimtab.RunStatus
	// Seed determines every random draw of the run.
	Seed uint64
	// Spec is the resolved spec, byte for byte.
	Spec       json.RawMessage
	SpecDigest trimtab.Digest
	// Plan is the newest plan, and Revision its number; 0 is the first.
	Plan     trimtab.Plan
	Revision int
	// Origin is the id of the run that this one reruns, empty for none. Stage
	// is the stage of it that is rerun, and Overrides are the changes to its
	// spec. The last two are written, and read back by PlanChanges only.
	Origin    string
	Stage     string
	Overrides []trimtab.Override
	// Reason is a person's reason for the rerun.
	Reason string
	// Next says what happens next, or what a person has to do.
	Next string
	// Error is why it is waiting or blocked, or failed.
	Error *trimtab.Error
	Actor string
	// CreatedAt, StartedAt and EndedAt are by the database's clock. The last
	// two are nil until it happens.
	CreatedAt          time.Time
	StartedAt, EndedAt *time.Time
}

// minPrefix is the shortest prefix of a run's id that may stand for it.
const minPrefix = 4

// CreateRun records a new run with its first plan. The same run again changes
// nothing; another run under the same id is Conflict "run_exists".
func (s *Store) CreateRun(ctx context.Context, r Run) error {
	return s.write(ctx, "creating run "+r.ID, func(tx pgx.Tx) error { return createRun(ctx, tx, r) })
}

// createRun is CreateRun in the caller's transaction.
func createRun(ctx context.Context, tx pgx.Tx, r Run) error {
	if r.Status == "" {
		r.Status = trimtab.RunQueued
	}
	if len(r.Spec) == 0 {
		r.Spec = json.RawMessage("{}")
	}
	tag, err := tx.Exec(ctx, `
		insert into run (id, name, seed, spec, spec_digest, origin, reason, actor)
		values ($1, $2, $3, $4, $5, nullif($6, ''), $7, $8) on conflict do nothing`,
		r.ID, storableText(r.Name), strconv.FormatUint(r.Seed, 10), r.Spec, r.SpecDigest, r.Origin,
		storableText(r.Reason), storableText(r.Actor))
	if err != nil {
		return err
	}
	// The id exists: a retried launch, or a clash of ids.
	if tag.RowsAffected() == 0 {
		return checkSameRun(ctx, tx, r)
	}
	return insertRunDetails(ctx, tx, r)
}

// NameRule says how CreateRunOnce treats the name of a new run.
type NameRule int

const (
	// AnyName takes an open run of the same spec for the same run, whatever its name.
	AnyName NameRule = iota
	// SameName takes it for the same run only under the same name.
	SameName
	// UniqueName is SameName, and refuses a name that an open run of another spec has.
	UniqueName
)

// CreateRunOnce is CreateRun, unless there is an open run of the same spec
// that naming takes for the same one. Then that run is returned, the oldest
// of several, and is is true. For a rerun only reruns of the same origin
// count.
//
// Of several concurrent callers one creates the run. With UniqueName a name
// that an open run of another spec has is Conflict "name_taken".
func (s *Store) CreateRunOnce(ctx context.Context, r Run, naming NameRule) (open Run, is bool, err error) {
	err = s.write(ctx, "creating run "+r.ID, func(tx pgx.Tx) error {
		open, is, err = createOnce(ctx, tx, r, naming)
		return err
	})
	return open, is && err == nil, err
}

// createOnce is CreateRunOnce in a transaction. Advisory locks make those who
// create runs of one name, and then of one spec, take turns, always in this
// order.
func createOnce(ctx context.Context, tx pgx.Tx, r Run, naming NameRule) (open Run, is bool, err error) {
	// The lock is on the hash of a text. Two texts with one hash only wait
	// for each other needlessly.
	const lock = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
	if naming == UniqueName {
		if _, err := tx.Exec(ctx, lock, "name/"+r.Name); err != nil {
			return open, false, err
		}
	}
	if _, err := tx.Exec(ctx, lock, "run/"+string(r.SpecDigest)); err != nil {
		return open, false, err
	}
	name := ""
	if naming != AnyName {
		name = storableText(r.Name)
	}
	open, err = oneRun(ctx, tx, `
		s.ended_at is null and r.spec_digest = $1 and ($2 = '' or r.origin = $2) and ($3 = '' or r.name = $3)
		order by r.created_at, r.id limit 1`, r.SpecDigest, r.Origin, name)
	if err == nil {
		return open, true, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return open, false, err
	}
	if naming == UniqueName {
		if err := checkNameFree(ctx, tx, r.Name); err != nil {
			return open, false, err
		}
	}
	return open, false, createRun(ctx, tx, r)
}

// checkNameFree refuses a name that an open run has.
func checkNameFree(ctx context.Context, tx pgx.Tx, name string) error {
	open, err := oneRun(ctx, tx, "s.ended_at is null and r.name = $1 order by r.created_at, r.id limit 1",
		storableText(name))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return trimtab.NewError(trimtab.Conflict, "name_taken",
		fmt.Sprintf("choose another name, wait for its end (`trimtab watch %s`) or cancel it; with --new a second "+
			"run gets the name", open.ID),
		"run %s is called %q, was launched with another spec, and has not ended", open.ID, name)
}

// CreateRerun is CreateRunOnce for a plan that was computed when these were
// the reruns of r.Origin. If there are more by now, the plan did not consider
// what they made: Conflict "plan_stale".
func (s *Store) CreateRerun(ctx context.Context, r Run, reruns []string) (open Run, is bool, err error) {
	err = s.write(ctx, "creating run "+r.ID, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtextextended('rerun/' || $1, 0))",
			r.Origin); err != nil {
			return err
		}
		now, err := rerunsOf(ctx, tx, r.Origin)
		if err != nil {
			return err
		}
		if len(now) > len(reruns) {
			return trimtab.NewError(trimtab.Conflict, "plan_stale",
				"look at it with `trimtab show`, and plan again with --dry-run",
				"run %s has been rerun since, as %s", r.Origin, strings.Join(now[len(reruns):], ", "))
		}
		open, is, err = createOnce(ctx, tx, r, AnyName)
		return err
	})
	return open, is && err == nil, err
}

// Reruns lists the ids of the runs that rerun this one, by its full id, in
// the order in which they were created.
func (s *Store) Reruns(ctx context.Context, origin string) ([]string, error) {
	ids, err := rerunsOf(ctx, s.pool, origin)
	return ids, wrapError(ctx, "listing the reruns of "+origin, err)
}

// rerunsOf is Reruns in a transaction, or outside of one.
func rerunsOf(ctx context.Context, q querier, origin string) ([]string, error) {
	return queryRows(ctx, q, pgx.RowTo[string], "select id from run where origin = $1 order by created_at, id", origin)
}

// insertRunDetails writes the rows that go with a new run, and its events: a
// rerun is also the request of the person who asked for it.
func insertRunDetails(ctx context.Context, tx pgx.Tx, r Run) error {
	_, err := tx.Exec(ctx, `
		insert into run_state (run, status, next, error, started_at, ended_at)
		values ($1, $2, $3, $4, case when $5 then clock_timestamp() end, case when $6 then clock_timestamp() end)`,
		r.ID, r.Status, storableText(r.Next), errorJSON(r.Error), r.Status == trimtab.RunRunning, !r.Status.Open())
	if err != nil {
		return err
	}
	if err := putPlan(ctx, tx, r.ID, 0, r.Plan, r.Actor, r.Reason); err != nil {
		return err
	}
	body := map[string]any{
		"name": r.Name, "origin": r.Origin, "plan": r.Plan, "reason": r.Reason, "seed": strconv.FormatUint(r.Seed, 10),
		"spec": trimtab.DigestOf(r.Spec), "spec_digest": r.SpecDigest, "status": r.Status,
		"decisions": "requested", // a decision about this run counts with its request alone
	}
	if r.Origin == "" {
		return appendEvent(ctx, tx, subject{stream: r.ID}, r.Actor, trimtab.EventRunCreated, body)
	}
	body["stage"], body["overrides"] = r.Stage, r.Overrides
	if err := appendEvent(ctx, tx, subject{stream: r.ID}, r.Actor, trimtab.EventRunCreated, body); err != nil {
		return err
	}
	plan, err := r.Plan.Digest()
	if err != nil {
		return err
	}
	_, err = appendRequest(ctx, tx, Request{
		Run: r.ID, Stage: r.Stage, Decision: "rerun", Reason: r.Reason, Actor: r.Actor, Plan: plan,
		Overrides: r.Overrides,
	})
	return err
}

// checkSameRun compares a run with the stored one of the same id.
func checkSameRun(ctx context.Context, tx pgx.Tx, r Run) error {
	have, err := oneRun(ctx, tx, "r.id = $1", r.ID)
	if err != nil {
		return err
	}
	if have.Name != storableText(r.Name) || have.Seed != r.Seed || have.SpecDigest != r.SpecDigest ||
		have.Origin != r.Origin {
		return trimtab.NewError(trimtab.Conflict, "run_exists", "choose another id", "run %s exists with another spec",
			r.ID)
	}
	return nil
}

// selectRun selects the fields of a Run in the order of scanRun, with its
// newest plan. A condition follows it.
const selectRun = `
	select r.id, r.name, r.seed::text, r.spec, r.spec_digest, coalesce(r.origin, ''), r.reason, r.actor, r.created_at,
		s.status, s.next, s.error, s.started_at, s.ended_at,
		p.plan, p.revision
	from run r join run_state s on s.run = r.id
		cross join lateral (select plan, revision from run_plan where run = r.id order by revision desc limit 1) p `

// scanRun reads a row of selectRun. The seed is numeric in the database,
// since Postgres has no unsigned 64-bit integer.
func scanRun(row pgx.CollectableRow) (r Run, err error) {
	var seed string
	var failure, plan []byte
	err = row.Scan(&r.ID, &r.Name, &seed, &r.Spec, &r.SpecDigest, &r.Origin, &r.Reason, &r.Actor, &r.CreatedAt,
		&r.Status, &r.Next, &failure, &r.StartedAt, &r.EndedAt, &plan, &r.Revision)
	if err != nil {
		return r, err
	}
	if r.Seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
		return r, err
	}
	if r.Error, err = parseError(failure); err != nil {
		return r, err
	}
	return r, json.Unmarshal(plan, &r.Plan)
}

// oneRun returns the first run that meets a condition, or pgx.ErrNoRows.
func oneRun(ctx context.Context, q querier, where string, args ...any) (Run, error) {
	found, err := queryRows(ctx, q, scanRun, selectRun+"where "+where, args...)
	if err == nil && len(found) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Run{}, err
	}
	return found[0], nil
}

// Run finds a run by its id, by a prefix of the id of four or more characters
// that no other run shares, or else the newest run of that name. A prefix of
// several runs is Usage "run_ambiguous", and what fits none NotFound
// "run_not_found".
func (s *Store) Run(ctx context.Context, idOrName string) (Run, error) {
	id, err := s.findRun(ctx, idOrName)
	if err != nil {
		return Run{}, err
	}
	r, err := oneRun(ctx, s.pool, "r.id = $1", id)
	return r, wrapError(ctx, "reading run "+idOrName, err)
}

// findRun turns a person's reference into a run's id: an exact id first, then
// a unique prefix, then a name.
func (s *Store) findRun(ctx context.Context, ref string) (string, error) {
	type candidate struct {
		ID, Name string
	}
	found, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[candidate], `
		select id, name from run where id = $1 or name = $1 or (length($1) >= $2 and starts_with(id, $1))
		order by created_at desc, id desc`, ref, minPrefix)
	if err != nil {
		return "", wrapError(ctx, "finding run "+ref, err)
	}
	var named, prefixed []string
	for _, c := range found {
		if c.ID == ref {
			return c.ID, nil
		}
		if c.Name == ref {
			named = append(named, c.ID)
		}
		if len(ref) >= minPrefix && len(c.ID) > len(ref) && c.ID[:len(ref)] == ref {
			prefixed = append(prefixed, c.ID)
		}
	}
	switch {
	// A prefix that only one run has wins over a name, and a name over a
	// prefix that several have.
	case len(prefixed) == 1:
		return prefixed[0], nil
	case len(named) > 0:
		return named[0], nil
	case len(prefixed) > 1:
		return "", trimtab.NewError(trimtab.Usage, "run_ambiguous", "write more of the id",
			"%q is a prefix of the ids of %d runs", ref, len(prefixed))
	}
	return "", runNotFound(ref)
}

// runNotFound is the error for a reference to no run.
func runNotFound(ref string) error { return notFound("run", ref, "list them with `trimtab runs`") }

// Runs lists the newest runs, newest first; limit 0 is all of them.
func (s *Store) Runs(ctx context.Context, limit int) ([]Run, error) {
	runs, err := queryRows(ctx, s.pool, scanRun, selectRun+"order by r.created_at desc, r.id desc limit nullif($1, 0)",
		limit)
	return runs, wrapError(ctx, "listing runs", err)
}

// CountOpenRuns counts the runs of a database that have not ended, whatever
// version its schema has: the program asks before it migrates.
func CountOpenRuns(ctx context.Context, url string) (n int, err error) {
	const doing = "counting open runs"
	config, err := poolConfig(url)
	if err != nil {
		return 0, err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return 0, wrapError(ctx, doing, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, "select count(*) from public.run_state where ended_at is null").Scan(&n)
	return n, wrapError(ctx, doing, err)
}

// SetRunStatus changes the state of a run, unless it is in one of the states
// given last. The state that it has already changes nothing and appends no
// event. next says what happens next, for people.
func (s *Store) SetRunStatus(ctx context.Context, id string, status trimtab.RunStatus, next string, e *trimtab.Error,
	actor string, unless ...trimtab.RunStatus) error {
	return s.write(ctx, "setting the status of run "+id, func(tx pgx.Tx) error {
		was, err := lockRun(ctx, tx, id)
		if err != nil || slices.Contains(unless, was.status) {
			return err
		}
		return was.change(ctx, tx, id, status, next, e, actor)
	})
}

// runState is a row of run_state, read under a lock before it changes.
type runState struct {
	status trimtab.RunStatus
	next   string
	error  []byte // JSON of a failure, nil for none
}

// lockRun locks and returns the state of a run, so that changes take turns.
func lockRun(ctx context.Context, tx pgx.Tx, id string) (st runState, err error) {
	err = tx.QueryRow(ctx, "select status, next, error from run_state where run = $1 for update", id).Scan(&st.status,
		&st.next, &st.error)
	if errors.Is(err, pgx.ErrNoRows) {
		err = runNotFound(id)
	}
	return st, err
}

// change gives a locked run another state and appends run_status. started_at
// is set once; ended_at is cleared when a run is opened again.
func (was runState) change(ctx context.Context, tx pgx.Tx, id string, status trimtab.RunStatus, next string,
	e *trimtab.Error, actor string) error {
	failure := errorJSON(e)
	if was.status == status && was.next == storableText(next) && string(was.error) == string(failure) {
		return nil
	}
	_, err := tx.Exec(ctx, `
		update run_state set status = $2, next = $3, error = $4,
			started_at = coalesce(started_at, case when $5 then clock_timestamp() end),
			ended_at = case when $6 then coalesce(ended_at, clock_timestamp()) end
		where run = $1`,
		id, status, storableText(next), failure, status == trimtab.RunRunning, !status.Open())
	if err != nil {
		return err
	}
	return appendEvent(ctx, tx, subject{stream: id}, actor, trimtab.EventRunStatus,
		runStatusBody{Error: e, From: was.status, Next: next, Status: status})
}

// putPlan inserts a revision of a run's plan.
func putPlan(ctx context.Context, tx pgx.Tx, run string, revision int, plan trimtab.Plan, actor, reason string) error {
	raw, err := trimtab.EncodeJSON(plan)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "insert into run_plan (run, revision, plan, actor, reason) values ($1, $2, $3, $4, $5)",
		run, revision, json.RawMessage(raw), storableText(actor), storableText(reason))
	return err
}

// failure is the stored form of a trimtab.Error. It has the class, which
// people do not see.
type failure struct {
	Type    string        `json:"type"`
	Message string        `json:"message"`
	Remedy  string        `json:"remedy,omitempty"`
	Class   trimtab.Class `json:"class"`
}

// errorJSON is an error as a column stores it; nil is null.
func errorJSON(e *trimtab.Error) json.RawMessage {
	if e == nil {
		return nil
	}
	raw, err := trimtab.EncodeJSON(failure{e.Type, e.Message, e.Remedy, e.Class})
	if err != nil {
		return nil // strings and an integer always encode
	}
	return raw
}

// parseError is the inverse of errorJSON.
func parseError(raw []byte) (*trimtab.Error, error) {
	if raw == nil {
		return nil, nil
	}
	var f failure
	err := json.Unmarshal(raw, &f)
	return &trimtab.Error{Type: f.Type, Message: f.Message, Remedy: f.Remedy, Class: f.Class}, err
}
