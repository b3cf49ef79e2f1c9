package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// Event is one thing that happened.
type Event struct {
	Sequence int64  // 1, 2, 3 … in its stream
	Stream   string // run id, "dataset/NAME", "artifact/DIGEST", "name/NAME", "documents" or "audit"
	At       time.Time
	Actor    string
	Type     string // snake_case: run_created, attempt_status, steps_committed …
	Stage    string
	Attempt  int // number of the attempt of the stage, 0 for none
	Body     json.RawMessage
}

// subject is what an event tells of.
type subject struct {
	stream, stage string
	attempt       int
}

// appendEvent appends an event in the transaction of its fact. body becomes JSON with sorted keys.
func appendEvent(ctx context.Context, tx pgx.Tx, of subject, actor, typ string, body map[string]any) error {
	raw, err := canonicalJSON(body)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "select append_event($1, $2, $3, $4, $5, $6)",
		of.stream, storableText(actor), typ, of.stage, of.attempt, raw)
	return err
}

// nextEvent locks a stream and returns the sequence of the event that the transaction will append to it next.
func nextEvent(ctx context.Context, tx pgx.Tx, of subject) (sequence int64, err error) {
	err = tx.QueryRow(ctx, "select next_event($1)", of.stream).Scan(&sequence)
	return sequence, err
}

// canonicalJSON is JSON with sorted map keys, without HTML escapes or a final newline.
func canonicalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// History returns the events of a run (its full id), or of one of its stages, in the order in which they happened.
func (s *Store) History(ctx context.Context, run, stage string) ([]Event, error) {
	events, err := queryRows(ctx, s.pool, scanEvent, `
		select sequence, stream, at, actor, type, stage, attempt, body from event
		where stream = $1 and ($2 = '' or stage = $2) order by sequence`, run, stage)
	return events, wrapError(ctx, "reading the history of "+run, err)
}

func scanEvent(row pgx.CollectableRow) (e Event, err error) {
	var body []byte
	err = row.Scan(&e.Sequence, &e.Stream, &e.At, &e.Actor, &e.Type, &e.Stage, &e.Attempt, &body)
	e.Body = body
	return e, err
}
