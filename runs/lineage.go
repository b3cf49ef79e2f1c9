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

// Lineage returns the graph of everything that a model was derived from:
// attempts, their configs, datasets and base models, the people who labelled or
// wrote the data, imports, and the runs.
//
// Several attempts may have produced the same bytes. If run, a run's full ID,
// is given and produced the model, its newest attempt is followed, otherwise
// the oldest attempt that did the work. The nodes are sorted, so that the
// result does not depend on the order of the walk.
func (s *Service) Lineage(ctx context.Context, model trimtab.Digest, run string) (papers.Lineage, error) {
	w := &lineageWalk{service: s, ctx: ctx, runs: map[string]storage.Run{}}
	w.lineage = papers.Lineage{Schema: papers.LineageSchema, Model: model, Nodes: []papers.Node{},
		Edges: []papers.Edge{}}
	if err := w.addModel(model, run); err != nil {
		return w.lineage, err
	}
	// Steps enqueue further steps. The walk ends because every node is expanded
	// only once.
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

// lineageWalk walks backwards from a model through the record, breadth first.
// It is used by one goroutine for one graph.
type lineageWalk struct {
	service *Service
	// Of the call to Lineage, which every step of the walk needs.
	ctx     context.Context
	lineage papers.Lineage
	// Steps still to do, in order.
	queue []func() error
	// Runs that were read already, by ID.
	runs map[string]storage.Run
}

// enqueue adds a step to the walk. The nodes nearest to the model are added first.
func (w *lineageWalk) enqueue(do func() error) { w.queue = append(w.queue, do) }

// addModel adds a model, its tokenizer and the attempt that produced it. run is
// preferred as the producer's run. A model that is in the graph already is not
// followed again, which also ends the walk.
func (w *lineageWalk) addModel(d trimtab.Digest, run string) error {
	if w.lineage.Node(d) != nil {
		return nil
	}
	names, err := w.service.store.NamesOf(w.ctx, d)
	if err != nil {
		return err
	}
	producers, err := w.service.store.Producers(w.ctx, d)
	if err != nil {
		return err
	}
	m := &papers.ModelFacts{Names: []string{}}
	for _, n := range names {
		m.Names, m.Kind, m.Parameters = append(m.Names, n.Name), n.Kind, n.Parameters
		// Of a model that was imported under several names, the first import counts.
		if len(producers) == 0 && n.Run == "" && m.ImportedAt == nil {
			at := n.CreatedAt
			m.ImportedBy, m.ImportedAt = n.Actor, &at
		}
	}
	_, present := checkpoint.ModelConfig(w.service.files, d)
	m.Absent = !present
	node := papers.Node{ID: d, Kind: papers.NodeModel, Model: m}
	if len(m.Names) > 0 {
		node.Name = m.Names[0]
	}
	// The node is added before its producer is followed, so that a walk that comes
	// back to it stops.
	if producer, others := chooseProducer(producers, run); producer != nil {
		node.Name, m.AlsoMadeBy = producer.Run+"/"+producer.Stage, others
		w.lineage.Add(node)
		if err := w.addAttempt(d, papers.RoleMadeBy, *producer); err != nil {
			return err
		}
	} else {
		w.lineage.Add(node)
	}
	return w.addTokenizer(d)
}

// chooseProducer picks the attempt to follow among those with the same output,
// oldest first: the newest of the given run, else the oldest that did the work
// itself, else the oldest. others counts the further attempts that did the
// work.
func chooseProducer(producers []storage.Attempt, run string) (producer *storage.Attempt, others int) {
	for i, a := range producers {
		if a.ReusedFrom == 0 {
			others++
		}
		switch {
		case a.Run == run, producer == nil, producer.Run != run && producer.ReusedFrom != 0 && a.ReusedFrom == 0:
			producer = &producers[i]
		}
	}
	return producer, max(0, others-1)
}

// addTokenizer adds the tokenizer of a model. If the pretrain stage that
// produced the model also trained the tokenizer, the two are linked; later
// stages only pass the tokenizer on.
func (w *lineageWalk) addTokenizer(model trimtab.Digest) error {
	d, ok := checkpoint.TokenizerDigest(w.service.files, model)
	if !ok {
		return nil
	}
	w.lineage.Add(papers.Node{ID: d, Kind: papers.NodeTokenizer, Name: "tokenizer"})
	w.lineage.Link(papers.Edge{From: model, To: d, Role: papers.RoleTokenizer})
	producer := w.lineage.Producer(model)
	if producer == nil || producer.StageKind != recipes.KindPretrain {
		return nil
	}
	config, err := w.config(producer.Config)
	// GPT-2's tokenizer is built in. Of several models with the same trained
	// tokenizer, the first one that is walked names its origin.
	if c, ok := config.(*recipes.Pretrain); err == nil && ok && c.Tokenizer != "gpt2" && len(w.lineage.From(d)) == 0 {
		w.lineage.Link(papers.Edge{From: d, To: papers.IDOf(papers.NodeAttempt, producer.Name()),
			Role: papers.RoleTrainedBy})
	}
	return err
}

// config reads a stage's config. It is nil if the record has lost it or if this
// program cannot parse it; the lineage then does without what it would say.
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
		return nil, nil // written by another version of the program
	}
	return c, nil
}

