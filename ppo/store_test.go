package ppo

import (
	"context"
	"errors"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train"
)

// A run that dies in its third iteration and is resumed from the store by the
// training loop ends in the bytes of one that did not.
func TestKilledAndResumed(t *testing.T) {
	whole := newToy(t, fullConfig(), toyInputs())
	ctx := context.Background()
	if _, err := (train.Loop{Trainer: whole}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	store, err := checkpoint.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var last trimtab.Digest
	save := func(_ context.Context, next int, state []tensor.NamedArray) (err error) {
		last, err = store.SaveState("1", next, state)
		return err
	}
	killed, kill := context.WithCancel(ctx)
	dying := train.Loop{Trainer: &mortal{newToy(t, fullConfig(), toyInputs()), 2, kill}, CheckpointEvery: 1,
		Checkpoint: save}
	if _, err := dying.Run(killed); !errors.Is(err, context.Canceled) {
		t.Fatalf("the dying run: %v", err)
	}
	fresh := newToy(t, fullConfig(), toyInputs())
	from, err := store.LoadState("1", last, fresh.State())
	if err != nil || from != 2 {
		t.Fatalf("loaded iteration %d: %v", from, err)
	}
	if _, err := (train.Loop{Trainer: fresh, From: from, Checkpoint: save}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	if !sameBits(stateOf(whole), stateOf(fresh)) || !sameBits(whole.Result().Slab, fresh.Result().Slab) {
		t.Error("the resumed run ends in other bytes")
	}
}

// mortal is a trainer whose context ends as iteration at begins its updates.
type mortal struct {
	*Trainer
	at   int
	kill func()
}

func (m *mortal) Step(ctx context.Context, step int) (trimtab.Report, error) {
	if step == m.at {
		m.in.Scorer = killer{m.in.Scorer, m.kill}
	}
	return m.Trainer.Step(ctx, step)
}

type killer struct {
	Scorer
	kill func()
}

func (k killer) Scores(seqs [][]int32) []float32 {
	k.kill()
	return k.Scorer.Scores(seqs)
}
