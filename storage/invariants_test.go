package storage_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// recorded is a run of four stages with all that may happen to one: sft with a checkpoint in between and validation; a
// reward model that misses its gate, is made again from another config and approved; ppo that fails after four of its
// eight steps and goes on from there; an evaluation that is skipped; and a second run that reuses sft.
const recorded, reusing = "run-whole", "run-reuse"

func record(t testing.TB, s *storage.Store) {
	t.Helper()
	ctx := t.Context()
	// The sixth prompt is there twice, under two tags; the last one is not for training.
	var prompts []trimtab.Item
	for _, text := range []string{"p0", "p1", "p2", "p3", "p4", "p5"} {
		prompts = append(prompts, trimtab.Prompt{Text: text})
	}
	prompts = append(prompts, trimtab.Prompt{Text: "p5", Tag: "again"},
		trimtab.Prompt{Text: "held out", Split: trimtab.SplitTest})
	data, err := s.FreezeItems(ctx, "prompts", trimtab.KindPrompts, prompts, "ann")
	must(t, err)
	document := func(body string) trimtab.Digest {
		d, err := s.PutDocument(ctx, []byte(body))
		must(t, err)
		return d
	}
	base := digest("base")
	must(t, s.PutArtifact(ctx, storage.Artifact{Digest: base, Kind: "model", Name: "base", Parameters: 9}, "ann"))
	least := 0.9
	plan := trimtab.Plan{Run: recorded, Seed: 1, Numerics: "v1", Spec: document("spec"), Stages: []trimtab.PlannedStage{
		{Name: "sft", Kind: "sft", Version: 1, Config: document("sft"),
			Inputs: []trimtab.Input{{Name: "model", Model: base}}},
		{Name: "reward", Kind: "reward", Version: 1, Config: document("reward"),
			Inputs: []trimtab.Input{{Name: "model", Stage: "sft", Output: "model"}},
			Gates:  []trimtab.Gate{{Metric: "held_out/accuracy", Min: &least}}},
		{Name: "ppo", Kind: "ppo", Version: 1, Config: document("ppo"),
			Inputs: []trimtab.Input{{Name: "model", Stage: "sft", Output: "model"},
				{Name: "reward", Stage: "reward", Output: "model"}, {Name: "prompts", Dataset: data.Digest}}},
		{Name: "evaluate", Kind: "evaluate", Version: 1, Config: document("evaluate"),
			Inputs: []trimtab.Input{{Name: "ppo", Stage: "ppo", Output: "model"}}},
	}}
	must(t, s.CreateRun(ctx, storage.Run{ID: recorded, Seed: 1, Spec: json.RawMessage(`{}`), SpecDigest: digest("spec"),
		Plan: plan, Actor: "ann"}))
	w := &writer{t: t, s: s, run: recorded, plan: plan, made: map[string]trimtab.Digest{}}
	w.status(trimtab.RunRunning)

	sft := w.begin("sft", 1, storage.Attempt{})
	w.start(sft, 1, 6, "build")
	w.commit(sft, 1, 0, 3)
	w.start(sft, 2, 6, "another build")
	w.commit(sft, 2, 3, 6)
	w.complete(sft, 2, 6)

	reward := w.begin("reward", 1, storage.Attempt{})
	w.start(reward, 1, 2, "build")
	w.commit(reward, 1, 0, 2)
	w.complete(reward, 1, 2, trimtab.Metric{Name: "held_out/accuracy", Value: 0.5})
	must(t, s.SetRunStatus(ctx, recorded, trimtab.RunBlocked, "decide",
		trimtab.NewError(trimtab.Invalid, "gate_missed", "", "0.5 is \x00 too little"), "trimtab"))
	w.plan.Stages = slices.Clone(plan.Stages)
	w.plan.Stages[1].Config = document("reward, longer")
	must(t, s.Replan(ctx, storage.Replan{Plan: w.plan, Stage: "reward", Status: trimtab.RunRunning, Actor: "ann",
		Reason: "more"}))
	again := w.begin("reward", 2, storage.Attempt{})
	w.start(again, 1, 4, "build")
	w.commit(again, 1, 0, 4)
	w.complete(again, 1, 4, trimtab.Metric{Name: "held_out/accuracy", Value: 0.6})
	decide(t, s, storage.Request{Run: recorded, Stage: "reward", Attempt: 2, Decision: "approve", Reason: "enough",
		Actor: "ann"})

	ppo := w.begin("ppo", 1, storage.Attempt{})
	w.start(ppo, 1, 8, "build")
	w.commit(ppo, 1, 0, 2)
	w.commit(ppo, 1, 2, 4)
	must(t, s.SetAttemptStatus(ctx, ppo.ID, trimtab.AttemptFailed,
		trimtab.NewError(trimtab.Invalid, "not_a_number", "", "loss is NaN"), "trimtab"))
	next := w.begin("ppo", 2, storage.Attempt{FromCheckpoint: stateDigest("ppo", 4)})
	w.start(next, 1, 8, "build")
	w.commit(next, 1, 4, 6)
	// stopped by hand; that checkpoint is then found damaged, and it goes on from the one before
	w.commit(next, 1, 6, 7)
	w.start(next, 2, 8, "build 2")
	w.commit(next, 2, 6, 8)
	w.start(next, 3, 8, "build 3") // those before steps 6, 7 and 8 are damaged
	w.commit(next, 3, 4, 5)
	w.commit(next, 3, 5, 8)
	w.complete(next, 3, 8)

	evaluate := w.begin("evaluate", 1, storage.Attempt{})
	must(t, s.SetAttemptStatus(ctx, evaluate.ID, trimtab.AttemptFailed,
		trimtab.NewError(trimtab.Invalid, "no_prompts", "", "none"), "trimtab"))
	decide(t, s, storage.Request{Run: recorded, Stage: "evaluate", Attempt: 1, Decision: "skip", Reason: "none",
		Actor: "ann"})
	w.status(trimtab.RunCompleted)

	must(t, s.CreateRun(ctx, storage.Run{ID: reusing, Seed: 1, Spec: json.RawMessage(`{}`), SpecDigest: digest("spec"),
		Plan: trimtab.Plan{Run: reusing, Stages: plan.Stages[:1]}, Actor: "ann"}))
	made, err := s.Attempt(ctx, sft.ID)
	must(t, err)
	_, err = s.CreateAttempt(ctx, storage.Attempt{Run: reusing, Stage: "sft", Kind: "sft", Number: 1,
		Status: trimtab.AttemptReused, ReusedFrom: sft.ID,
		Config: made.Config, CacheKey: made.CacheKey, Inputs: made.Inputs, Outputs: made.Outputs, Metrics: made.Metrics,
		Steps: made.Steps})
	must(t, err)
	must(t, s.SetRunStatus(ctx, reusing, trimtab.RunCompleted, "", nil, "trimtab"))
}

