package notary

import (
	"context"
	"fmt"
	"time"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// tree rebuilds the tree from the events, leaf by leaf, and compares it with
// every signed head and with the stored hashes.
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
	v Verifier
	// last is the sequence of the last leaf of each stream.
	last map[string]int64
	// gapReported is set after the first missing leaf: later indexes all differ.
	gapReported bool
}

// clockSlack is how much earlier than a head an event may have been appended
// that was added to the tree after it. A transaction that appends, or the
// process that adds to the tree, may be slow, and clocks differ.
const clockSlack = time.Hour

// next checks one leaf: its place, its event and its event's time.
func (c *leafCheck) next(l storage.Leaf) error {
	where := fmt.Sprintf("leaf %d", l.Index)
	// Leaves are numbered without a gap; the tree's size is the expected
	// index.
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
			"its time is %s, but it was added to the tree after the head of %d events, which was signed at %s",
			l.At.UTC().Format(time.RFC3339), c.newest.Size, signed.UTC().Format(time.RFC3339))
	}
	if l.Found && (c.since.IsZero() || l.At.Before(c.since)) {
		c.since = l.At
	}
	c.add(l.Hash)
	return nil
}

// longWait is how long events may be without a signed head before a
// verification mentions it.
const longWait = 24 * time.Hour

// headDeadline is the age from which a record, or an event, should be under a
// signed head: a worker signs one every minute.
const headDeadline = 10 * time.Minute

// checkUnsigned reports events that are under no signed head, and heads that
// an earlier verification saw and that are gone.
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
	// A worker has not had the time to sign yet.
	case rep.Heads == 0 && young:
		rep.note("the record", "it began at %s, and no head of it was signed yet:"+
			" a change that is consistent in itself would not be found", rep.first.UTC().Format(time.RFC3339))
	case rep.Heads == 0:
		rep.add("the record",
			"none of its %d events is under a signed head: all heads were removed, or no worker ever signed one."+
				" Verify against a head that was kept elsewhere, with --against. Where no worker has run yet, start"+
				" one (`trimtab worker`): it signs what is there, and a head every minute from then on", rep.Events)
	case rep.Unsigned.Since != nil && v.Now.Sub(*rep.Unsigned.Since) > headDeadline:
		rep.note("the record",
			"%d events, the oldest of %s, are under no signed head: anybody with write access to the"+
				" database could have added or changed them; a worker signs a head every minute",
			rep.Unsigned.Events, rep.Unsigned.Since.Format(time.RFC3339))
	}
}

// checkStoredHashes verifies that the stored hashes are those of a tree, and
// of the tree with this root. Proofs are made from them.
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

// verifiedHead is a head whose signature is valid, and where it is kept.
type verifiedHead struct {
	where string
	head  audit.Head
}

// heads verifies the signatures of all heads, from the database and from
// elsewhere, and returns those that hold in order of size. A head whose note
// says another size than its row is reported and compared by its note.
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

// headCheck builds a tree and compares it with the signed heads as it grows.
type headCheck struct {
	rep  *Verification
	tree audit.Tree
	// heads are in order of size, and due is the index of the next one.
	heads []verifiedHead
	due   int

	// newest is the last head whose size the tree has reached.
	newest audit.Head

	// since is the time of the oldest event after newest.
	since time.Time
	// waits is the longest time that an event was without a signed head, if
	// longer than longWait, and until the head that ended it.
	waits time.Duration
	until audit.Head
}

// add appends an event and compares the heads of the new size.
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

// recordWait keeps the longest time that an event waited for a signed head.
func (c *headCheck) recordWait(h audit.Head) {
	if wait := h.At.Sub(c.since); !c.since.IsZero() && !h.At.IsZero() && wait > max(longWait, c.waits) {
		c.waits, c.until = wait, h
	}
	c.newest, c.since = h, time.Time{}
}

// finish reports the heads of trees that are larger than the record.
func (c *headCheck) finish() {
	for ; c.due < len(c.heads); c.due++ {
		h := c.heads[c.due]
		c.rep.add(h.where, "it is of %d events, the tree has %d: the record ends too early, or is an older copy",
			h.head.Size, c.tree.Size())
	}
}

// checkMissingHeads reports heads that are kept elsewhere and missing from
// the database, where each is stored first.
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
