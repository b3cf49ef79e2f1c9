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
// run's stream, which he appends under his own database role. The database
// takes the role from his session, so that it is not what he says it is.
type Request struct {
	// Sequence is the event's; 0 until it is recorded, and of a decision that
	// an older build took without one.
	Sequence int64
	Run      string
	Stage    string // empty: about the whole run
	Attempt  int    // number of the newest one that he saw; 0 for none
	Decision string // approve, skip, cancel, pause, resume, rerun
	Reason   string
	Actor    string // who he says he is

	// Of a rerun: the plan that he wants, what he changed for it, and the checkpoint to go on from.
	Plan      trimtab.Digest
	Overrides []trimtab.Override
	From      trimtab.Digest
}

// event is the event's body. Two requests for the same have the same bytes.
func (r Request) body() map[string]any {
	told := map[string]any{"actor": storableText(r.Actor), "decision": r.Decision, "reason": r.Reason}
	if r.Plan != "" {
		told["from"], told["overrides"], told["plan"] = r.From, r.Overrides, r.Plan
	}
	return told
}

func (r Request) subject() subject { return subject{r.Run, r.Stage, r.Attempt} }

// RequestDecision records what a person asks for and returns it with its
// Sequence. Nothing of the run changes: the run's workflow takes the decision.
func (s *Store) RequestDecision(ctx context.Context, r Request) (Request, error) {
	err := s.write(ctx, "recording what is asked of run "+r.Run, func(tx pgx.Tx) (err error) {
		r.Sequence, err = appendRequest(ctx, tx, r)
		return err
	})
	return r, err
}

func appendRequest(ctx context.Context, tx pgx.Tx, r Request) (sequence int64, err error) {
	if sequence, err = nextEvent(ctx, tx, r.subject()); err != nil {
		return 0, err
	}
	// the actor is the session's role
	return sequence, appendEvent(ctx, tx, r.subject(), "", "decision_requested", r.body())
}

// RefuseDecision records why a request was refused: nobody can have it taken after that.
func (s *Store) RefuseDecision(ctx context.Context, r Request, why *trimtab.Error) error {
	return s.write(ctx, "recording that a decision about run "+r.Run+" was refused", func(tx pgx.Tx) error {
		told := map[string]any{"decision": r.Decision, "error": why, "request": r.Sequence}
		return appendEvent(ctx, tx, r.subject(), "trimtab", "decision_refused", told)
	})
}

// CheckRequest reports whether a request is in the record as it is given here,
// and was neither taken nor refused; an Update that has taken it may ask again.
// Errors: Conflict decision_unrequested, decision_taken.
func (s *Store) CheckRequest(ctx context.Context, r Request, update string) error {
	return s.read(ctx, "looking for what was asked of run "+r.Run, func(tx pgx.Tx) error {
		_, _, err := r.check(ctx, tx, update)
		return err
	})
}

// check is CheckRequest. role is that of the session which recorded the
// request; taken says that this very Update has taken it already.
func (r Request) check(ctx context.Context, q querier, update string) (role string, taken bool, err error) {
	if r.Sequence == 0 {
		return "", false, nil
	}
	want, err := canonicalJSON(r.body())
	if err != nil {
		return "", false, err
	}
	var of subject
	var typ string
	var body []byte
	err = q.QueryRow(ctx, `
		select actor, type, stream, stage, attempt, body from event where stream = $1 and sequence = $2`, r.Run, r.Sequence).
		Scan(&role, &typ, &of.stream, &of.stage, &of.attempt, &body)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", false, err
	}
	if err != nil || typ != "decision_requested" || of != r.subject() || !bytes.Equal(body, want) {
		return "", false, trimtab.NewError(trimtab.Conflict, "decision_unrequested",
			"decide with a trimtab command, which asks for it under your database role",
			"%s of run %s: nobody has asked for it in the record", r.Decision, r.Run)
	}
	taken, err = r.answered(ctx, q, update)
	return role, taken, err
}

// answered looks for what came of a request: true if the Update itself has taken it.
func (r Request) answered(ctx context.Context, q querier, update string) (bool, error) {
	bodies, err := queryRows(ctx, q, pgx.RowTo[[]byte], `
		select body from event where stream = $1 and sequence > $2 and type in ('decision', 'decision_refused')
		order by sequence`, r.Run, r.Sequence)
	if err != nil {
		return false, err
	}
	for _, body := range bodies {
		var told struct {
			Request int64
			Update  string
		}
		if err := json.Unmarshal(body, &told); err != nil {
			return false, err
		}
		switch {
		case told.Request != r.Sequence:
		case told.Update == update && update != "":
			return true, nil
		default:
			return false, trimtab.NewError(trimtab.Conflict, "decision_taken",
				"look at the run with `trimtab show` and decide again",
				"%s of run %s: what was asked for then was taken or refused already", r.Decision, r.Run)
		}
	}
	return false, nil
}

// Decision is a request that is taken.
type Decision struct {
	Request
	Number int    // of the attempt that it is about; 0 for none
	Update string // id of the Update that takes it; empty: the person's own command
}

func (d Decision) subject() subject { return subject{d.Run, d.Stage, d.Number} }

// RecordDecision keeps what a person decided about an attempt against the
// machine, or about the run: approve lets a missed gate pass, skip goes on
// without the stage's output (and shows the attempt as skipped). The same
// decision again changes nothing. Errors: those of CheckRequest, and NotFound attempt_not_found.
func (s *Store) RecordDecision(ctx context.Context, d Decision) error {
	return s.write(ctx, "recording the decision "+d.Decision+" about run "+d.Run, func(tx pgx.Tx) error {
		id, st, err := d.lockAttempt(ctx, tx)
		if err != nil {
			return err
		}
		told, known, err := d.accept(ctx, tx)
		if known || err != nil {
			return err
		}
		if id != 0 && d.Decision == "skip" {
			if err := changeStatus(ctx, tx, id, st, trimtab.AttemptSkipped, nil, d.Actor, ""); err != nil {
				return err
			}
		}
		return appendEvent(ctx, tx, d.subject(), d.Actor, "decision", told)
	})
}

// lockAttempt locks the attempt that the decision is about; its id is 0 if it is about none.
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
// taken once, and gives the body of the event decision. known says that the
// decision is recorded already.
func (d Decision) accept(ctx context.Context, tx pgx.Tx) (told map[string]any, known bool, err error) {
	details, err := json.Marshal(map[string]string{"decision": d.Decision, "reason": d.Reason})
	if err != nil {
		return nil, false, err
	}
	told = map[string]any{"decision": d.Decision, "details": json.RawMessage(details)}
	if d.Sequence == 0 {
		known, err = alreadyRecorded(ctx, tx, d.subject(), told, d.Actor)
		return told, known, err
	}
	if _, err := nextEvent(ctx, tx, d.subject()); err != nil {
		return nil, false, err
	}
	told["request"], told["update"] = d.Sequence, d.Update
	told["role"], known, err = d.check(ctx, tx, d.Update)
	return told, known, err
}

// alreadyRecorded reports whether the last decision about an attempt was this one, by
// this actor: a decision that an older build takes has no request to know it by.
func alreadyRecorded(ctx context.Context, tx pgx.Tx, of subject, told map[string]any, actor string) (bool, error) {
	raw, err := canonicalJSON(told)
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