// writer is workflow and worker of a run.
type writer struct {
	t    testing.TB
	s    *storage.Store
	run  string
	plan trimtab.Plan
	made map[string]trimtab.Digest // models by stage
}

func stateDigest(stage string, step int) trimtab.Digest {
	return digest(fmt.Sprintf("state of %s at %d", stage, step))
}

func (w *writer) status(status trimtab.RunStatus) {
	w.t.Helper()
	must(w.t, w.s.SetRunStatus(w.t.Context(), w.run, status, "", nil, "trimtab"))
}

func (w *writer) begin(stage string, number int, a storage.Attempt) storage.Attempt {
	w.t.Helper()
	i := slices.IndexFunc(w.plan.Stages, func(st trimtab.PlannedStage) bool { return st.Name == stage })
	st := w.plan.Stages[i]
	a.Run, a.Stage, a.Kind, a.Number, a.Config, a.CacheKey = w.run, stage, st.Kind, number, st.Config, digest("key of "+
		string(st.Config))
	for _, in := range st.Inputs {
		d := in.Dataset + in.Model
		if in.Stage != "" {
			d = w.made[in.Stage]
		}
		a.Inputs = append(a.Inputs, trimtab.Named{Name: in.Name, Digest: d})
	}
	a, err := w.s.CreateAttempt(w.t.Context(), a)
	must(w.t, err)
	return a
}

