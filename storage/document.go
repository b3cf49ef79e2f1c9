package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// documents is the stream that tells which documents are kept.
const documents = "documents"

// PutDocument keeps canonical JSON (a stage's config, an evaluation report) under its digest. One that is there
// already changes nothing.
func (s *Store) PutDocument(ctx context.Context, body []byte) (trimtab.Digest, error) {
	d := trimtab.DigestOf(body)
	err := s.write(ctx, "keeping a document", func(tx pgx.Tx) error { return putDocument(ctx, tx, d, body) })
	return d, err
}

func putDocument(ctx context.Context, tx pgx.Tx, d trimtab.Digest, body []byte) error {
	if body == nil {
		body = []byte{}
	}
	tag, err := tx.Exec(ctx, "insert into document (digest, body) values ($1, $2) on conflict do nothing", d, body)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	return appendEvent(ctx, tx, subject{stream: documents}, "trimtab", "document_kept", map[string]any{"digest": d})
}

// Document returns the exact bytes with digest d: NotFound "document_not_found" when they are not here,
// Verification "document_digest_mismatch" when they are no longer what d says.
func (s *Store) Document(ctx context.Context, d trimtab.Digest) ([]byte, error) {
	var body []byte
	err := s.pool.QueryRow(ctx, "select body from document where digest = $1", d).Scan(&body)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, notFound("document", string(d), "")
	case err != nil:
		return nil, wrapError(ctx, "reading document "+d.Short(), err)
	case trimtab.DigestOf(body) != d:
		return nil, trimtab.NewError(trimtab.Verification, "document_digest_mismatch",
			"restore the database from a backup",
			"document %s has other bytes than its digest says", d)
	}
	return body, nil
}
