package runs_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
)

var update = flag.Bool("update", false,
	"write the golden digests of the smallest run anew: only after a stage's version was raised")

// updateCommand writes the golden digests of both numerics.
const updateCommand = "go test -count=1 ./runs -run TestSmallestRunIsTheSameAnywhere -update"

// golden are the digests of the smallest run, seed 1, under numerics. They
// change only with a stage's version constant.
func golden(t *testing.T, numerics string, got map[string]trimtab.Digest) map[string]trimtab.Digest {
	t.Helper()
	file := filepath.Join("testdata", map[string]string{"v1": "smallest.json",
		"v1-bf16": "smallest-v1-bf16.json"}[numerics])
	if *update && got != nil {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]trimtab.Digest
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

// digests are everything a run made.
func digests(d runs.View) map[string]trimtab.Digest {
	m := models(d)
	for _, st := range d.Stages {
		for name, digest := range st.Outputs {
			m[st.Name+"/"+name] = digest
		}
	}
	return m
}

// The same spec and seed give the same bytes, in two folders and two
// databases, on one core and on several, under either numerics. With -short
// each runs once, on all cores. .ci/run has this under other kernels and builds
// too; the golden digests are of them all.
func TestSmallestRunIsTheSameAnywhere(t *testing.T) {
	for _, numerics := range []string{"v1", "v1-bf16"} {
		t.Run(numerics, func(t *testing.T) { sameAnywhere(t, numerics) })
	}
}

func sameAnywhere(t *testing.T, numerics string) {
	b := newBench(t, 0)
	d := b.await(b.launch("numerics="+numerics), trimtab.RunCompleted)
	got := digests(d)
	b.stop()
	if !testing.Short() {
		other := newBench(t, 1)
		if again := digests(other.await(other.launch("numerics="+numerics), trimtab.RunCompleted)); !maps.Equal(got,
			again) {
			t.Errorf("one core gives\n%v\nall cores give\n%v", again, got)
		}
	}
	if want := golden(t, numerics, got); !maps.Equal(got, want) {
		t.Errorf("the smallest run's bytes have changed:\n%v\nwant\n%v\nraise the Version of the stage that changed, "+
			"then %s", got, want, updateCommand)
	}
	if n := d.Evaluation.Overlap; n != 0 {
		t.Errorf("overlap is %v", n)
	}
	if numerics == "v1" {
		record(t, b, "completed", d.ID)
	}
}

func TestUnchangedSpecAttaches(t *testing.T) {
	b := newBench(t, 0)
	spec := func(seed string) recipes.Spec {
		s, err := recipes.Load("instructgpt", "smallest", []string{"seed=" + seed})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec("3"), Actor: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec("3"), Actor: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	if !second.Attached || second.Run.ID != first.Run.ID {
		t.Errorf("the same spec started run %s beside %s", second.Run.ID, first.Run.ID)
	}
	named, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec("3"), Actor: "tester", Name: "another name"})
	if err != nil || named.Attached || named.Run.ID == first.Run.ID || named.Run.Name != "another name" {
		t.Errorf("another name led to %+v, %v", named.Run.ID, err)
	}
	again, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec("3"), Actor: "tester", Name: "another name"})
	if err != nil || !again.Attached || again.Run.ID != named.Run.ID {
		t.Errorf("the same name again led to %+v, %v", again.Run.ID, err)
	}
	if _, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec("5"), Actor: "tester",
		Name: "another name"}); trimtab.ExitCode(err) != 4 || trimtab.AsError(err).Type != "name_taken" {
		t.Errorf("its name for another spec: %v", err)
	}
	if _, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec("4"), Actor: "tester",
		Resume: first.Run.ID}); trimtab.ExitCode(err) != 4 {
		t.Errorf("resuming with another spec: %v", err)
	}
	b.await(first.Run.ID, trimtab.RunCompleted)
	if got := digests(b.await(named.Run.ID, trimtab.RunCompleted)); !maps.Equal(got,
		digests(b.await(first.Run.ID, trimtab.RunCompleted))) {
		t.Errorf("the second run of the spec made other bytes: %v", got)
	}
}

// A run with Reuse takes over every stage of an equal one, and says so.
func TestReuse(t *testing.T) {
	b := newBench(t, 0)
	d := b.await(b.launch(), trimtab.RunCompleted)
	spec, err := recipes.Load("instructgpt", "smallest", nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true, Reuse: true})
	if err != nil {
		t.Fatal(err)
	}
	again := b.await(l.Run.ID, trimtab.RunCompleted)
	if !maps.Equal(digests(d), digests(again)) {
		t.Errorf("reuse changed digests:\n%v\n%v", digests(d), digests(again))
	}
	for _, st := range again.Stages {
		if want := (runs.AttemptRef{Run: d.ID, Stage: st.Name, Attempt: 1}); st.Status != trimtab.AttemptReused ||
			st.ReusedFrom == nil || *st.ReusedFrom != want {
			t.Errorf("stage %s is %s, reused from %+v", st.Name, st.Status, st.ReusedFrom)
		}
	}
	for i, st := range d.Stages {
		for name := range st.Metrics {
			if !slices.Contains(spec.Measures(i, true), name) {
				t.Errorf("stage %s measures %s, on which no gate may be", st.Name, name)
			}
		}
	}
	namesAttempts(t, b, d.ID, again.ID)
	if w := stageOf(t, d, "ppo").Warnings; len(w) != 1 || !strings.HasPrefix(w[0], "ppo: only ") ||
		!strings.Contains(w[0], "the standardised score -1 whatever it says") {
		t.Errorf("of a policy whose answers hardly ever end it says %q", w)
	}
	if _, ok := again.Evaluation.Models["ppo"]; !ok {
		t.Error("a reused evaluation is not shown")
	}
}

