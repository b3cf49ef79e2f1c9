package notary

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// chains verifies the hash chain of every stream and compares its end with
// the stream's row in event_stream. It fills streams with those rows.
func (v Verifier) chains(ctx context.Context, r storage.Snapshot, rep *Verification,
	streams map[string]storage.Stream) error {
	beside, err := r.Streams(ctx)
	if err != nil {
		return err
	}
	c := chainCheck{v: v, rep: rep, streams: streams, seen: make(map[string]bool, len(beside))}
	for _, s := range beside {
		c.streams[s.Name] = s
		c.total += s.Head
	}
	// An error of reading is returned after what was read has been compared.
	err = r.Events(ctx, c.next)
	c.finishStream()
	for _, s := range beside {
		if s.Head > 0 && !c.seen[s.Name] {
			rep.add("stream "+s.Name, "event_stream says that it has %d events; there are none", s.Head)
		}
	}
	rep.first, rep.seen = c.first, c.verified
	return err
}

// clockTolerance is by how much the time of an event may precede that of the
// event before it: a clock that is corrected may step back.
const clockTolerance = time.Second

// chainCheck verifies the events of all streams, in order of stream and
// sequence.
type chainCheck struct {
	v     Verifier
	rep   *Verification
	chain audit.Chain
	// streams are the rows of event_stream, which append_event maintains.
	streams map[string]storage.Stream
	// seen are the streams that have events.
	seen map[string]bool
	// broken is the current stream, if an error in it was reported.
	broken string
	// total is the number of events that event_stream adds up to.
	total int64

	// first is the time of the earliest event.
	first time.Time
	// last is the time of the previous event, zero at the start of a stream.
	last     time.Time
	verified headSeen
}

// headSeen is the largest signed head that an earlier verification saw,
// according to its event.
type headSeen struct {
	Size  int64
	event string
}

// next verifies one event. Only the first error in a stream is reported:
// every later hash depends on it.
func (c *chainCheck) next(e *audit.Event, stored audit.Hash) error {
	c.rep.Events++
	c.v.reportProgress("events", c.rep.Events, c.total)
	if name, _, _ := c.chain.Last(); e.Stream != name {
		c.finishStream()
		c.last = time.Time{}
	}
	if err := c.chain.Next(e, stored); err != nil {
		if c.broken != e.Stream { // what follows in the stream hangs on it
			c.rep.add(eventName(e.Stream, e.Sequence), "%v", err)
		}
		c.broken = e.Stream
		c.chain.Resync(e, stored)
	}
	c.inspect(e)
	return nil
}

// inspect checks the event's time, counts it if it is not in the tree, and
// remembers the head that an earlier verification recorded.
func (c *chainCheck) inspect(e *audit.Event) {
	if c.first.IsZero() || e.At.Before(c.first) {
		c.first = e.At
	}
	if back := c.last.Sub(e.At); back > clockTolerance {
		c.rep.note(eventName(e.Stream, e.Sequence), "its time is %s before that of the event before it",
			back.Round(time.Second))
	}
	c.last = e.At
	// An event that is not in the tree cannot be under a head.
	if e.Sequence > c.streams[e.Stream].Logged {
		c.rep.unsigned(e.At)
	}
	if e.Stream != Stream || e.Type != trimtab.EventAuditVerified {
		return
	}
	var body struct{ Head int64 }
	if json.Unmarshal(e.Body, &body) == nil && body.Head > c.verified.Size {
		c.verified = headSeen{body.Head, eventName(e.Stream, e.Sequence)}
	}
}

// unsigned counts an event that no signed head covers.
func (r *Verification) unsigned(at time.Time) {
	r.Unsigned.Events++
	if since := r.Unsigned.Since; since == nil || at.Before(*since) {
		at = at.UTC()
		r.Unsigned.Since = &at
	}
}

// finishStream compares the end of the current stream with event_stream.
func (c *chainCheck) finishStream() {
	name, last, hash := c.chain.Last()
	if last == 0 {
		return
	}
	c.seen[name] = true
	if s, ok := c.streams[name]; !ok {
		c.rep.add("stream "+name, "it has events, but no row in event_stream")
	} else if s.Head != last || !bytes.Equal(s.Hash, hash[:]) {
		c.rep.add("stream "+name,
			"it ends with event %d, event_stream says %d: events were taken out or put in at its end,"+
				" or event_stream was changed", last, s.Head)
	}
}
