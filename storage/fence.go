package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Lease is a worker's claim on an attempt, and the only way to write to one
// that is running. Every write through a lease runs in a transaction that
// first locks the row of the attempt's fence and compares its token with the
// lease's: a worker whose attempt was taken over in the meantime gets Conflict
// "fenced" and leaves nothing behind.
//
// The writes of a lease:
//
//	Acquire         takes the attempt
//	Start           the attempt is running
//	Commit          steps and a checkpoint
//	ReportDamage    a checkpoint that cannot be read
//	SetProgress     the hint that people see, and TouchProgress its time
//	PutArtifact, FreezeItems, PutDocument, PutEvaluation
//	                what the stage made, as the methods of Store of that name
//	Complete        outputs and final metrics
//
// A Lease is a value of two numbers and a store. Making one reads and writes
// nothing, so that an activity can make one anew from its input each time.
type Lease struct {
	store   *Store
	attempt int64 // id of the attempt
	token   int64 // rises with each worker that takes the attempt
}

// Lease returns the claim of the holder of token on an attempt, by the
// attempt's id. It takes effect with Acquire.
func (s *Store) Lease(attempt, token int64) Lease { return Lease{s, attempt, token} }

// Acquire takes the attempt from its previous holder. The token must be higher
// than every one before it; an equal one is refused as well, because two
// workers could both believe that they hold it. Acquire waits for a write of
// the previous holder that has begun. A refusal is Conflict "fenced".
func (l Lease) Acquire(ctx context.Context) error {
	return l.store.write(ctx, "acquiring the lease of an attempt", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "update fence set token = $2 where attempt = $1 and token < $2", l.attempt, l.token)
		if err != nil || tag.RowsAffected() == 1 {
			return err
		}
		of, token, err := readFence(ctx, tx, l.attempt, "")
		if err != nil {
			return err
		}
		return fenced(of, l.token, token)
	})
}

// write runs f in a transaction in which the lease cannot be lost: f gets the
// attempt that is written to. Locking the fence comes first, before any row
// that f locks, so that all writers lock in the same order.
func (l Lease) write(ctx context.Context, doing string, f func(tx pgx.Tx, of subject) error) error {
	return l.store.write(ctx, doing, func(tx pgx.Tx) error {
		of, err := l.lock(ctx, tx)
		if err != nil {
			return err
		}
		return f(tx, of)
	})
}

// lock holds the fence's row until the transaction ends. A share lock is
// enough: writers of one holder do not exclude each other, and Acquire, which
// updates the row, waits for all of them.
func (l Lease) lock(ctx context.Context, tx pgx.Tx) (subject, error) {
	of, token, err := readFence(ctx, tx, l.attempt, "for share of f")
	if err == nil && token != l.token {
		err = fenced(of, l.token, token)
	}
	return of, err
}

// readFence returns an attempt and the token of its holder. locking is a
// locking clause of SQL, or empty.
func readFence(ctx context.Context, tx pgx.Tx, attempt int64, locking string) (of subject, token int64, err error) {
	err = tx.QueryRow(ctx, `
		select f.token, a.run, a.stage, a.number from fence f join attempt a on a.id = f.attempt
		where f.attempt = $1 `+locking, attempt).Scan(&token, &of.stream, &of.stage, &of.attempt)
	if errors.Is(err, pgx.ErrNoRows) {
		err = attemptNotFound()
	}
	return of, token, err
}

// fenced is the error of a worker that does not hold the attempt.
func fenced(of subject, token, holder int64) error {
	return trimtab.NewError(trimtab.Conflict, "fenced",
		"stop this worker's segment: the worker that holds the attempt continues it",
		"%s belongs to token %d, not to %d", of.displayName(), holder, token)
}