// addAttempt links a node to an attempt in the given role. An attempt that is
// new to the graph is added with its decisions, and what it read is enqueued. A
// reused attempt read nothing itself, so the one that did the work is followed.
func (w *lineageWalk) addAttempt(from trimtab.Digest, role string, a storage.Attempt) error {
	run, err := w.run(a.Run)
	if err != nil {
		return err
	}
	plan, err := w.service.store.PlanAt(w.ctx, a)
	if err != nil {
		return err
	}
	facts := attemptFacts(a, run, plan)
	id := papers.IDOf(papers.NodeAttempt, facts.Name())
	// The link is added even if the attempt is in the graph already: an attempt may
	// have several roles, such as producing a model and training a tokenizer.
	w.lineage.Link(papers.Edge{From: from, To: id, Role: role})
	if w.lineage.Node(id) != nil {
		return nil
	}
	decisions, err := w.service.store.Decisions(w.ctx, a)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		facts.Decisions = append(facts.Decisions, papers.DecisionFacts(d))
	}
	w.lineage.Add(papers.Node{ID: id, Kind: papers.NodeAttempt, Name: facts.Name(), Attempt: &facts})
	if a.ReusedFrom != 0 {
		producer, err := w.service.store.Attempt(w.ctx, a.ReusedFrom)
		if err != nil {
			return err
		}
		if err := w.addAttempt(id, papers.RoleReused, producer); err != nil {
			return err
		}
		w.enqueue(func() error { return w.addRun(id, papers.RoleRun, a.Run) })
		return nil
	}
	w.enqueue(func() error { return w.addInputs(id, a) })
	return nil
}

// attemptFacts returns what the papers state about an attempt, without the
// decisions. The seed and the numerics are those of its run and of the plan that
// it was made under. This is the only place that converts between the two types.
func attemptFacts(a storage.Attempt, run storage.Run, plan trimtab.Plan) papers.AttemptFacts {
	facts := papers.AttemptFacts{
		Run:            a.Run,
		Stage:          a.Stage,
		StageKind:      a.Kind,
		Number:         a.Number,
		Status:         string(a.Status),
		Actor:          a.Actor,
		Reason:         a.Reason,
		CreatedAt:      a.CreatedAt,
		StartedAt:      a.StartedAt,
		EndedAt:        a.EndedAt,
		Steps:          a.Steps,
		Seed:           run.Seed,
		Numerics:       plan.Numerics,
		Build:          a.BuildID,
		Config:         a.Config,
		CacheKey:       a.CacheKey,
		FromCheckpoint: a.FromCheckpoint,
		Inputs:         a.Inputs,
		Outputs:        a.Outputs,
		Metrics:        a.Metrics,
	}
	if i := stageIndex(plan, a.Stage); i >= 0 {
		facts.StageVersion = plan.Stages[i].Version
	}
	return facts
}

