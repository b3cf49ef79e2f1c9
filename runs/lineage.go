package runs

import (
	"context"
	"fmt"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/papers"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// Lineage is everything that a model came from. Several attempts may have made
// the same bytes: of a run that is named (its id), its own is followed, else
// the oldest.
func (s *Service) Lineage(ctx context.Context, model trimtab.Digest, run string) (papers.Lineage, error) {
	w := &lineageWalk{service: s, ctx: ctx, runs: map[string]storage.Run{}}
	w.lineage = papers.Lineage{Schema: papers.LineageSchema, Model: model, Nodes: []papers.Node{},
		Edges: []papers.Edge{}}
	if err := w.addModel(model, run); err != nil {
		return w.lineage, err
	}
	for len(w.queue) > 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		if err := next(); err != nil {
			return w.lineage, err
		}
	}
	w.lineage.Sort()
	return w.lineage, nil
}

// lineageWalk goes back from a model, nearest first.
type lineageWalk struct {
	service *Service
	ctx     context.Context
	lineage papers.Lineage
	queue   []func() error
	runs    map[string]storage.Run
}

func (w *lineageWalk) enqueue(do func() error) { w.queue = append(w.queue, do) }

// addModel adds a model, as it was made in a run if it was made there.
func (w *lineageWalk) addModel(d trimtab.Digest, run string) error {
	if w.lineage.Node(d) != nil {
		return nil
	}
	names, err := w.service.store.NamesOf(w.ctx, d)
	if err != nil {
		return err
	}
	makers, err := w.service.store.Producers(w.ctx, d)
	if err != nil {
		return err
	}
	m := &papers.ModelFacts{Names: []string{}}
	for _, n := range names {
		m.Names, m.Kind, m.Parameters = append(m.Names, n.Name), n.Kind, n.Parameters
		if len(makers) == 0 && n.Run == "" && m.ImportedAt == nil {
			at := n.CreatedAt
			m.ImportedBy, m.ImportedAt = n.Actor, &at
		}
	}
	_, here := checkpoint.ModelConfig(w.service.files, d)
	m.Absent = !here
	node := papers.Node{ID: d, Kind: papers.NodeModel, Model: m}
	if len(m.Names) > 0 {
		node.Name = m.Names[0]
	}
	if maker, others := chooseProducer(makers, run); maker != nil {
		node.Name, m.AlsoMadeBy = maker.Run+"/"+maker.Stage, others
		w.lineage.Add(node)
		if err := w.addAttempt(d, papers.RoleMadeBy, *maker); err != nil {
			return err
		}
	} else {
		w.lineage.Add(node)
	}
	return w.addTokenizer(d)
}

// chooseProducer picks the attempt to follow: the newest of the run, else the oldest that did the work, else the
// oldest. others
// counts further ones that did the work.
func chooseProducer(makers []storage.Attempt, run string) (maker *storage.Attempt, others int) {
	for i, a := range makers {
		if a.ReusedFrom == 0 {
			others++
		}
		switch {
		case a.Run == run, maker == nil, maker.Run != run && maker.ReusedFrom != 0 && a.ReusedFrom == 0:
			maker = &makers[i]
		}
	}
	return maker, max(0, others-1)
}

// addTokenizer adds the tokenizer of a model and, if it was trained, by whom.
func (w *lineageWalk) addTokenizer(model trimtab.Digest) error {
	d, ok := checkpoint.TokenizerDigest(w.service.files, model)
	if !ok {
		return nil
	}
	w.lineage.Add(papers.Node{ID: d, Kind: papers.NodeTokenizer, Name: "tokenizer"})
	w.lineage.Link(papers.Edge{From: model, To: d, Role: papers.RoleTokenizer})
	maker := w.lineage.Producer(model)
	if maker == nil || maker.StageKind != recipes.KindPretrain {
		return nil
	}
	config, err := w.config(maker.Config)
	if c, ok := config.(*recipes.Pretrain); err == nil && ok && c.Tokenizer != "gpt2" && len(w.lineage.From(d)) == 0 {
		w.lineage.Link(papers.Edge{From: d, To: papers.IDOf(papers.NodeAttempt, maker.Name()),
			Role: papers.RoleTrainedBy})
	}
	return err
}

// config reads a stage's config; it is nil for one that the record does not have.
func (w *lineageWalk) config(d trimtab.Digest) (recipes.Config, error) {
	body, err := w.service.store.Document(w.ctx, d)
	if err != nil {
		if trimtab.AsError(err).Class == trimtab.NotFound {
			err = nil
		}
		return nil, err
	}
	c, err := recipes.ParseDocument(body)
	if err != nil {
		return nil, nil // of another version of the program
	}
	return c, nil
}

