package notary

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// chains follows every stream and holds its end against what stands beside it.
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
	err = r.Events(ctx, c.next)
	c.finishStream()
	for _, s := range beside {
		if s.Head > 0 && !c.seen[s.Name] {
			rep.add("stream "+s.Name, "event_stream says %d events, none is there", s.Head)
		}
	}
	rep.first, rep.seen = c.first, c.verified
	return err
}

// clockTolerance is by how much the time of an event may lie before that of the event before it: a clock that is set
// may go back.
const clockTolerance = time.Second

// chainCheck follows the events of all streams.
type chainCheck struct {
	v       Verifier
	rep     *Verification
	chain   audit.Chain
	streams map[string]storage.Stream // what stands beside the events
	seen    map[string]bool
	broken  string // the stream at hand, if one of its events was named already
	total   int64  // events that there should be

	first    time.Time // of all events
	last     time.Time // of the event before, if it is of the same stream
	verified headSeen
}

// headSeen is the largest signed head that an earlier verification saw, as it told the record.
type headSeen struct {
	Size  int64
	event string
}

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

// inspect takes note of when an event was appended and of what it says of heads.
func (c *chainCheck) inspect(e *audit.Event) {
	if c.first.IsZero() || e.At.Before(c.first) {
		c.first = e.At
	}
	if back := c.last.Sub(e.At); back > clockTolerance {
		c.rep.note(eventName(e.Stream, e.Sequence), "its time is %s before that of the event before it",
			back.Round(time.Second))
	}
	c.last = e.At
	if e.Sequence > c.streams[e.Stream].Logged {
		c.rep.unsigned(e.At)
	}
	if e.Stream != Stream || e.Type != "audit_verified" {
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

// finishStream compares the end of the stream at hand.
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