// addInputs adds the run and the config of an attempt, the attempt that it
// resumed from, and every dataset and model that it read. A ppo stage without
// an explicit reference model uses its initial policy as the KL reference,
// which is linked in that role as well.
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

// addConfig adds the config document of an attempt, if the record still has it.
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

// linkContinued links an attempt to the earlier one whose checkpoint it resumed
// from. An attempt that resumed from its own checkpoint after a crash has no
// link.
func (w *lineageWalk) linkContinued(id trimtab.Digest, a storage.Attempt) error {
	if a.FromCheckpoint == "" {
		return nil
	}
	earlier, err := w.service.store.CheckpointProducer(w.ctx, a.Run, a.Stage, a.FromCheckpoint)
	if err != nil || earlier == 0 || earlier == a.ID {
		return err
	}
	producer, err := w.service.store.Attempt(w.ctx, earlier)
	if err != nil {
		return err
	}
	return w.addAttempt(id, papers.RoleContinued, producer)
}

// addInput adds one input of an attempt: a dataset version or a model.
func (w *lineageWalk) addInput(id trimtab.Digest, a storage.Attempt, in trimtab.Named) error {
	// Two inputs may be the same model, which is then linked twice and added once.
	w.lineage.Link(papers.Edge{From: id, To: in.Digest, Role: in.Name})
	if w.lineage.Node(in.Digest) != nil {
		return nil
	}
	origin, isDataset, err := w.service.store.DatasetOrigin(w.ctx, in.Digest)
	if err != nil {
		return err
	}
	if !isDataset {
		return w.addModel(in.Digest, a.Run)
	}
	return w.addDataset(origin, a.Run)
}

// addDataset adds a dataset version, the people whose work it holds, the models
// that its responses were sampled from, and either the attempt that collected
// it or the imports that brought its items in.
func (w *lineageWalk) addDataset(o storage.DatasetOrigin, run string) error {
	producers, err := w.service.store.Producers(w.ctx, o.Digest)
	if err != nil {
		return err
	}
	erased, err := w.service.store.ErasedItems(w.ctx, o.Digest)
	if err != nil {
		return err
	}
	d := &papers.DatasetFacts{
		DataKind: o.Kind,
		Items:    o.Items,
		HeldOut:  o.HeldOut,
		Pairs:    o.Pairs,
		Erased:   len(erased),
		Names:    []papers.FrozenAs{},
	}
	for _, n := range o.Names {
		d.Names = append(d.Names, papers.FrozenAs{Dataset: n.Dataset, Actor: n.Actor, FrozenAt: n.CreatedAt})
	}
	node := papers.Node{ID: o.Digest, Kind: papers.NodeDataset, Dataset: d}
	if len(d.Names) > 0 {
		node.Name = d.Names[0].Dataset
	}
	producer, _ := chooseProducer(producers, run)
	if producer != nil {
		d.Simulated, err = w.simulated(*producer)
	} else {
		d.Generated, err = w.generated(run, d.Names)
	}
	if err != nil {
		return err
	}
	w.lineage.Add(node)
	if producer != nil {
		if err := w.addAttempt(o.Digest, papers.RoleCollectedBy, *producer); err != nil {
			return err
		}
	}
	w.addContributors(o)
	for _, sampled := range o.Samplers {
		w.lineage.Link(papers.Edge{From: o.Digest, To: sampled.Model, Role: papers.RoleSampledBy,
			Count: sampled.Responses})
		w.enqueue(func() error { return w.addModel(sampled.Model, run) })
	}
	// A collected dataset was frozen by its stage and has no imports.
	if producer == nil {
		w.addImports(o)
	}
	return nil
}

