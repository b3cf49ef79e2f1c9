package runs

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/papers"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// Facts gathers what the papers of a model say. run is as in Lineage.
func (s *Service) Facts(ctx context.Context, model trimtab.Digest, run string) (*papers.Facts, error) {
	l, err := s.Lineage(ctx, model, run)
	if err != nil {
		return nil, err
	}
	n := l.Node(model)
	f := &papers.Facts{Lineage: l, Name: n.Name, Reward: n.Model.Kind == "reward", Parameters: n.Model.Parameters}
	s.addFiles(f)
	if run == "" {
		if a := l.Producer(model); a != nil {
			run = a.Run
		}
	}
	if f.Evaluation, err = s.newestEvaluation(ctx, model, run); err != nil {
		return nil, err
	}
	f.Agreements, err = s.agreements(ctx, l)
	return f, err
}

// addFiles tells of the model's files, where they are here.
func (s *Service) addFiles(f *papers.Facts) {
	if c, ok := checkpoint.ModelConfig(s.files, f.Lineage.Model); ok {
		f.Shape = &papers.ModelShape{Layers: c.Layers, Width: c.Width, Heads: c.Heads, Context: c.Context,
			Vocab: c.Vocab}
	}
	entries, err := checkpoint.Contents(s.files, f.Lineage.Model)
	if err != nil {
		return // the papers say that they are not here
	}
	for _, e := range entries {
		f.Files = append(f.Files, papers.ModelFile(e))
	}
	if !f.Reward {
		return
	}
	if x, err := checkpoint.ExportForm(s.files, f.Lineage.Model); err == nil {
		f.Padded, f.KeepsBias = x.Padded, x.KeepsBias
		for _, e := range x.Changed {
			f.Exported = append(f.Exported, papers.ModelFile(e))
		}
	}
}

// newestEvaluation finds the newest evaluation of a model in a run, or else the first in any.
func (s *Service) newestEvaluation(ctx context.Context, model trimtab.Digest,
	run string) (*papers.EvaluationFacts, error) {
	all, err := s.store.Consumers(ctx, model, recipes.KindEvaluate)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(a storage.Attempt) bool { return len(a.Outputs) == 0 })
	if len(all) == 0 {
		return nil, nil
	}
	a := all[0]
	for _, other := range slices.Backward(all) {
		if other.Run == run {
			a = other
			break
		}
	}
	e := &papers.EvaluationFacts{Document: a.Outputs[0].Digest, Run: a.Run, Stage: a.Stage, Number: a.Number,
		EndedAt: a.EndedAt}
	for _, in := range a.Inputs {
		if in.Digest == model {
			e.As = in.Name // the last, where several stages made the same
		}
	}
	body, err := s.store.Document(ctx, e.Document)
	if err != nil {
		return nil, err
	}
	return e, json.Unmarshal(body, &e.Report)
}

// agreements finds how far the labellers of each version of rankings agree.
func (s *Service) agreements(ctx context.Context, l papers.Lineage) ([]papers.AgreementFacts, error) {
	var list []papers.AgreementFacts
	for _, n := range l.Nodes {
		if n.Kind != papers.NodeDataset || n.Dataset.DataKind != trimtab.KindRankings {
			continue
		}
		a, err := s.agreement(ctx, l, n)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// agreement is what a collect stage measured, or else of the pairs that two labellers ordered.
func (s *Service) agreement(ctx context.Context, l papers.Lineage, n papers.Node) (papers.AgreementFacts, error) {
	a := papers.AgreementFacts{Dataset: n.ID}
	if maker := l.Producer(n.ID); maker != nil {
		share, ok := trimtab.Report{Metrics: maker.Metrics}.Value("agreement")
		if a.Share = share; ok {
			return a, nil
		}
	}
	items, err := s.store.Items(ctx, n.ID)
	if err != nil {
		switch trimtab.AsError(err).Class {
		case trimtab.Verification, trimtab.NotFound, trimtab.Conflict:
			a.Unreadable = true
			return a, nil
		}
		return a, err
	}
	var rankings []trimtab.Ranking
	for _, it := range items {
		if r, ok := it.(trimtab.Ranking); ok {
			rankings = append(rankings, r)
		}
	}
	total, _ := label.Agreements(rankings)
	a.Share, a.Common = total.Share(), total.Common
	return a, nil
}