func (w *writer) start(a storage.Attempt, token int64, steps int, build string) {
	w.t.Helper()
	must(w.t, w.s.Lease(a.ID, token).Acquire(w.t.Context()))
	must(w.t, w.s.Lease(a.ID, token).Start(w.t.Context(), steps, build, "avx2"))
}

// commit writes steps from … until-1 and the checkpoint after them.
func (w *writer) commit(a storage.Attempt, token int64, from, until int) {
	w.t.Helper()
	var reports []storage.StepReport
	for step := from; step < until; step++ {
		reports = append(reports, w.step(a.Kind, step))
	}
	must(w.t, w.s.Lease(a.ID, token).Commit(w.t.Context(), reports,
		&storage.Checkpoint{Attempt: a.ID, Step: until, Digest: stateDigest(a.Stage, until)}))
}

// step is validated every third time, and teaches the policy from step 1 on. Ppo takes three prompts a step of an
// epoch of seven.
func (w *writer) step(kind string, step int) storage.StepReport {
	r := report(step, 3, 0, 0)
	more := func(name string) {
		r.Report.Metrics = append(r.Report.Metrics, trimtab.Metric{Name: name, Value: float64(step) / 3})
	}
	if kind != "ppo" {
		if step%3 == 2 {
			more("eval_loss")
			more("eval_accuracy")
		}
		return r
	}
	if step >= 1 {
		more("loss/policy_avg")
		more("policy/entropy_avg")
	}
	order := [][]string{{"p5", "p0", "p3", "p1", "p5", "p2", "p4"}, {"p4", "p3", "p0", "p5", "p1", "p2", "p5"},
		{"p0", "p1", "p2", "p3", "p4", "p5", "p5"}, {"p5", "p5", "p4", "p3", "p2", "p1", "p0"}}
	for i := range 3 {
		k := 3*step + i
		o := rollout(i, 2+i)
		o.Prompt = order[k/7][k%7]
		r.Report.Rollouts = append(r.Report.Rollouts, o)
	}
	return r
}

func (w *writer) complete(a storage.Attempt, token int64, steps int, metrics ...trimtab.Metric) {
	w.t.Helper()
	ctx := w.t.Context()
	last, err := w.s.StepMetrics(ctx, a.ID, steps-1)
	must(w.t, err)
	model := digest("model of " + string(a.Config))
	must(w.t, w.s.PutArtifact(ctx, storage.Artifact{Digest: model, Kind: "model", Name: w.run + "/" + a.Stage,
		Run: w.run, Stage: a.Stage, Attempt: a.ID, Parameters: 9}, "trimtab"))
	must(w.t, w.s.Lease(a.ID, token).Complete(ctx, []trimtab.Named{{Name: "model", Digest: model}},
		append(last, metrics...)))
	w.made[a.Stage] = model
}

