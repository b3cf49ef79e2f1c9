package audit

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ProofSchema is the value of a Proof's field schema.
const ProofSchema = "trimtab.proof/v1"

// Proof proves, without the database, that an event is in the record under a
// signed head.
type Proof struct {
	Schema string `json:"schema"`
	Event  Event  `json:"event"`
	// Previous is the hash of the event before it in its stream; zeros for the
	// first.
	Previous Hash `json:"previous"`
	// Leaf is the index of its leaf in the tree, from 0.
	Leaf int64 `json:"leaf"`
	// Path is the audit path: the siblings on the way from the leaf to the root.
	Path []Hash `json:"path"`
	// Head is the signed head.
	Head string `json:"head"`
}

// maxPath bounds the length of a path: no tree has more than 2^62 events.
const maxPath = 64

// ParseProof reads the JSON of a Proof.
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

// Check verifies the proof and returns the head that it holds under. The head
// must be signed with one of the keys. It fails if the event, the path or the
// head was changed.
func (p Proof) Check(verifiers ...string) (Head, error) {
	h, err := OpenHead(p.Head, verifiers...)
	if err != nil {
		return h, err
	}
	if p.Leaf < 0 || p.Leaf >= h.Size || len(p.Path) > maxPath {
		return h, fmt.Errorf("leaf %d with a path of %d hashes is impossible in a tree of %d",
			p.Leaf, len(p.Path), h.Size)
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