// simulated reports whether a collect stage used simulated labellers. The
// papers must say so, because such rankings are no human preferences.
func (w *lineageWalk) simulated(a storage.Attempt) (bool, error) {
	config, err := w.config(a.Config)
	c, ok := config.(*recipes.Collect)
	return ok && c.Labellers == "simulated", err
}

// generated reports whether a dataset was generated from the starter world of
// the run's spec rather than imported. It is recognized by the name that
// starterSets gives such a dataset.
func (w *lineageWalk) generated(run string, names []papers.FrozenAs) (bool, error) {
	r, err := w.run(run)
	if err != nil {
		return false, err
	}
	spec, err := recipes.Parse(r.Spec)
	if err != nil || spec.Starter == nil { // a spec that this program cannot parse is no evidence
		return false, nil
	}
	for _, n := range names {
		if strings.HasPrefix(n.Dataset, fmt.Sprintf("starter/%d/", spec.Starter.World)) {
			return true, nil
		}
	}
	return false, nil
}

// addContributors adds the labellers and demonstrators whose items a version
// holds, each linked with the number of their items.
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

// addContributor adds one person and links the dataset of e to them.
func (w *lineageWalk) addContributor(kind, name string, e papers.Edge) {
	e.To = papers.IDOf(kind, name)
	w.lineage.Add(papers.Node{ID: e.To, Kind: kind, Name: name})
	w.lineage.Link(e)
}

// addImports adds the imports through which a version's items came into its
// datasets, with the files where they are known.
func (w *lineageWalk) addImports(o storage.DatasetOrigin) {
	for _, e := range o.Imports {
		// The number of the event in the dataset's stream makes the name unique.
		name := fmt.Sprintf("%s#%d", e.Dataset, e.Sequence)
		id := papers.IDOf(papers.NodeImport, name)
		files := []papers.ImportFile{}
		for _, f := range e.Files {
			files = append(files, papers.ImportFile(f))
		}
		w.lineage.Add(papers.Node{ID: id, Kind: papers.NodeImport, Name: name, Import: &papers.ImportFacts{
			Dataset:  e.Dataset,
			Sequence: e.Sequence,
			Actor:    e.Actor,
			At:       e.At,
			Given:    e.Given,
			Added:    e.Added,
			Root:     e.Root,
			Files:    files,
		}})
		w.lineage.Link(papers.Edge{From: o.Digest, To: id, Role: papers.RoleImported, Count: e.Items})
	}
}

// run reads a run, each only once.
func (w *lineageWalk) run(id string) (storage.Run, error) {
	if r, ok := w.runs[id]; ok {
		return r, nil
	}
	r, err := w.service.store.Run(w.ctx, id)
	w.runs[id] = r
	return r, err
}

// addRun links a node to its run and adds that run, followed by the chain of
// runs that it is a rerun of.
func (w *lineageWalk) addRun(from trimtab.Digest, role, id string) error {
	r, err := w.run(id)
	if err != nil {
		return err
	}
	facts := &papers.RunFacts{
		ID:         r.ID,
		Actor:      r.Actor,
		Reason:     r.Reason,
		SpecDigest: r.SpecDigest,
		Origin:     r.Origin,
		CreatedAt:  r.CreatedAt,
	}
	// Runs, people and imports have no digest of their own; IDOf derives one.
	node := papers.Node{ID: papers.IDOf(papers.NodeRun, id), Kind: papers.NodeRun, Name: r.Name, Run: facts}
	w.lineage.Link(papers.Edge{From: from, To: node.ID, Role: role})
	if !w.lineage.Add(node) || r.Origin == "" {
		return nil
	}
	return w.addRun(node.ID, papers.RoleReruns, r.Origin)
}
