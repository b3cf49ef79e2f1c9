package storage

// runInvariants are about how the attempts make up a run: its plan, its gates
// and the decisions of people.
var runInvariants = []invariant{
	{
		// Stages run one after the other, and the workflow of a closed run has
		// ended: nothing could close such an attempt.
		name:        "one_open",
		requirement: "at most one attempt of a run is open, and none of a closed run",
		query: attemptsCTE + `
			select format('%s is %s, %s attempts of the run are, the run is %s', t.name, t.status, count(*) over (),
				r.status)
			from attempts t join run_state r on r.run = $1
			where t.status in ` + openStatuses + ` and (r.ended_at is not null
				or 1 < (select count(*) from attempts where status in ` + openStatuses + `))`,
	},
	{
		// People name an attempt by its number, which the workflow counts up from 1.
		name:        "attempts_numbered",
		requirement: "the attempts of each stage are numbered 1, 2, 3 …",
		query: attemptsCTE + `
			select format('%s: %s attempts, the last has number %s', stage, count(*), max(number)) from attempts
				group by stage having max(number) <> count(*)`,
	},
	{
		// A rerun changes the plan while earlier attempts keep theirs, so each
		// attempt is compared with the newest plan recorded before it.
		name: "plan_followed",
		requirement: "each attempt has the kind, the config and the inputs of the plan in force when it was " +
			"created: the ones that the plan names, or the outputs of the newest attempt of the earlier " +
			"stage",
		query: attemptsCTE + eventsCTE + plannedCTE + `
			select format('%s: %s with config %s, the plan has %s with %s', name, kind, left(config, 19),
				coalesce(plan->>'kind', 'no such stage'), left(plan->>'config', 19))
			from planned where kind is distinct from plan->>'kind' or config is distinct from plan->>'config'
			union all
			select format('%s: the input %s is %s, due was %s', p.name, x.name, coalesce(left(x.digest, 19),
				'not there'), coalesce(left(x.due, 19), 'unknown'))
			from planned p
			cross join lateral (
				select coalesce(i.name, n.value->>'name') as name, i.digest, coalesce(o.digest,
					nullif(n.value->>'dataset', ''), nullif(n.value->>'model', '')) as due
				from json_array_elements(case json_typeof(p.plan->'inputs') when 'array' then p.plan->'inputs'
					else '[]' end) n
				left join lateral (select b.id from attempts b where b.stage = n.value->>'stage' and b.id < p.id
					order by b.id desc limit 1) b on true
				left join attempt_output o on o.attempt = b.id and o.name = n.value->>'output'
				full join (select i.name, i.digest from attempt_input i where i.attempt = p.id) i
					on i.name = n.value->>'name'
			) x
			where x.digest is distinct from x.due`,
	},
	{
		// A stage that was cancelled or failed keeps its run from completing;
		// skipping one takes a person's decision.
		name: "completed_run",
		requirement: "the newest attempt of each stage of a completed run was completed, reused, or skipped by a " +
			"person",
		query: attemptsCTE + eventsCTE + `
			select format('%s: %s', coalesce(last.name, st.value->>'name'), coalesce(last.status, 'no attempt'))
			from run_state s
			join lateral (select plan from run_plan where run = $1 order by revision desc limit 1) p on true
			cross join lateral json_array_elements(case json_typeof(p.plan->'stages') when 'array'
				then p.plan->'stages' else '[]' end) st
			left join lateral (select * from attempts t where t.stage = st.value->>'name' order by t.number desc
				limit 1) last on true
			where s.run = $1 and s.status = 'completed' and (last.status is null
				or last.status not in ('completed', 'reused', 'skipped')
				or last.status = 'skipped' and not exists (select from recorded d where d.type = 'decision'
					and d.stage = last.stage
					and d.attempt = last.number and d.body->>'decision' = 'skip'))`,
	},
	{
		// A gate that is missed blocks the run until a person approves the attempt.
		// A metric that was not measured, or is NaN, misses every gate.
		name:        "gates_passed",
		requirement: "the stages of a completed run passed their gates, or a person approved them",
		query: attemptsCTE + eventsCTE + plannedCTE + `
			select format('%s: %s is %s', p.name, g.value->>'metric', coalesce(m.value::text, 'not measured'))
			from run_state s cross join planned p
			cross join lateral json_array_elements(case json_typeof(p.plan->'gates') when 'array' then p.plan->'gates'
				else '[]' end) g
			left join lateral (select m.value from attempt_metric m where m.attempt = p.id
				and m.name = g.value->>'metric' order by m.position limit 1) m on true
			where s.run = $1 and s.status = 'completed' and p.status in ('completed', 'reused')
				and p.number = (select max(number) from attempts t where t.stage = p.stage)
				and (m.value is null or m.value = 'NaN' or m.value < (g.value->>'min')::double precision
					or m.value > (g.value->>'max')::double precision)
				and not exists (select from recorded d where d.type = 'decision' and d.stage = p.stage
					and d.attempt = p.number and d.body->>'decision' = 'approve')`,
	},
	{
		// Runs of older builds recorded decisions without a request. Runs that say
		// decisions=requested in run_created must have one for each, recorded under
		// the role of the database session that asked.
		name: "decisions_requested",
		requirement: "each decision was requested once, beforehand, by the same person, about the same stage and " +
			"for the same reason, under the database role that it names",
		query: `with nothing as (select 1)` + eventsCTE + `
			select format('%s of %s, by %s', d.body->>'decision', coalesce(nullif(d.stage, ''), 'the run'), d.actor)
			from recorded d left join recorded r on r.type = 'decision_requested' and r.sequence < d.sequence
				and r.sequence::text = d.body->>'request'
			where d.type = 'decision' and case when d.body->>'request' is null
				then exists (select from recorded c where c.type = 'run_created' and c.body->>'decisions' = 'requested')
				else r.sequence is null or r.stage <> d.stage or r.attempt not in (0, d.attempt)
					or r.actor is distinct from d.body->>'role'
					or (r.body->>'decision', r.body->>'actor', r.body->>'reason') is distinct
						from (d.body->>'decision', d.actor, d.body->'details'->>'reason')
					or 1 < (select count(*) from recorded o where o.type in ('decision', 'decision_refused')
						and o.body->>'request' = d.body->>'request')
				end`,
	},
	{
		// Equal cache keys promise equal bytes, and reuse relies on it.
		name: "reused_same",
		requirement: "a reused attempt has the cache key, the outputs and the final metrics of the attempt that it " +
			"names, and no steps of its own",
		query: attemptsCTE + `
			select format('%s, of %s', t.name, coalesce(o.stage || ' attempt ' || o.number || ' of run ' || o.run,
				'no attempt'))
			from attempts t left join attempt o on o.id = t.reused_from
			where (t.status = 'reused' or t.reused_from is not null) and (o.id is null or t.cache_key = ''
				or t.cache_key <> o.cache_key or t.until is not null
				or array(select row(name, digest)::text from attempt_output where attempt = t.id order by position)
					<> array(select row(name, digest)::text from attempt_output where attempt = o.id order by position)
				or array(select row(name, bits(value))::text from attempt_metric where attempt = t.id order by position)
					<> array(select row(name, bits(value))::text from attempt_metric where attempt = o.id
						order by position))`,
	},
}

