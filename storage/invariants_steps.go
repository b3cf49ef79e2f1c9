package storage

// stepInvariants are about what the steps of an attempt reported, and about its
// checkpoints and final metrics.
var stepInvariants = []invariant{
	{
		// A worker that is killed loses the steps since its last commit and computes
		// them again. A gap or a second start would mean that a commit was not one
		// transaction.
		name: "steps_without_gap",
		requirement: "the steps of an attempt are numbered without a gap, from 0 or from the checkpoint that it " +
			"started from",
		query: attemptsCTE + `
			select format('%s: %s steps from %s to %s, which begin at %s', t.name, count(*), min(s.step), max(s.step),
				coalesce(t.began::text, 'no step that is known'))
			from attempts t join step s on s.attempt = t.id group by t.id, t.name, t.began
			having min(s.step) is distinct from t.began or max(s.step) - min(s.step) + 1 <> count(*)`,
	},
	{
		// The row of a step is written with the rows that it counts, so it shows a
		// metric that was deleted, or added by a repeat that computed another one.
		name:        "step_rows",
		requirement: "each step has as many metrics and rollouts as its row says, and one timing of the whole step",
		query: attemptsCTE + `
			select format('%s step %s: %s of %s metrics, %s of %s rollouts, %s times', t.name, s.step, coalesce(m.n,
				0), s.metrics, coalesce(r.n, 0), s.rollouts, coalesce(w.n, 0))
			from attempts t join step s on s.attempt = t.id
			left join (select attempt, step, count(*) as n from metric where attempt in (select id from attempts)
				group by 1, 2) m using (attempt, step)
			left join (select attempt, step, count(*) as n from rollout where attempt in (select id from attempts)
				group by 1, 2) r using (attempt, step)
			left join (select attempt, step, count(*) as n from timing where attempt in (select id from attempts)
				and name = 'step' group by 1, 2) w using (attempt, step)
			where coalesce(m.n, 0) <> s.metrics or coalesce(r.n, 0) <> s.rollouts or coalesce(w.n, 0) <> 1`,
	},
	{
		// The large tables have no foreign keys, so that COPY into them stays fast.
		// That the step of a row exists is checked here.
		name:        "rows_have_steps",
		requirement: "no metric, rollout or timing belongs to a step that is not in the record",
		query: attemptsCTE + `
			select distinct format('%s step %s: a row of %s', t.name, x.step, x.place)
			from (select attempt, step, 'metric' as place from metric where attempt in (select id from attempts)
				union select attempt, step, 'rollout' from rollout where attempt in (select id from attempts)
				union select attempt, step, 'timing' from timing where attempt in (select id from attempts)) x
			join attempts t on t.id = x.attempt
			where not exists (select from step s where s.attempt = x.attempt and s.step = x.step)`,
	},
	{
		// How many steps a stage has is recorded when a worker starts it, and may
		// change with the worker's build. Steps beyond it would be those of another
		// config.
		name:        "steps_of_stage",
		requirement: "no attempt has steps beyond the number of its stage",
		query: attemptsCTE + `
			select format('%s: step %s of %s', t.name, s.step, t.steps) from attempts t join step s on s.attempt = t.id
				where s.step >= t.steps`,
	},
	{
		// Charts and comparisons rely on a metric being in every step or in a known
		// part of them; see metricPresence for the three cases.
		name: "metric_names",
		requirement: "all steps of an attempt report the same metrics, except validation, which is complete or " +
			"absent, and the policy's, which start with its first update",
		query: attemptsCTE + `, named as (
				select t.id, t.name, m.name as metric, ` + metricPresence + ` as when,
					min(m.step) as first, count(*) as n
				from attempts t join step s on s.attempt = t.id join metric m on m.attempt = s.attempt
					and m.step = s.step group by 1, 2, 3, 4)
			select format('%s: %s is in %s steps of %s', n.name, n.metric, n.n, want.n)
			from named n cross join lateral (
				select count(*) as n from step s where s.attempt = n.id and case n.when
					when 'always' then true
					when 'later' then s.step >= n.first
					else exists (select from metric m where m.attempt = s.attempt and m.step = s.step
						and m.name like 'eval\_%') end) want
			where n.n <> want.n`,
	},
	{
		// A checkpoint that is before step n holds the state after step n-1, and
		// both are committed together.
		name:        "checkpoints_on_steps",
		requirement: "each checkpoint follows a step that is in the record",
		query: attemptsCTE + `
			select format('%s: a checkpoint before step %s', t.name, c.step) from attempts t join checkpoint c
				on c.attempt = t.id
			where not exists (select from step s where s.attempt = c.attempt and s.step = c.step - 1)`,
	},
	{
		// An attempt that started from its predecessor's last checkpoint may have no
		// steps of its own; the steps count from there.
		name:        "completed_whole",
		requirement: "a completed attempt has all its steps, a checkpoint after the last of them, and outputs",
		query: attemptsCTE + `
			select format('%s: %s of %s steps%s%s', t.name, coalesce(t.until, t.began), t.steps,
				case when not last.is then ', no checkpoint after the last' end, case when not made.is
					then ', no output' end)
			from attempts t
			cross join lateral (select t.began = t.steps or exists (select from checkpoint c where c.attempt = t.id
				and c.step = t.steps) as is) last
			cross join lateral (select exists (select from attempt_output o where o.attempt = t.id) as is) made
			where t.finished and (coalesce(t.until, t.began) is distinct from t.steps or last.is is not true
				or not made.is)`,
	},
	{
		// The final metrics are read from the last step's rows when the stage ends,
		// and gates decide by them. With no own steps they are those of the attempt
		// whose checkpoint it started from.
		name:        "final_metrics",
		requirement: "the final metrics of a completed attempt start with those of its last step, bit for bit",
		query: attemptsCTE + `, last as (
				select t.id, t.name, m.name as metric, m.value, row_number() over (partition by t.id
					order by m.name collate "C") - 1 as position
				from attempts t
				join metric m on m.step = t.steps - 1 and m.attempt = coalesce(
					case when t.until is not null then t.id end,
					(select max(c.attempt) from checkpoint c where t.from_checkpoint <> ''
						and c.digest = t.from_checkpoint and c.attempt < t.id))
				where t.finished)
			select format('%s: %s was %s at the last step, and is %s', l.name, l.metric, l.value,
				coalesce(f.name || ' ' || f.value, 'not there'))
			from last l left join attempt_metric f on f.attempt = l.id and f.position = l.position
			where f.name is distinct from l.metric or bits(f.value) is distinct from bits(l.value)`,
	},
}

