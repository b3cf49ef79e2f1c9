package storage

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// PutEvaluation stores the report of an evaluation of a run as a document and
// links it to the attempt, by id, that made it; 0 is none. Storing the run's
// newest report again changes nothing.
func (s *Store) PutEvaluation(ctx context.Context, run string, attempt int64, body json.RawMessage) error {
	return s.write(ctx, "storing the evaluation of run "+run,
		func(tx pgx.Tx) error { return putEvaluation(ctx, tx, run, attempt, body) })
}

// PutEvaluation is Store.PutEvaluation by the holder of the lease.
func (l Lease) PutEvaluation(ctx context.Context, run string, attempt int64, body json.RawMessage) error {
	return l.write(ctx, "storing the evaluation of run "+run,
		func(tx pgx.Tx, _ subject) error { return putEvaluation(ctx, tx, run, attempt, body) })
}

// putEvaluation is PutEvaluation in the caller's transaction.
func putEvaluation(ctx context.Context, tx pgx.Tx, run string, attempt int64, body json.RawMessage) error {
	d := trimtab.DigestOf(body)
	var newest trimtab.Digest
	err := tx.QueryRow(ctx, `
		select document from evaluation where run = $1 and coalesce(attempt, 0) = $2
		order by id desc limit 1`, run, attempt).Scan(&newest)
	if err == nil && newest == d || err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if err := putDocument(ctx, tx, d, body); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "insert into evaluation (run, attempt, document) values ($1, nullif($2::bigint, 0), $3)",
		run, attempt, d)
	if err != nil {
		return err
	}
	of := subject{stream: run}
	if attempt != 0 {
		row := tx.QueryRow(ctx, "select stage, number from attempt where id = $1", attempt)
		if err := row.Scan(&of.stage, &of.attempt); err != nil {
			return err
		}
	}
	return appendEvent(ctx, tx, of, "worker", trimtab.EventEvaluationMade, evaluationMadeBody{Document: d})
}

// Evaluation returns the newest evaluation report of a run, and false if it
// has none.
func (s *Store) Evaluation(ctx context.Context, run string) (json.RawMessage, bool, error) {
	var d trimtab.Digest
	err := s.pool.QueryRow(ctx, "select document from evaluation where run = $1 order by id desc limit 1", run).Scan(&d)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, wrapError(ctx, "reading the evaluation of run "+run, err)
	}
	body, err := s.Document(ctx, d)
	return body, err == nil, err
}
