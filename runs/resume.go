package runs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// findCheckpoint returns the checkpoint that a request refers to. "latest" is
// the newest of the stage; a digest may be abbreviated and lack its sha256:
// prefix.
func (s *Service) findCheckpoint(ctx context.Context, run storage.Run, r RerunRequest) (storage.Checkpoint, error) {
	prefix := strings.TrimPrefix(r.FromCheckpoint, "latest")
	if prefix != "" && !strings.HasPrefix(prefix, "sha256:") {
		prefix = "sha256:" + prefix
	}
	return s.store.FindCheckpoint(ctx, run.ID, r.Stage, prefix)
}

// checkContinuation rejects a checkpoint that the stage cannot resume from,
// because a step would mean something else from there on than it did before:
// the attempt that wrote it had a config that differs in what determines a
// step, read other inputs, or ran another version of the stage's code. All of
// these are Usage "checkpoint_differs".
func (s *Service) checkContinuation(ctx context.Context, p rerunPlan) error {
	st := p.next.Stages[p.stage]
	writer, err := s.store.Attempt(ctx, p.checkpoint.Attempt)
	if err != nil {
		return err
	}
	oldConfig, err := s.config(ctx, writer.Config, nil)
	if err != nil {
		return err
	}
	newConfig, err := s.config(ctx, st.Config, p.docs)
	if err != nil {
		return err
	}
	atEnd := writer.Steps > 0 && p.checkpoint.Step >= writer.Steps
	if err := recipes.CanContinue(st.Kind, st.Name, oldConfig, newConfig, atEnd); err != nil {
		return err
	}
	if err := p.checkSameInputs(st, writer); err != nil {
		return err
	}
	return p.checkSameCode(st, writer)
}

// config parses the config document with digest d. planned are documents of a
// plan that is not stored yet, which are searched first.
func (s *Service) config(ctx context.Context, d trimtab.Digest, planned []recipes.Document) (recipes.Config, error) {
	if i := slices.IndexFunc(planned, func(doc recipes.Document) bool { return doc.Digest == d }); i >= 0 {
		return recipes.ParseDocument(planned[i].Body)
	}
	body, err := s.store.Document(ctx, d)
	if err != nil {
		return nil, err
	}
	return recipes.ParseDocument(body)
}

// checkSameInputs rejects inputs that differ from those of the attempt that
// wrote the checkpoint.
func (p rerunPlan) checkSameInputs(st trimtab.PlannedStage, writer storage.Attempt) error {
	var differences []string
	for _, in := range st.Inputs {
		digest := in.Dataset + in.Model // at most one of them is set
		if in.Stage != "" {
			digest = outputOf(newestAttemptOf(p.attempts, in.Stage), in.Output)
		}
		i := slices.IndexFunc(writer.Inputs, func(n trimtab.Named) bool { return n.Name == in.Name })
		switch {
		case i < 0:
			differences = append(differences, fmt.Sprintf("%s is new since the checkpoint was made", in.Name))
		case writer.Inputs[i].Digest != digest:
			differences = append(differences, fmt.Sprintf("%s was %s when the checkpoint was made and is %s",
				in.Name, writer.Inputs[i].Digest.Short(), digest.Short()))
		}
	}
	if len(differences) == 0 && len(writer.Inputs) != len(st.Inputs) {
		differences = append(differences, "it has fewer inputs than when the checkpoint was made")
	}
	if len(differences) == 0 {
		return nil
	}
	return trimtab.NewError(trimtab.Usage, "checkpoint_differs",
		"leave out --from-checkpoint to run the stage from the beginning, or give it the same inputs as before",
		"stage %s cannot resume from the checkpoint: %s", st.Name, strings.Join(differences, "; "))
}

// outputOf returns the digest of an attempt's output of that name; it is empty
// if there is none or if a is nil.
func outputOf(a *storage.Attempt, name string) trimtab.Digest {
	if a == nil {
		return ""
	}
	i := slices.IndexFunc(a.Outputs, func(n trimtab.Named) bool { return n.Name == name })
	if i < 0 {
		return ""
	}
	return a.Outputs[i].Digest
}

// checkSameCode rejects a checkpoint that another version of the stage's code
// wrote. The version is not recorded by itself, but it is part of the cache
// key, and everything else in the key is known: if the key computed with this
// program's version is not the attempt's, the versions differ.
func (p rerunPlan) checkSameCode(st trimtab.PlannedStage, writer storage.Attempt) error {
	st.Config = writer.Config
	key, err := recipes.CacheKey(st, writer.Inputs, p.next.Seed, p.next.Numerics)
	// An attempt without a key is one whose outputs are never reused; its version is
	// not known, and the checkpoint is accepted.
	if err != nil || writer.CacheKey == "" || writer.CacheKey == key {
		return err
	}
	if writer.FromCheckpoint != "" {
		if key, err = recipes.ContinuedKey(key, writer.FromCheckpoint); err != nil || writer.CacheKey == key {
			return err
		}
	}
	return trimtab.NewError(trimtab.Usage, "checkpoint_differs",
		"leave out --from-checkpoint to run the stage from the beginning",
		"stage %s cannot resume from the checkpoint: this program has version %d of the stage's code, and another "+
			"version made the checkpoint", st.Name, st.Version)
}