// breaks is, for each invariant, what breaks it and nothing else. The owner does it without foreign keys.
// $sft, $reward1, $reward2, $ppo1, $ppo2 and $evaluate are the ids of the attempts.
var breaks = []struct{ invariant, run, sql string }{
	{"steps_without_gap", recorded, `delete from step where attempt = $sft and step = 1; delete from metric where attempt = $sft and step = 1;
		delete from timing where attempt = $sft and step = 1`},
	{"step_rows", recorded, `delete from timing where attempt = $sft and step = 4`},
	{"step_rows", recorded, `update step set metrics = metrics + 1 where attempt = $ppo1 and step = 2`},
	{"rows_have_steps", recorded, `insert into timing values ($sft, 6, 'step', 1)`},
	{"rows_have_steps", recorded, `insert into metric values ($evaluate, 0, 'loss', 1)`},
	{"steps_of_stage", recorded, `update attempt_state set steps = 3 where attempt = $ppo1;
		update event set body = convert_to(replace(convert_from(body, 'UTF8'), '"steps":8', '"steps":3'), 'UTF8')
			where stage = 'ppo' and attempt = 1 and type = 'attempt_started'`},
	{"metric_names", recorded,
		`update metric set name = 'metric/xx' where attempt = $sft and step = 1 and name = 'metric/01'`},
	{"metric_names", recorded,
		`delete from metric where attempt = $sft and step = 2 and name = 'eval_loss'; update step set metrics = metrics - 1 where attempt = $sft and step = 2`},
	{"metric_names", recorded,
		`delete from metric where attempt = $ppo2 and step = 5 and name = 'loss/policy_avg'; update step set metrics = metrics - 1 where attempt = $ppo2 and step = 5`},
	{"checkpoints_on_steps", recorded, `insert into checkpoint values ($ppo1, 7, (select digest from checkpoint where attempt = $ppo2 and step = 7));
		select append_event('run-whole', 'x', 'steps_committed', 'ppo', 1, convert_to(json_build_object('steps', 0,
			'checkpoint',
			(select json_build_object('step', step, 'digest', digest) from checkpoint where attempt = $ppo2
				and step = 7))::text, 'UTF8'))`},
	{"completed_whole", recorded, `delete from checkpoint where attempt = $sft and step = 6`},
	{"final_metrics", recorded,
		`update metric set value = '-0' where attempt = $sft and step = 5 and name = 'metric/00'`},
	{"rollouts_whole", recorded, `update rollout set kl = kl[1:2] where attempt = $ppo1 and step = 0 and index = 2`},
	{"rollouts_whole", recorded, `update rollout set index = 3 where attempt = $ppo1 and step = 0 and index = 2`},
	{"rollouts_whole", recorded,
		`delete from rollout where attempt = $ppo2 and step = 7 and index = 2; update step set rollouts = 2 where attempt = $ppo2 and step = 7`},
	{"prompts_once", recorded, `update rollout set prompt = 'p0' where attempt = $ppo1 and step = 1 and index = 0`},
	{"prompts_once", recorded, `update rollout set prompt = 'p4' where attempt = $ppo2 and step = 5 and index = 0`},
	{"prompts_once", recorded,
		`update rollout set prompt = 'held out' where attempt = $ppo1 and step = 3 and index = 2`},
	{"prompts_once", recorded,
		`update rollout set prompt_tokens = '{1}' where attempt = $ppo1 and step = 3 and index = 2`},
	{"prompts_once", recorded,
		`update rollout set prompt = 'p5' where attempt = $ppo2 and step >= 6; update rollout set prompt = 'p5' where attempt = $ppo2 and step = 5 and index > 0`},
	{"events_without_gap", recorded, `update event_stream set head = head + 1 where stream = 'run-whole'`},
	{"events_without_gap", recorded,
		`delete from event where stream = 'run-whole' and type = 'artifact_made' and stage = 'sft'`},
	{"steps_recorded", recorded, `update event set body = convert_to(replace(replace(convert_from(body, 'UTF8'), '"from":3', '"from":2'), '"steps":3', '"steps":4'), 'UTF8')
		where stage = 'sft' and type = 'steps_committed'`},
	{"steps_recorded", recorded, `update event set type = 'unrecorded' where stage = 'sft' and type = 'steps_committed' and convert_from(body, 'UTF8') like '%"from":0%';
		delete from checkpoint where attempt = $sft and step = 3`},
	{"steps_recorded", recorded,
		`select append_event('run-whole', 'x', 'steps_committed', 'sft', 1, body) from event where stage = 'sft' and type = 'steps_committed' and convert_from(body, 'UTF8') like '%"from":3%'`},
	{"checkpoints_recorded", recorded,
		`update checkpoint set digest = (select digest from checkpoint where attempt = $ppo2 and step = 6) where attempt = $sft and step = 3`},
	{"run_state", recorded, `update run_state set next = 'rest' where run = 'run-whole'`},
	{"run_state", reusing, `delete from run_state where run = 'run-reuse'`},
	{"attempt_state", recorded, `update attempt_state set build = 'x' where attempt = $ppo2`},
	{"attempt_state", recorded, `update attempt_state set ended_at = null where attempt = $reward1`},
	{"completion_recorded", recorded, `update event set body = convert_to(replace(convert_from(body, 'UTF8'), '"name":"model"', '"name":"other"'), 'UTF8')
		where stage = 'sft' and type = 'attempt_completed' and stream = 'run-whole'`},
	{"completion_recorded", recorded,
		`update attempt_metric set value = 0.61 where attempt = $reward2 and name = 'held_out/accuracy'`},
	{"plans_recorded", recorded,
		`update run_plan set plan = (plan::text || ' ')::json where run = 'run-whole' and revision = 1`},
	{"fences_rise", recorded, `update fence set token = 2 where attempt = $ppo2`},
	{"one_open", recorded, `update attempt_state set status = 'running', ended_at = null where attempt = $ppo1;
		update event set body = convert_to(replace(convert_from(body, 'UTF8'), '"status":"failed"',
			'"status":"running"'), 'UTF8') where stage = 'ppo' and attempt = 1 and type = 'attempt_status'`},
	{"attempts_numbered", recorded,
		`update attempt set number = 3 where id = $ppo2; update event set attempt = 3 where stage = 'ppo' and attempt = 2`},
	{"plan_followed", recorded,
		`update attempt_input set digest = (select digest from artifact where name = 'base') where attempt = $ppo2 and name = 'reward'`},
	{"plan_followed", recorded,
		`update attempt set config = (select config from attempt where id = $reward1) where id = $reward2`},
	{"plan_followed", recorded, `delete from attempt_input where attempt = $evaluate`},
	{"completed_run", recorded, `update attempt_state set status = 'stale' where attempt = $ppo2;
		select append_event('run-whole', 'x', 'attempt_status', 'ppo', 2,
			'{"error":null,"from":"completed","status":"stale"}')`},
	{"completed_run", recorded,
		`update event set body = convert_to(replace(convert_from(body, 'UTF8'), '"skip"', '"look"'), 'UTF8') where type like 'decision%' and stage = 'evaluate'`},
	{"gates_passed", recorded,
		`update event set body = convert_to(replace(convert_from(body, 'UTF8'), '"approve"', '"look"'), 'UTF8') where type like 'decision%' and stage = 'reward'`},
	{"decisions_requested", recorded, `update event set actor = 'eve' where type = 'decision' and stage = 'reward'`},
	{"decisions_requested", recorded,
		`update event set actor = 'eve' where type = 'decision_requested' and stage = 'reward'`},
	{"decisions_requested", recorded,
		`update event set type = 'unrecorded' where type = 'decision_requested' and stage = 'reward'`},
	{"decisions_requested", recorded,
		`update event set body = convert_to(replace(convert_from(body, 'UTF8'), 'enough', 'good'), 'UTF8') where type = 'decision' and stage = 'reward'`},
	{"decisions_requested", recorded,
		`select append_event('run-whole', 'ann', 'decision', 'reward', 2, '{"decision":"approve","details":{"reason":"enough"}}')`},
	{"decisions_requested", recorded,
		`select append_event('run-whole', 'ann', 'decision', 'reward', 2, body) from event where type = 'decision' and stage = 'reward'`},
	{"decisions_requested", recorded,
		`select append_event('run-whole', 'ann', 'decision', 'ppo', 2, body) from event where type = 'decision' and stage = 'reward'`},
	{"reused_same", reusing,
		`update attempt set cache_key = (select cache_key from attempt where id = $ppo1) where run = 'run-reuse'`},
	{"reused_same", reusing,
		`update attempt_output set name = 'other' where attempt = (select id from attempt where run = 'run-reuse')`},
	{"models_known", recorded, `update artifact set attempt = $reward1 where attempt = $ppo2`},
	{"names_known", recorded, `delete from document where digest = (select config from attempt where id = $evaluate)`},
	{"names_known", recorded, `delete from artifact where name = 'base'`},
	{"datasets_whole", recorded, `delete from prompt where prompt = 'held out'`},
}

