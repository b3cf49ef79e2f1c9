package notary

import (
	"context"
	"fmt"
	"time"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// tree builds the tree again and compares it with every head.
func (v Verifier) tree(ctx context.Context, r storage.Snapshot, rep *Verification,
	streams map[string]storage.Stream) error {
	heads, err := v.heads(ctx, r, rep)
	if err != nil {
		return err
	}
	c := leafCheck{v: v, headCheck: headCheck{rep: rep, heads: heads}, last: make(map[string]int64, len(streams))}
	c.checkHeads()
	if err := r.Leaves(ctx, c.next); err != nil {
		return err
	}
	rep.Leaves = c.tree.Size()
	c.finish()
	for _, name := range sortedKeys(streams) {
		s := streams[name]
		if s.Logged != c.last[name] {
			rep.add("stream "+name, "event_stream says that %d of its events are in the tree, there are %d",
				s.Logged, c.last[name])
		}
	}
	v.checkUnsigned(rep)
	if c.waits > 0 {
		rep.note("the record",
			"events up to number %d of the tree were under no signed head for as long as %.0f days, until %s:"+
				" until then they could have been changed", c.until.Size, c.waits.Hours()/24,
			c.until.At.UTC().Format(time.RFC3339))
	}
	return v.checkStoredHashes(ctx, r, rep, c.tree.Root())
}

// leafCheck follows the leaves of the tree.
type leafCheck struct {
	headCheck
	v           Verifier
	last        map[string]int64 // sequence, by stream
	gapReported bool
}

// clockSlack is how long before a head an event may have been appended that came into the tree after it: whoever writes
// to a
// stream, or adds to the tree, may have been slow, and clocks differ.
const clockSlack = time.Hour

func (c *leafCheck) next(l storage.Leaf) error {
	where := fmt.Sprintf("leaf %d", l.Index)
	if l.Index != c.tree.Size() && !c.gapReported {
		c.rep.add(where, "leaves %d to %d are missing", c.tree.Size(), l.Index-1)
		c.gapReported = true
	}
	if !l.Found {
		c.rep.add(where, "its event %d of %s is gone", l.Sequence, l.Stream)
	}
	if c.last[l.Stream]+1 != l.Sequence {
		c.rep.add(where, "it is event %d of %s, which comes after %d", l.Sequence, l.Stream, c.last[l.Stream])
	}
	c.last[l.Stream] = l.Sequence
	c.v.reportProgress("leaves of the tree", c.tree.Size()+1, c.rep.Events)
	if c.tree.Size() >= c.rep.Newest.Size {
		c.rep.unsigned(l.At)
	}
	if signed := c.newest.At; l.Found && !signed.IsZero() && l.At.Before(signed.Add(-clockSlack)) {
		c.rep.note(eventName(l.Stream, l.Sequence),
			"it says that it is of %s, and came into the tree after the head of %d events, which was signed at %s",
			l.At.UTC().Format(time.RFC3339), c.newest.Size, signed.UTC().Format(time.RFC3339))
	}
	if l.Found && (c.since.IsZero() || l.At.Before(c.since)) {
		c.since = l.At
	}
	c.add(l.Hash)
	return nil
}

// longWait is how long events may go without a head before that is told.
const longWait = 24 * time.Hour

// headDeadline is how old a record, or an event, may be before a head has to be signed: a worker signs one every
// minute.
const headDeadline = 10 * time.Minute

// checkUnsigned says what is to be said of events that are under no signed head.
func (v Verifier) checkUnsigned(rep *Verification) {
	if v.NoHeads || rep.Events == 0 {
		return
	}
	if seen := rep.seen; seen.Size > rep.Newest.Size {
		rep.add("table tree_head",
			"%s says that there was a signed head of %d events, the largest is of %d: newer ones were"+
				" taken out; verify against one that was kept elsewhere, with --against",
			seen.event, seen.Size, rep.Newest.Size)
	}
	young := v.Now.Sub(rep.first) < headDeadline
	switch {
	case rep.Heads == 0 && young:
		rep.note("the record", "it began at %s, and no head of it was signed yet:"+
			" a change that is consistent in itself would not be found", rep.first.UTC().Format(time.RFC3339))
	case rep.Heads == 0:
		rep.add("the record",
			"none of its %d events is under a signed head: all heads were taken out, or no worker ever signed one."+
				" Verify against a head that was kept elsewhere, with --against; where no worker has run yet, start one"+
				" (`trimtab worker`), which signs a head every minute, and trust what is there", rep.Events)
	case rep.Unsigned.Since != nil && v.Now.Sub(*rep.Unsigned.Since) > headDeadline:
		rep.note("the record",
			"%d events, the oldest of %s, are under no signed head: whoever may write to the database"+
				" could have added or changed them; a worker signs a head every minute",
			rep.Unsigned.Events, rep.Unsigned.Since.Format(time.RFC3339))
	}
}

// checkStoredHashes holds the stored hashes of the tree against one another, and against the root.
func (v Verifier) checkStoredHashes(ctx context.Context, r storage.Snapshot, rep *Verification, root audit.Hash) error {
	var t audit.HashChecker
	bad := false
	err := r.TreeHashes(ctx, func(index int64, hash []byte) error {
		if bad {
			return nil
		}
		if err := t.Next(index, hash); err != nil {
			rep.add(fmt.Sprintf("log_hash %d", index), "%v", err)
			bad = true
		}
		return nil
	})
	if err == nil && !bad && (!t.Complete() || t.Size() != rep.Leaves || t.Root() != root) {
		rep.add("log_hash", "the stored hashes are of another tree than that of the events:"+
			" %d leaves, root %s; the events have %d, root %s", t.Size(), t.Root(), rep.Leaves, root)
	}
	return err
}

// verifiedHead is a head whose signature holds.
type verifiedHead struct {
	where string
	head  audit.Head
}

// heads opens every signed head, in order of size.
func (v Verifier) heads(ctx context.Context, r storage.Snapshot, rep *Verification) ([]verifiedHead, error) {
	rows, err := r.TreeHeads(ctx)
	if err != nil {
		return nil, err
	}
	saved := make([]SavedHead, 0, len(rows)+len(v.Saved))
	for _, row := range rows {
		where := fmt.Sprintf("tree_head %d", row.Size)
		saved = append(saved, SavedHead{where, row.Note})
		if h, err := audit.OpenHead(row.Note, v.Keys...); err == nil && h.Size != row.Size {
			rep.add(where, "its note is of size %d", h.Size)
		}
	}
	v.checkMissingHeads(rows, rep)
	return openHeads(rep, v.Keys, append(saved, v.Saved...)), nil
}

// headCheck builds a tree and compares it with signed heads on the way.
type headCheck struct {
	rep   *Verification
	tree  audit.Tree
	heads []verifiedHead // in order of size
	due   int            // the next one

	newest audit.Head // that was reached

	since time.Time     // of the oldest leaf since then
	waits time.Duration // the longest that a leaf waited for a head, as far as it is long
	until audit.Head    // the head for which it waited
}

func (c *headCheck) add(event audit.Hash) {
	c.tree.Add(event)
	c.checkHeads()
}

// checkHeads compares the heads of the size that the tree has now.
func (c *headCheck) checkHeads() {
	for ; c.due < len(c.heads) && c.heads[c.due].head.Size == c.tree.Size(); c.due++ {
		c.recordWait(c.heads[c.due].head)
		if h := c.heads[c.due]; h.head.Root != c.tree.Root() {
			c.rep.add(h.where, "the record under this signed head of %d events is not what it was:"+
				" the root is %s now, %s was signed", h.head.Size, c.tree.Root(), h.head.Root)
		}
	}
}

// recordWait takes note of how long the leaves since the head before waited for this one.
func (c *headCheck) recordWait(h audit.Head) {
	if wait := h.At.Sub(c.since); !c.since.IsZero() && !h.At.IsZero() && wait > max(longWait, c.waits) {
		c.waits, c.until = wait, h
	}
	c.newest, c.since = h, time.Time{}
}

// finishStream reports the heads of trees that are larger.
func (c *headCheck) finish() {
	for ; c.due < len(c.heads); c.due++ {
		h := c.heads[c.due]
		c.rep.add(h.where, "it is of %d events, the tree has %d: the record ends too early, or is an older copy",
			h.head.Size, c.tree.Size())
	}
}

// checkMissingHeads finds heads that were taken out of the database, which has each before any other place does.
func (v Verifier) checkMissingHeads(rows []storage.SignedHead, rep *Verification) {
	have := map[string]bool{}
	for _, row := range rows {
		have[row.Note] = true
	}
	for _, s := range v.Saved {
		if !have[s.Note] {
			rep.add("table tree_head", "it lacks the signed head that is kept as %s", s.Where)
		}
	}
}
