package audit

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ProofSchema names the form of a Proof.
const ProofSchema = "trimtab.proof/v1"

// Proof shows without a database that an event is in the record under a signed head.
type Proof struct {
	Schema   string `json:"schema"`
	Event    Event  `json:"event"`
	Previous Hash   `json:"previous"` // hash of the event before it in its stream; zeros for the first
	Leaf     int64  `json:"leaf"`     // its place in the tree, from 0
	Path     []Hash `json:"path"`     // the hashes beside the way from the leaf to the root, from below
	Head     string `json:"head"`     // the signed head
}

// maxPath is the longest path: a tree of more than 2^62 events is none.
const maxPath = 64

// ParseProof reads a proof.
func ParseProof(raw []byte) (Proof, error) {
	var p Proof
	if err := unmarshalStrict(raw, &p); err != nil {
		return p, fmt.Errorf("read the proof: %w", err)
	}
	if p.Schema != ProofSchema {
		return p, fmt.Errorf("the proof's schema is %.60q, not %s", p.Schema, ProofSchema)
	}
	return p, nil
}

// Check says why a proof does not hold; it holds under the head that it returns, signed with one of the keys.
func (p Proof) Check(verifiers ...string) (Head, error) {
	h, err := OpenHead(p.Head, verifiers...)
	if err != nil {
		return h, err
	}
	if p.Leaf < 0 || p.Leaf >= h.Size || len(p.Path) > maxPath {
		return h, fmt.Errorf("leaf %d with a path of %d is in no tree of %d", p.Leaf, len(p.Path), h.Size)
	}
	path := make(tlog.RecordProof, len(p.Path))
	for i, x := range p.Path {
		path[i] = tlog.Hash(x)
	}
	if err := tlog.CheckRecord(path, h.Size, tlog.Hash(h.Root), p.Leaf, Leaf(p.Event.Hash(p.Previous))); err != nil {
		return h,
			fmt.Errorf("event %d of %s is not leaf %d under the head of size %d: it, the path or the head was changed",
				p.Event.Sequence, p.Event.Stream, p.Leaf, h.Size)
	}
	return h, nil
}
