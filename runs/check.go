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

// Check looks whether anything of a run was lost, doubled or torn: at what
// must hold of its record, and at the files that the record names. It needs no
// Temporal, and may be asked while the run is at work. Errors are of the
// looking; what is broken is in the findings.
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
	states, err := s.checkCheckpoints(ctx, attempts)
	return run, append(findings, s.checkModels(run, attempts), states), err
}

// checkModels reads every model that the run's plan names or its attempts put out.
func (s *Service) checkModels(run storage.Run, attempts []storage.Attempt) storage.Finding {
	f := storage.Finding{Name: "models_in_store",
		Must: "every model that the run reads or makes is in the store, undamaged"}
	seen := map[trimtab.Digest]bool{}
	look := func(who string, d trimtab.Digest) {
		if d == "" || seen[d] {
			return
		}
		seen[d] = true
		if _, err := s.files.Files(d); err != nil {
			f.Add(fmt.Sprintf("%s: %v", who, trimtab.AsError(err).Message))
		}
	}
	for _, st := range run.Plan.Stages {
		for _, in := range st.Inputs {
			look("stage "+st.Name, in.Model)
		}
	}
	for _, a := range attempts {
		for _, out := range a.Outputs {
			if out.Name == "model" {
				look(fmt.Sprintf("%s attempt %d", a.Stage, a.Number), out.Digest)
			}
		}
	}
	return f
}

// checkCheckpoints reads the newest checkpoint of every attempt: retention keeps that one, whatever became of the
// attempt.
func (s *Service) checkCheckpoints(ctx context.Context, attempts []storage.Attempt) (storage.Finding, error) {
	f := storage.Finding{Name: "states_in_store",
		Must: "the newest checkpoint of each attempt is in the store, undamaged, " +
			"or was reported as damaged and the one before it is"}
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

// CheckNewestCheckpoint reads the newest checkpoint of an attempt, by its id, that was not reported as damaged, and
// says what is
// wrong with it. An attempt without any is sound.
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

// checkNewestCheckpoint says what is wrong with the newest checkpoint of an attempt; err is of the looking.
func (s *Service) checkNewestCheckpoint(ctx context.Context, a storage.Attempt) (broken, err error) {
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
		// The attempt may have gone on and removed the file meanwhile.
		if last, _, err := s.store.LatestCheckpoint(ctx, a.ID); err != nil || last == all[len(all)-1] {
			return broken, err
		}
	}
}

// firstBroken says what is wrong with the newest checkpoint that was not reported as damaged.
func (s *Service) firstBroken(all []storage.Checkpoint, damaged []trimtab.Digest) error {
	for _, c := range slices.Backward(all) {
		err := s.files.CheckState(checkpoint.AttemptName(c.Attempt), c.Digest)
		if err == nil || !slices.Contains(damaged, c.Digest) {
			return err
		}
	}
	return nil
}

// damagedCheckpoints are the checkpoints of an attempt that a worker reported as such.
func (s *Service) damagedCheckpoints(ctx context.Context, a storage.Attempt) ([]trimtab.Digest, error) {
	events, err := s.store.History(ctx, a.Run, a.Stage)
	if err != nil {
		return nil, err
	}
	var damaged []trimtab.Digest
	for _, e := range events {
		var body struct{ Digest trimtab.Digest }
		if e.Attempt != a.Number || e.Type != "checkpoint_damaged" {
			continue
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return nil, err
		}
		damaged = append(damaged, body.Digest)
	}
	return damaged, nil
}
