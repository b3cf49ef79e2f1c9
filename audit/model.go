package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
)

// ProofsSchema is the value of the field schema of Proofs.
const ProofsSchema = "trimtab.proofs/v1"

// Proofs show where a model came from, down to what was imported.
type Proofs struct {
	Schema string  `json:"schema"`
	Model  string  `json:"model"` // digest
	Key    string  `json:"key"`   // that heads are signed with; a verifier must know it from another source
	Proofs []Proof `json:"proofs"`
}

// ParseProofs reads the JSON of Proofs.
func ParseProofs(raw []byte) (Proofs, error) {
	var p Proofs
	if err := unmarshalStrict(raw, &p); err != nil {
		return p, fmt.Errorf("read the proofs: %w", err)
	}
	if p.Schema != ProofsSchema {
		return p, fmt.Errorf("the proofs' schema is %.60q, not %s", p.Schema, ProofsSchema)
	}
	return p, nil
}

// Origin is one thing that a model was made from, directly or indirectly, and
// the event that shows it.
type Origin struct {
	Digest string   `json:"digest"`
	What   string   `json:"what"` // "made by sft attempt 1 of run x", "frozen as dataset y", "imported"
	From   []string `json:"from"` // digests of the inputs
	Actor  string   `json:"actor"`
	At     string   `json:"at"`
}

// Check verifies every proof and returns the head that all are under, and
// every origin, the model first. It fails if a proof does not hold, if an
// input has no proof, or if the proofs are of another model than the one with
// this digest: compute it from the model's files. verifiers are trusted keys;
// p.Key is only a claim.
func (p Proofs) Check(model string, verifiers ...string) (Head, []Origin, error) {
	if p.Model != model {
		return Head{}, nil, fmt.Errorf("the proofs are of model %s, this is %s", p.Model, model)
	}
	f := provenFacts{made: map[string]Origin{}, inputs: map[string][]string{}}
	var head Head
	for i, one := range p.Proofs {
		h, err := one.Check(verifiers...)
		if err != nil {
			return h, nil, err
		}
		if i > 0 && h != head {
			return h, nil, fmt.Errorf("the proofs are under two heads, of %d and of %d events", head.Size, h.Size)
		}
		head = h
		if err := f.add(one.Event); err != nil {
			return h, nil, err
		}
	}
	origins, err := f.origins(model)
	return head, origins, err
}

// provenFacts is what the proven events say.
type provenFacts struct {
	made   map[string]Origin   // by digest
	inputs map[string][]string // of attempts, by name
}

// namedDigest is an input or output in the body of an event.
type namedDigest struct{ Name, Digest string }

// add takes what an event says about where something came from. The first
// event about a digest counts: the same bytes may be made again later.
func (f *provenFacts) add(e Event) error {
	var body struct {
		Version, Digest string
		Inputs, Outputs []namedDigest
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return fmt.Errorf("event %d of %s: %w", e.Sequence, e.Stream, err)
	}
	attempt := fmt.Sprintf("%s attempt %d of run %s", e.Stage, e.Attempt, e.Stream)
	o := Origin{Actor: e.Actor, At: e.At.UTC().Format("2006-01-02 15:04:05")}
	put := func(digest, what string, from []string) {
		if _, known := f.made[digest]; !known {
			o.Digest, o.What, o.From = digest, what, from
			f.made[digest] = o
		}
	}
	switch e.Type {
	case trimtab.EventAttemptCreated:
		f.inputs[attempt] = []string{}
		for _, in := range body.Inputs {
			f.inputs[attempt] = append(f.inputs[attempt], in.Digest)
		}
	case trimtab.EventAttemptCompleted:
		from, created := f.inputs[attempt]
		if !created {
			return fmt.Errorf("no proof shows how %s was created", attempt)
		}
		for _, out := range body.Outputs {
			put(out.Digest, "made by "+attempt, from)
		}
	case trimtab.EventDatasetFrozen:
		put(body.Version, "frozen as "+strings.TrimPrefix(e.Stream, "dataset/"), []string{})
	case trimtab.EventArtifactMade:
		if strings.HasPrefix(e.Stream, "artifact/") {
			put(body.Digest, "imported", []string{})
		}
	}
	return nil
}

// origins follows a digest, breadth first, to what nothing was made from.
func (f *provenFacts) origins(digest string) (list []Origin, err error) {
	queue := []string{digest}
	for i := 0; i < len(queue); i++ {
		o, ok := f.made[queue[i]]
		if !ok {
			return nil, fmt.Errorf("no proof shows where %s came from", queue[i])
		}
		list = append(list, o)
		for _, in := range o.From {
			if !slices.Contains(queue, in) {
				queue = append(queue, in)
			}
		}
	}
	return list, nil
}
