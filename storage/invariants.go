package storage

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// An invariant is a property of the record of one run that holds at every
// instant, whatever process was killed. It is one SQL query, so that it sees
// the database as of one instant and needs no memory for the rows.
type invariant struct {
	// name is what people see and scripts match: snake_case, never renamed
	// without need.
	name string
	// requirement says, as part of a sentence, what must hold.
	requirement string
	// query takes the run's id as $1 and returns one text for each violation.
	query string
}

// Finding is the outcome of checking one invariant of one run.
type Finding struct {
	Name      string
	Must      string   // what must hold
	Broken    int      // number of violations; 0 is good
	Offenders []string // the first of them, as text
}

// Add counts one more violation and names it, if not too many are named
// already. Checks outside of the database, of files for example, add theirs.
func (f *Finding) Add(offender string) {
	f.Broken++
	if len(f.Offenders) < maxOffenders {
		f.Offenders = append(f.Offenders, offender)
	}
}

// maxOffenders is how many violations of an invariant are named; Broken
// counts all of them.
const maxOffenders = 5

// CheckRun checks the record of a run, by its full id, as of one instant and
// returns a Finding for each invariant, in a fixed order. The run may be
// running. A run that is not in the record is NotFound "run_not_found".
func (s *Store) CheckRun(ctx context.Context, run string) ([]Finding, error) {
	var findings []Finding
	err := s.read(ctx, "checking the record of run "+run, func(tx pgx.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, "select exists (select from run where id = $1)", run).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			return runNotFound(run)
		}
		var err error
		findings, err = checkRun(ctx, tx, run)
		return err
	})
	return findings, err
}

// checkRun runs every invariant in a transaction. It turns just-in-time
// compilation off, whatever the session has: compiling these queries takes
// many times as long as running them.
func checkRun(ctx context.Context, tx pgx.Tx, run string) ([]Finding, error) {
	if _, err := tx.Exec(ctx, "set local jit = off"); err != nil {
		return nil, err
	}
	findings := make([]Finding, len(invariants))
	for i, inv := range invariants {
		findings[i] = Finding{Name: inv.name, Must: inv.requirement}
		rows, err := tx.Query(ctx,
			fmt.Sprintf("select o, count(*) over () from (%s) broken (o) order by o collate \"C\" limit %d", inv.query,
				maxOffenders), run)
		if err != nil {
			return nil, fmt.Errorf("invariant %s: %w", inv.name, err)
		}
		var offender string
		_, err = pgx.ForEachRow(rows, []any{&offender, &findings[i].Broken}, func() error {
			findings[i].Offenders = append(findings[i].Offenders, offender)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("invariant %s: %w", inv.name, err)
		}
	}
	return findings, nil
}

// attemptsCTE is the beginning of a query: the CTE attempts with the attempts of
// the run. Beside columns of attempt and attempt_state it has
//
//	name      "STAGE attempt NUMBER", as findings name it
//	began     the first step that is the attempt's own: 0, or where the
//	          checkpoint that it started from left off
//	until     the step after its last one in the record, null without any
//	finished  it produced outputs itself
const attemptsCTE = `with recursive attempts as (
	select a.id, a.stage, a.kind, a.number, a.config, a.cache_key, a.reused_from, a.from_checkpoint,
		s.status, s.steps, s.build, s.error, s.ended_at,
		a.stage || ' attempt ' || a.number as name,
		case when a.from_checkpoint = '' then 0 else (select max(c.step) from checkpoint c
			where c.digest = a.from_checkpoint) end as began,
		(select max(p.step) + 1 from step p where p.attempt = a.id) as until,
		s.status = 'completed' or a.reused_from is null and exists (select from attempt_output o
			where o.attempt = a.id) as finished
	from attempt a join attempt_state s on s.attempt = a.id where a.run = $1
)`

// eventsCTE continues attemptsCTE: the CTE recorded with the events of the
// run, their bodies as JSON. Postgres cannot hold NUL in text taken from
// JSON, so it is replaced by U+FFFD.
const eventsCTE = `, recorded as (
	select e.sequence, e.type, e.stage, e.attempt, e.actor, replace(convert_from(e.body, 'UTF8'), '\u0000',
		'\ufffd')::json as body
	from event e where e.stream = $1
)`

// plannedCTE continues eventsCTE: the CTE planned with the attempts, each
// with the stage that the plan had for it: of the newest plan that was
// recorded before the attempt.
const plannedCTE = `, planned as (
	select t.*, st.value as plan
	from attempts t
	left join recorded created on created.type = 'attempt_created' and created.stage = t.stage
		and created.attempt = t.number
	left join lateral (
		select p.body->'plan' as plan from recorded p
		where p.type in ('run_created', 'run_planned') and p.sequence < created.sequence order by p.sequence desc
			limit 1) p on true
	left join lateral json_array_elements(case json_typeof(p.plan->'stages') when 'array' then p.plan->'stages'
		else '[]' end) st
		on st.value->>'name' = t.stage
)`

// openStatuses is the SQL list of the states of an attempt that has not
// ended.
const openStatuses = `('queued', 'running', 'retrying')`

// metricPresence is an SQL expression that says in which steps of an attempt
// the metric m has to be:
//
//	always  in all of them
//	later   in all from the first one that has it: policy metrics are missing
//	        while only the value function is trained
//	eval    in none, or together with all others of its kind: validation runs
//	        at the end of an epoch
const metricPresence = `case when m.name like 'eval\_%' then 'eval'
	when m.name like 'policy/%' or m.name in ('loss/policy_avg', 'loss/ptx_avg', 'val/ratio', 'val/ratio_var')
		then 'later'
	else 'always' end`

// invariants are checked in this order. Each is an independent query; where
// one is broken, others that build on it are often broken as well.
var invariants = slices.Concat(stepInvariants, rolloutInvariants, eventInvariants, runInvariants, digestInvariants)
