package activities

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/storage"
)

// Bare is a stage that was run in a bare loop; times are seconds.
type Bare struct {
	Made, Stepped, Finished float64
	Outputs                 []trimtab.Named
	Written                 float64 // what a checkpoint would have taken, the least of three
}

// Seconds are all of it.
func (b Bare) Seconds() float64 { return b.Made + b.Stepped + b.Finished }

// unfenced is the artifactStore of a stage that runs outside of any attempt:
// there is no lease to write under.
func unfenced(store *storage.Store, files *checkpoint.Store) recordStore {
	return recordStore{store, files, func(SegmentInput) artifactWriter { return store }}
}

// RunBare makes a stage as a worker does, steps through it and makes its
// outputs: no workflow, no heartbeat, no report and no checkpoint.
func (a *Activities) RunBare(ctx context.Context, in SegmentInput) (b Bare, err error) {
	a.artifacts = unfenced(a.store, a.files)
	runtime.GC() // what the stage before has left is none of this one's
	start := time.Now()
	j, err := a.newJob(ctx, in)
	if err != nil {
		return b, err
	}
	made := time.Now()
	for step := range j.Steps() {
		if _, err := j.Step(ctx, step); err != nil {
			return b, err
		}
	}
	stepped := time.Now()
	if b.Outputs, _, err = j.finish(ctx, in); err != nil {
		return b, err
	}
	b.Made, b.Stepped, b.Finished = made.Sub(start).Seconds(), stepped.Sub(made).Seconds(), time.Since(stepped).Seconds()
	for try := range 3 {
		start := time.Now()
		digest, err := a.files.SaveState("bare", try, j.State())
		if took := time.Since(start).Seconds(); try == 0 || took < b.Written {
			b.Written = took
		}
		if err := errors.Join(err, a.files.RemoveState("bare", digest)); err != nil {
			return b, err
		}
	}
	return b, nil
}
