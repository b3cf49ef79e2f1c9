package runs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// The kinds of source that UsedBy knows.
const (
	SourceDataset      = "dataset" // a version, or the newest one of a name
	SourceItem         = "item"
	SourceLabeller     = "labeller"
	SourceDemonstrator = "demonstrator"
	SourceModel        = "model"
	SourceDocument     = "document" // a config of a stage, or a spec
	SourceFile         = "file"     // that was imported
)

// SourceKinds lists the kinds of source in the order in which help texts name them.
var SourceKinds = []string{SourceDataset, SourceItem, SourceLabeller, SourceDemonstrator, SourceModel, SourceDocument,
	SourceFile}

// Uses is what a source went into.
type Uses struct {
	Schema   string       `json:"schema"` // trimtab.uses/v1
	Kind     string       `json:"kind"`
	Source   string       `json:"source"` // a digest, or the name of a person
	Datasets []DatasetUse `json:"datasets"`
	Models   []ModelUse   `json:"models"`
}

// DatasetUse is a dataset version with the source in it.
type DatasetUse struct {
	Version trimtab.Digest `json:"version"`
	Dataset string         `json:"dataset"`
	Kind    trimtab.Kind   `json:"kind"`
	Items   int            `json:"items"`    // of the source, copies counted
	HeldOut int            `json:"held_out"` // of them, for measuring only
}

// ModelUse is a model that the source went into.
type ModelUse struct {
	Digest     trimtab.Digest   `json:"digest"`
	Name       string           `json:"name"`
	Kind       string           `json:"kind"`
	Run        string           `json:"run"`
	Stage      string           `json:"stage"`
	Parameters int64            `json:"parameters"`
	CreatedAt  time.Time        `json:"created_at"`
	Steps      int              `json:"steps"`    // attempts between the source and the model, at the least
	Through    []trimtab.Digest `json:"through"`  // the dataset versions, or what else it came by
	Items      int              `json:"items"`    // of the source in those versions
	HeldOut    int              `json:"held_out"` // of them
}

// UsedBy lists the models that something went into. kind is one of Sources;
// empty, it is found out, and a reference that may mean several things is Usage "source_ambiguous".
func (s *Service) UsedBy(ctx context.Context, ref, kind string) (Uses, error) {
	u := Uses{Schema: "trimtab.uses/v1", Datasets: []DatasetUse{}, Models: []ModelUse{}}
	var err error
	if u.Kind, err = s.sourceKind(ctx, ref, kind); err != nil {
		return u, err
	}
	starts, err := s.startDigests(ctx, &u, ref)
	if err != nil {
		return u, err
	}
	return u, s.addModels(ctx, &u, starts)
}

// sourceKind finds out what a reference means.
func (s *Service) sourceKind(ctx context.Context, ref, kind string) (string, error) {
	if kind != "" {
		return kind, nil
	}
	k, err := s.store.LookUp(ctx, ref)
	if err != nil {
		return "", err
	}
	_, err = s.store.ResolveDataset(ctx, ref)
	is := []bool{k.Version || err == nil, k.Item, k.Labeller, k.Demonstrator, k.Model, k.Document, k.File}
	var may []string
	for i, yes := range is {
		if yes {
			may = append(may, SourceKinds[i])
		}
	}
	switch len(may) {
	case 1:
		return may[0], nil
	case 0:
		if _, err := s.store.ResolveArtifact(ctx, ref); err == nil {
			return SourceModel, nil
		}
		return "", trimtab.NewError(trimtab.NotFound, "source_not_found",
			"give a dataset, a labeller's or demonstrator's name, a model, or the whole digest of an item, a config "+
				"or an imported file", "the record knows no %q", ref)
	}
	return "", trimtab.NewError(trimtab.Usage, "source_ambiguous", "say which with --as "+may[0], "%q may be a %s", ref,
		strings.Join(may, " or a "))
}

// startDigests are the digests that the source is in, or is: what attempts read, or for a document, what they made.
func (s *Service) startDigests(ctx context.Context, u *Uses, ref string) ([]trimtab.Digest, error) {
	u.Source = ref
	held, err := s.versionsHolding(ctx, u, ref)
	if err != nil {
		return nil, err
	}
	var starts []trimtab.Digest
	for _, h := range held {
		u.Datasets = append(u.Datasets, DatasetUse(h))
		starts = append(starts, h.Version)
	}
	switch u.Kind {
	case SourceModel:
		starts = append(starts, trimtab.Digest(u.Source))
	case SourceDocument:
		made, err := s.store.OutputsUnderDocument(ctx, trimtab.Digest(u.Source))
		return made, err
	}
	return starts, nil
}

