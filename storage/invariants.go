package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// An invariant is something that holds of the record of a run at every instant, whatever was killed.
type invariant struct {
	name        string // snake_case and stable
	requirement string // what must hold
	// query takes the run's id as $1 and returns one text for each thing that breaks the invariant.
	query string
}

// Finding is what came of one invariant.
type Finding struct {
	Name      string
	Must      string   // what must hold
	Broken    int      // how many things break it
	Offenders []string // the first of them
}

// AddFunc takes note of one more thing that breaks the invariant.
func (f *Finding) Add(offender string) {
	f.Broken++
	if len(f.Offenders) < maxOffenders {
		f.Offenders = append(f.Offenders, offender)
	}
}

// maxOffenders is how many things that break an invariant are named.
const maxOffenders = 5

// CheckRun looks at a run's record (its full id) as it was at one instant and
// returns a Finding for each invariant. It may be asked while the run is at work.
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

// checkRun does without just-in-time compilation, whatever the session has: it takes many times as long as the queries.
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

// attemptsCTE is the attempts of the run with what is often asked of them: began is
// the first step that is theirs, until the step after the last in the record
// (null without any), finished that they made outputs themselves.
const attemptsCTE = `with recursive tried as (
	select a.id, a.stage, a.kind, a.number, a.config, a.cache_key, a.reused_from, a.from_checkpoint,
		s.status, s.steps, s.build, s.error, s.ended_at,
		a.stage || ' attempt ' || a.number as name,
		case when a.from_checkpoint = '' then 0 else (select max(c.step) from checkpoint c where c.digest = a.from_checkpoint) end as began,
		(select max(p.step) + 1 from step p where p.attempt = a.id) as until,
		s.status = 'completed' or a.reused_from is null and exists (select from attempt_output o where o.attempt = a.id) as finished
	from attempt a join attempt_state s on s.attempt = a.id where a.run = $1
)`

// recorded is the events of the run with their bodies as JSON.
const eventsCTE = `, told as (
	select e.sequence, e.type, e.stage, e.attempt, e.actor, replace(convert_from(e.body, 'UTF8'), '\u0000', '\ufffd')::json as body
	from event e where e.stream = $1
)`

// plannedCTE is the attempts with the stage that the plan of their time has for them.
const plannedCTE = `, planned as (
	select t.*, st.value as plan
	from tried t
	left join told born on born.type = 'attempt_created' and born.stage = t.stage and born.attempt = t.number
	left join lateral (
		select p.body->'plan' as plan from told p
		where p.type in ('run_created', 'run_planned') and p.sequence < born.sequence order by p.sequence desc limit 1) p on true
	left join lateral json_array_elements(case json_typeof(p.plan->'stages') when 'array' then p.plan->'stages' else '[]' end) st
		on st.value->>'name' = t.stage
)`

// openStatuses are the states of an attempt that has not ended.
const openStatuses = `('queued', 'running', 'retrying')`

// metricPresence tells a metric that is in every step of an attempt ('always') from
// one that comes with the first update of the policy and stays ('later'), and
// from the validation at the end of an epoch ('eval').
const metricPresence = `case when m.name like 'eval\_%' then 'eval'
	when m.name like 'policy/%' or m.name in ('loss/policy_avg', 'loss/ptx_avg', 'val/ratio', 'val/ratio_var') then 'later'
	else 'always' end`

