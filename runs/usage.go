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

// The kinds of source whose use UsedBy can trace.
const (
	// SourceDataset is a dataset version, or the newest version of a name.
	SourceDataset = "dataset"
	// SourceItem is an item, by its digest.
	SourceItem = "item"
	// SourceLabeller is a person who ranked responses.
	SourceLabeller = "labeller"
	// SourceDemonstrator is a person who wrote demonstrations.
	SourceDemonstrator = "demonstrator"
	// SourceModel is a model, which may also have sampled responses.
	SourceModel = "model"
	// SourceDocument is a stage's config or a spec, by its digest.
	SourceDocument = "document"
	// SourceFile is an imported file, by its digest.
	SourceFile = "file"
)

// SourceKinds lists the kinds of source, in the order in which help texts name
// them. sourceKind relies on this order.
var SourceKinds = []string{SourceDataset, SourceItem, SourceLabeller, SourceDemonstrator, SourceModel, SourceDocument,
	SourceFile}

// Uses says what a source went into: datasets and, through training, models.
type Uses struct {
	// Always "trimtab.uses/v1".
	Schema string `json:"schema"`
	// One of SourceKinds.
	Kind string `json:"kind"`
	// A digest, or a person's name.
	Source   string       `json:"source"`
	Datasets []DatasetUse `json:"datasets"`
	Models   []ModelUse   `json:"models"`
}

// DatasetUse is a dataset version that has items of the source.
type DatasetUse struct {
	Version trimtab.Digest `json:"version"`
	Dataset string         `json:"dataset"`
	Kind    trimtab.Kind   `json:"kind"`
	// Items of the source; an item that is in the version twice counts twice.
	Items int `json:"items"`
	// Those of them that are used for measuring only.
	HeldOut int `json:"held_out"`
}

// ModelUse is a model that was derived from the source.
type ModelUse struct {
	Digest     trimtab.Digest `json:"digest"`
	Name       string         `json:"name"`
	Kind       string         `json:"kind"`
	Run        string         `json:"run"`
	Stage      string         `json:"stage"`
	Parameters int64          `json:"parameters"`
	CreatedAt  time.Time      `json:"created_at"`
	// Fewest attempts on a path from the source to the model.
	Steps int `json:"steps"`
	// The dataset versions, or else the digests, by which the source came in.
	Through []trimtab.Digest `json:"through"`
	// Items of the source in those versions.
	Items int `json:"items"`
	// Those of them that are used for measuring only.
	HeldOut int `json:"held_out"`
}

// UsedBy lists the datasets that hold a source and the models that were derived
// from it, the most direct first. It answers "what has to be retrained if this
// is withdrawn?".
//
// kind is one of SourceKinds. If it is empty the kind is found from the
// reference: a reference without a match is NotFound "source_not_found", and
// one with several is Usage "source_ambiguous".
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

// sourceKind returns the kind of source that a reference means.
func (s *Service) sourceKind(ctx context.Context, ref, kind string) (string, error) {
	if kind != "" {
		return kind, nil
	}
	k, err := s.store.LookUp(ctx, ref)
	if err != nil {
		return "", err
	}
	_, err = s.store.ResolveDataset(ctx, ref)
	// In the order of SourceKinds.
	matches := []bool{k.Version || err == nil, k.Item, k.Labeller, k.Demonstrator, k.Model, k.Document, k.File}
	var candidates []string
	for i, match := range matches {
		if match {
			candidates = append(candidates, SourceKinds[i])
		}
	}
	switch len(candidates) {
	case 1:
		return candidates[0], nil
	case 0:
		// An exact match is preferred to the beginning of a model's digest.
		if _, err := s.store.ResolveArtifact(ctx, ref); err == nil {
			return SourceModel, nil
		}
		return "", trimtab.NewError(trimtab.NotFound, "source_not_found",
			"give a dataset, a labeller's or demonstrator's name, a model, or the whole digest of an item, a config "+
				"or an imported file", "there is no %q in the record", ref)
	}
	return "", trimtab.NewError(trimtab.Usage, "source_ambiguous", "choose one, as in --as "+candidates[0],
		"%q can be a %s", ref, strings.Join(candidates, " or a "))
}

// startDigests returns the digests from which the derivation is followed: the
// dataset versions that hold the source and, for a model, the model itself. For
// a document they are the outputs that were made under it. It also fills in
// u.Source and u.Datasets.
func (s *Service) startDigests(ctx context.Context, u *Uses, ref string) ([]trimtab.Digest, error) {
	u.Source = ref
	versions, err := s.versionsHolding(ctx, u, ref)
	if err != nil {
		return nil, err
	}
	var starts []trimtab.Digest
	for _, v := range versions {
		u.Datasets = append(u.Datasets, DatasetUse(v))
		starts = append(starts, v.Version)
	}
	switch u.Kind {
	case SourceModel:
		starts = append(starts, trimtab.Digest(u.Source))
	case SourceDocument:
		return s.store.OutputsUnderDocument(ctx, trimtab.Digest(u.Source))
	}
	return starts, nil
}

// versionsHolding returns the dataset versions that hold items of the source,
// and sets u.Source to its full name. A document is held by none.
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

// addModels adds the models that were derived from starts, by any number of
// attempts.
func (s *Service) addModels(ctx context.Context, u *Uses, starts []trimtab.Digest) error {
	steps, err := s.store.Descendants(ctx, starts)
	if err != nil {
		return err
	}
	reached := reachable(starts, steps)
	if u.Kind == SourceDocument { // the starts themselves were made under the document
		for _, d := range starts {
			reached[d] = append(reached[d], origin{start: d})
		}
	}
	// The order of a map is random; the models are sorted below.
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
	// The most direct first, then the oldest; the digest makes the order unique.
	slices.SortStableFunc(u.Models, func(a, b ModelUse) int {
		return cmp.Or(cmp.Compare(a.Steps, b.Steps), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Digest, b.Digest))
	})
	return nil
}

// model describes a derived model. origins are the starts that it was derived from;
// there is at least one.
func (u *Uses) model(a storage.Artifact, origins []origin) ModelUse {
	m := ModelUse{
		Digest:     a.Digest,
		Name:       a.Name,
		Kind:       a.Kind,
		Run:        a.Run,
		Stage:      a.Stage,
		Parameters: a.Parameters,
		CreatedAt:  a.CreatedAt.UTC(),
		Steps:      origins[0].steps,
	}
	for _, o := range origins {
		m.Steps = min(m.Steps, o.steps)
		m.Through = append(m.Through, o.start)
		for _, d := range u.Datasets {
			if d.Version == o.start {
				m.Items, m.HeldOut = m.Items+d.Items, m.HeldOut+d.HeldOut
			}
		}
	}
	if u.Kind == SourceDocument {
		m.Steps++ // the attempt between the document and its own output
	}
	return m
}

// origin is a start from which something was derived, and the fewest attempts
// in between.
type origin struct {
	start trimtab.Digest
	steps int
}

// reachable returns, for every digest that was derived from a start, those
// starts in their order. It is a breadth-first search from each start, so that
// the number of attempts is the smallest.
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
			var nextLevel []trimtab.Digest
			for _, d := range level {
				for _, to := range next[d] {
					if !seen[to] {
						seen[to] = true
						nextLevel = append(nextLevel, to)
						reached[to] = append(reached[to], origin{start, n})
					}
				}
			}
			level = nextLevel
		}
	}
	return reached
}
