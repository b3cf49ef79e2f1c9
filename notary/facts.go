package notary

import (
	"context"
	"fmt"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// facts holds the rows that events tell of against what was told, and names rows of which none tells.
func (v Verifier) facts(ctx context.Context, r storage.Snapshot, rep *Verification) (err error) {
	c := factCheck{v: v, rep: rep, counted: map[string]int64{}}
	if err := r.RecountFacts(ctx, nil, c.next); err != nil {
		return err
	}
	if rep.Rows, err = r.CountRows(ctx); err != nil {
		return err
	}
	var odd []string
	for _, t := range audit.Tables {
		if n := rep.Rows[t.Name]; n != c.counted[t.Name] && !t.Shared {
			rep.add("table "+t.Name, "it has %d rows, events tell of %d", n, c.counted[t.Name])
			odd = append(odd, t.Name)
		}
	}
	untold := func(row string) { rep.add("row "+row, "no event tells of it") }
	if err := v.unrecordedRows(ctx, r, odd, untold); err != nil {
		return err
	}
	if err := r.Orphans(ctx, untold); err != nil {
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

// unrecordedRows names the rows of tables of which no event tells.
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

// factCheck compares what events said of rows with what they are.
type factCheck struct {
	v       Verifier
	rep     *Verification
	counted map[string]int64 // rows, by table
	events  int64
}

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
	c.v.reportProgress("events that tell of rows", c.events, 0)
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
			c.rep.add(where, "it says nothing of the rows of %s that it has to tell of", now.Table)
			return nil
		}
		if !now.Deferred && was[i] != now.Seal {
			c.rep.add(where, "%s", differs(was[i], now.Seal))
		}
	}
	if len(was) > len(t.Recounts) {
		c.rep.add(where, "it says something of the rows of %s, of which an event like it does not tell",
			was[len(t.Recounts)].Table)
	}
	return nil
}

// differs says that rows are not what they were.
func differs(was, now audit.Seal) string {
	if was.Rows != now.Rows {
		return fmt.Sprintf("it tells of %d rows of %s and there are %d now", was.Rows, now.Table, now.Rows)
	}
	return fmt.Sprintf("the rows of %s that it tells of are not what they were: %d with the digest %s were recorded, "+
		"now it is %s",
		now.Table, was.Rows, was.Digest, now.Digest)
}
