package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"golang.org/x/mod/sumdb/tlog"
)

func event(stream string, sequence int64) audit.Event {
	return audit.Event{Stream: stream, Sequence: sequence,
		At:    time.Date(2026, 11, 28, 3, 4, 5, 6000, time.UTC).Add(time.Duration(sequence) * time.Second),
		Actor: "ada", Type: trimtab.EventRunStatus, Stage: "sft", Attempt: 2,
		Body:  []byte(fmt.Sprintf(`{"n":%d}`, sequence)),
		Facts: []byte("run_state 1 00\n")}
}

// Known bytes: whoever writes a verifier of his own can start from here.
func TestEventBytes(t *testing.T) {
	e := event("r", 1)
	got := fmt.Sprintf("%x", e.AppendBytes(nil, audit.Hash{0: 1, 31: 2}))
	want := "7472696d746162206576656e7420310a" + "01" + strings.Repeat("00", 30) + "02" + // the words, the hash before
		"00000001" + "72" + "0000000000000001" + // stream, sequence
		"0003044c32c61586" + // microseconds since 2000
		// actor, type, stage, attempt
		"00000003" + "616461" + "0000000a" + "72756e5f737461747573" + "00000003" + "736674" + "00000002" +
		"00000007" + "7b226e223a317d" + "0000000f" + "72756e5f7374617465203120303" + "00a" // body, facts
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestChainFindsWhatChanged(t *testing.T) {
	make := func() (events []audit.Event, hashes []audit.Hash) {
		for _, stream := range []string{"a", "b"} {
			var h audit.Hash
			for n := range int64(5) {
				e := event(stream, n+1)
				h = e.Hash(h)
				events, hashes = append(events, e), append(hashes, h)
			}
		}
		return events, hashes
	}
	follow := func(events []audit.Event, hashes []audit.Hash) int {
		var c audit.Chain
		for i := range events {
			if c.Next(&events[i], hashes[i]) != nil {
				return i
			}
		}
		return -1
	}
	events, hashes := make()
	if at := follow(events, hashes); at != -1 {
		t.Fatalf("an untouched chain breaks at %d", at)
	}
	for name, change := range map[string]func(e *audit.Event){
		"time":    func(e *audit.Event) { e.At = e.At.Add(time.Microsecond) },
		"actor":   func(e *audit.Event) { e.Actor = "adb" },
		"type":    func(e *audit.Event) { e.Type += "x" },
		"stage":   func(e *audit.Event) { e.Stage = "" },
		"attempt": func(e *audit.Event) { e.Attempt++ },
		"body":    func(e *audit.Event) { e.Body = append(slices.Clone(e.Body), ' ') },
		"facts":   func(e *audit.Event) { e.Facts = nil },
		"a letter over the edge": func(e *audit.Event) {
			e.Actor, e.Type = e.Actor+string(e.Type[:1]), e.Type[1:]
		},
	} {
		events, hashes := make()
		change(&events[7])
		if at := follow(events, hashes); at != 7 {
			t.Errorf("%s: found at %d", name, at)
		}
	}
	events, hashes = make()
	if at := follow(slices.Delete(events, 2, 3), slices.Delete(hashes, 2, 3)); at != 2 {
		t.Errorf("a deleted event is found at %d", at)
	}
}

// The tree, its root at every size and the stored hashes are tlog's.
func TestTreeIsThatOfTlog(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	var tree audit.Tree
	var list audit.HashChecker
	for n := range int64(70) {
		h := audit.Hash{byte(n), 7}
		hashes, err := tlog.StoredHashes(n, h[:], reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range hashes {
			if err := list.Next(int64(len(stored)), x[:]); err != nil {
				t.Fatal(err)
			}
			stored = append(stored, x)
		}
		tree.Add(h)
		want, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Root() != audit.Hash(want) || tree.Size() != n+1 {
			t.Fatalf("size %d: root %s, tlog has %s", n+1, tree.Root(), audit.Hash(want))
		}
		if list.Root() != tree.Root() || !list.Complete() {
			t.Fatalf("size %d: the stored hashes have root %s", n+1, list.Root())
		}
	}
	for i := range stored {
		var l audit.HashChecker
		found := false
		for j, x := range stored {
			if j == i {
				x[5] ^= 1
			}
			found = found || l.Next(int64(j), x[:]) != nil
		}
		if !found && l.Root() == tree.Root() {
			t.Errorf("a changed stored hash %d is not found", i)
		}
	}
}

func key(t *testing.T) *audit.Signer {
	t.Helper()
	signer, verifier, err := audit.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.NewSigner(signer, verifier)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHeads(t *testing.T) {
	s, other := key(t), key(t)
	h := audit.Head{Size: 12, Root: audit.Hash{1, 2, 3}, At: time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)}
	signed, err := s.Sign(h)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := audit.OpenHead(signed, other.Verifier(), s.Verifier()); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := audit.OpenHead(signed, other.Verifier()); err == nil {
		t.Error("another key opens it")
	}
	for i := range signed {
		changed := []byte(signed)
		changed[i] ^= 1
		if got, err := audit.OpenHead(string(changed), s.Verifier()); err == nil {
			t.Errorf("byte %d changed: opens as %+v", i, got)
		}
	}
	if _, err := audit.NewSigner("PRIVATE+KEY+x", s.Verifier()); err == nil {
		t.Error("a broken key signs")
	}
}

// proof of the fifth of nine events.
func proof(t *testing.T, s *audit.Signer) audit.Proof {
	t.Helper()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	p := audit.Proof{Schema: audit.ProofSchema, Leaf: 4}
	var h audit.Hash
	for n := range int64(9) {
		e := event("r", n+1)
		if n == p.Leaf {
			p.Event, p.Previous = e, h
		}
		h = e.Hash(h)
		hashes, err := tlog.StoredHashes(n, h[:], reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	path, err := tlog.ProveRecord(9, p.Leaf, reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range path {
		p.Path = append(p.Path, audit.Hash(x))
	}
	root, err := tlog.TreeHash(9, reader)
	if err != nil {
		t.Fatal(err)
	}
	if p.Head, err = s.Sign(audit.Head{Size: 9, Root: audit.Hash(root)}); err != nil {
		t.Fatal(err)
	}
	return p
}

// A proof survives being written and read, and no changed byte of it.
func TestProof(t *testing.T) {
	s := key(t)
	raw, err := json.Marshal(proof(t, s))
	if err != nil {
		t.Fatal(err)
	}
	p, err := audit.ParseProof(raw)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := p.Check(s.Verifier()); err != nil || h.Size != 9 {
		t.Fatalf("%+v, %v", h, err)
	}
	if _, err := p.Check(key(t).Verifier()); err == nil {
		t.Error("it holds under another key")
	}
	changes := 0
	for i := range raw {
		changed := slices.Clone(raw)
		changed[i] ^= 1
		q, err := audit.ParseProof(changed)
		if err != nil {
			continue
		}
		if same, _ := json.Marshal(q); string(same) == string(raw) {
			continue // the bytes differ, what they say does not
		}
		if _, err := q.Check(s.Verifier()); err == nil {
			t.Errorf("byte %d changed: %s holds", i, changed)
		}
		changes++
	}
	if changes < 100 {
		t.Errorf("only %d changes could be read", changes)
	}
}

func FuzzProof(f *testing.F) {
	f.Add([]byte(`{"schema":"trimtab.proof/v1","event":{"stream":"r","sequence":1,"at":"2026-11-28T03:00:00Z"},"leaf":0,"path":[],"head":"x\n1\nAAAA\n\n— x AAAA\n"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := audit.ParseProof(raw)
		if err != nil {
			return
		}
		if _, err := p.Check("trimtab-00000000+9d3fd3a7+Ae0eAQ2Gq1iIlXb2oaTbS6WbBN3WvTjY3P2hLdJYF4jc"); err == nil {
			t.Errorf("%s holds under a key that nobody has", raw)
		}
	})
}

func FuzzOpenHead(f *testing.F) {
	f.Add("x\n1\nAAAA\n\n— x AAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := audit.OpenHead(text); err == nil {
			t.Errorf("%q opens without a key as %+v", text, h)
		}
	})
}

func BenchmarkChain(b *testing.B) {
	var c audit.Chain
	e := event("r", 1)
	var h audit.Hash
	for n := int64(1); b.Loop(); n++ {
		e.Sequence = n
		h = e.Hash(h)
		if err := c.Next(&e, h); err != nil {
			b.Fatal(err)
		}
	}
}