// rolloutInvariants are about what ppo sampled.
var rolloutInvariants = []invariant{
	{
		// An iteration of ppo collects a batch of episodes of fixed size. For each
		// token of a response there are log-probability, reference log-probability,
		// KL, value, reward, advantage and return.
		name: "rollouts_whole",
		requirement: "all steps of a ppo attempt have the same number of rollouts, numbered from 0, each with one " +
			"value of every kind for every token; other stages have none",
		query: attemptsCTE + `
			select format('%s step %s: %s rollouts, the first step has %s', t.name, s.step, s.rollouts, first.rollouts)
			from attempts t join step s on s.attempt = t.id join step first on first.attempt = t.id
				and first.step = t.began
			where case t.kind when 'ppo' then s.rollouts <> first.rollouts or s.rollouts = 0 else s.rollouts <> 0 end
			union all
			select format('%s step %s: rollouts are numbered %s to %s', t.name, r.step, min(r.index), max(r.index))
			from attempts t join rollout r on r.attempt = t.id group by t.id, t.name, r.step
			having min(r.index) <> 0 or max(r.index) <> count(*) - 1
			union all
			select format('%s step %s rollout %s: %s tokens, and arrays of %s numbers', t.name, r.step, r.index,
				n.tokens, n.sizes)
			from attempts t join rollout r on r.attempt = t.id
			cross join lateral (select coalesce(cardinality(r.tokens), 0) as tokens, array(
				select coalesce(n, 0) from unnest(array[cardinality(r.logprobs), cardinality(r.ref_logprobs),
					cardinality(r.kl), cardinality(r."values"),
					cardinality(r.rewards), cardinality(r.advantages), cardinality(r.returns)]) n) as sizes) n
			where n.tokens = 0 or n.tokens <> any (n.sizes)`,
	},
	{
		// The rollouts of an attempt are taken in order of (step, index), after
		// those of the attempts that it continues, if these had the same cache key:
		// ppo iterates over its prompts with dataset.EpochSampler, one permutation
		// after another. Consider the prompts whose text is once in the dataset
		// version, and let n(k) be how often the prompt of rollout k has been
		// sampled up to then. n never falls, and each value of n but the last is
		// reached by equally many prompts. In other words, the record divides into
		// epochs in which every prompt is sampled once, and all epochs but the last
		// have the same prompts. A text that is in the version c times is sampled at
		// most c times an epoch.
		//
		// How many prompts an epoch has is not stored, since long ones are left out
		// and the pool may be smaller than the version. It is taken from the first
		// epoch. Two errors therefore stay unnoticed: a prompt that is repeated by
		// the very last rollout of the first epoch counts as the start of the
		// second, and one that no epoch has counts as left out.
		name: "prompts_once",
		requirement: "ppo samples each of its prompts once in every epoch, and only training prompts of its " +
			"dataset version",
		query: attemptsCTE + `, line (attempt, source, until, same) as (
				select id, id, 2147483647, true from attempts where kind = 'ppo'
				union all
				select l.attempt, p.id, least(l.until, c.step), l.same and p.cache_key = s.cache_key
				from line l join attempt s on s.id = l.source and s.from_checkpoint <> ''
				cross join lateral (select max(c.attempt) as attempt, max(c.step) as step from checkpoint c
					where c.digest = s.from_checkpoint and c.attempt < s.id) c
				join attempt p on p.id = c.attempt
			), rolled as (
				select t.id, t.name, r.step, r.index, r.prompt, r.prompt_tokens, i.digest as version
				from line l join attempts t on t.id = l.attempt
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
				select t.*, max(t.n) over (partition by t.id order by t.step, t.index) as epoch from turn t
					where t.copies = 1
			), epoch as (
				select id, name, n, count(*) as prompts from single group by 1, 2, 3
			)
			select format('%s step %s rollout %s: a prompt that the dataset has not for training: %s', name, step,
				index, left(prompt, 60))
			from turn where copies is null
			union all
			select format('%s step %s rollout %s: in epoch %s a prompt comes for the %s. time: %s', name, step, index,
				epoch, n, left(prompt, 60))
			from single where n < epoch
			union all
			select format('%s: %s prompts in epoch %s, %s in the first', e.name, e.prompts, e.n, first.prompts)
			from epoch e join epoch first on first.id = e.id and first.n = 1 join epoch next on next.id = e.id
				and next.n = e.n + 1
			where e.prompts <> first.prompts
			union all
			select format('%s: a prompt that is in the dataset %s times comes %s times in %s epochs: %s', t.name,
				t.copies, count(*), last.n, left(t.prompt, 60))
			from turn t join (select id, max(n) as n from epoch group by 1) last on last.id = t.id
			where t.copies > 1 group by t.id, t.name, t.copies, t.prompt, last.n
				having count(*) > t.copies * (last.n + 1)
			union all
			select format('%s: a prompt has other tokens from time to time: %s', name, left(prompt, 60))
			from rolled group by id, name, prompt having count(distinct prompt_tokens) > 1`,
	},
}
