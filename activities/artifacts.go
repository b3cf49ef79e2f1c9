package activities

import (
	"context"
	"encoding/json"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tokenizer"
)

// artifactStore is where stages read frozen data, and where they put their
// outputs. A running stage writes nothing else. The methods that put something
// return its digest.
type artifactStore interface {
	// items returns the items of a dataset version, in order of digest.
	items(ctx context.Context, version trimtab.Digest) ([]trimtab.Item, error)
	// The others store an output of the segment of, and return its digest.
	putModel(
		ctx context.Context, of SegmentInput, kind string, m *model.Model, t *tokenizer.Tokenizer,
	) (trimtab.Digest, error)
	putRankings(ctx context.Context, of SegmentInput, items []trimtab.Item) (trimtab.Digest, error)
	putEvaluation(ctx context.Context, of SegmentInput, body []byte) (trimtab.Digest, error)
}

// recordStore is the artifactStore of runs: Postgres for the rows and the
// content-addressed store for the files of models.
type recordStore struct {
	store  *storage.Store
	files  *checkpoint.Store
	writer func(of SegmentInput) artifactWriter // who writes the rows of a segment
}

// artifactWriter writes the rows of what a stage made. It is the lease of the
// stage's attempt, so that a worker that has lost it adds nothing, or the store
// itself for a stage that runs outside of any attempt, as in a benchmark.
type artifactWriter interface {
	PutArtifact(ctx context.Context, a storage.Artifact, actor string) error
	FreezeItems(ctx context.Context, dataset string, kind trimtab.Kind, items []trimtab.Item,
		actor string) (storage.DatasetVersion, error)
	PutDocument(ctx context.Context, body []byte) (trimtab.Digest, error)
	PutEvaluation(ctx context.Context, run string, attempt int64, body json.RawMessage) error
}

// newRecordStore returns the artifactStore of a worker. It writes under the
// lease of the segment's attempt, so that a worker that lost it adds nothing.
func newRecordStore(store *storage.Store, files *checkpoint.Store) recordStore {
	writer := func(of SegmentInput) artifactWriter { return store.Lease(of.Attempt, of.Sequence) }
	return recordStore{store, files, writer}
}

// items reads the items of a dataset version, verified against its digest.
func (r recordStore) items(ctx context.Context, version trimtab.Digest) ([]trimtab.Item, error) {
	return r.store.Items(ctx, version)
}

// putModel stores a model's files as an artifact, then its row. kind is "model",
// or "reward" for one with a scalar head.
func (r recordStore) putModel(
	ctx context.Context, of SegmentInput, kind string, m *model.Model, t *tokenizer.Tokenizer,
) (trimtab.Digest, error) {
	d, err := checkpoint.SaveModel(r.files, m, t)
	if err != nil {
		return "", err
	}
	row := storage.Artifact{
		Digest:     d,
		Kind:       kind,
		Name:       of.Run + "/" + of.Stage.Name,
		Run:        of.Run,
		Stage:      of.Stage.Name,
		Attempt:    of.Attempt,
		Parameters: int64(len(m.Slab)),
	}
	return d, r.writer(of).PutArtifact(ctx, row, "trimtab")
}

// putRankings freezes rankings as a new version of the dataset that is named by
// run and stage. The actor is not the program: labels have to say who gave them.
func (r recordStore) putRankings(ctx context.Context, of SegmentInput, items []trimtab.Item) (trimtab.Digest, error) {
	name := of.Run + "/" + of.Stage.Name
	v, err := r.writer(of).FreezeItems(ctx, name, trimtab.KindRankings, items, "simulated labellers")
	return v.Digest, err
}

// putEvaluation stores a report under its digest, as an output that other stages
// could read, and as the run's evaluation, for people.
func (r recordStore) putEvaluation(ctx context.Context, of SegmentInput, body []byte) (trimtab.Digest, error) {
	d, err := r.writer(of).PutDocument(ctx, body)
	if err != nil {
		return "", err
	}
	return d, r.writer(of).PutEvaluation(ctx, of.Run, of.Attempt, body)
}
