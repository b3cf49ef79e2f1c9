package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/storage"
)

// Check verifies a run: the invariants of its record, and the presence and
// digests of the files that the record refers to. It finds what a crash could
// have lost, duplicated or left half written.
//
// It needs no Temporal and may run while the run is at work. What is broken is
// in the findings; the error is only about being unable to look.
func (s *Service) Check(ctx context.Context, ref string) (storage.Run, []storage.Finding, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return run, nil, err
	}
	findings, err := s.store.CheckRun(ctx, run.ID)
	if err != nil {
		return run, nil, err
	}
	attempts, err := s.store.Attempts(ctx, run.ID)
	if err != nil {
		return run, nil, err
	}
	checkpoints, err := s.checkCheckpoints(ctx, attempts)
	return run, append(findings, s.checkModels(run, attempts), checkpoints), err
}

// checkModels reads every model that the run's plan refers to or that its
// attempts put out, each once, and compares the bytes with the digest.
func (s *Service) checkModels(run storage.Run, attempts []storage.Attempt) storage.Finding {
	f := storage.Finding{Name: "models_in_store",
		Must: "every model that the run reads or produces is in the store, undamaged"}
	// Reading a model hashes all of its bytes, so each one is read only once.
	seen := map[trimtab.Digest]bool{}
	check := func(user string, d trimtab.Digest) {
		if d == "" || seen[d] {
			return
		}
		seen[d] = true
		if _, err := s.files.Files(d); err != nil {
			f.Add(fmt.Sprintf("%s: %v", user, trimtab.AsError(err).Message))
		}
	}
	for _, st := range run.Plan.Stages {
		for _, in := range st.Inputs {
			check("stage "+st.Name, in.Model)
		}
	}
	for _, a := range attempts {
		for _, out := range a.Outputs {
			if out.Name == "model" {
				check(fmt.Sprintf("%s attempt %d", a.Stage, a.Number), out.Digest)
			}
		}
	}
	return f
}

// checkCheckpoints reads the newest checkpoint of every attempt. Retention
// keeps that one however the attempt ended.
func (s *Service) checkCheckpoints(ctx context.Context, attempts []storage.Attempt) (storage.Finding, error) {
	f := storage.Finding{Name: "states_in_store",
		Must: "the newest checkpoint of each attempt is in the store, undamaged, " +
			"or was reported as damaged and the one before it is intact"}
	for _, a := range attempts {
		broken, err := s.checkNewestCheckpoint(ctx, a)
		if err != nil {
			return f, err
		}
		if broken != nil {
			f.Add(fmt.Sprintf("%s attempt %d: %v", a.Stage, a.Number, trimtab.AsError(broken).Message))
		}
	}
	return f, nil
}

// CheckNewestCheckpoint reads the newest checkpoint of an attempt, given by its
// row ID, that was not reported as damaged. It returns nil if the checkpoint is
// intact or if the attempt has none.
func (s *Service) CheckNewestCheckpoint(ctx context.Context, attempt int64) error {
	a, err := s.store.Attempt(ctx, attempt)
	if err != nil {
		return err
	}
	broken, err := s.checkNewestCheckpoint(ctx, a)
	if err != nil {
		return err
	}
	return broken
}

// checkNewestCheckpoint returns in broken what is wrong with the newest
// checkpoint of an attempt; err is about being unable to look.
func (s *Service) checkNewestCheckpoint(ctx context.Context, a storage.Attempt) (broken, err error) {
	// Repeated only while a running attempt replaces its newest checkpoint.
	for {
		all, err := s.store.Checkpoints(ctx, a.ID)
		if err != nil {
			return nil, err
		}
		damaged, err := s.damagedCheckpoints(ctx, a)
		if err != nil {
			return nil, err
		}
		broken := s.firstBroken(all, damaged)
		if broken == nil {
			return nil, nil
		}
		// A running attempt may have written a newer checkpoint and removed this
		// file between the two reads. Only if the newest one is still the same is
		// the file really missing.
		if last, _, err := s.store.LatestCheckpoint(ctx, a.ID); err != nil || last == all[len(all)-1] {
			return broken, err
		}
	}
}

// firstBroken returns what is wrong with the newest checkpoint in all. A
// checkpoint that a worker reported as damaged is passed over in favour of the
// one before it, because the worker did the same.
func (s *Service) firstBroken(all []storage.Checkpoint, damaged []trimtab.Digest) error {
	for _, c := range slices.Backward(all) {
		err := s.files.CheckState(checkpoint.AttemptName(c.Attempt), c.Digest)
		if err == nil || !slices.Contains(damaged, c.Digest) {
			return err
		}
	}
	return nil
}

// damagedCheckpoints returns the checkpoints of an attempt that a worker found
// damaged when it wanted to resume from them.
func (s *Service) damagedCheckpoints(ctx context.Context, a storage.Attempt) ([]trimtab.Digest, error) {
	events, err := s.store.History(ctx, a.Run, a.Stage)
	if err != nil {
		return nil, err
	}
	var damaged []trimtab.Digest
	for _, e := range events {
		var body struct{ Digest trimtab.Digest }
		if e.Attempt != a.Number || e.Type != trimtab.EventCheckpointDamaged {
			continue
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return nil, err
		}
		damaged = append(damaged, body.Digest)
	}
	return damaged, nil
}