// namesAttempts asserts that a run which reuses all of another names its
// attempts as people know them, by number and run, wherever it mentions them.
func namesAttempts(t *testing.T, b *bench, did, took string) {
	t.Helper()
	want := "attempt 1 of run " + did
	lines, _, err := b.Logs(b.ctx, took, 0, 0)
	if n := strings.Count(messages(lines), want); err != nil || n != 6 {
		t.Errorf("%d of 6 lines of the log name %q: %s, %v", n, want, messages(lines), err)
	}
	res, err := b.Rerun(b.ctx, runs.RerunRequest{Run: took, Stage: "evaluate", DryRun: true, Force: true,
		Actor: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range res.Stages[:5] {
		if st.Action != "reuse" || !strings.HasSuffix(st.Reason, want) {
			t.Errorf("the plan says %+v, want %q", st, want)
		}
	}
	events, err := b.History(b.ctx, took, "")
	if err != nil {
		t.Fatal(err)
	}
	notes, err := b.EventNotes(b.ctx, events)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if made := notes[e.Sequence].ReusedFrom; e.Type == trimtab.EventAttemptCreated &&
			(made == nil || *made != (runs.AttemptRef{Run: did, Stage: e.Stage, Attempt: 1})) {
			t.Errorf("of %s the log book knows %+v", e.Stage, made)
		}
	}
}

// Numerics are of a whole run: another run's stages are not reused under
// others, its document names them, and a rerun of one stage cannot change them.
func TestRerunKeepsTheNumerics(t *testing.T) {
	b := newBench(t, 0)
	if d := b.await(b.launch(), trimtab.RunCompleted); d.Numerics != "v1" {
		t.Errorf("a run without numerics has %q", d.Numerics)
	}
	spec, err := recipes.Load("instructgpt", "smallest", []string{"numerics=v1-bf16"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", Reuse: true})
	if err != nil {
		t.Fatal(err)
	}
	d := b.await(l.Run.ID, trimtab.RunCompleted)
	if d.Numerics != "v1-bf16" {
		t.Errorf("the document has numerics %q", d.Numerics)
	}
	for _, st := range d.Stages {
		if st.Status != trimtab.AttemptCompleted {
			t.Errorf("stage %s is %s", st.Name, st.Status)
		}
	}
	_, err = b.Rerun(b.ctx, runs.RerunRequest{Run: l.Run.ID, Stage: "ppo", Sets: []string{"numerics=v1"},
		Actor: "tester", Reason: "to see"})
	wantRefusal(t, "a rerun under other numerics", err, "plan_differs", 2)
	const hint = "launch a new run with `trimtab align --set numerics=v1`"
	if e := trimtab.AsError(err); e.Remedy != hint ||
		!strings.Contains(e.Message, "the numerics of the whole run, not to one stage") {
		t.Errorf("it says %q, hint %q; want the hint %q", e.Message, e.Remedy, hint)
	}
	if spec, err = recipes.Load("instructgpt", "smallest", []string{"numerics=v1"}); err != nil {
		t.Fatal(err)
	}
	followed, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true, Reuse: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := b.await(followed.Run.ID, trimtab.RunCompleted); d.Numerics != "v1" {
		t.Errorf("who follows the hint gets numerics %q", d.Numerics)
	}
	res, err := b.Rerun(b.ctx, runs.RerunRequest{Run: l.Run.ID, Stage: "ppo", Sets: []string{"ppo.kl_coef=0.2"},
		Actor: "tester", Reason: "to see"})
	if err != nil {
		t.Fatal(err)
	}
	if again := b.await(res.Run, trimtab.RunCompleted); again.Numerics != "v1-bf16" ||
		stageOf(t, again, "reward").Status != trimtab.AttemptReused {
		t.Errorf("the rerun is under %q and its reward stage is %s", again.Numerics, stageOf(t, again, "reward").Status)
	}
}

// What the document promises to scripts.
func TestDocumentFields(t *testing.T) {
	b := newBench(t, 0)
	body, err := json.Marshal(b.await(b.launch("sft.num_train_epochs=2"), trimtab.RunCompleted))
	if err != nil {
		t.Fatal(err)
	}
	var d map[string]any
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"schema", "id", "name", "status", "seed", "numerics", "spec_digest", "origin",
		"created_at", "seconds", "stages", "models", "evaluation", "next"} {
		if _, ok := d[key]; !ok {
			t.Errorf("the document has no %q: %v", key, slices.Sorted(maps.Keys(d)))
		}
	}
	ppo := d["evaluation"].(map[string]any)["ppo"].(map[string]any)
	for _, key := range []string{"gold", "followed", "true", "polite", "length", "kl"} {
		if _, ok := ppo[key]; !ok {
			t.Errorf("evaluation.ppo has no %q: %v", key, ppo)
		}
	}
}
