package storage

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// TellReproduction tells that somebody ran stages of a run again, and what came
// of it; stage is empty and attempt 0 for all of them. It is an event and no more.
func (s *Store) TellReproduction(ctx context.Context, run, stage string, attempt int, body map[string]any, actor string) error {
	return s.write(ctx, "telling of a reproduction of run "+run, func(tx pgx.Tx) error {
		return record(ctx, tx, subject{run, stage, attempt}, actor, "reproduced", body)
	})
}
