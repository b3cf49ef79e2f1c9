package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Request is what a person asks of a run: an event decision_requested in the
// run's stream, appended in a session under that person's own database role.
// The database takes the role from the session, so it cannot be claimed
// falsely; Actor is only what the person says.
type Request struct {
	// Sequence is the event's; 0 until it is recorded, and of a decision that
	// an older build took without one.
	Sequence int64
	Run      string
	Stage    string // empty: about the whole run
	Attempt  int    // number of the newest one that the person saw; 0 for none
	Decision string // approve, skip, cancel, pause, resume, rerun
	Reason   string
	Actor    string // who they say they are

	// Of a rerun: the wanted plan, what was changed for it, and the checkpoint to start from.
	Plan      trimtab.Digest
	Overrides []trimtab.Override
	From      trimtab.Digest
}

// body is the event's body. Two requests for the same have the same bytes,
// which is how check recognises one.
func (r Request) body() map[string]any {
	body := map[string]any{"actor": storableText(r.Actor), "decision": r.Decision, "reason": r.Reason}
	if r.Plan != "" {
		body["from"], body["overrides"], body["plan"] = r.From, r.Overrides, r.Plan
	}
	return body
}

// subject is the subject of the request's event.
func (r Request) subject() subject { return subject{r.Run, r.Stage, r.Attempt} }

// RequestDecision records what a person asks for and returns the request with
// its Sequence. The run itself does not change: its workflow carries the
// decision out, or refuses it.
func (s *Store) RequestDecision(ctx context.Context, r Request) (Request, error) {
	err := s.write(ctx, "recording a request about run "+r.Run, func(tx pgx.Tx) (err error) {
		r.Sequence, err = appendRequest(ctx, tx, r)
		return err
	})
	return r, err
}

// appendRequest appends the event of a request. Its sequence is known before
// the append, because nextEvent locks the stream.
func appendRequest(ctx context.Context, tx pgx.Tx, r Request) (sequence int64, err error) {
	if sequence, err = nextEvent(ctx, tx, r.subject()); err != nil {
		return 0, err
	}
	// the actor is the session's role
	return sequence, appendEvent(ctx, tx, r.subject(), "", trimtab.EventDecisionRequested, r.body())
}

// RefuseDecision records why a request was refused. After that no Update can
// carry it out.
func (s *Store) RefuseDecision(ctx context.Context, r Request, why *trimtab.Error) error {
	return s.write(ctx, "recording that a decision about run "+r.Run+" was refused", func(tx pgx.Tx) error {
		return appendEvent(ctx, tx, r.subject(), "trimtab", trimtab.EventDecisionRefused,
			decisionRefusedBody{Decision: r.Decision, Error: why, Request: r.Sequence})
	})
}

// CheckRequest reports whether a request is in the record exactly as given,
// and is still unanswered. update is the id of the Temporal Update that asks:
// one that has carried the request out may ask again when it is retried.
//
// Errors: Conflict "decision_unrequested" if it is not in the record,
// Conflict "decision_taken" if it was carried out by another Update, or
// refused.
func (s *Store) CheckRequest(ctx context.Context, r Request, update string) error {
	return s.read(ctx, "checking a request about run "+r.Run, func(tx pgx.Tx) error {
		_, _, err := r.check(ctx, tx, update)
		return err
	})
}

// check is CheckRequest in a transaction. role is that of the session which
// recorded the request, for the event of the decision; taken says that this
// very Update has carried it out already. A request without a sequence comes
// from an older build and is not checked.
func (r Request) check(ctx context.Context, q querier, update string) (role string, taken bool, err error) {
	if r.Sequence == 0 {
		return "", false, nil
	}
	want, err := trimtab.EncodeJSON(r.body())
	if err != nil {
		return "", false, err
	}
	var of subject
	var typ trimtab.EventType
	var body []byte
	err = q.QueryRow(ctx, `
		select actor, type, stream, stage, attempt, body from event
		where stream = $1 and sequence = $2`, r.Run, r.Sequence).
		Scan(&role, &typ, &of.stream, &of.stage, &of.attempt, &body)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", false, err
	}
	if err != nil || typ != trimtab.EventDecisionRequested || of != r.subject() || !bytes.Equal(body, want) {
		return "", false, trimtab.NewError(trimtab.Conflict, "decision_unrequested",
			"decide with a trimtab command, which records the request under your database role",
			"%s of run %s: the record has no request for it", r.Decision, r.Run)
	}
	taken, err = r.answered(ctx, q, update)
	return role, taken, err
}

