package notary

import (
	"context"
	"fmt"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// facts compares the rows that events record with what they recorded, and
// names rows that no event records. For that it counts first, which needs no
// memory for the rows; only tables with a wrong count are read again.
func (v Verifier) facts(ctx context.Context, r storage.Snapshot, rep *Verification) (err error) {
	c := factCheck{v: v, rep: rep, counted: map[string]int64{}}
	if err := r.RecountFacts(ctx, nil, c.next); err != nil {
		return err
	}
	if rep.Rows, err = r.CountRows(ctx); err != nil {
		return err
	}
	// Rows that several events may record have no sum to compare with;
	// Orphans checks them.
	var odd []string
	for _, t := range audit.Tables {
		if n := rep.Rows[t.Name]; n != c.counted[t.Name] && !t.Shared {
			rep.add("table "+t.Name, "it has %d rows, events record %d", n, c.counted[t.Name])
			odd = append(odd, t.Name)
		}
	}
	unrecorded := func(row string) { rep.add("row "+row, "no event records it") }
	if err := v.unrecordedRows(ctx, r, odd, unrecorded); err != nil {
		return err
	}
	if err := r.Orphans(ctx, unrecorded); err != nil {
		return err
	}
	if err := r.StaleSummaries(ctx, func(version, what string) {
		rep.add("row dataset_summary "+version, "%s",
			what)
	}); err != nil {
		return err
	}
	return r.AlteredTombstones(ctx, func(row string) {
		rep.add("row "+row,
			"it was erased, and has been changed since")
	})
}

// unrecordedRows calls f with the rows of tables that no event records.
func (v Verifier) unrecordedRows(ctx context.Context, r storage.Snapshot, tables []string, f func(row string)) error {
	if len(tables) == 0 {
		return nil
	}
	cover := storage.NewCoverage(tables...)
	if err := r.RecountFacts(ctx, cover, func(storage.RecountedEvent) error { return nil }); err != nil {
		return err
	}
	return r.UnrecordedRows(ctx, cover, f)
}

// factCheck compares what events recorded of rows with what they are now.
type factCheck struct {
	v   Verifier
	rep *Verification
	// counted are the rows that events record, by table, each row once.
	counted map[string]int64
	events  int64
}

// next compares one event.
func (c *factCheck) next(t storage.RecountedEvent) error {
	where := fmt.Sprintf("%s (%s)", eventName(t.Stream, t.Sequence), t.Type)
	if t.State {
		now := t.Recounts[0]
		c.counted[now.Table] += now.Fresh
		if t.Recorded != now.Seal {
			c.rep.add(where, "%s", differs(t.Recorded, now.Seal))
		}
		return nil
	}
	c.events++
	c.v.reportProgress("events that record rows", c.events, 0)
	// The event's hash covers its facts, and the chain was verified: was can
	// be trusted as what was recorded.
	was, err := audit.ParseSeals(t.Facts)
	if err == nil {
		err = t.Err
	}
	if err != nil {
		c.rep.add(where, "%v", err)
		return nil
	}
	for i, now := range t.Recounts {
		c.counted[now.Table] += now.Fresh
		if i >= len(was) || was[i].Table != now.Table {
			c.rep.add(where, "it does not record the rows of %s, which it must", now.Table)
			return nil
		}
		if !now.Deferred && was[i] != now.Seal {
			c.rep.add(where, "%s", differs(was[i], now.Seal))
		}
	}
	if len(was) > len(t.Recounts) {
		c.rep.add(where, "it records rows of %s, which an event of its type does not",
			was[len(t.Recounts)].Table)
	}
	return nil
}

// differs describes how rows differ from what was recorded.
func differs(was, now audit.Seal) string {
	if was.Rows != now.Rows {
		return fmt.Sprintf("it records %d rows of %s and there are %d now", was.Rows, now.Table, now.Rows)
	}
	return fmt.Sprintf("the rows of %s that it records are not what they were: %d with the digest %s were recorded, "+
		"now it is %s",
		now.Table, was.Rows, was.Digest, now.Digest)
}
