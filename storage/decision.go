package storage

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// RecordDecision keeps what a person decided about an attempt against the
// machine: approve lets a missed gate pass, skip goes on without the stage's
// output (and shows the attempt as skipped).
func (s *Store) RecordDecision(ctx context.Context, run, stage string, attempt int64, decision string, body json.RawMessage, actor string) error {
	return s.write(ctx, fmt.Sprintf("recording the decision about stage %s", stage), func(tx pgx.Tx) error {
		of := subject{stream: run, stage: stage}
		if attempt != 0 {
			st, err := lockState(ctx, tx, attempt)
			if err != nil {
				return err
			}
			of = st.of
			if decision == "skip" {
				if err := changeStatus(ctx, tx, attempt, st, trimtab.AttemptSkipped, nil, actor, ""); err != nil {
					return err
				}
			}
		}
		return record(ctx, tx, of, actor, "decision", map[string]any{"decision": decision, "details": body})
	})
}
