package notary

import (
	"context"
	"fmt"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// facts holds the rows that events tell of against what was told, and names rows of which none tells.
func (v Verify) facts(ctx context.Context, r storage.Reading, rep *Report) (err error) {
	c := factCheck{v: v, rep: rep, told: map[string]int64{}}
	if err := r.Facts(ctx, nil, c.next); err != nil {
		return err
	}
	if rep.Rows, err = r.Tables(ctx); err != nil {
		return err
	}
	var odd []string
	for _, t := range audit.Tables {
		if n := rep.Rows[t.Name]; n != c.told[t.Name] && !t.Shared {
			rep.add("table "+t.Name, "it has %d rows, events tell of %d", n, c.told[t.Name])
			odd = append(odd, t.Name)
		}
	}
	untold := func(row string) { rep.add("row "+row, "no event tells of it") }
	if err := v.untold(ctx, r, odd, untold); err != nil {
		return err
	}
	if err := r.Strays(ctx, untold); err != nil {
		return err
	}
	if err := r.Miscounted(ctx, func(version, what string) { rep.add("row dataset_summary "+version, "%s", what) }); err != nil {
		return err
	}
	return r.Remains(ctx, func(row string) { rep.add("row "+row, "it was erased, and has been changed since") })
}

// untold names the rows of tables of which no event tells.
func (v Verify) untold(ctx context.Context, r storage.Reading, tables []string, f func(row string)) error {
	if len(tables) == 0 {
		return nil
	}
	cover := storage.NewCover(tables...)
	if err := r.Facts(ctx, cover, func(storage.Told) error { return nil }); err != nil {
		return err
	}
	return r.Uncovered(ctx, cover, f)
}

// factCheck compares what events said of rows with what they are.
type factCheck struct {
	v      Verify
	rep    *Report
	told   map[string]int64 // rows, by table
	events int64
}

func (c *factCheck) next(t storage.Told) error {
	where := fmt.Sprintf("%s (%s)", eventName(t.Stream, t.Sequence), t.Type)
	if t.State {
		now := t.Now[0]
		c.told[now.Table] += now.Fresh
		if t.Was != now.Seal {
			c.rep.add(where, "%s", differs(t.Was, now.Seal))
		}
		return nil
	}
	c.events++
	c.v.tell("events that tell of rows", c.events, 0)
	was, err := audit.ParseSeals(t.Facts)
	if err == nil {
		err = t.Err
	}
	if err != nil {
		c.rep.add(where, "%v", err)
		return nil
	}
	for i, now := range t.Now {
		c.told[now.Table] += now.Fresh
		if i >= len(was) || was[i].Table != now.Table {
			c.rep.add(where, "it says nothing of the rows of %s that it has to tell of", now.Table)
			return nil
		}
		if !now.Later && was[i] != now.Seal {
			c.rep.add(where, "%s", differs(was[i], now.Seal))
		}
	}
	if len(was) > len(t.Now) {
		c.rep.add(where, "it says something of the rows of %s, of which an event like it does not tell", was[len(t.Now)].Table)
	}
	return nil
}

// differs says that rows are not what they were.
func differs(was, now audit.Seal) string {
	if was.Rows != now.Rows {
		return fmt.Sprintf("it tells of %d rows of %s and there are %d now", was.Rows, now.Table, now.Rows)
	}
	return fmt.Sprintf("the rows of %s that it tells of are not what they were: %d with the digest %s were recorded, now it is %s",
		now.Table, was.Rows, was.Digest, now.Digest)
}
