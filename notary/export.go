package notary

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/plainfile"
	"github.com/trimtab/trimtab/storage"
)

// eventsName is the file with the events of an exported record, one a line,
// in the order of the tree's leaves.
const eventsName = "events.jsonl"

// Export writes every event that is in the tree, and the signed heads, into a
// folder, with which the record can be verified without the database. It
// returns the number of events. Files that exist are not replaced.
func Export(ctx context.Context, store *storage.Store, folder string) (events int64, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return 0, err
	}
	var heads []storage.SignedHead
	err = plainfile.WriteNewFrom(filepath.Join(folder, eventsName), 0o644, func(file io.Writer) error {
		w := bufio.NewWriterSize(file, 1<<16)
		heads, events, err = exportEvents(ctx, store, w)
		return errors.Join(err, w.Flush())
	})
	if err != nil {
		return events, err
	}
	return events, plainfile.WriteNewFrom(HeadsIn(folder), 0o644,
		func(w io.Writer) error { return writeHeads(w, heads) })
}

// exportEvents writes every event that is in the tree, one a line, and
// returns the signed heads of the same instant.
func exportEvents(ctx context.Context, store *storage.Store,
	w io.Writer) (heads []storage.SignedHead, events int64, err error) {
	err = store.Snapshot(ctx, func(r storage.Snapshot) (err error) {
		if heads, err = r.TreeHeads(ctx); err != nil {
			return err
		}
		return r.LoggedEvents(ctx, func(_ int64, e *audit.Event, hash audit.Hash) error {
			events++
			line, err := json.Marshal(audit.ExportLine{Event: *e, Hash: hash})
			if err == nil {
				_, err = w.Write(append(line, '\n'))
			}
			return err
		})
	})
	return heads, events, err
}

// writeHeads writes signed heads as ReadHeads reads them.
func writeHeads(w io.Writer, heads []storage.SignedHead) error {
	enc := json.NewEncoder(w)
	for _, h := range heads {
		if err := enc.Encode(headLine{h.Note}); err != nil {
			return err
		}
	}
	return nil
}

// VerifyExport verifies an exported record: the chains, the tree and the
// signed heads, but not the rows, which are not in it. An error means that it
// cannot be read; what is wrong with it is in the Verification.
func VerifyExport(folder string, keys []string, saved []SavedHead) (Verification, error) {
	rep := Verification{Problems: []Problem{}, Notes: []Problem{}}
	notes, torn, err := ReadHeads(HeadsIn(folder))
	if err != nil {
		return rep, err
	}
	if torn > 0 {
		rep.add(headsName, "%d lines are no tree heads", torn)
	}
	for i, n := range notes {
		saved = append(saved, SavedHead{fmt.Sprintf("head %d of %s", i+1, headsName), n})
	}
	f, err := plainfile.Open(filepath.Join(folder, eventsName))
	if err != nil {
		return rep, err
	}
	defer f.Close()
	// Heads of size 0 are due before the first event.
	c := exportCheck{headCheck{rep: &rep, heads: openHeads(&rep, keys, saved)}, map[string]streamEnd{}}
	c.checkHeads()
	if err := c.lines(f); err != nil {
		return rep, err
	}
	rep.Events, rep.Leaves = c.tree.Size(), c.tree.Size()
	c.finish()
	// Without a head the export proves nothing: anybody can compute hashes.
	if rep.Heads == 0 && rep.Events > 0 {
		rep.add(headsName,
			"no head in it is signed with the key: the events could be anybody's. Verify against a head that was "+
				"kept elsewhere, with --against")
	}
	return rep, nil
}

// streamEnd is the last event of a stream so far.
type streamEnd struct {
	sequence int64
	hash     audit.Hash
}

// exportCheck verifies events in the order of the tree, in which those of
// different streams alternate.
type exportCheck struct {
	headCheck
	chains map[string]streamEnd
}

// maxLine bounds a line of an exported record, in bytes.
const maxLine = 16 << 20

// lines verifies every line of a file of events.
func (c *exportCheck) lines(r io.Reader) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 1<<16), maxLine)
	for s.Scan() {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		e, err := audit.ParseExportLine(s.Bytes())
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", eventsName, c.tree.Size()+1, err)
		}
		c.take(e)
	}
	return s.Err()
}

// take verifies one event. It trusts the stored hash afterwards, so that the
// next event is judged by itself.
func (c *exportCheck) take(e audit.ExportLine) {
	last := c.chains[e.Event.Stream]
	where := eventName(e.Event.Stream, e.Event.Sequence)
	if e.Event.Sequence != last.sequence+1 {
		c.rep.add(where, "it comes after event %d", last.sequence)
	} else if h := e.Event.Hash(last.hash); h != e.Hash {
		c.rep.add(where, "the event or the one before it was changed: its hash is %s, stored is %s", h, e.Hash)
	}
	c.chains[e.Event.Stream] = streamEnd{e.Event.Sequence, e.Hash}
	c.add(e.Hash)
}

// openHeads verifies the signatures of heads and returns those that hold, in
// order of size.
func openHeads(rep *Verification, keys []string, saved []SavedHead) (heads []verifiedHead) {
	for _, s := range saved {
		h, err := audit.OpenHead(s.Note, keys...)
		if err != nil {
			rep.add(s.Where, "%v", err)
			continue
		}
		rep.Heads++
		if h.Size > rep.Newest.Size {
			rep.Newest = h
		}
		heads = append(heads, verifiedHead{s.Where, h})
	}
	slices.SortStableFunc(heads, func(a, b verifiedHead) int { return int(a.head.Size - b.head.Size) })
	return heads
}
