package runs

import (
	"context"
	"maps"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
)

// preview stands in for what a launch would make: its datasets, and the digests of names.
type preview struct {
	s     *Service // without a store, nothing that is named is known
	spec  recipes.Spec
	given map[trimtab.Digest]*corpus // nil is not known
	notes []string
}

// resolveData has the spec's data without freezing any: what a starter world or
// files would give. Of a world's text a part will do.
func (p *preview) prepare() error {
	var sets []pendingDataset
	var err error
	whole := map[trimtab.Kind]float64{}
	switch st := p.spec.Starter; {
	case st != nil:
		some := *st
		const words, items = 60_000, surveyedItems
		some.Words, some.Demonstrations = min(st.Words, words), min(st.Demonstrations, items)
		whole[trimtab.KindText] = float64(st.Words) / float64(some.Words)
		whole[trimtab.KindDemonstrations] = float64(st.Demonstrations) / float64(some.Demonstrations)
		sets = starterSets(some)
	case p.spec.Sources != nil:
		sets, err = sourceSets(p.spec.Name, p.spec.Sources, func(string, ...any) {})
	}
	if err != nil {
		return err
	}
	for _, set := range sets {
		ref := p.spec.Data.Ref(set.kind)
		if *ref != "" || len(set.items) == 0 {
			continue
		}
		c := newCorpus(set.name, set.items)
		if scale := whole[set.kind]; scale > 1 {
			c.complete = false
			for split, n := range c.splits {
				c.splits[split] = int(scale * float64(n))
			}
		}
		*ref = string(p.placeholder(set.name, c))
	}
	return nil
}

// placeholder is a digest that stands for a dataset.
func (p *preview) placeholder(name string, c *corpus) trimtab.Digest {
	d := trimtab.DigestOf([]byte("preview of " + name))
	p.given[d] = c
	return d
}

// resolveData finds a dataset; one that is not there, or not frozen, is not known.
func (p *preview) resolveData(ctx context.Context, ref string) (trimtab.Digest, error) {
	if _, ok := p.given[trimtab.Digest(ref)]; ok {
		return trimtab.Digest(ref), nil
	}
	if p.s.store == nil {
		return p.placeholder(ref, nil), nil
	}
	v, err := p.s.store.ResolveDataset(ctx, ref)
	if err == nil {
		return v.Digest, nil
	}
	if e := trimtab.AsError(err); e.Class == trimtab.NotFound || e.Type == "dataset_not_frozen" {
		p.notes = append(p.notes, e.Error())
		return p.placeholder(ref, nil), nil
	}
	return "", err
}

// resolveBase finds a model, a folder included; without a store it is not known.
func (p *preview) resolveBase(ctx context.Context, ref string) (trimtab.Digest, error) {
	if p.s.store == nil && !isPath(ref) {
		return "", nil
	}
	if dir, err := p.s.BaseFolder(ctx, ref); err != nil || dir != "" {
		return trimtab.Digest(dir), err
	}
	a, err := p.s.store.ResolveArtifact(ctx, ref)
	return a.Digest, err
}

// resolver finds what the spec names.
func (p *preview) resolver(ctx context.Context) recipes.Resolved {
	return recipes.Resolved{
		Data: func(ref string) (trimtab.Digest, error) { return p.resolveData(ctx, ref) },
		Base: func(ref string) (trimtab.Digest, error) { return p.resolveBase(ctx, ref) },
	}
}

// Preview is what a run of the spec would read, as far as it is known without
// launching it: it makes nothing. What is sure to fail is refused as Launch
// refuses it; a run for which this machine is too small may go on elsewhere, and
// is told in the notes. They say too what is not known, and why.
func (s *Service) Preview(ctx context.Context, spec recipes.Spec) (known recipes.Known, notes []string, err error) {
	p := preview{s: s, spec: spec, given: map[trimtab.Digest]*corpus{}}
	if err := p.prepare(); err != nil {
		return nil, nil, err
	}
	plan, _, err := p.spec.Plan("preview", p.resolver(ctx))
	if err != nil {
		return nil, nil, err
	}
	v, err := s.survey(ctx, p.spec, plan, p.given)
	if err == nil {
		err = v.preflight(0)
	}
	for _, err := range []error{s.checkStarterMemory(spec), s.checkMemory(spec, v.shapes())} {
		if err != nil {
			p.notes = append(p.notes, "too large for this machine: "+err.Error())
		}
	}
	slices.Sort(p.notes)
	return v.known, slices.Concat(slices.Compact(p.notes), v.approximationNotes(), v.unmeasuredNotes()), err
}

// NeedsDatabase reports whether a spec names datasets or models of the record.
func NeedsDatabase(spec recipes.Spec) bool {
	if spec.Model.Base != "" && !isPath(spec.Model.Base) {
		return true
	}
	for _, k := range trimtab.Kinds {
		if *spec.Data.Ref(k) != "" {
			return true
		}
	}
	names := spec.StageNames()
	for _, st := range spec.Stages {
		for ref := range maps.Values(st.Inputs) {
			if !slices.Contains(names, ref) {
				return true
			}
		}
	}
	return false
}
