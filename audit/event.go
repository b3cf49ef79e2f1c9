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
)

// Hash is a SHA-256.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is the hash in hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText takes 64 hexadecimal digits.
func (h *Hash) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(h) {
		return fmt.Errorf("%.80q is not a hash of 64 hexadecimal digits", text)
	}
	copy(h[:], raw)
	return nil
}

// Event is one thing that happened, with all that its hash covers.
type Event struct {
	Stream   string
	Sequence int64
	At       time.Time // to the microsecond
	Actor    string
	Type     string
	Stage    string
	Attempt  int
	Body     []byte // a JSON object, exact bytes
	Facts    []byte // lines
}

const eventPrefix = "trimtab event 1\n"

// epoch is Postgres's.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// AppendBytes appends what is hashed for an event after one with the hash previous.
func (e *Event) AppendBytes(b []byte, previous Hash) []byte {
	b = append(b, eventPrefix...)
	b = append(b, previous[:]...)
	b = appendField(b, e.Stream)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Sequence))
	b = binary.BigEndian.AppendUint64(b, uint64(e.At.Sub(epoch).Microseconds()))
	b = appendField(b, e.Actor)
	b = appendField(b, e.Type)
	b = appendField(b, e.Stage)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Attempt))
	b = appendField(b, e.Body)
	return appendField(b, e.Facts)
}

func appendField[T string | []byte](b []byte, x T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(x)))
	return append(b, x...)
}

// Hash of an event after one with the hash previous, zero for none.
func (e *Event) Hash(previous Hash) Hash { return sha256.Sum256(e.AppendBytes(nil, previous)) }

// Chain follows events in order of stream and sequence. The zero Chain is
// before the first.
type Chain struct {
	stream string
	last   int64
	hash   Hash
	buf    []byte
}

// Next takes the next event, with the hash that stands beside it, and says what is wrong with it.
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
		return fmt.Errorf("the event or the one before it was changed: its hash is %s, beside it stands %s", h, stored)
	}
	c.last, c.hash = e.Sequence, h
	return nil
}

// Resync goes on after an event that is not what it was.
func (c *Chain) Resync(e *Event, stored Hash) {
	c.stream, c.last, c.hash = e.Stream, e.Sequence, stored
}

// Last is the stream that the last event was of, its sequence and its hash.
func (c *Chain) Last() (stream string, sequence int64, hash Hash) { return c.stream, c.last, c.hash }

// jsonEvent is an Event in a Proof: its body and facts as text, which they are.
type jsonEvent struct {
	Stream   string    `json:"stream"`
	Sequence int64     `json:"sequence"`
	At       time.Time `json:"at"`
	Actor    string    `json:"actor"`
	Type     string    `json:"type"`
	Stage    string    `json:"stage"`
	Attempt  int       `json:"attempt"`
	Body     string    `json:"body"`
	Facts    string    `json:"facts"`
}

// MarshalJSON writes body and facts as strings of their exact bytes.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonEvent{e.Stream, e.Sequence, e.At.UTC(), e.Actor, e.Type, e.Stage, e.Attempt, string(e.Body),
		string(e.Facts)})
}

// UnmarshalJSON is the inverse.
func (e *Event) UnmarshalJSON(raw []byte) error {
	var j jsonEvent
	if err := unmarshalStrict(raw, &j); err != nil {
		return err
	}
	*e = Event{j.Stream, j.Sequence, j.At, j.Actor, j.Type, j.Stage, j.Attempt, []byte(j.Body), []byte(j.Facts)}
	return nil
}

// unmarshalStrict reads one JSON document that has no other fields than v.
func unmarshalStrict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the document")
	}
	return nil
}

// ExportLine is an event of an exported record.
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
