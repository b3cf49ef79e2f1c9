package storagetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// LongRunID is the run of FillRuns that has as many rows of metrics as all
// others together.
const LongRunID = "run-00001"

// stages are those of the shipped recipe.
var stages = []string{"pretrain", "sft", "collect", "reward", "ppo", "evaluate"}

// FillRuns writes n completed runs of six stages into an empty database, as
// the shipped recipe leaves them, with about the given number of metric rows
// in all, half of them of the run LongRunID. Runs are named run-00001 to
// run-NNNNN.
//
// It measures how pages and commands cope with a large record. ownerURL must
// be a superuser's, since foreign keys and triggers are off while it writes;
// the events that it leaves have no hashes and do not verify.
func FillRuns(t testing.TB, ownerURL string, n, metrics int) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	// Half of the metric rows belong to the long run, and the stages share
	// them evenly.
	const perStep = 5
	steps := max(1, metrics/2/n/len(stages)/perStep)
	long := metrics / 2 / len(stages) / perStep
	r := strings.NewReplacer("$runs", fmt.Sprint(n), "$stages", literal(strings.Join(stages, ",")), "$plan",
		literal(plan()),
		"$perStep", fmt.Sprint(perStep), "$steps", fmt.Sprint(steps), "$longSteps", fmt.Sprint(long), "$long",
		literal(LongRunID))
	// The statements are executed one by one, so that an error shows which
	// failed.
	for part := range strings.SplitSeq(r.Replace(fillSQL), ";\n") {
		if _, err := conn.Exec(ctx, part); err != nil {
			t.Fatalf("fill the database: %v\n%s", err, part)
		}
	}
}

// literal quotes a text for SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// plan is the JSON of a plan that is as long as a real one.
func plan() string {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	type input struct {
		Name    string `json:"name"`
		Dataset string `json:"dataset,omitempty"`
		Stage   string `json:"stage,omitempty"`
		Output  string `json:"output,omitempty"`
	}
	type stage struct {
		Name            string  `json:"name"`
		Kind            string  `json:"kind"`
		Version         int     `json:"version"`
		Config          string  `json:"config"`
		Inputs          []input `json:"inputs"`
		SegmentSteps    int     `json:"segment_steps"`
		CheckpointSteps int     `json:"checkpoint_steps"`
	}
	var all []stage
	for i, name := range stages {
		st := stage{Name: name, Kind: name, Version: 1, Config: digest, SegmentSteps: 500, CheckpointSteps: 50,
			Inputs: []input{{Name: "prompts", Dataset: digest}, {Name: "text", Dataset: digest}}}
		if i > 0 {
			st.Inputs = append(st.Inputs, input{Name: "model", Stage: stages[i-1], Output: "model"})
		}
		all = append(all, st)
	}
	// strings and integers always encode
	body, _ := json.Marshal(map[string]any{"run": "run", "seed": 1, "numerics": "v1", "spec_digest": digest,
		"spec": digest, "stages": all})
	return string(body)
}

// fillSQL is a list of statements with $names to be replaced, separated by a
// semicolon at the end of a line.
const fillSQL = `set session_replication_role = replica;
set synchronous_commit = off;
set work_mem = '64MB';
create temporary table made as
	select i, 'run-' || lpad(i::text, 5, '0') as run, clock_timestamp() - make_interval(mins => $runs - i) as at
		from generate_series(1, $runs) i;
insert into run (id, name, seed, spec, spec_digest, reason, actor, created_at)
	select run, 'name-' || i, i, $plan, 'sha256:' || encode(sha256(run::bytea), 'hex'), '', 'ann', at from made;
insert into run_state (run, status, next, started_at, ended_at) select run, 'completed', '', at, at + interval '50 s'
	from made;
insert into run_plan (run, revision, plan, actor, reason, created_at) select run, 0, $plan, 'ann', '', at from made;
insert into attempt (run, stage, kind, number, config, cache_key, from_checkpoint, reason, actor, created_at)
	select run, stage, stage, 1, 'sha256:' || encode(sha256(stage::bytea), 'hex'),
		'sha256:' || encode(sha256((run || stage)::bytea), 'hex'), '', '', 'trimtab', at
	from made cross join unnest(string_to_array($stages, ',')) with ordinality s (stage, place) order by i, place;
insert into attempt_state (attempt, status, steps, build, started_at, ended_at)
	select id, 'completed', case run when $long then $longSteps else $steps
		end, repeat('ab', 32), created_at, created_at + interval '8 s' from attempt;
insert into fence (attempt, token) select id, 3 from attempt;
insert into attempt_input (attempt, position, name, digest)
	select id, p, 'input-' || p, 'sha256:' || encode(sha256((run || p)::bytea), 'hex') from attempt cross
		join generate_series(0, 2) p;
insert into attempt_output (attempt, position, name, digest)
	select id, 0, case stage when 'evaluate' then 'evaluation' when 'collect' then 'rankings' else 'model' end,
		'sha256:' || encode(case stage when 'evaluate' then sha256(('{"prompts":64,"run":"' || run || '"}')::bytea)
			else sha256((run || stage)::bytea) end, 'hex') from attempt;
insert into attempt_metric (attempt, position, name, value) select id, p, 'metric/' || p, random() from attempt cross
	join generate_series(0, 3) p;
insert into progress (attempt, step, steps, phase, tokens_per_second, metric_names, metric_values, at)
	select id, 1, 1, stage, 1e4, array['loss'], array[1.5], created_at from attempt;
insert into step (attempt, step, metrics, rollouts)
	select s.attempt, n, $perStep, 0 from attempt_state s cross join lateral generate_series(0, s.steps - 1) n;
insert into metric (attempt, step, name, value) select attempt, step, 'metric/' || p, random() from step cross
	join generate_series(1, $perStep) p;
insert into timing (attempt, step, name, seconds) select attempt, step, 'step', random() from step;
insert into checkpoint (attempt, step, digest, created_at)
	select s.attempt, n, 'sha256:' || encode(sha256((s.attempt || '/' || n)::bytea), 'hex'), started_at
	from attempt_state s cross join lateral generate_series(1, s.steps, greatest(1, s.steps / 100)) n;
insert into artifact (digest, kind, name, run, stage, attempt, parameters, actor, created_at)
	select o.digest, 'model', a.run || '/' || a.stage, a.run, a.stage, a.id, 900000, 'trimtab', a.created_at
		from attempt_output o join attempt a on a.id = o.attempt where o.name = 'model';
insert into document (digest, body) select 'sha256:' || encode(sha256(body), 'hex'), body
	from (select ('{"prompts":64,"run":"' || run || '"}')::bytea as body from made) d;
insert into evaluation (run, attempt, document) select a.run, a.id, o.digest from attempt a join attempt_output o
	on o.attempt = a.id where a.stage = 'evaluate' order by a.id;
insert into event (stream, sequence, at, actor, type, stage, attempt, facts, hash, body)
	select run, n, at, 'worker', 'steps_committed', 'sft', 1, '', '',
		convert_to('{"checkpoint":{"digest":"sha256:' || repeat('0123456789abcdef',
		4) || '","step":50},"from":0,"steps":50,"until":50}', 'UTF8')
	from made cross join generate_series(1, 20) n;
insert into event_stream (stream, head, hash) select run, 20, '' from made;
insert into log (run, at, level, stage, attempt, message) select run, at, 'info', 'sft', 1, 'attempt 1 begins'
	from made cross join generate_series(1, 12);
analyze`
