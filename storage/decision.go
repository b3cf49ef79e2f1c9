package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// RecordDecision keeps what a person decided about an attempt against the
// machine: approve lets a missed gate pass, skip goes on without the stage's
// output (and shows the attempt as skipped). attempt is its id, 0 for none.
// The last decision about the attempt again changes nothing.
func (s *Store) RecordDecision(ctx context.Context, run, stage string, attempt int64, decision string, body json.RawMessage, actor string) error {
	told := map[string]any{"decision": decision, "details": body}
	return s.write(ctx, fmt.Sprintf("recording the decision about stage %s", stage), func(tx pgx.Tx) error {
		of, st := subject{stream: run, stage: stage}, state{}
		if attempt != 0 {
			var err error
			if st, err = lockState(ctx, tx, attempt); err != nil {
				return err
			}
			of = st.of
		}
		if known, err := decided(ctx, tx, of, told, actor); known || err != nil {
			return err
		}
		if attempt != 0 && decision == "skip" {
			if err := changeStatus(ctx, tx, attempt, st, trimtab.AttemptSkipped, nil, actor, ""); err != nil {
				return err
			}
		}
		return record(ctx, tx, of, actor, "decision", told)
	})
}

// decided reports whether the last decision about an attempt was this one, by this actor.
func decided(ctx context.Context, tx pgx.Tx, of subject, told map[string]any, actor string) (bool, error) {
	raw, err := encodeJSON(told)
	if err != nil {
		return false, err
	}
	var last []byte
	var by string
	err = tx.QueryRow(ctx, `
		select body, actor from event where stream = $1 and stage = $2 and attempt = $3 and type = 'decision'
		order by sequence desc limit 1`, of.stream, of.stage, of.attempt).Scan(&last, &by)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil && bytes.Equal(last, raw) && by == clean(actor), err
}
