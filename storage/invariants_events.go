package storage

// eventInvariants compare rows with the events that recorded them. The audit
// compares every row of the record, by its hash; these say in words what is
// wrong with a run.
var eventInvariants = []invariant{
	{
		// append_event numbers events under a lock of the stream, so a gap is an
		// event that was deleted.
		name:        "events_without_gap",
		requirement: "the events of the run are numbered from 1 to the head of their stream",
		query: `
			select format('%s events from %s to %s, the head is %s', count(e.sequence), min(e.sequence),
				max(e.sequence), coalesce(s.head::text, 'unknown'))
			from run r left join event_stream s on s.stream = r.id left join event e on e.stream = r.id
			where r.id = $1 group by s.head
			having s.head is null or count(e.sequence) <> s.head or min(e.sequence) <> 1 or max(e.sequence) <> s.head`,
	},
	{
		// After a damaged checkpoint an attempt resumes from an earlier one: the
		// events of what it then adds, steps or checkpoints, start there and cover
		// the steps in between again.
		name: "steps_recorded",
		requirement: "the steps_committed events of an attempt cover its steps in order, each starting where the " +
			"one before it ended or at an earlier checkpoint, and none is empty",
		query: attemptsCTE + eventsCTE + `, committed as (
				select t.id, t.name, t.began, e.sequence, (e.body->>'from')::integer as first,
					(e.body->>'until')::integer as until,
					(e.body->>'steps')::integer as steps, (e.body->'checkpoint'->>'step')::integer as checkpoint
				from attempts t join recorded e on e.type = 'steps_committed' and e.stage = t.stage
					and e.attempt = t.number
				where e.body->>'from' is not null
			), ordered as (
				select c.*, coalesce(max(c.until) over (partition by c.id
					order by c.sequence rows between unbounded preceding and 1 preceding), c.began) as due
				from committed c)
			select format('%s: event %s covers %s steps from %s to %s, due was %s', o.name, o.sequence, o.steps,
				o.first, o.until - 1, o.due)
			from ordered o where o.steps <> o.until - o.first
				or o.until <= o.due and exists (select from ordered b where b.id = o.id and b.sequence < o.sequence
					and b.checkpoint = o.checkpoint)
				or o.first <> o.due and not (o.first < o.due and (o.first = o.began or exists (
					select from checkpoint c where c.attempt = o.id and c.step = o.first)))
			union all
			select format('%s: steps until %s, recorded until %s', t.name, t.until, coalesce(max(c.until)::text,
				'none'))
			from attempts t left join committed c on c.id = t.id group by t.id, t.name, t.until
				having max(c.until) is distinct from t.until`,
	},
	{
		// Retention and lineage find checkpoints by rows, the audit by events. They
		// must not disagree.
		name:        "checkpoints_recorded",
		requirement: "each checkpoint is recorded by a steps_committed event, with its step and digest",
		query: attemptsCTE + eventsCTE + `
			select format('%s: the checkpoint before step %s', t.name, c.step) from attempts t join checkpoint c
				on c.attempt = t.id
			where not exists (select from recorded e where e.type = 'steps_committed' and e.stage = t.stage
				and e.attempt = t.number
				and e.body->'checkpoint'->>'digest' = c.digest and (e.body->'checkpoint'->>'step')::integer = c.step)`,
	},
	{
		// run_state is a projection: everything in it comes from run_created and
		// run_status. NUL cannot be a character of JSON text in Postgres, so both
		// sides have it replaced before they are compared.
		name:        "run_state",
		requirement: "the state of the run is the one that its last event recorded",
		query: `with last as (
				select e.type, replace(convert_from(e.body, 'UTF8'), '\u0000', '\ufffd')::json as body
				from event e where e.stream = $1 and e.type in ('run_created', 'run_status') order by e.sequence desc
					limit 1)
			select format('%s, next %s; recorded is %s, next %s', s.status, coalesce(nullif(s.next, ''), 'nothing'),
				coalesce(l.body->>'status', 'nothing'), coalesce(nullif(l.body->>'next', ''), 'nothing'))
			from run r left join run_state s on s.run = r.id left join last l on true
			cross join lateral (select replace(s.error::text, '\u0000', '\ufffd')::json as error) x
			where r.id = $1 and (s.status is distinct from l.body->>'status' or l.type = 'run_status'
				and (s.next is distinct from l.body->>'next'
				or x.error->>'type' is distinct from l.body->'error'->>'type' or x.error->>'message' is distinct
					from l.body->'error'->>'message'))`,
	},
	{
		// attempt_state is a projection of four event types; steps and build come
		// from the last attempt_started. An attempt that is stale or reused need not
		// have an error to compare.
		name: "attempt_state",
		requirement: "the state of each attempt is the one that its last events recorded, and it has an end time " +
			"if and only if it has ended",
		query: attemptsCTE + eventsCTE + `, last as (
				select distinct on (e.stage, e.attempt) e.* from recorded e
				where e.type in ('attempt_created', 'attempt_started', 'attempt_status', 'attempt_completed')
					order by e.stage, e.attempt, e.sequence desc
			), started as (
				select distinct on (e.stage, e.attempt) e.* from recorded e where e.type = 'attempt_started'
					order by e.stage, e.attempt, e.sequence desc)
			select format('%s: %s, %s steps, build %s; recorded is %s, %s steps, build %s', t.name, t.status, t.steps,
				left(t.build, 12),
				coalesce(x.status, 'nothing'), coalesce(s.body->>'steps', 'no'), coalesce(left(s.body->>'build', 12),
					'none'))
			from attempts t
			left join last l on l.stage = t.stage and l.attempt = t.number
			left join started s on s.stage = t.stage and s.attempt = t.number
			cross join lateral (select replace(t.error::text, '\u0000', '\ufffd')::json as error,
				l.body->'error' as said,
				case l.type when 'attempt_started' then 'running' when 'attempt_completed' then 'completed'
					else l.body->>'status' end as status) x
			where t.status is distinct from x.status
				or s.body is not null and (t.steps <> (s.body->>'steps')::integer or t.build is distinct
					from s.body->>'build')
				or l.type <> 'attempt_created' and (x.error->>'type' is distinct from x.said->>'type'
					or x.error->>'message' is distinct from x.said->>'message')
				or (t.status in ` + openStatuses + `) <> (t.ended_at is null)`,
	},
	{
		// Numbers that JSON cannot hold, NaN and the infinities, are in the rows
		// only and are left out of the comparison.
		name: "completion_recorded",
		requirement: "each completed attempt has one attempt_completed event, with the outputs and metrics of its " +
			"rows",
		query: attemptsCTE + eventsCTE + `, completed as (
				select t.id, t.name, t.finished, count(e.sequence) as n, (array_agg(e.body)
					filter (where e.body is not null))[1] as body
				from attempts t left join recorded e on e.type = 'attempt_completed' and e.stage = t.stage
					and e.attempt = t.number
				group by t.id, t.name, t.finished)
			select format('%s: %s attempt_completed events%s', c.name, c.n, case when c.n = 1
				then ', with other outputs or metrics' end)
			from completed c
			cross join lateral (select
				array(select array[o.name, o.digest] from attempt_output o where o.attempt = c.id
					order by o.position) as outputs,
				array(select array[o.value->>'name', o.value->>'digest'] from json_array_elements(
					case json_typeof(c.body->'outputs') when 'array' then c.body->'outputs' else '[]'
						end) with ordinality o (value, at) order by at) as outputs_recorded,
				array(select row(m.name, m.value)::text from attempt_metric m where m.attempt = c.id
					and m.value not in ('NaN', 'Infinity', '-Infinity') order by m.position) as metrics,
				array(select row(m.value->>'name', (m.value->>'value')::double precision)::text
					from json_array_elements(
					case json_typeof(c.body->'metrics') when 'array' then c.body->'metrics' else '[]'
						end) with ordinality m (value, at) order by at) as metrics_recorded) x
			where c.n <> c.finished::integer or c.n = 1 and (x.outputs <> x.outputs_recorded
				or x.metrics <> x.metrics_recorded)`,
	},
	{
		// A plan is a row for the program and the body of an event for the audit.
		// They are compared as text, so that formatting counts too.
		name:        "plans_recorded",
		requirement: "the plans of the run are numbered from 0, and each is recorded by an event, byte for byte",
		query: `with recorded as (
				select coalesce((e.body->>'revision')::integer, 0) as revision, e.body->'plan' as plan
				from (select type, replace(convert_from(body, 'UTF8'), '\u0000', '\ufffd')::json as body from event
					where stream = $1 and type in ('run_created', 'run_planned')) e
			), kept as (select revision, plan from run_plan where run = $1)
			select format('revision %s', coalesce(k.revision, t.revision)) from kept k full
				join recorded t using (revision)
			where replace(k.plan::text, '\u0000', '\ufffd') is distinct from t.plan::text
			union all
			select format('%s plans, the last is revision %s', count(*), max(revision)) from kept
				having max(revision) is distinct from count(*) - 1`,
	},
	{
		// The token of a start is in its event. Equal tokens would mean that two
		// workers believed that they held the attempt.
		name: "fences_rise",
		requirement: "each worker that started an attempt had a higher token than the one before it, and none a " +
			"higher one than the fence",
		query: attemptsCTE + eventsCTE + `, started as (
				select t.id, t.name, e.sequence, (e.body->>'token')::bigint as token,
					lag((e.body->>'token')::bigint, 1, 0::bigint) over (partition by t.id order by e.sequence) as before
				from attempts t join recorded e on e.type = 'attempt_started' and e.stage = t.stage
					and e.attempt = t.number)
			select format('%s: event %s has token %s after %s, the fence %s', s.name, s.sequence, s.token, s.before,
				coalesce(f.token::text, 'none'))
			from started s left join fence f on f.attempt = s.id
			where s.token <= s.before or f.token is null or s.token > f.token`,
	},
}
