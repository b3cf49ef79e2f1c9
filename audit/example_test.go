package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
)

// A proof is checked with nothing but the public half of the key that signs
// heads: no database, and none of the other events.
func ExampleProof_Check() {
	at := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	created := audit.Event{Stream: "run-1", Sequence: 1, At: at, Actor: "ann", Type: trimtab.EventRunCreated,
		Body: []byte(`{"status":"queued"}`)}
	started := audit.Event{Stream: "run-1", Sequence: 2, At: at.Add(time.Minute), Actor: "trimtab",
		Type: trimtab.EventRunStatus, Body: []byte(`{"status":"running"}`)}

	// The record: a chain of two events, a tree over their hashes, a signed head.
	first := created.Hash(audit.Hash{})
	second := started.Hash(first)
	var tree audit.Tree
	tree.Add(first)
	tree.Add(second)
	private, public, err := audit.NewKey()
	if err != nil {
		panic(err)
	}
	signer, err := audit.NewSigner(private, public)
	if err != nil {
		panic(err)
	}
	head, err := signer.Sign(audit.Head{Size: tree.Size(), Root: tree.Root(), At: at.Add(2 * time.Minute)})
	if err != nil {
		panic(err)
	}

	// The proof of the second event, as it travels: its leaf's only sibling is the first leaf.
	raw, err := json.Marshal(audit.Proof{Schema: audit.ProofSchema, Event: started, Previous: first, Leaf: 1,
		Path: []audit.Hash{audit.Hash(audit.Leaf(first))}, Head: head})
	if err != nil {
		panic(err)
	}

	proof, err := audit.ParseProof(raw)
	if err != nil {
		panic(err)
	}
	under, err := proof.Check(public)
	fmt.Println("valid:", err == nil, "under a head of", under.Size, "events")

	proof.Event.Actor = "bob"
	_, err = proof.Check(public)
	fmt.Println("altered:", err)
	// Output:
	// valid: true under a head of 2 events
	// altered: event 2 of run-1 is not leaf 1 under the head of size 2: it, the path or the head was changed
}

// A membership shows that an item is in a frozen dataset version. The reader
// knows the version's digest and the item, and sees no other item.
func ExampleMembership_Check() {
	var leaves []trimtab.Digest
	for _, text := range []string{"a", "b", "c"} {
		leaves = append(leaves, trimtab.DigestOf(trimtab.Text{Body: text}.Canonical()))
	}
	version := trimtab.MerkleRoot(leaves)
	var sorted []string
	for _, d := range leaves {
		sorted = append(sorted, string(d))
	}
	slices.Sort(sorted)
	m, err := audit.ProveMembership(string(version), sorted[1], sorted)
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Items, "items, place", m.Index, "path of", len(m.Path))
	fmt.Println("valid:", m.Check() == nil)
	m.Item = sorted[2]
	fmt.Println("another item:", m.Check() == nil)
	// Output:
	// 3 items, place 1 path of 2
	// valid: true
	// another item: false
}
