package runs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/storage"
)

// broken names what a check of a run finds broken.
func (b *bench) broken(run string) (names []string) {
	b.t.Helper()
	_, findings, err := b.Check(b.ctx, run)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range findings {
		if f.Broken > 0 {
			names = append(names, f.Name)
		}
	}
	return names
}

// damagedCheckpoints flips a bit of a file while f runs.
func damaged(t *testing.T, file string, f func()) {
	t.Helper()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	harmed := slices.Clone(whole)
	harmed[len(harmed)/2] ^= 1
	for _, data := range [][]byte{harmed, whole} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if f != nil {
			f()
		}
		f = nil
	}
}

// A flipped bit of a model, or of the newest checkpoint of any attempt, is found, and so is a checkpoint that is gone
// or
// exchanged for another; older checkpoints are not looked at.
func TestCheckReadsTheFiles(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch("reward.gates=[{metric: held_out/accuracy, min: 0.99}]")
	d := b.await(id, trimtab.RunBlocked)
	if got := b.broken(id); got != nil {
		t.Fatalf("%v", got)
	}
	manifest := filepath.Join(b.dir, "artifacts", stageOf(t, d, "sft").Outputs["model"].Hex())
	damaged(t, manifest, func() {
		if got := b.broken(id); !slices.Equal(got, []string{"models_in_store"}) {
			t.Errorf("a damaged model breaks %v", got)
		}
	})
	attempts, err := b.Store().Attempts(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attempts {
		c, ok, err := b.Store().LatestCheckpoint(b.ctx, a.ID)
		if err != nil || !ok {
			t.Fatalf("%s has no checkpoint: %v", a.Stage, err)
		}
		state := filepath.Join(b.dir, "states", checkpoint.AttemptName(a.ID), c.Digest.Hex())
		found := func(how string) {
			if got := b.broken(id); !slices.Equal(got, []string{"states_in_store"}) {
				t.Errorf("a %s checkpoint of the completed stage %s breaks %v", how, a.Stage, got)
			}
			if err := b.CheckNewestCheckpoint(b.ctx, a.ID); err == nil {
				t.Errorf("a %s checkpoint of the completed stage %s is sound", how, a.Stage)
			}
		}
		damaged(t, state, func() {
			found("damaged")
			b.status(a.ID, trimtab.AttemptFailed)
			if got := b.broken(id); !slices.Contains(got, "states_in_store") {
				t.Errorf("a checkpoint of the failed stage %s breaks %v", a.Stage, got)
			}
			b.status(a.ID, trimtab.AttemptCompleted)
		})
		moved(t, state, func() { found("removed") })
		b.older(a, c, func() {
			if got := b.broken(id); got != nil {
				t.Errorf("an older checkpoint of stage %s breaks %v", a.Stage, got)
			}
		})
		if err := b.CheckNewestCheckpoint(b.ctx, a.ID); err != nil {
			t.Error(err)
		}
	}
}

// moved takes a file away while f runs.
func moved(t *testing.T, file string, f func()) {
	t.Helper()
	if err := os.Rename(file, file+".aside"); err != nil {
		t.Fatal(err)
	}
	f()
	if err := os.Rename(file+".aside", file); err != nil {
		t.Fatal(err)
	}
}

// older damages the checkpoint before the newest while f runs, if there is one.
func (b *bench) older(a storage.Attempt, newest storage.Checkpoint, f func()) {
	b.t.Helper()
	all, err := b.Store().Checkpoints(b.ctx, a.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(all) < 2 || all[len(all)-2].Digest == newest.Digest {
		return
	}
	file := filepath.Join(b.dir, "states", checkpoint.AttemptName(a.ID), all[len(all)-2].Digest.Hex())
	if _, err := os.Stat(file); err == nil {
		damaged(b.t, file, f)
	}
}

// status gives an attempt a state.
func (b *bench) status(attempt int64, status trimtab.AttemptStatus) {
	b.t.Helper()
	if err := b.Store().SetAttemptStatus(b.ctx, attempt, status, nil, "tester"); err != nil {
		b.t.Fatal("attempt "+strconv.FormatInt(attempt, 10), err)
	}
}
