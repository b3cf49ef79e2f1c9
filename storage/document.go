package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// documents is the stream of the events that list which documents exist.
const documents = "documents"

// PutDocument stores canonical JSON, such as a stage's config or an
// evaluation report, under its digest. Storing it again changes nothing.
func (s *Store) PutDocument(ctx context.Context, body []byte) (trimtab.Digest, error) {
	d := trimtab.DigestOf(body)
	err := s.write(ctx, "storing a document", func(tx pgx.Tx) error { return putDocument(ctx, tx, d, body) })
	return d, err
}

// PutDocument is Store.PutDocument by the holder of the lease.
func (l Lease) PutDocument(ctx context.Context, body []byte) (trimtab.Digest, error) {
	d := trimtab.DigestOf(body)
	err := l.write(ctx, "storing a document", func(tx pgx.Tx, _ subject) error { return putDocument(ctx, tx, d, body) })
	return d, err
}

// putDocument is PutDocument in the caller's transaction. An empty document
// is stored as empty bytes, since nil would be null.
func putDocument(ctx context.Context, tx pgx.Tx, d trimtab.Digest, body []byte) error {
	if body == nil {
		body = []byte{}
	}
	tag, err := tx.Exec(ctx, "insert into document (digest, body) values ($1, $2) on conflict do nothing", d, body)
	// Equal digests are equal bytes, so there is nothing to compare.
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	return appendEvent(ctx, tx, subject{stream: documents}, "trimtab", trimtab.EventDocumentKept,
		documentKeptBody{Digest: d})
}

// Document returns the exact bytes with digest d. A missing one is NotFound
// "document_not_found", and one whose bytes no longer have the digest
// Verification "document_digest_mismatch".
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
			"the bytes of document %s do not match its digest", d)
	}
	return body, nil
}