// A whole record breaks nothing; and whatever is taken from it or changed breaks exactly one invariant.
func TestInvariants(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	s, ctx := storagetest.Open(t, urls.App), t.Context()
	record(t, s)
	for _, run := range []string{recorded, reusing} {
		findings, err := s.CheckRun(ctx, run)
		must(t, err)
		for _, f := range findings {
			if f.Broken > 0 || f.Must == "" {
				t.Errorf("run %s breaks %+v", run, f)
			}
		}
		if len(findings) != len(storage.InvariantNames()) {
			t.Errorf("%d findings of %d invariants", len(findings), len(storage.InvariantNames()))
		}
	}
	_, err := s.CheckRun(ctx, "nobody")
	wantError(t, err, trimtab.NotFound, "run_not_found")

	owner, err := pgx.Connect(ctx, urls.Owner)
	must(t, err)
	defer owner.Close(ctx)
	broken := map[string]bool{}
	for i, b := range breaks {
		t.Run(fmt.Sprintf("%02d_%s", i, b.invariant), func(t *testing.T) {
			broken[b.invariant] = true
			if broken := brokenBy(t, owner, s, b.run, b.sql); !slices.Equal(broken, []string{b.invariant}) {
				t.Errorf("%s\nbreaks %v, want %s", b.sql, broken, b.invariant)
			}
		})
	}
	for _, name := range storage.InvariantNames() {
		if !broken[name] {
			t.Errorf("nothing here breaks %s", name)
		}
	}
}