// digestInvariants are about what a run names by digest.
var digestInvariants = []invariant{
	{
		// Garbage collection keeps the files of listed artifacts. A model that is
		// only an output would lose its files.
		name:        "models_known",
		requirement: "each model that is an output of an attempt is listed as an artifact of that attempt",
		query: attemptsCTE + `
			select format('%s: %s', t.name, left(o.digest, 19)) from attempts t
			join attempt_output o on o.attempt = t.id and o.name = 'model'
			where not exists (select from artifact a where a.digest = o.digest
				and a.attempt = coalesce(t.reused_from, t.id))`,
	},
	{
		// What a run names by digest must be found when it is reproduced or audited
		// years later.
		name:        "names_known",
		requirement: "every document, dataset version, model and checkpoint that the run names is in the record",
		query: attemptsCTE + `, stages as (
				select 'the plan''s ' || (st.value->>'name') as who, st.value as st
				from run_plan p cross join lateral json_array_elements(case json_typeof(p.plan->'stages') when 'array'
					then p.plan->'stages' else '[]' end) st
				where p.run = $1
			), inputs as (
				select s.who, i.value as i from stages s
				cross join lateral json_array_elements(case json_typeof(s.st->'inputs') when 'array'
					then s.st->'inputs' else '[]' end) i
			), named (who, what, digest) as (
				select name, 'document', config from attempts
				union all select 'the plan', 'document', plan->>'spec' from run_plan where run = $1
				union all select who, 'document', st->>'config' from stages
				union all select who, 'dataset version', i->>'dataset' from inputs
				union all select who, 'model', i->>'model' from inputs
				union all select t.name, 'checkpoint', t.from_checkpoint from attempts t
				union all select t.name, case o.name when 'model' then 'model' when 'evaluation' then 'document'
					when 'rankings' then 'dataset version' else 'thing' end, o.digest
					from attempts t join attempt_output o on o.attempt = t.id
				union all select t.name, 'thing', i.digest from attempts t join attempt_input i on i.attempt = t.id)
			select distinct format('%s names the %s %s', n.who, n.what, left(n.digest, 19)) from named n
			where n.digest <> ''
				and not (n.what in ('document', 'thing') and exists (select from document d where d.digest = n.digest))
				and not (n.what in ('dataset version', 'thing') and exists (select from dataset_version v
					where v.digest = n.digest))
				and not (n.what in ('model', 'thing') and exists (select from artifact a where a.digest = n.digest))
				and not (n.what = 'checkpoint' and exists (select from checkpoint c where c.digest = n.digest))`,
	},
	{
		// The Merkle root of a version covers its items; an item without its row
		// could not be trained on again. Erased items keep their rows.
		name:        "datasets_whole",
		requirement: "every dataset version that the run reads or makes has all its items",
		query: attemptsCTE + `, versions as (
				select distinct v.digest, v.items from dataset_version v join (
					select i.digest from attempts t join attempt_input i on i.attempt = t.id
					union select o.digest from attempts t join attempt_output o on o.attempt = t.id) n
						on n.digest = v.digest)
			select format('%s: %s of %s items', left(v.digest, 19), coalesce(sum(i.copies), 0), v.items)
			from versions v left join (select i.version, i.copies from dataset_version_item i
				where i.version in (select digest from versions) and (
				exists (select from text_item x where x.digest = i.item) or exists (select from prompt x
					where x.digest = i.item)
				or exists (select from demonstration x where x.digest = i.item) or exists (select from ranking x
					where x.digest = i.item))) i on i.version = v.digest
			group by v.digest, v.items having coalesce(sum(i.copies), 0) <> v.items`,
	},
}