// versionsHolding finds the dataset versions that hold the source.
func (s *Service) versionsHolding(ctx context.Context, u *Uses, ref string) ([]storage.VersionUsage, error) {
	switch u.Kind {
	case SourceLabeller:
		return s.store.VersionsByLabeller(ctx, ref)
	case SourceDemonstrator:
		return s.store.VersionsByDemonstrator(ctx, ref)
	case SourceDataset:
		v, err := s.store.ResolveDataset(ctx, ref)
		if err != nil {
			return nil, err
		}
		u.Source = string(v.Digest)
		o, _, err := s.store.DatasetOrigin(ctx, v.Digest)
		return []storage.VersionUsage{{Version: v.Digest, Dataset: v.Dataset, Kind: v.Kind, Items: o.Items,
			HeldOut: o.HeldOut}}, err
	case SourceModel:
		a, err := s.store.ResolveArtifact(ctx, ref)
		if err != nil {
			return nil, err
		}
		u.Source = string(a.Digest)
		return s.store.VersionsBySampler(ctx, a.Digest)
	}
	d, err := trimtab.ParseDigest(ref)
	if err != nil {
		return nil, trimtab.NewError(trimtab.Usage, "invalid_digest",
			fmt.Sprintf("give the whole digest of the %s", u.Kind), "%w", err)
	}
	u.Source = string(d)
	switch u.Kind {
	case SourceItem:
		return s.store.VersionsWithItem(ctx, d)
	case SourceFile:
		return s.store.VersionsFromFile(ctx, d)
	}
	return nil, nil
}

// addModels goes on from the starts to everything that was made of them.
func (s *Service) addModels(ctx context.Context, u *Uses, starts []trimtab.Digest) error {
	steps, err := s.store.Descendants(ctx, starts)
	if err != nil {
		return err
	}
	reached := reachable(starts, steps)
	if u.Kind == SourceDocument { // it made the starts themselves
		for _, d := range starts {
			reached[d] = append(reached[d], origin{start: d})
		}
	}
	var digests []trimtab.Digest
	for d := range reached {
		digests = append(digests, d)
	}
	found, err := s.store.ArtifactsOf(ctx, digests)
	if err != nil {
		return err
	}
	for _, a := range found {
		u.Models = append(u.Models, u.model(a, reached[a.Digest]))
	}
	slices.SortStableFunc(u.Models, func(a, b ModelUse) int {
		return cmp.Or(cmp.Compare(a.Steps, b.Steps), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Digest, b.Digest))
	})
	return nil
}

func (u *Uses) model(a storage.Artifact, by []origin) ModelUse {
	m := ModelUse{Digest: a.Digest, Name: a.Name, Kind: a.Kind, Run: a.Run, Stage: a.Stage, Parameters: a.Parameters,
		CreatedAt: a.CreatedAt.UTC(), Steps: by[0].steps}
	for _, r := range by {
		m.Steps = min(m.Steps, r.steps)
		m.Through = append(m.Through, r.start)
		for _, h := range u.Datasets {
			if h.Version == r.start {
				m.Items, m.HeldOut = m.Items+h.Items, m.HeldOut+h.HeldOut
			}
		}
	}
	if u.Kind == SourceDocument {
		m.Steps++
	}
	return m
}

// origin is a start from which something was made, and by how many attempts in a row.
type origin struct {
	start trimtab.Digest
	steps int
}

// reachable finds for everything that was made the starts that it was made from, in their order.
func reachable(starts []trimtab.Digest, steps []storage.Derivation) map[trimtab.Digest][]origin {
	next := map[trimtab.Digest][]trimtab.Digest{}
	for _, st := range steps {
		next[st.From] = append(next[st.From], st.To)
	}
	reached := map[trimtab.Digest][]origin{}
	for _, start := range starts {
		seen := map[trimtab.Digest]bool{start: true}
		level := []trimtab.Digest{start}
		for n := 1; len(level) > 0; n++ {
			var after []trimtab.Digest
			for _, d := range level {
				for _, to := range next[d] {
					if !seen[to] {
						seen[to] = true
						after = append(after, to)
						reached[to] = append(reached[to], origin{start, n})
					}
				}
			}
			level = after
		}
	}
	return reached
}
