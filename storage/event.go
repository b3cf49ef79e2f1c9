package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trimtab/trimtab"
)

// Event is one thing that happened, as stored in a stream.
type Event struct {
	Sequence int64 // 1, 2, 3 … in its stream
	// Stream is the id of a run, "dataset/NAME", "artifact/DIGEST", "name/NAME",
	// "documents" or "audit".
	Stream string
	At     time.Time
	// Actor is the name of a person, "worker" or "trimtab"; for a request the
	// database role of the session.
	Actor   string
	Type    trimtab.EventType
	Stage   string
	Attempt int // its number within the stage, 0 for none
	Body    json.RawMessage
}

// subject is what an event is about: a stream and, in the stream of a run, a
// stage and the number of its attempt.
type subject struct {
	stream, stage string
	attempt       int
}

// appendEvent appends an event in the transaction of the facts that it
// records, so that both are committed or neither. body is a type of
// event_body.go or a map, whose keys JSON sorts. The SQL function numbers the
// event, sets its time, adds the digests of the rows that it seals, and
// chains its hash.
func appendEvent(ctx context.Context, tx pgx.Tx, of subject, actor string,
	typ trimtab.EventType, body any) error {
	raw, err := trimtab.EncodeJSON(body)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "select append_event($1, $2, $3, $4, $5, $6)",
		of.stream, storableText(actor), typ, of.stage, of.attempt, raw)
	return err
}

// nextEvent locks a stream until the transaction ends and returns the
// sequence of the event that the transaction will append to it next.
func nextEvent(ctx context.Context, tx pgx.Tx, of subject) (sequence int64, err error) {
	err = tx.QueryRow(ctx, "select next_event($1)", of.stream).Scan(&sequence)
	return sequence, err
}

// History returns the events of a run, by its full id, or of one of its
// stages, in order.
func (s *Store) History(ctx context.Context, run, stage string) ([]Event, error) {
	events, err := queryRows(ctx, s.pool, scanEvent, `
		select sequence, stream, at, actor, type, stage, attempt, body from event
		where stream = $1 and ($2 = '' or stage = $2) order by sequence`, run, stage)
	return events, wrapError(ctx, "reading the history of "+run, err)
}

// scanEvent reads a row of History.
func scanEvent(row pgx.CollectableRow) (e Event, err error) {
	var body []byte
	err = row.Scan(&e.Sequence, &e.Stream, &e.At, &e.Actor, &e.Type, &e.Stage, &e.Attempt, &body)
	e.Body = body
	return e, err
}
