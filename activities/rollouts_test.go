package activities

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/tensor"
)

// ppoStage is a worker with the smallest run's ppo stage, and its states before iterations 1 and 2.
func ppoStage(t *testing.T) (w *smallWorker, in RolloutInput, states []trimtab.Digest) {
	t.Helper()
	w = newSmallWorker(t, "smallest")
	c := w.chain(t, tensor.V1)
	for _, st := range c.plan.Stages {
		if st.Kind != recipes.KindPPO {
			c.run(t, st, tensor.Implementation(), true)
			continue
		}
		j := c.job(t, st)
		for step := range 2 {
			if _, err := j.Step(t.Context(), step); err != nil {
				t.Fatal(err)
			}
			d, err := w.files.SaveState(checkpoint.AttemptName(7), step+1, j.State())
			if err != nil {
				t.Fatal(err)
			}
			states = append(states, d)
		}
		segment := j.(*modelJob).b.in
		return w, RolloutInput{Run: "run", Attempt: 7, Stage: st, Seed: segment.Seed, Numerics: segment.Numerics,
			Inputs: segment.Inputs, Shards: 3}, states
	}
	t.Fatal("the recipe has no ppo stage")
	return w, in, states
}

// restoreAt makes the input's stage stand on a state.
func stand(t *testing.T, w *smallWorker, in RolloutInput, from trimtab.Digest, step int) *segmentRun {
	t.Helper()
	in.From, in.Step = from, step
	r := &segmentRun{a: w.Activities, in: in.segment()}
	if err := r.restoreAt(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func makeShard(t *testing.T, r *segmentRun, shard int) trimtab.Digest {
	t.Helper()
	d, err := r.makeShard(t.Context(), shard, 3)
	if err != nil || d == "" {
		t.Fatalf("shard %q, %v", d, err)
	}
	return d
}

// A worker keeps the stage between shards and iterations, sets it to each
// state, and makes the same files as one that made the stage anew.
func TestRolloutsKeepTheStage(t *testing.T) {
	w, in, states := ppoStage(t)
	first := stand(t, w, in, states[1], 2)
	later := makeShard(t, first, 1)
	w.cache.put(7, states[1], first.job)
	again := stand(t, w, in, states[1], 2)
	if again.job != first.job || makeShard(t, again, 1) != later {
		t.Error("the stage is made again, or makes another file")
	}
	w.cache.put(7, states[1], again.job)
	moved := stand(t, w, in, states[0], 1)
	earlier := makeShard(t, moved, 1)
	if moved.job != first.job || earlier == later {
		t.Error("the stage is made again, or stands where it stood")
	}
	w.cache.put(8, states[0], moved.job) // of another attempt
	fresh := stand(t, w, in, states[0], 1)
	if fresh.job == first.job || makeShard(t, fresh, 1) != earlier {
		t.Error("the stage of another attempt is taken, or the same shard is another file")
	}
	fresh.step = fresh.job.Steps()
	if d, err := fresh.makeShard(t.Context(), 0, 3); d != "" || err != nil {
		t.Errorf("past the last iteration: %q, %v", d, err)
	}
	wrong := in
	wrong.From, wrong.Step = states[0], 2
	if err := (&segmentRun{a: w.Activities,
		in: wrong.segment()}).restoreAt(t.Context()); trimtab.AsError(err).Type != "checkpoint_mismatch" {
		t.Errorf("a state of another step: %v", err)
	}
}

// A segment takes the shards of the checkpoint that it stands on, makes again
// what is gone or damaged, refuses what is of another state, and removes all
// when the iteration is committed.
func TestSegmentTakesShards(t *testing.T) {
	w, in, states := ppoStage(t)
	r := stand(t, w, in, states[0], 1)
	shards := []trimtab.Digest{makeShard(t, r, 0), makeShard(t, r, 1), makeShard(t, r, 2)}
	want := digestsOf(t, nil, report(t, stand(t, w, in, states[0], 1).job, 1))

	file := func(i int) string {
		return filepath.Join(w.folder, "rollouts", checkpoint.AttemptName(7), shards[i].Hex())
	}
	take := func(digests ...trimtab.Digest) (*shardedStep, error) {
		r := stand(t, w, in, states[0], 1)
		r.in.Shards, r.latest = digests, states[0]
		j, err := r.withShards(t.Context())
		s, _ := j.(*shardedStep)
		return s, err
	}
	for _, c := range []struct {
		what string
		harm func() error
		left int
	}{
		{"whole", func() error { return nil }, 3},
		{"one is damaged", func() error { return os.WriteFile(file(1), []byte("odd"), 0o600) }, 2},
		{"one more is gone", func() error { return os.Remove(file(2)) }, 1},
	} {
		if err := c.harm(); err != nil {
			t.Fatal(err)
		}
		s, err := take(shards...)
		if err != nil || len(s.shards) != c.left {
			t.Fatalf("%s: %+v, %v", c.what, s, err)
		}
		if got := digestsOf(t, nil, report(t, s, 1)); !slices.Equal(got, want) {
			t.Errorf("%s: the iteration reports something else", c.what)
		}
	}
	if s, err := take("", shards[0], ""); err != nil || len(s.shards) != 1 {
		t.Errorf("with two missing: %+v, %v", s, err)
	}

	other := stand(t, w, in, states[1], 2)
	if _, err := take(makeShard(t, other, 0)); trimtab.AsError(err).Type != "wrong_rollouts" {
		t.Errorf("of another state: %v", err)
	}
	r = stand(t, w, in, states[0], 1)
	r.in.Shards, r.latest = shards, states[1] // the row came late, or the state was damaged
	if j, err := r.withShards(t.Context()); err != nil || j != r.job {
		t.Errorf("standing elsewhere the segment takes %T, %v", j, err)
	}

	// whole, but no shard
	s, err := w.files.SaveRollouts(checkpoint.AttemptName(7), checkpoint.Rollouts{Step: 1, State: states[0]})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take(s); trimtab.AsError(err).Type != "wrong_rollouts" {
		t.Errorf("no shard: %v", err)
	}

	r.in.Shards = append(shards, "")
	r.latest = r.in.From
	for _, left := range []bool{true, false} {
		if err := r.removeShards(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file(0)); (err == nil) != left {
			t.Errorf("with the iteration committed: %v, the file: %v", !left, err)
		}
		r.latest = states[1]
	}
}

func report(t *testing.T, j job, step int) trimtab.Report {
	t.Helper()
	r, err := j.Step(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
