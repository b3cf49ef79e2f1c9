package notary

import (
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// Prove returns a proof that an event is in the record, under the newest
// signed head of the database. An event that is not under it yet is Conflict
// "event_not_sealed": the next head, in a minute, will cover it.
func Prove(ctx context.Context, store *storage.Store, of storage.EventRef) (audit.Proof, error) {
	size, note, err := newestHead(ctx, store)
	if err != nil {
		return audit.Proof{}, err
	}
	p, err := store.Proof(ctx, of.Stream, of.Sequence, size)
	p.Head = note
	return p, err
}

// ProveModel returns a proof for each event that shows where a model came
// from, all under one head. The caller sets the key.
func ProveModel(ctx context.Context, store *storage.Store, model trimtab.Digest) (audit.Proofs, error) {
	proofs := audit.Proofs{Schema: audit.ProofsSchema, Model: string(model)}
	refs, err := store.Trace(ctx, model)
	if err != nil {
		return proofs, err
	}
	if len(refs) == 0 {
		return proofs, trimtab.NewError(trimtab.NotFound, "model_not_found", "list them with `trimtab model list`",
			"no event mentions model %s", model)
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

// newestHead returns the largest signed head of the database. Its signature
// is not verified here: checking the proof does that. No head is Conflict
// "no_tree_head".
func newestHead(ctx context.Context, store *storage.Store) (size int64, note string, err error) {
	size, note, found, err := store.NewestHead(ctx)
	if err == nil && !found {
		err = trimtab.NewError(trimtab.Conflict, "no_tree_head", "start a worker: it signs a head every minute",
			"no head of the record's tree has been signed yet")
	}
	return size, note, err
}
