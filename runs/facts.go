package runs

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/papers"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// Facts gathers what the model card and the other papers of a model state: its
// lineage, files, evaluation and the agreement of its labellers. run is as in
// Lineage. The result is a function of the record and of the stored files, so
// the same model gives the same papers.
func (s *Service) Facts(ctx context.Context, model trimtab.Digest, run string) (*papers.Facts, error) {
	lineage, err := s.Lineage(ctx, model, run)
	if err != nil {
		return nil, err
	}
	node := lineage.Node(model)
	f := &papers.Facts{
		Lineage:    lineage,
		Name:       node.Name,
		Reward:     node.Model.Kind == "reward",
		Parameters: node.Model.Parameters,
	}
	f.SettingPath = recipes.SpecPath
	s.addFiles(f)
	// Without a run the evaluation is looked for in the run that the lineage follows.
	if run == "" {
		if producer := lineage.Producer(model); producer != nil {
			run = producer.Run
		}
	}
	if f.Evaluation, err = s.newestEvaluation(ctx, model, run); err != nil {
		return nil, err
	}
	f.Agreements, err = s.agreements(ctx, lineage)
	return f, err
}

// addFiles adds the shape of the model and its files with their digests, if
// they are in the store. A missing or damaged file is no error here: the papers
// then leave out what only the files say. For a reward model it also adds which
// files an export changes, because Transformers expects its value head in
// another form.
func (s *Service) addFiles(f *papers.Facts) {
	if c, ok := checkpoint.ModelConfig(s.files, f.Lineage.Model); ok {
		f.Shape = &papers.ModelShape{Layers: c.Layers, Width: c.Width, Heads: c.Heads, Context: c.Context,
			Vocab: c.Vocab}
		if family, ok := model.FamilyOf(c.Family); ok && c.Family != "" {
			f.Shape.Class = family.CausalLM
			if f.Reward {
				f.Shape.Class = family.Classifier
			}
		}
	}
	entries, err := checkpoint.Contents(s.files, f.Lineage.Model)
	if err != nil {
		return // the papers state that the files are missing
	}
	for _, e := range entries {
		f.Files = append(f.Files, papers.ModelFile(e))
	}
	if !f.Reward {
		return
	}
	if form, err := checkpoint.ExportForm(s.files, f.Lineage.Model); err == nil {
		f.Padded, f.Folded, f.KeepsBias = form.Padded, form.Folded, form.KeepsBias
		for _, e := range form.Changed {
			f.Exported = append(f.Exported, papers.ModelFile(e))
		}
	}
}

// newestEvaluation returns the newest evaluation of a model in the given run,
// or the first in any run if that one has none; nil if the model was never
// evaluated.
func (s *Service) newestEvaluation(ctx context.Context, model trimtab.Digest,
	run string) (*papers.EvaluationFacts, error) {
	all, err := s.store.Consumers(ctx, model, recipes.KindEvaluate)
	if err != nil {
		return nil, err
	}
	// Attempts that are running or failed have no report.
	all = slices.DeleteFunc(all, func(a storage.Attempt) bool { return len(a.Outputs) == 0 })
	if len(all) == 0 {
		return nil, nil
	}
	chosen := all[0]
	for _, a := range slices.Backward(all) {
		if a.Run == run {
			chosen = a
			break
		}
	}
	e := &papers.EvaluationFacts{
		Document: chosen.Outputs[0].Digest,
		Run:      chosen.Run,
		Stage:    chosen.Stage,
		Number:   chosen.Number,
		EndedAt:  chosen.EndedAt,
	}
	for _, in := range chosen.Inputs {
		if in.Digest == model {
			e.As = in.Name // the last one, if several stages produced the same model
		}
	}
	body, err := s.store.Document(ctx, e.Document)
	if err != nil {
		return nil, err
	}
	return e, json.Unmarshal(body, &e.Report)
}

// agreements returns, for each version of rankings in a lineage, how far its
// labellers agree.
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

// agreement returns the labellers' agreement in a dataset of rankings: what the
// collect stage that made it measured, else the share of the pairs that two
// labellers ordered and ordered alike. Items that were erased or are damaged
// make the figure unavailable, which is not an error.
func (s *Service) agreement(ctx context.Context, l papers.Lineage, n papers.Node) (papers.AgreementFacts, error) {
	a := papers.AgreementFacts{Dataset: n.ID}
	if producer := l.Producer(n.ID); producer != nil {
		share, ok := trimtab.Report{Metrics: producer.Metrics}.Value("agreement")
		if a.Share = share; ok {
			return a, nil
		}
	}
	items, err := s.store.Items(ctx, n.ID)
	if err != nil {
		// An unavailable database is an error; unreadable data is a fact to state.
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