// brokenBy names the invariants that a change breaks, and undoes it.
func brokenBy(t *testing.T, owner *pgx.Conn, s *storage.Store, run, sql string) (broken []string) {
	t.Helper()
	ctx := t.Context()
	tx, err := owner.Begin(ctx)
	must(t, err)
	defer tx.Rollback(ctx)
	for name, id := range attemptIDs(t, s) {
		sql = strings.ReplaceAll(sql, "$"+name, strconv.FormatInt(id, 10))
	}
	_, err = tx.Conn().PgConn().Exec(ctx,
		"alter table event disable trigger user; set local session_replication_role = replica; "+sql).ReadAll()
	must(t, err)
	findings, err := storage.CheckRunIn(ctx, tx, run)
	must(t, err)
	for _, f := range findings {
		if f.Broken > 0 {
			broken = append(broken, f.Name)
		}
		if f.Broken > 0 != (len(f.Offenders) > 0) || slices.Contains(f.Offenders, "") {
			t.Errorf("%+v", f)
		}
	}
	return broken
}

func attemptIDs(t *testing.T, s *storage.Store) map[string]int64 {
	t.Helper()
	attempts, err := s.Attempts(t.Context(), recorded)
	must(t, err)
	ids := map[string]int64{}
	for _, a := range attempts {
		name := a.Stage
		if a.Stage == "reward" || a.Stage == "ppo" {
			name += strconv.Itoa(a.Number)
		}
		ids[name] = a.ID
	}
	return ids
}