// addAttempt links a node to an attempt, and adds that with all it read if it is new.
func (w *lineageWalk) addAttempt(from trimtab.Digest, role string, a storage.Attempt) error {
	run, err := w.run(a.Run)
	if err != nil {
		return err
	}
	plan, err := w.service.store.PlanAt(w.ctx, a)
	if err != nil {
		return err
	}
	t := papers.AttemptFacts{Run: a.Run, Stage: a.Stage, StageKind: a.Kind, Number: a.Number, Status: string(a.Status),
		Actor: a.Actor, Reason: a.Reason,
		CreatedAt: a.CreatedAt, StartedAt: a.StartedAt, EndedAt: a.EndedAt, Steps: a.Steps, Seed: run.Seed,
		Numerics: plan.Numerics, Build: a.BuildID,
		Config: a.Config, CacheKey: a.CacheKey, FromCheckpoint: a.FromCheckpoint, Inputs: a.Inputs, Outputs: a.Outputs,
		Metrics: a.Metrics}
	if i := stageIndex(plan, a.Stage); i >= 0 {
		t.StageVersion = plan.Stages[i].Version
	}
	id := papers.IDOf(papers.NodeAttempt, t.Name())
	w.lineage.Link(papers.Edge{From: from, To: id, Role: role})
	if w.lineage.Node(id) != nil {
		return nil
	}
	decided, err := w.service.store.Decisions(w.ctx, a)
	if err != nil {
		return err
	}
	for _, d := range decided {
		t.Decisions = append(t.Decisions, papers.DecisionFacts(d))
	}
	w.lineage.Add(papers.Node{ID: id, Kind: papers.NodeAttempt, Name: t.Name(), Attempt: &t})
	if a.ReusedFrom != 0 { // it reads what the other read
		old, err := w.service.store.Attempt(w.ctx, a.ReusedFrom)
		if err != nil {
			return err
		}
		if err := w.addAttempt(id, papers.RoleReused, old); err != nil {
			return err
		}
		w.enqueue(func() error { return w.addRun(id, papers.RoleRun, a.Run) })
		return nil
	}
	w.enqueue(func() error { return w.addInputs(id, a) })
	return nil
}

// addInputs adds what an attempt read.
func (w *lineageWalk) addInputs(id trimtab.Digest, a storage.Attempt) error {
	if err := w.addRun(id, papers.RoleRun, a.Run); err != nil {
		return err
	}
	if err := w.addConfig(id, a); err != nil {
		return err
	}
	if err := w.linkContinued(id, a); err != nil {
		return err
	}
	named := map[string]trimtab.Digest{}
	for _, in := range a.Inputs {
		named[in.Name] = in.Digest
		if err := w.addInput(id, a, in); err != nil {
			return err
		}
	}
	if a.Kind == recipes.KindPPO && named["reference"] == "" && named["model"] != "" {
		w.lineage.Link(papers.Edge{From: id, To: named["model"], Role: papers.RoleReference})
	}
	return nil
}

func (w *lineageWalk) addConfig(id trimtab.Digest, a storage.Attempt) error {
	body, err := w.service.store.Document(w.ctx, a.Config)
	if err != nil && trimtab.AsError(err).Class == trimtab.NotFound {
		return nil
	} else if err != nil {
		return err
	}
	w.lineage.Add(papers.Node{ID: a.Config, Kind: papers.NodeConfig, Name: "config of " + a.Stage, Config: body})
	w.lineage.Link(papers.Edge{From: id, To: a.Config, Role: papers.RoleConfig})
	return nil
}

// checkpointRef links an attempt to the one whose checkpoint it began from.
func (w *lineageWalk) linkContinued(id trimtab.Digest, a storage.Attempt) error {
	if a.FromCheckpoint == "" {
		return nil
	}
	maker, err := w.service.store.CheckpointProducer(w.ctx, a.Run, a.Stage, a.FromCheckpoint)
	if err != nil || maker == 0 || maker == a.ID {
		return err
	}
	old, err := w.service.store.Attempt(w.ctx, maker)
	if err != nil {
		return err
	}
	return w.addAttempt(id, papers.RoleContinued, old)
}

// addInput adds one thing that an attempt read: a dataset version or a model.
func (w *lineageWalk) addInput(id trimtab.Digest, a storage.Attempt, in trimtab.Named) error {
	w.lineage.Link(papers.Edge{From: id, To: in.Digest, Role: in.Name})
	if w.lineage.Node(in.Digest) != nil {
		return nil
	}
	o, is, err := w.service.store.DatasetOrigin(w.ctx, in.Digest)
	if err != nil {
		return err
	}
	if !is {
		return w.addModel(in.Digest, a.Run)
	}
	return w.addDataset(o, a.Run)
}

