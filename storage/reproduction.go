package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Kernels returns the names of the kernels on which the worker that last
// started an attempt computed, and an empty text where that was not recorded.
func (s *Store) Kernels(ctx context.Context, a Attempt) (kernels string, err error) {
	err = s.pool.QueryRow(ctx, `
		select coalesce(convert_from(body, 'UTF8')::json ->> 'kernels', '') from event
		where stream = $1 and stage = $2 and attempt = $3 and type = 'attempt_started'
		order by sequence desc limit 1`, a.Run, a.Stage, a.Number).Scan(&kernels)
	// The attempt was never started.
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return kernels, wrapError(ctx, "reading the kernels of "+a.subject().displayName(), err)
}

// RecordReproduction records that somebody computed stages of a run again,
// and with which result. stage is empty and attempt 0 for all of them. It is
// an event only: no fact depends on it.
func (s *Store) RecordReproduction(ctx context.Context, run, stage string, attempt int, body map[string]any,
	actor string) error {
	return s.write(ctx, "recording a reproduction of run "+run, func(tx pgx.Tx) error {
		return appendEvent(ctx, tx, subject{run, stage, attempt}, actor, trimtab.EventReproduced, body)
	})
}
