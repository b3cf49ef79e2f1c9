package activities

import (
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tokenizer"
)

// artifactStore is where stages read frozen data, and where what they make goes. A
// stage at work writes nothing else.
type artifactStore interface {
	items(ctx context.Context, version trimtab.Digest) ([]trimtab.Item, error)
	putModel(ctx context.Context, of SegmentInput, kind string, m *model.Model, t *tokenizer.Tokenizer) (trimtab.Digest,
		error)
	putRankings(ctx context.Context, of SegmentInput, items []trimtab.Item) (trimtab.Digest, error)
	putEvaluation(ctx context.Context, of SegmentInput, body []byte) (trimtab.Digest, error)
}

// recordStore is the keeper of runs: Postgres, and the store of models.
type recordStore struct {
	store *storage.Store
	files *checkpoint.Store
}

func (r recordStore) items(ctx context.Context, version trimtab.Digest) ([]trimtab.Item, error) {
	return r.store.Items(ctx, version)
}

// putModel stores a model as an artifact with its row.
func (r recordStore) putModel(ctx context.Context, of SegmentInput, kind string, m *model.Model,
	t *tokenizer.Tokenizer) (trimtab.Digest, error) {
	d, err := checkpoint.SaveModel(r.files, m, t)
	if err != nil {
		return "", err
	}
	return d, r.store.PutArtifact(ctx, storage.Artifact{Digest: d, Kind: kind, Name: of.Run + "/" + of.Stage.Name,
		Run: of.Run, Stage: of.Stage.Name,
		Attempt: of.Attempt, Parameters: int64(len(m.Slab))}, "trimtab")
}

func (r recordStore) putRankings(ctx context.Context, of SegmentInput, items []trimtab.Item) (trimtab.Digest, error) {
	v, err := r.store.FreezeItems(ctx, of.Run+"/"+of.Stage.Name, trimtab.KindRankings, items, "simulated labellers")
	return v.Digest, err
}

func (r recordStore) putEvaluation(ctx context.Context, of SegmentInput, body []byte) (trimtab.Digest, error) {
	d, err := r.store.PutDocument(ctx, body)
	if err != nil {
		return "", err
	}
	return d, r.store.PutEvaluation(ctx, of.Run, of.Attempt, body)
}