// addDataset adds a dataset version with its makers.
func (w *lineageWalk) addDataset(o storage.DatasetOrigin, run string) error {
	makers, err := w.service.store.Producers(w.ctx, o.Digest)
	if err != nil {
		return err
	}
	erased, err := w.service.store.ErasedItems(w.ctx, o.Digest)
	if err != nil {
		return err
	}
	d := &papers.DatasetFacts{DataKind: o.Kind, Items: o.Items, HeldOut: o.HeldOut, Pairs: o.Pairs, Erased: len(erased),
		Names: []papers.FrozenAs{}}
	for _, n := range o.Names {
		d.Names = append(d.Names, papers.FrozenAs{Dataset: n.Dataset, Actor: n.Actor, FrozenAt: n.CreatedAt})
	}
	node := papers.Node{ID: o.Digest, Kind: papers.NodeDataset, Dataset: d}
	if len(d.Names) > 0 {
		node.Name = d.Names[0].Dataset
	}
	maker, _ := chooseProducer(makers, run)
	switch {
	case maker != nil:
		if d.Simulated, err = w.simulated(*maker); err != nil {
			return err
		}
	default:
		d.Generated, err = w.generated(run, d.Names)
		if err != nil {
			return err
		}
	}
	w.lineage.Add(node)
	if maker != nil {
		if err := w.addAttempt(o.Digest, papers.RoleCollectedBy, *maker); err != nil {
			return err
		}
	}
	w.addContributors(o)
	for _, sampled := range o.Samplers {
		w.lineage.Link(papers.Edge{From: o.Digest, To: sampled.Model, Role: papers.RoleSampledBy,
			Count: sampled.Responses})
		w.enqueue(func() error { return w.addModel(sampled.Model, run) })
	}
	if maker == nil {
		w.addImports(o)
	}
	return nil
}

// simulated reports whether a stage had its labels from labellers that the program plays.
func (w *lineageWalk) simulated(a storage.Attempt) (bool, error) {
	config, err := w.config(a.Config)
	c, ok := config.(*recipes.Collect)
	return ok && c.Labellers == "simulated", err
}

// generated reports whether the run's spec had the program make this dataset.
func (w *lineageWalk) generated(run string, names []papers.FrozenAs) (bool, error) {
	r, err := w.run(run)
	if err != nil {
		return false, err
	}
	spec, err := recipes.Parse(r.Spec)
	if err != nil || spec.Starter == nil { // a spec of another version of the program says nothing
		return false, nil
	}
	for _, n := range names {
		if strings.HasPrefix(n.Dataset, fmt.Sprintf("starter/%d/", spec.Starter.World)) {
			return true, nil
		}
	}
	return false, nil
}

// addContributors adds who made the items of a version.
func (w *lineageWalk) addContributors(o storage.DatasetOrigin) {
	for _, l := range o.Labellers {
		w.addContributor(papers.NodeLabeller, l.Labeller,
			papers.Edge{From: o.Digest, Role: papers.RoleRankedBy, Count: l.Rankings, HeldOut: l.HeldOut,
				Guideline: l.Guideline})
	}
	for _, d := range o.Demonstrators {
		w.addContributor(papers.NodeDemonstrator, d.Demonstrator,
			papers.Edge{From: o.Digest, Role: papers.RoleWrittenBy, Count: d.Items, HeldOut: d.HeldOut})
	}
}

func (w *lineageWalk) addContributor(kind, name string, e papers.Edge) {
	e.To = papers.IDOf(kind, name)
	w.lineage.Add(papers.Node{ID: e.To, Kind: kind, Name: name})
	w.lineage.Link(e)
}

// addImports adds how the items of a version came into its datasets.
func (w *lineageWalk) addImports(o storage.DatasetOrigin) {
	for _, e := range o.Imports {
		name := fmt.Sprintf("%s#%d", e.Dataset, e.Sequence)
		id := papers.IDOf(papers.NodeImport, name)
		files := []papers.ImportFile{}
		for _, f := range e.Files {
			files = append(files, papers.ImportFile(f))
		}
		w.lineage.Add(papers.Node{ID: id, Kind: papers.NodeImport, Name: name,
			Import: &papers.ImportFacts{Dataset: e.Dataset, Sequence: e.Sequence,
				Actor: e.Actor, At: e.At, Given: e.Given, Added: e.Added, Root: e.Root, Files: files}})
		w.lineage.Link(papers.Edge{From: o.Digest, To: id, Role: papers.RoleImported, Count: e.Items})
	}
}

// run reads a run once.
func (w *lineageWalk) run(id string) (storage.Run, error) {
	if r, ok := w.runs[id]; ok {
		return r, nil
	}
	r, err := w.service.store.Run(w.ctx, id)
	w.runs[id] = r
	return r, err
}

// addRun adds a run with the runs that it reruns.
func (w *lineageWalk) addRun(from trimtab.Digest, role, id string) error {
	r, err := w.run(id)
	if err != nil {
		return err
	}
	node := papers.Node{ID: papers.IDOf(papers.NodeRun, id), Kind: papers.NodeRun, Name: r.Name,
		Run: &papers.RunFacts{ID: r.ID, Actor: r.Actor, Reason: r.Reason,
			SpecDigest: r.SpecDigest, Origin: r.Origin, CreatedAt: r.CreatedAt}}
	w.lineage.Link(papers.Edge{From: from, To: node.ID, Role: role})
	if !w.lineage.Add(node) || r.Origin == "" {
		return nil
	}
	return w.addRun(node.ID, papers.RoleReruns, r.Origin)
}
