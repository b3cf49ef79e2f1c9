package notary

import (
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// Prove shows that an event is in the record under the newest signed head of the database.
func Prove(ctx context.Context, store *storage.Store, of storage.EventRef) (audit.Proof, error) {
	size, note, err := newestHead(ctx, store)
	if err != nil {
		return audit.Proof{}, err
	}
	p, err := store.Proof(ctx, of.Stream, of.Sequence, size)
	p.Head = note
	return p, err
}

// ProveModel shows where a model came from: a proof for each event of its trace, all under one head.
func ProveModel(ctx context.Context, store *storage.Store, model trimtab.Digest) (audit.Proofs, error) {
	proofs := audit.Proofs{Schema: audit.ProofsSchema, Model: string(model)}
	refs, err := store.Trace(ctx, model)
	if err != nil {
		return proofs, err
	}
	if len(refs) == 0 {
		return proofs, trimtab.NewError(trimtab.NotFound, "model_not_found", "list them with `trimtab model list`",
			"no event tells of model %s", model)
	}
	size, note, err := newestHead(ctx, store)
	if err != nil {
		return proofs, err
	}
	for _, r := range refs {
		p, err := store.Proof(ctx, r.Stream, r.Sequence, size)
		if err != nil {
			return proofs, err
		}
		p.Head = note
		proofs.Proofs = append(proofs.Proofs, p)
	}
	return proofs, nil
}

// newestHead is the largest signed head of the database; its signature is for whoever checks the proof.
func newestHead(ctx context.Context, store *storage.Store) (size int64, note string, err error) {
	size, note, found, err := store.NewestHead(ctx)
	if err == nil && !found {
		err = trimtab.NewError(trimtab.Conflict, "no_tree_head", "start a worker: it signs a head every minute",
			"no head of the record's tree was signed yet")
	}
	return size, note, err
}