// answered looks for the answer to a request among the events after it. It
// returns true if update carried it out.
func (r Request) answered(ctx context.Context, q querier, update string) (bool, error) {
	bodies, err := queryRows(ctx, q, pgx.RowTo[[]byte], `
		select body from event where stream = $1 and sequence > $2 and type in ('decision', 'decision_refused')
		order by sequence`, r.Run, r.Sequence)
	if err != nil {
		return false, err
	}
	for _, body := range bodies {
		var answer struct {
			Request int64
			Update  string
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return false, err
		}
		switch {
		case answer.Request != r.Sequence:
		case answer.Update == update && update != "":
			return true, nil
		default:
			return false, trimtab.NewError(trimtab.Conflict, "decision_taken",
				"look at the run with `trimtab show` and decide again",
				"%s of run %s: the request was already carried out or refused", r.Decision, r.Run)
		}
	}
	return false, nil
}

// Decision is a request that is carried out.
type Decision struct {
	Request
	// Number is that of the attempt that it is about; 0 for none.
	Number int
	// Update is the id of the Temporal Update that carries it out; empty for a
	// command that does it itself.
	Update string
}

// subject is the subject of the decision's event. Its attempt is the one that
// the decision is about, not the newest that the person saw.
func (d Decision) subject() subject { return subject{d.Run, d.Stage, d.Number} }

// RecordDecision records that a person's decision is carried out: approve
// lets an attempt pass a gate that it missed, skip continues the run without
// the stage's output and marks the attempt as skipped. Others concern the
// whole run. The same decision again changes nothing. Errors: those of
// CheckRequest, and NotFound "attempt_not_found".
func (s *Store) RecordDecision(ctx context.Context, d Decision) error {
	return s.write(ctx, "recording the decision "+d.Decision+" about run "+d.Run, func(tx pgx.Tx) error {
		id, st, err := d.lockAttempt(ctx, tx)
		if err != nil {
			return err
		}
		body, known, err := d.accept(ctx, tx)
		if known || err != nil {
			return err
		}
		// The workflow continues without the stage's output.
		if id != 0 && d.Decision == "skip" {
			if err := changeStatus(ctx, tx, id, st, trimtab.AttemptSkipped, nil, d.Actor, ""); err != nil {
				return err
			}
		}
		return appendEvent(ctx, tx, d.subject(), d.Actor, trimtab.EventDecision, body)
	})
}

// lockAttempt locks the state of the attempt that the decision is about; id
// is 0 if it is about none. The state is locked before the stream, in the
// order that package storage documents.
func (d Decision) lockAttempt(ctx context.Context, tx pgx.Tx) (id int64, st attemptState, err error) {
	if d.Number == 0 {
		return 0, st, nil
	}
	err = tx.QueryRow(ctx, "select id from attempt where run = $1 and stage = $2 and number = $3", d.Run, d.Stage,
		d.Number).
		Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = trimtab.NewError(trimtab.NotFound, "attempt_not_found", "see `trimtab show`",
			"run %s has no attempt %d of %s", d.Run, d.Number, d.Stage)
	}
	if err == nil {
		st, err = lockAttemptState(ctx, tx, id)
	}
	return id, st, err
}

// accept checks the request under the lock of the run's stream, so that it is
// carried out once, and returns the body of the event decision. known says
// that the decision is recorded already, and nothing is left to do.
func (d Decision) accept(ctx context.Context, tx pgx.Tx) (body map[string]any, known bool, err error) {
	details, err := json.Marshal(map[string]string{"decision": d.Decision, "reason": d.Reason})
	if err != nil {
		return nil, false, err
	}
	body = map[string]any{"decision": d.Decision, "details": json.RawMessage(details)}
	// An older build took the decision without a request. It is recognised by
	// its content instead.
	if d.Sequence == 0 {
		known, err = alreadyRecorded(ctx, tx, d.subject(), body, d.Actor)
		return body, known, err
	}
	// The lock of the stream orders this against another Update or a refusal.
	if _, err := nextEvent(ctx, tx, d.subject()); err != nil {
		return nil, false, err
	}
	body["request"], body["update"] = d.Sequence, d.Update
	body["role"], known, err = d.check(ctx, tx, d.Update)
	return body, known, err
}

// alreadyRecorded reports whether the newest decision about an attempt is
// this one, by this actor. It recognises the decisions of older builds, which
// have no request.
func alreadyRecorded(ctx context.Context, tx pgx.Tx, of subject, body map[string]any, actor string) (bool, error) {
	raw, err := trimtab.EncodeJSON(body)
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
	return err == nil && bytes.Equal(last, raw) && by == storableText(actor), err
}
