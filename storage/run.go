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

// Run is one launch of a spec.
type Run struct {
	ID, Name           string
	Status             trimtab.RunStatus // empty at creation is queued
	Seed               uint64
	Spec               json.RawMessage // resolved, its bytes kept
	SpecDigest         trimtab.Digest
	Plan               trimtab.Plan       // the newest
	Revision           int                // of Plan; 0 is the first
	Origin             string             // id of the run that this one reruns
	Stage              string             // of Origin that is run again; kept in the record (Changes), not read here
	Overrides          []trimtab.Override // of Origin's spec; as Stage
	Reason             string
	Next               string         // what happens next, or what a person has to do
	Error              *trimtab.Error // why it waits, is blocked or failed
	Actor              string
	CreatedAt          time.Time // set by the database, as the next two
	StartedAt, EndedAt *time.Time
}

// minPrefix is the shortest beginning of a run's id that may stand for it.
const minPrefix = 4

// CreateRun writes a new run with its first plan. The same run again changes
// nothing; another run under the same id is Conflict "run_exists".
func (s *Store) CreateRun(ctx context.Context, r Run) error {
	return s.write(ctx, "creating run "+r.ID, func(tx pgx.Tx) error { return createRun(ctx, tx, r) })
}

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
	if tag.RowsAffected() == 0 {
		return checkSameRun(ctx, tx, r)
	}
	return insertRunDetails(ctx, tx, r)
}

// NameRule says what the name of a new run means to CreateRunOnce.
type NameRule int

const (
	// AnyName takes an open run of the same spec for the same run, whatever its name.
	AnyName NameRule = iota
	// SameName takes it for the same run only under the same name.
	SameName
	// UniqueName is SameName, and refuses a name that an open run of another spec has.
	UniqueName
)

// CreateRunOnce is CreateRun, unless an open run of the same spec is there
// that naming takes for the same: that one comes back, the oldest if there are
// several, and is true. For a run with an origin, only reruns of that origin
// count. Of several callers at once, one creates. A name that is taken is
// Conflict "name_taken".
func (s *Store) CreateRunOnce(ctx context.Context, r Run, naming NameRule) (open Run, is bool, err error) {
	err = s.write(ctx, "creating run "+r.ID, func(tx pgx.Tx) error {
		open, is, err = createOnce(ctx, tx, r, naming)
		return err
	})
	return open, is && err == nil, err
}

