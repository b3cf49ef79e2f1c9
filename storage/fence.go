package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Fence takes an attempt for the holder of token. The token has to be higher
// than every one before it; an equal one is refused too, for two holders
// could think it theirs. It waits for a write of the former holder that is
// under way. A refusal is Conflict "fenced".
func (s *Store) Fence(ctx context.Context, attempt int64, token int64) error {
	return s.write(ctx, "fencing an attempt", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "update fence set token = $2 where attempt = $1 and token < $2", attempt, token)
		if err != nil || tag.RowsAffected() == 1 {
			return err
		}
		return lostFence(ctx, tx, attempt, token)
	})
}

// holder is who writes under a context that Holding made.
type holder struct{ attempt, token int64 }

// Holding makes every write under ctx, of whatever it is, one of the attempt's
// holder: "fenced" once another token has the attempt.
func Holding(ctx context.Context, attempt, token int64) context.Context {
	return context.WithValue(ctx, holder{}, holder{attempt, token})
}

// held refuses a transaction of somebody who holds his attempt no longer.
func held(ctx context.Context, tx pgx.Tx) error {
	h, ok := ctx.Value(holder{}).(holder)
	if !ok {
		return nil
	}
	_, err := holdFence(ctx, tx, h.attempt, h.token)
	return err
}

// holdFence keeps the fence of an attempt where it is until the transaction
// ends, and says what the attempt is; "fenced" if token is not its holder.
func holdFence(ctx context.Context, tx pgx.Tx, attempt, token int64) (of subject, err error) {
	var have int64
	err = tx.QueryRow(ctx, `
		select f.token, a.run, a.stage, a.number from fence f join attempt a on a.id = f.attempt
		where f.attempt = $1 for share of f`, attempt).Scan(&have, &of.stream, &of.stage, &of.attempt)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return of, attemptNotFound()
	case err == nil && have != token:
		return of, fenced(of, token, have)
	}
	return of, err
}

// lostFence says why no row with this token was there to write to.
func lostFence(ctx context.Context, tx pgx.Tx, attempt, token int64) error {
	var have int64
	var of subject
	err := tx.QueryRow(ctx,
		"select f.token, a.run, a.stage, a.number from fence f join attempt a on a.id = f.attempt where f.attempt = $1",
		attempt).
		Scan(&have, &of.stream, &of.stage, &of.attempt)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return attemptNotFound()
	case err != nil:
		return err
	}
	return fenced(of, token, have)
}

func fenced(of subject, token, have int64) error {
	return trimtab.NewError(trimtab.Conflict, "fenced", "stop: the other worker goes on",
		"%s belongs to token %d, not to %d", of.displayName(), have, token)
}
