package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/trimtab/trimtab"
)

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash in hexadecimal digits, which is its form in
// JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (h *Hash) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(h) {
		return fmt.Errorf("%.80q is not a hash of 64 hexadecimal digits", text)
	}
	copy(h[:], raw)
	return nil
}

// Event is one thing that happened, with everything that its hash covers.
type Event struct {
	Stream   string
	Sequence int64
	At       time.Time // to the microsecond
	Actor    string
	Type     trimtab.EventType
	Stage    string
	Attempt  int
	Body     []byte // a JSON object, exact bytes
	Facts    []byte // lines
}

// eventPrefix begins the hashed bytes, so that no other data has the hash of
// an event, and a later format cannot be confused with this one.
const eventPrefix = "trimtab event 1\n"

// epoch is the instant from which Postgres counts its timestamps.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// AppendBytes appends the bytes that are hashed for an event, given the hash
// of the event before it in its stream, which is zero for the first.
func (e *Event) AppendBytes(b []byte, previous Hash) []byte {
	b = append(b, eventPrefix...)
	b = append(b, previous[:]...)
	b = appendField(b, e.Stream)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Sequence))
	b = binary.BigEndian.AppendUint64(b, uint64(e.At.Sub(epoch).Microseconds()))
	b = appendField(b, e.Actor)
	b = appendField(b, string(e.Type))
	b = appendField(b, e.Stage)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Attempt))
	b = appendField(b, e.Body)
	return appendField(b, e.Facts)
}

// appendField appends a field: its length and its bytes.
func appendField[T string | []byte](b []byte, x T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(x)))
	return append(b, x...)
}

// Hash returns the hash of an event, given that of the event before it.
func (e *Event) Hash(previous Hash) Hash { return sha256.Sum256(e.AppendBytes(nil, previous)) }

// Chain verifies the hashes of events in order of stream and sequence. The
// zero Chain is before the first event.
type Chain struct {
	stream string
	last   int64
	hash   Hash
	buf    []byte
}

// Next takes the next event and its stored hash, and returns what is wrong
// with it: an event is missing before it, or the hashes differ. After an
// error the Chain has not advanced; see Resync.
func (c *Chain) Next(e *Event, stored Hash) error {
	if e.Stream != c.stream {
		c.stream, c.last, c.hash = e.Stream, 0, Hash{}
	}
	if e.Sequence != c.last+1 {
		return fmt.Errorf("event %d is missing: %d follows %d", c.last+1, e.Sequence, c.last)
	}
	c.buf = e.AppendBytes(c.buf[:0], c.hash)
	h := Hash(sha256.Sum256(c.buf))
	if h != stored {
		return fmt.Errorf("the event or the one before it was changed: its hash is %s, stored is %s", h, stored)
	}
	c.last, c.hash = e.Sequence, h
	return nil
}

// Resync continues after an event that did not verify, trusting its stored
// hash, so that later changes in the stream are found as well.
func (c *Chain) Resync(e *Event, stored Hash) {
	c.stream, c.last, c.hash = e.Stream, e.Sequence, stored
}

// Last returns the stream, sequence and hash of the last event.
func (c *Chain) Last() (stream string, sequence int64, hash Hash) { return c.stream, c.last, c.hash }

// jsonEvent is the form of an Event in JSON: body and facts are strings.
type jsonEvent struct {
	Stream   string            `json:"stream"`
	Sequence int64             `json:"sequence"`
	At       time.Time         `json:"at"`
	Actor    string            `json:"actor"`
	Type     trimtab.EventType `json:"type"`
	Stage    string            `json:"stage"`
	Attempt  int               `json:"attempt"`
	Body     string            `json:"body"`
	Facts    string            `json:"facts"`
}

// MarshalJSON writes body and facts as strings of their exact bytes, since a
// JSON object could be formatted in another way and then has another hash.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonEvent{e.Stream, e.Sequence, e.At.UTC(), e.Actor, e.Type, e.Stage, e.Attempt, string(e.Body),
		string(e.Facts)})
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (e *Event) UnmarshalJSON(raw []byte) error {
	var j jsonEvent
	if err := unmarshalStrict(raw, &j); err != nil {
		return err
	}
	*e = Event{j.Stream, j.Sequence, j.At, j.Actor, j.Type, j.Stage, j.Attempt, []byte(j.Body), []byte(j.Facts)}
	return nil
}

// unmarshalStrict reads one JSON document that has no fields that v lacks. A
// field that nobody checks must not look as if it had been verified.
func unmarshalStrict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("there is data after the document")
	}
	return nil
}

// ExportLine is a line of an exported record: an event and its hash.
type ExportLine struct {
	Event Event `json:"event"`
	Hash  Hash  `json:"hash"`
}

// ParseExportLine reads a line of an exported record.
func ParseExportLine(raw []byte) (ExportLine, error) {
	var l ExportLine
	err := unmarshalStrict(raw, &l)
	return l, err
}