var invariants = []invariant{
	// What the steps of an attempt reported.
	{
		name: "steps_without_gap",
		requirement: "the steps of an attempt are numbered without a gap from 0, or from the checkpoint that it " +
			"began from",
		query: attemptsCTE + `
			select format('%s: %s steps from %s to %s, which begin at %s', t.name, count(*), min(s.step), max(s.step), coalesce(t.began::text, 'no step that is known'))
			from tried t join step s on s.attempt = t.id group by t.id, t.name, t.began
			having min(s.step) is distinct from t.began or max(s.step) - min(s.step) + 1 <> count(*)`,
	},
	{
		name:        "step_rows",
		requirement: "each step has as many metrics and rollouts as its row tells, and one time of the whole step",
		query: attemptsCTE + `
			select format('%s step %s: %s of %s metrics, %s of %s rollouts, %s times', t.name, s.step, coalesce(m.n, 0), s.metrics, coalesce(r.n, 0), s.rollouts, coalesce(w.n, 0))
			from tried t join step s on s.attempt = t.id
			left join (select attempt, step, count(*) as n from metric where attempt in (select id from tried) group by 1, 2) m using (attempt, step)
			left join (select attempt, step, count(*) as n from rollout where attempt in (select id from tried) group by 1, 2) r using (attempt, step)
			left join (select attempt, step, count(*) as n from timing where attempt in (select id from tried) and name = 'step' group by 1, 2) w using (attempt, step)
			where coalesce(m.n, 0) <> s.metrics or coalesce(r.n, 0) <> s.rollouts or coalesce(w.n, 0) <> 1`,
	},
	{
		name:        "rows_have_steps",
		requirement: "no metric, rollout or time is of a step that is not in the record",
		query: attemptsCTE + `
			select distinct format('%s step %s: a row of %s', t.name, x.step, x.place)
			from (select attempt, step, 'metric' as place from metric where attempt in (select id from tried)
				union select attempt, step, 'rollout' from rollout where attempt in (select id from tried)
				union select attempt, step, 'timing' from timing where attempt in (select id from tried)) x
			join tried t on t.id = x.attempt
			where not exists (select from step s where s.attempt = x.attempt and s.step = x.step)`,
	},
	{
		name:        "steps_of_stage",
		requirement: "no step is beyond those that the attempt has to take",
		query: attemptsCTE + `
			select format('%s: step %s of %s', t.name, s.step, t.steps) from tried t join step s on s.attempt = t.id where s.step >= t.steps`,
	},
	{
		name: "metric_names",
		requirement: "all steps of an attempt report the same metrics, but for validation, which comes whole or not " +
			"at all, and for the policy's, which begin with its first update and stay",
		query: attemptsCTE + `, named as (
				select t.id, t.name, m.name as metric, ` + metricPresence + ` as when, min(m.step) as first, count(*) as n
				from tried t join step s on s.attempt = t.id join metric m on m.attempt = s.attempt and m.step = s.step group by 1, 2, 3, 4)
			select format('%s: %s is in %s steps of %s', n.name, n.metric, n.n, want.n)
			from named n cross join lateral (
				select count(*) as n from step s where s.attempt = n.id and case n.when
					when 'always' then true
					when 'later' then s.step >= n.first
					else exists (select from metric m where m.attempt = s.attempt and m.step = s.step and m.name like 'eval\_%') end) want
			where n.n <> want.n`,
	},
	{
		name:        "checkpoints_on_steps",
		requirement: "each checkpoint stands right after a step that is in the record",
		query: attemptsCTE + `
			select format('%s: a checkpoint before step %s', t.name, c.step) from tried t join checkpoint c on c.attempt = t.id
			where not exists (select from step s where s.attempt = c.attempt and s.step = c.step - 1)`,
	},
	{
		name:        "completed_whole",
		requirement: "a completed attempt has all its steps, a checkpoint after the last of them, and outputs",
		query: attemptsCTE + `
			select format('%s: %s of %s steps%s%s', t.name, coalesce(t.until, t.began), t.steps,
				case when not last.is then ', no checkpoint after the last' end, case when not made.is then ', no output' end)
			from tried t
			cross join lateral (select t.began = t.steps or exists (select from checkpoint c where c.attempt = t.id and c.step = t.steps) as is) last
			cross join lateral (select exists (select from attempt_output o where o.attempt = t.id) as is) made
			where t.finished and (coalesce(t.until, t.began) is distinct from t.steps or last.is is not true or not made.is)`,
	},
	{
		name:        "final_metrics",
		requirement: "the final metrics of a completed attempt begin with those of its last step, to the bit",
		query: attemptsCTE + `, last as (
				select t.id, t.name, m.name as metric, m.value, row_number() over (partition by t.id order by m.name collate "C") - 1 as position
				from tried t
				join metric m on m.step = t.steps - 1 and m.attempt = coalesce(
					case when t.until is not null then t.id end,
					(select max(c.attempt) from checkpoint c where t.from_checkpoint <> '' and c.digest = t.from_checkpoint and c.attempt < t.id))
				where t.finished)
			select format('%s: %s was %s at the last step, and is %s', l.name, l.metric, l.value, coalesce(f.name || ' ' || f.value, 'not there'))
			from last l left join attempt_metric f on f.attempt = l.id and f.position = l.position
			where f.name is distinct from l.metric or bits(f.value) is distinct from bits(l.value)`,
	},

	// What ppo sampled.
	{
		name: "rollouts_whole",
		requirement: "all steps of a ppo attempt have equally many rollouts, numbered from 0, each with one number " +
			"of each kind for every token; other stages have none",
		query: attemptsCTE + `
			select format('%s step %s: %s rollouts, the first step has %s', t.name, s.step, s.rollouts, first.rollouts)
			from tried t join step s on s.attempt = t.id join step first on first.attempt = t.id and first.step = t.began
			where case t.kind when 'ppo' then s.rollouts <> first.rollouts or s.rollouts = 0 else s.rollouts <> 0 end
			union all
			select format('%s step %s: rollouts are numbered %s to %s', t.name, r.step, min(r.index), max(r.index))
			from tried t join rollout r on r.attempt = t.id group by t.id, t.name, r.step
			having min(r.index) <> 0 or max(r.index) <> count(*) - 1
			union all
			select format('%s step %s rollout %s: %s tokens, and arrays of %s numbers', t.name, r.step, r.index, n.tokens, n.sizes)
			from tried t join rollout r on r.attempt = t.id
			cross join lateral (select coalesce(cardinality(r.tokens), 0) as tokens, array(
				select coalesce(n, 0) from unnest(array[cardinality(r.logprobs), cardinality(r.ref_logprobs), cardinality(r.kl), cardinality(r."values"),
					cardinality(r.rewards), cardinality(r.advantages), cardinality(r.returns)]) n) as sizes) n
			where n.tokens = 0 or n.tokens <> any (n.sizes)`,
	},
	{
		// The rollouts of an attempt are taken in order of (step, index), after those of the attempts that it goes on
		// from, if these had the same cache key: ppo walks through its prompts by dataset.EpochSampler, in one
		// permutation
		// after the other. Of the prompts whose text is once in the dataset version: with n(k) the number of times
		// that the prompt of rollout k has come by then, n never falls, and each value of n but the last is reached by
		// equally many prompts. That is to say that the record divides into epochs in which every prompt comes once;
		// all but the last epoch have the same prompts. A text that is in the version c times comes at most c times an
		// epoch. How many prompts an epoch has is not stored, since long ones are left out and the pool may be smaller
		// than the version: it is taken from the first epoch, so a prompt that is repeated by the very last rollout of
		// the first epoch is taken for the beginning of the second, and one that no epoch has for one that was left
		// out.
		name: "prompts_once",
		requirement: "ppo trains on each of its prompts once in every epoch, and only on training prompts of its " +
			"dataset version",
		query: attemptsCTE + `, line (attempt, source, until, same) as (
				select id, id, 2147483647, true from tried where kind = 'ppo'
				union all
				select l.attempt, p.id, least(l.until, c.step), l.same and p.cache_key = s.cache_key
				from line l join attempt s on s.id = l.source and s.from_checkpoint <> ''
				cross join lateral (select max(c.attempt) as attempt, max(c.step) as step from checkpoint c
					where c.digest = s.from_checkpoint and c.attempt < s.id) c
				join attempt p on p.id = c.attempt
			), rolled as (
				select t.id, t.name, r.step, r.index, r.prompt, r.prompt_tokens, i.digest as version
				from line l join tried t on t.id = l.attempt
				join rollout r on r.attempt = l.source and r.step < l.until
				left join attempt_input i on i.attempt = t.id and i.name = 'prompts'
				where not exists (select from line x where x.attempt = l.attempt and not x.same)
			), asked as (
				select v.version, p.prompt, sum(v.copies) as copies
				from dataset_version_item v join prompt p on p.digest = v.item
				where p.split <> 'test' and v.version in (select version from rolled) group by 1, 2
			), turn as (
				select r.*, a.copies, row_number() over (partition by r.id, r.prompt order by r.step, r.index) as n
				from rolled r left join asked a on a.version = r.version and a.prompt = r.prompt
			), single as (
				select t.*, max(t.n) over (partition by t.id order by t.step, t.index) as epoch from turn t where t.copies = 1
			), epoch as (
				select id, name, n, count(*) as prompts from single group by 1, 2, 3
			)
			select format('%s step %s rollout %s: a prompt that the dataset has not for training: %s', name, step, index, left(prompt, 60))
			from turn where copies is null
			union all
			select format('%s step %s rollout %s: in epoch %s a prompt comes for the %s. time: %s', name, step, index, epoch, n, left(prompt, 60))
			from single where n < epoch
			union all
			select format('%s: %s prompts in epoch %s, %s in the first', e.name, e.prompts, e.n, first.prompts)
			from epoch e join epoch first on first.id = e.id and first.n = 1 join epoch next on next.id = e.id and next.n = e.n + 1
			where e.prompts <> first.prompts
			union all
			select format('%s: a prompt that is in the dataset %s times comes %s times in %s epochs: %s', t.name, t.copies, count(*), last.n, left(t.prompt, 60))
			from turn t join (select id, max(n) as n from epoch group by 1) last on last.id = t.id
			where t.copies > 1 group by t.id, t.name, t.copies, t.prompt, last.n having count(*) > t.copies * (last.n + 1)
			union all
			select format('%s: a prompt has other tokens from time to time: %s', name, left(prompt, 60))
			from rolled group by id, name, prompt having count(distinct prompt_tokens) > 1`,
	},

	// What the events tell.
	{
		name:        "events_without_gap",
		requirement: "the events of the run are numbered from 1 to the head of their stream",
		query: `
			select format('%s events from %s to %s, the head is %s', count(e.sequence), min(e.sequence), max(e.sequence), coalesce(s.head::text, 'unknown'))
			from run r left join event_stream s on s.stream = r.id left join event e on e.stream = r.id
			where r.id = $1 group by s.head
			having s.head is null or count(e.sequence) <> s.head or min(e.sequence) <> 1 or max(e.sequence) <> s.head`,
	},
	{
		// After a damaged checkpoint an attempt goes back to an earlier one: the events of what it then adds, steps or
		// checkpoints, begin there and tell the steps between anew.
		name: "steps_told",
		requirement: "the steps_committed events of an attempt cover its steps in order, each from where the one " +
			"before it ended or from an earlier checkpoint, and none tells nothing new",
		query: attemptsCTE + eventsCTE + `, committed as (
				select t.id, t.name, t.began, e.sequence, (e.body->>'from')::integer as first, (e.body->>'until')::integer as until,
					(e.body->>'steps')::integer as steps, (e.body->'checkpoint'->>'step')::integer as checkpoint
				from tried t join told e on e.type = 'steps_committed' and e.stage = t.stage and e.attempt = t.number
				where e.body->>'from' is not null
			), ordered as (
				select c.*, coalesce(max(c.until) over (partition by c.id order by c.sequence rows between unbounded preceding and 1 preceding), c.began) as due
				from committed c)
			select format('%s: event %s tells %s steps from %s to %s, due was %s', o.name, o.sequence, o.steps, o.first, o.until - 1, o.due)
			from ordered o where o.steps <> o.until - o.first
				or o.until <= o.due and exists (select from ordered b where b.id = o.id and b.sequence < o.sequence and b.checkpoint = o.checkpoint)
				or o.first <> o.due and not (o.first < o.due and (o.first = o.began or exists (
					select from checkpoint c where c.attempt = o.id and c.step = o.first)))
			union all
			select format('%s: steps until %s, told until %s', t.name, t.until, coalesce(max(c.until)::text, 'none'))
			from tried t left join committed c on c.id = t.id group by t.id, t.name, t.until having max(c.until) is distinct from t.until`,
	},
	{
		name:        "checkpoints_told",
		requirement: "each checkpoint is told by a steps_committed event, with its step and digest",
		query: attemptsCTE + eventsCTE + `
			select format('%s: the checkpoint before step %s', t.name, c.step) from tried t join checkpoint c on c.attempt = t.id
			where not exists (select from told e where e.type = 'steps_committed' and e.stage = t.stage and e.attempt = t.number
				and e.body->'checkpoint'->>'digest' = c.digest and (e.body->'checkpoint'->>'step')::integer = c.step)`,
	},
	{
		name:        "run_state",
		requirement: "the state of the run is what its last event says",
		query: `with last as (
				select e.type, replace(convert_from(e.body, 'UTF8'), '\u0000', '\ufffd')::json as body
				from event e where e.stream = $1 and e.type in ('run_created', 'run_status') order by e.sequence desc limit 1)
			select format('%s, next %s; told is %s, next %s', s.status, coalesce(nullif(s.next, ''), 'nothing'), coalesce(l.body->>'status', 'nothing'), coalesce(nullif(l.body->>'next', ''), 'nothing'))
			from run r left join run_state s on s.run = r.id left join last l on true
			cross join lateral (select replace(s.error::text, '\u0000', '\ufffd')::json as error) x
			where r.id = $1 and (s.status is distinct from l.body->>'status' or l.type = 'run_status' and (s.next is distinct from l.body->>'next'
				or x.error->>'type' is distinct from l.body->'error'->>'type' or x.error->>'message' is distinct from l.body->'error'->>'message'))`,
	},
	{
		name:        "attempt_state",
		requirement: "the state of each attempt is what its last events say, and it has an end if and only if it has ended",
		query: attemptsCTE + eventsCTE + `, last as (
				select distinct on (e.stage, e.attempt) e.* from told e
				where e.type in ('attempt_created', 'attempt_started', 'attempt_status', 'attempt_completed') order by e.stage, e.attempt, e.sequence desc
			), started as (
				select distinct on (e.stage, e.attempt) e.* from told e where e.type = 'attempt_started' order by e.stage, e.attempt, e.sequence desc)
			select format('%s: %s, %s steps, build %s; told is %s, %s steps, build %s', t.name, t.status, t.steps, left(t.build, 12),
				coalesce(x.status, 'nothing'), coalesce(s.body->>'steps', 'no'), coalesce(left(s.body->>'build', 12), 'none'))
			from tried t
			left join last l on l.stage = t.stage and l.attempt = t.number
			left join started s on s.stage = t.stage and s.attempt = t.number
			cross join lateral (select replace(t.error::text, '\u0000', '\ufffd')::json as error, l.body->'error' as said,
				case l.type when 'attempt_started' then 'running' when 'attempt_completed' then 'completed' else l.body->>'status' end as status) x
			where t.status is distinct from x.status
				or s.body is not null and (t.steps <> (s.body->>'steps')::integer or t.build is distinct from s.body->>'build')
				or l.type <> 'attempt_created' and (x.error->>'type' is distinct from x.said->>'type' or x.error->>'message' is distinct from x.said->>'message')
				or (t.status in ` + openStatuses + `) <> (t.ended_at is null)`,
	},
	{
		name: "completion_told",
		requirement: "each completed attempt has one attempt_completed event, whose outputs and metrics are those of " +
			"its rows",
		query: attemptsCTE + eventsCTE + `, completed as (
				select t.id, t.name, t.finished, count(e.sequence) as n, (array_agg(e.body) filter (where e.body is not null))[1] as body
				from tried t left join told e on e.type = 'attempt_completed' and e.stage = t.stage and e.attempt = t.number
				group by t.id, t.name, t.finished)
			select format('%s: %s attempt_completed events%s', c.name, c.n, case when c.n = 1 then ', with other outputs or metrics' end)
			from completed c
			cross join lateral (select
				array(select array[o.name, o.digest] from attempt_output o where o.attempt = c.id order by o.position) as outputs,
				array(select array[o.value->>'name', o.value->>'digest'] from json_array_elements(
					case json_typeof(c.body->'outputs') when 'array' then c.body->'outputs' else '[]' end) with ordinality o (value, at) order by at) as outputs_told,
				array(select row(m.name, m.value)::text from attempt_metric m where m.attempt = c.id
					and m.value not in ('NaN', 'Infinity', '-Infinity') order by m.position) as metrics,
				array(select row(m.value->>'name', (m.value->>'value')::double precision)::text from json_array_elements(
					case json_typeof(c.body->'metrics') when 'array' then c.body->'metrics' else '[]' end) with ordinality m (value, at) order by at) as metrics_told) x
			where c.n <> c.finished::integer or c.n = 1 and (x.outputs <> x.outputs_told or x.metrics <> x.metrics_told)`,
	},
	{
		name:        "plans_told",
		requirement: "the plans of the run are numbered from 0, and each is told by an event, byte for byte",
		query: `with told as (
				select coalesce((e.body->>'revision')::integer, 0) as revision, e.body->'plan' as plan
				from (select type, replace(convert_from(body, 'UTF8'), '\u0000', '\ufffd')::json as body from event
					where stream = $1 and type in ('run_created', 'run_planned')) e
			), kept as (select revision, plan from run_plan where run = $1)
			select format('revision %s', coalesce(k.revision, t.revision)) from kept k full join told t using (revision)
			where replace(k.plan::text, '\u0000', '\ufffd') is distinct from t.plan::text
			union all
			select format('%s plans, the last is revision %s', count(*), max(revision)) from kept having max(revision) is distinct from count(*) - 1`,
	},
	{
		name: "fences_rise",
		requirement: "each worker that started an attempt held a higher token than the one before it, and none a " +
			"higher one than the fence",
		query: attemptsCTE + eventsCTE + `, started as (
				select t.id, t.name, e.sequence, (e.body->>'token')::bigint as token,
					lag((e.body->>'token')::bigint, 1, 0::bigint) over (partition by t.id order by e.sequence) as before
				from tried t join told e on e.type = 'attempt_started' and e.stage = t.stage and e.attempt = t.number)
			select format('%s: event %s has token %s after %s, the fence %s', s.name, s.sequence, s.token, s.before, coalesce(f.token::text, 'none'))
			from started s left join fence f on f.attempt = s.id
			where s.token <= s.before or f.token is null or s.token > f.token`,
	},

	// How attempts make a run.
	{
		name:        "one_open",
		requirement: "at most one attempt of a run is open, and none of a closed run",
		query: attemptsCTE + `
			select format('%s is %s, %s attempts of the run are, the run is %s', t.name, t.status, count(*) over (), r.status)
			from tried t join run_state r on r.run = $1
			where t.status in ` + openStatuses + ` and (r.ended_at is not null or 1 < (select count(*) from tried where status in ` + openStatuses + `))`,
	},
	{
		name:        "attempts_numbered",
		requirement: "the attempts of each stage are numbered 1, 2, 3 …",
		query: attemptsCTE + `
			select format('%s: %s attempts, the last has number %s', stage, count(*), max(number)) from tried group by stage having max(number) <> count(*)`,
	},
	{
		name: "plan_followed",
		requirement: "each attempt has the kind, the config and the inputs of the plan of its time: what the plan " +
			"names, or what the newest attempt of the stage before it had made",
		query: attemptsCTE + eventsCTE + plannedCTE + `
			select format('%s: %s with config %s, the plan has %s with %s', name, kind, left(config, 19), coalesce(plan->>'kind', 'no such stage'), left(plan->>'config', 19))
			from planned where kind is distinct from plan->>'kind' or config is distinct from plan->>'config'
			union all
			select format('%s: the input %s is %s, due was %s', p.name, x.name, coalesce(left(x.digest, 19), 'not there'), coalesce(left(x.due, 19), 'unknown'))
			from planned p
			cross join lateral (
				select coalesce(i.name, n.value->>'name') as name, i.digest, coalesce(o.digest, nullif(n.value->>'dataset', ''), nullif(n.value->>'model', '')) as due
				from json_array_elements(case json_typeof(p.plan->'inputs') when 'array' then p.plan->'inputs' else '[]' end) n
				left join lateral (select b.id from tried b where b.stage = n.value->>'stage' and b.id < p.id order by b.id desc limit 1) b on true
				left join attempt_output o on o.attempt = b.id and o.name = n.value->>'output'
				full join (select i.name, i.digest from attempt_input i where i.attempt = p.id) i on i.name = n.value->>'name'
			) x
			where x.digest is distinct from x.due`,
	},
	{
		name: "completed_run",
		requirement: "the newest attempt of each stage of a completed run completed, was reused, or was skipped by a " +
			"person",
		query: attemptsCTE + eventsCTE + `
			select format('%s: %s', coalesce(last.name, st.value->>'name'), coalesce(last.status, 'no attempt'))
			from run_state s
			join lateral (select plan from run_plan where run = $1 order by revision desc limit 1) p on true
			cross join lateral json_array_elements(case json_typeof(p.plan->'stages') when 'array' then p.plan->'stages' else '[]' end) st
			left join lateral (select * from tried t where t.stage = st.value->>'name' order by t.number desc limit 1) last on true
			where s.run = $1 and s.status = 'completed' and (last.status is null or last.status not in ('completed', 'reused', 'skipped')
				or last.status = 'skipped' and not exists (select from told d where d.type = 'decision' and d.stage = last.stage
					and d.attempt = last.number and d.body->>'decision' = 'skip'))`,
	},
	{
		name:        "gates_passed",
		requirement: "what went on in a completed run passed its gates, or a person approved it",
		query: attemptsCTE + eventsCTE + plannedCTE + `
			select format('%s: %s is %s', p.name, g.value->>'metric', coalesce(m.value::text, 'not measured'))
			from run_state s cross join planned p
			cross join lateral json_array_elements(case json_typeof(p.plan->'gates') when 'array' then p.plan->'gates' else '[]' end) g
			left join lateral (select m.value from attempt_metric m where m.attempt = p.id and m.name = g.value->>'metric' order by m.position limit 1) m on true
			where s.run = $1 and s.status = 'completed' and p.status in ('completed', 'reused')
				and p.number = (select max(number) from tried t where t.stage = p.stage)
				and (m.value is null or m.value = 'NaN' or m.value < (g.value->>'min')::double precision or m.value > (g.value->>'max')::double precision)
				and not exists (select from told d where d.type = 'decision' and d.stage = p.stage and d.attempt = p.number and d.body->>'decision' = 'approve')`,
	},
	{
		name: "decisions_requested",
		requirement: "each decision was asked for once, before, by the same person, about the same stage and for the " +
			"same reason, under the database role that it tells",
		query: `with nothing as (select 1)` + eventsCTE + `
			select format('%s of %s, by %s', d.body->>'decision', coalesce(nullif(d.stage, ''), 'the run'), d.actor)
			from told d left join told r on r.type = 'decision_requested' and r.sequence < d.sequence and r.sequence::text = d.body->>'request'
			where d.type = 'decision' and case when d.body->>'request' is null
				then exists (select from told c where c.type = 'run_created' and c.body->>'decisions' = 'requested')
				else r.sequence is null or r.stage <> d.stage or r.attempt not in (0, d.attempt) or r.actor is distinct from d.body->>'role'
					or (r.body->>'decision', r.body->>'actor', r.body->>'reason') is distinct from (d.body->>'decision', d.actor, d.body->'details'->>'reason')
					or 1 < (select count(*) from told o where o.type in ('decision', 'decision_refused') and o.body->>'request' = d.body->>'request')
				end`,
	},
	{
		name: "reused_same",
		requirement: "a reused attempt has the cache key, the outputs and the final metrics of the attempt that it " +
			"names, and no steps of its own",
		query: attemptsCTE + `
			select format('%s, of %s', t.name, coalesce(o.stage || ' attempt ' || o.number || ' of run ' || o.run, 'no attempt'))
			from tried t left join attempt o on o.id = t.reused_from
			where (t.status = 'reused' or t.reused_from is not null) and (o.id is null or t.cache_key = '' or t.cache_key <> o.cache_key or t.until is not null
				or array(select row(name, digest)::text from attempt_output where attempt = t.id order by position)
					<> array(select row(name, digest)::text from attempt_output where attempt = o.id order by position)
				or array(select row(name, bits(value))::text from attempt_metric where attempt = t.id order by position)
					<> array(select row(name, bits(value))::text from attempt_metric where attempt = o.id order by position))`,
	},

	// What is named by digest.
	{
		name:        "models_known",
		requirement: "each model that an attempt put out is in the list of artifacts as made by it",
		query: attemptsCTE + `
			select format('%s: %s', t.name, left(o.digest, 19)) from tried t join attempt_output o on o.attempt = t.id and o.name = 'model'
			where not exists (select from artifact a where a.digest = o.digest and a.attempt = coalesce(t.reused_from, t.id))`,
	},
	{
		name:        "names_known",
		requirement: "every document, dataset version, model and checkpoint that the run names is in the record",
		query: attemptsCTE + `, stages as (
				select 'the plan''s ' || (st.value->>'name') as who, st.value as st
				from run_plan p cross join lateral json_array_elements(case json_typeof(p.plan->'stages') when 'array' then p.plan->'stages' else '[]' end) st
				where p.run = $1
			), inputs as (
				select s.who, i.value as i from stages s
				cross join lateral json_array_elements(case json_typeof(s.st->'inputs') when 'array' then s.st->'inputs' else '[]' end) i
			), named (who, what, digest) as (
				select name, 'document', config from tried
				union all select 'the plan', 'document', plan->>'spec' from run_plan where run = $1
				union all select who, 'document', st->>'config' from stages
				union all select who, 'dataset version', i->>'dataset' from inputs
				union all select who, 'model', i->>'model' from inputs
				union all select t.name, 'checkpoint', t.from_checkpoint from tried t
				union all select t.name, case o.name when 'model' then 'model' when 'evaluation' then 'document' when 'rankings' then 'dataset version' else 'thing' end, o.digest
					from tried t join attempt_output o on o.attempt = t.id
				union all select t.name, 'thing', i.digest from tried t join attempt_input i on i.attempt = t.id)
			select distinct format('%s names the %s %s', n.who, n.what, left(n.digest, 19)) from named n
			where n.digest <> ''
				and not (n.what in ('document', 'thing') and exists (select from document d where d.digest = n.digest))
				and not (n.what in ('dataset version', 'thing') and exists (select from dataset_version v where v.digest = n.digest))
				and not (n.what in ('model', 'thing') and exists (select from artifact a where a.digest = n.digest))
				and not (n.what = 'checkpoint' and exists (select from checkpoint c where c.digest = n.digest))`,
	},
	{
		name:        "datasets_whole",
		requirement: "every dataset version that the run reads or makes has all its items",
		query: attemptsCTE + `, versions as (
				select distinct v.digest, v.items from dataset_version v join (
					select i.digest from tried t join attempt_input i on i.attempt = t.id
					union select o.digest from tried t join attempt_output o on o.attempt = t.id) n on n.digest = v.digest)
			select format('%s: %s of %s items', left(v.digest, 19), coalesce(sum(i.copies), 0), v.items)
			from versions v left join (select i.version, i.copies from dataset_version_item i where i.version in (select digest from versions) and (
				exists (select from text_item x where x.digest = i.item) or exists (select from prompt x where x.digest = i.item)
				or exists (select from demonstration x where x.digest = i.item) or exists (select from ranking x where x.digest = i.item))) i on i.version = v.digest
			group by v.digest, v.items having coalesce(sum(i.copies), 0) <> v.items`,
	},
}
