package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Kernels are those on which the worker computed that last started an attempt;
// empty where that was not told.
func (s *Store) Kernels(ctx context.Context, a Attempt) (kernels string, err error) {
	err = s.pool.QueryRow(ctx, `
		select coalesce(convert_from(body, 'UTF8')::json ->> 'kernels', '') from event
		where stream = $1 and stage = $2 and attempt = $3 and type = 'attempt_started' order by sequence desc limit 1`, a.Run, a.Stage, a.Number).Scan(&kernels)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return kernels, wrapError(ctx, "reading the kernels of "+a.subject().displayName(), err)
}

// RecordReproduction tells that somebody ran stages of a run again, and what came
// of it; stage is empty and attempt 0 for all of them. It is an event and no more.
func (s *Store) RecordReproduction(ctx context.Context, run, stage string, attempt int, body map[string]any,
	actor string) error {
	return s.write(ctx, "telling of a reproduction of run "+run, func(tx pgx.Tx) error {
		return appendEvent(ctx, tx, subject{run, stage, attempt}, actor, "reproduced", body)
	})
}
