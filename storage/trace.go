package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// EventRef identifies an event.
type EventRef struct {
	Stream   string
	Sequence int64
}

// Trace returns the events that show where an artifact came from: how the
// attempt that made it first was created, started and completed, how its run
// was created, and the same for each of its inputs, down to what was
// imported. Each event occurs once, those of an input before those of what
// was made of it.
func (s *Store) Trace(ctx context.Context, of trimtab.Digest) ([]EventRef, error) {
	t := tracer{seen: map[trimtab.Digest]bool{}, recorded: map[EventRef]bool{}}
	err := s.read(ctx, "tracing "+of.Short(), func(tx pgx.Tx) error { return t.visit(ctx, tx, of) })
	return t.found, err
}

// tracer is a depth-first search through the inputs of attempts.
type tracer struct {
	seen     map[trimtab.Digest]bool // digests that were visited
	recorded map[EventRef]bool       // events in found
	found    []EventRef
}

// visit collects the events of a digest's inputs and then its own.
func (t *tracer) visit(ctx context.Context, tx pgx.Tx, d trimtab.Digest) error {
	if t.seen[d] {
		return nil
	}
	t.seen[d] = true
	// The first attempt that made the digest, not one that reused it.
	var attempt int64
	var run, stage string
	var number int
	err := tx.QueryRow(ctx, `
		select a.id, a.run, a.stage, a.number from attempt_output o join attempt a on a.id = o.attempt
		where o.digest = $1 and a.reused_from is null order by a.id limit 1`, d).Scan(&attempt, &run, &stage, &number)
	if errors.Is(err, pgx.ErrNoRows) {
		return t.visitImported(ctx, tx, d)
	} else if err != nil {
		return err
	}
	inputs, err := queryRows(ctx, tx, pgx.RowTo[trimtab.Digest],
		"select digest from attempt_input where attempt = $1 order by position", attempt)
	if err != nil {
		return err
	}
	for _, in := range inputs {
		if err := t.visit(ctx, tx, in); err != nil {
			return err
		}
	}
	return t.collectRefs(ctx, tx, `
		select stream, sequence from event where stream = $1 and (type = 'run_created'
			or stage = $2 and attempt = $3 and type in ('attempt_created', 'attempt_started', 'attempt_completed'))
				order by sequence`, run, stage, number)
}

// visitImported collects the events of what no attempt made: a dataset
// version, with all additions up to its freeze, or an imported model.
func (t *tracer) visitImported(ctx context.Context, tx pgx.Tx, d trimtab.Digest) error {
	return t.collectRefs(ctx, tx, `
		select e.stream, e.sequence from event e join dataset_freeze f on e.stream = 'dataset/' || f.dataset
		where f.version = $1 and e.type in ('dataset_created', 'items_added', 'dataset_frozen')
			and e.sequence <= (select min(sequence) from event where stream = e.stream and type = 'dataset_frozen'
				and position($1::text in convert_from(body, 'UTF8')) > 0)
			and (e.type <> 'dataset_frozen' or position($1::text in convert_from(e.body, 'UTF8')) > 0)
		union
		select stream, sequence from event where stream = 'artifact/' || $1 and type = 'artifact_made'
		order by stream, sequence`, d)
}

// collectRefs adds the events that a query selects and that are not there
// yet.
func (t *tracer) collectRefs(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	refs, err := queryRows(ctx, tx, pgx.RowToStructByPos[EventRef], sql, args...)
	for _, r := range refs {
		if !t.recorded[r] {
			t.recorded[r] = true
			t.found = append(t.found, r)
		}
	}
	return err
}