// createOnce lets those who create runs of one name, then of one spec, take turns.
func createOnce(ctx context.Context, tx pgx.Tx, r Run, naming NameRule) (open Run, is bool, err error) {
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
	open, err = oneRun(ctx, tx, `s.ended_at is null and r.spec_digest = $1 and ($2 = '' or r.origin = $2) and ($3 = '' or r.name = $3)
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

// CreateRerun is CreateRunOnce for a plan that was made when these were the
// reruns of r.Origin. If there is another by now, that is Conflict "plan_stale".
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

// Reruns lists the ids of the runs that rerun this one (its full id), in the order in which they were made.
func (s *Store) Reruns(ctx context.Context, origin string) ([]string, error) {
	ids, err := rerunsOf(ctx, s.pool, origin)
	return ids, wrapError(ctx, "listing the reruns of "+origin, err)
}

func rerunsOf(ctx context.Context, q querier, origin string) ([]string, error) {
	return queryRows(ctx, q, pgx.RowTo[string], "select id from run where origin = $1 order by created_at, id", origin)
}

// insertRunDetails writes what belongs to a new run beside its row.
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
	told := map[string]any{
		"name": r.Name, "origin": r.Origin, "plan": r.Plan, "reason": r.Reason, "seed": strconv.FormatUint(r.Seed, 10),
		"spec": trimtab.DigestOf(r.Spec), "spec_digest": r.SpecDigest, "status": r.Status,
		"decisions": "requested", // a decision about this run counts with its request alone
	}
	if r.Origin == "" {
		return appendEvent(ctx, tx, subject{stream: r.ID}, r.Actor, "run_created", told)
	}
	told["stage"], told["overrides"] = r.Stage, r.Overrides
	if err := appendEvent(ctx, tx, subject{stream: r.ID}, r.Actor, "run_created", told); err != nil {
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

const selectRun = `
	select r.id, r.name, r.seed::text, r.spec, r.spec_digest, coalesce(r.origin, ''), r.reason, r.actor, r.created_at,
		s.status, s.next, s.error, s.started_at, s.ended_at,
		p.plan, p.revision
	from run r join run_state s on s.run = r.id
		cross join lateral (select plan, revision from run_plan where run = r.id order by revision desc limit 1) p `

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

// Run finds a run by its id, by a beginning of the id of four or more
// characters that no other run shares, or else the newest run of that name.
func (s *Store) Run(ctx context.Context, idOrName string) (Run, error) {
	id, err := s.findRun(ctx, idOrName)
	if err != nil {
		return Run{}, err
	}
	r, err := oneRun(ctx, s.pool, "r.id = $1", id)
	return r, wrapError(ctx, "reading run "+idOrName, err)
}

// findRun turns what a person wrote into a run's id.
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
	case len(prefixed) == 1:
		return prefixed[0], nil
	case len(named) > 0:
		return named[0], nil
	case len(prefixed) > 1:
		return "", trimtab.NewError(trimtab.Usage, "run_ambiguous", "write more of the id",
			"%q is the beginning of %d runs", ref, len(prefixed))
	}
	return "", runNotFound(ref)
}

func runNotFound(ref string) error { return notFound("run", ref, "list them with `trimtab runs`") }

// Runs lists the newest runs, newest first; limit 0 is all.
func (s *Store) Runs(ctx context.Context, limit int) ([]Run, error) {
	runs, err := queryRows(ctx, s.pool, scanRun, selectRun+"order by r.created_at desc, r.id desc limit nullif($1, 0)",
		limit)
	return runs, wrapError(ctx, "listing runs", err)
}

// CountOpenRuns counts the runs of a database that may still change, of
// whatever version its schema is.
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
// given last. The same state again changes nothing and tells no event.
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

// runState is what a change of a run has to know.
type runState struct {
	status trimtab.RunStatus
	next   string
	error  []byte
}

// lockRun makes those who change a run take turns.
func lockRun(ctx context.Context, tx pgx.Tx, id string) (st runState, err error) {
	err = tx.QueryRow(ctx, "select status, next, error from run_state where run = $1 for update", id).Scan(&st.status,
		&st.next, &st.error)
	if errors.Is(err, pgx.ErrNoRows) {
		err = runNotFound(id)
	}
	return st, err
}

// change gives a locked run another state.
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
	return appendEvent(ctx, tx, subject{stream: id}, actor, "run_status",
		map[string]any{"error": e, "from": was.status, "next": next, "status": status})
}

func putPlan(ctx context.Context, tx pgx.Tx, run string, revision int, plan trimtab.Plan, actor, reason string) error {
	raw, err := canonicalJSON(plan)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "insert into run_plan (run, revision, plan, actor, reason) values ($1, $2, $3, $4, $5)",
		run, revision, json.RawMessage(raw), storableText(actor), storableText(reason))
	return err
}

// failure is the stored form of an Error; the class, which users do not see, is kept too.
type failure struct {
	Type    string        `json:"type"`
	Message string        `json:"message"`
	Remedy  string        `json:"remedy,omitempty"`
	Class   trimtab.Class `json:"class"`
}

func errorJSON(e *trimtab.Error) json.RawMessage {
	if e == nil {
		return nil
	}
	raw, err := canonicalJSON(failure{e.Type, e.Message, e.Remedy, e.Class})
	if err != nil {
		return nil // strings and an integer always encode
	}
	return raw
}

func parseError(raw []byte) (*trimtab.Error, error) {
	if raw == nil {
		return nil, nil
	}
	var f failure
	err := json.Unmarshal(raw, &f)
	return &trimtab.Error{Type: f.Type, Message: f.Message, Remedy: f.Remedy, Class: f.Class}, err
}
