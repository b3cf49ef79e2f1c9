package storage_test

import (
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func pair(prompt, who, split string) trimtab.Ranking {
	return trimtab.Ranking{Prompt: prompt, Responses: []trimtab.Response{{Bytes: []byte("x"), Model: digest("sft")},
		{Bytes: []byte("y")}, {Bytes: []byte("z")}},
		Ranks: []int{2, 1, 1}, Labeller: who, Guideline: "v1", Split: split}
}

// A version tells which imports its items came with, from which files, and who made them.
func TestOrigin(t *testing.T) {
	ctx, s := t.Context(), storagetest.New(t)
	add := func(actor string, files []storage.ImportedFile, items ...trimtab.Item) {
		t.Helper()
		_, err := s.AddItems(ctx, "votes", trimtab.KindRankings, items, files, actor)
		must(t, err)
	}
	file := func(name string, items int) storage.ImportedFile {
		return storage.ImportedFile{Name: name, Digest: digest(name), Bytes: 10, Items: items}
	}
	add("ann", []storage.ImportedFile{file("a.jsonl", 1), file("b.jsonl", 1)}, pair("1", "w1", ""),
		pair("2", "w2", "test"))
	add("bob", []storage.ImportedFile{file("again.jsonl", 1)}, pair("1", "w1", "")) // nothing new
	first, err := s.Freeze(ctx, "votes", "eve")
	must(t, err)
	_, err = s.AddItems(ctx, "votes", trimtab.KindRankings, []trimtab.Item{pair("1", "w1", ""), pair("3", "w1", "")}, nil,
		"cat")
	must(t, err)
	second, err := s.Freeze(ctx, "votes", "eve")
	must(t, err)

	o, is, err := s.DatasetOrigin(ctx, second.Digest)
	if must(t, err); !is || o.Items != 3 || o.HeldOut != 1 || o.Pairs != 6 || len(o.Names) != 1 ||
		o.Names[0].Actor != "eve" {
		t.Errorf("the second version is %+v", o)
	}
	if want := []storage.LabellerCount{{"w1", "v1", 2, 0, 4}, {"w2", "v1", 1, 1, 2}}; !slices.Equal(o.Labellers, want) {
		t.Errorf("labellers are %v, want %v", o.Labellers, want)
	}
	if want := []storage.SamplerCount{{digest("sft"), 3}}; !slices.Equal(o.Samplers, want) {
		t.Errorf("samplers are %v, want %v", o.Samplers, want)
	}
	if len(o.Imports) != 2 || o.Imports[0].Actor != "ann" || o.Imports[0].Items != 2 || len(o.Imports[0].Files) != 2 ||
		o.Imports[0].Files[1] != file("b.jsonl", 1) ||
		o.Imports[1].Actor != "cat" || o.Imports[1].Items != 1 || o.Imports[1].Given != 2 || o.Imports[1].Files != nil {
		t.Errorf("imports are %+v", o.Imports)
	}
	if o, _, err = s.DatasetOrigin(ctx, first.Digest); err != nil || len(o.Imports) != 1 || o.Imports[0].Items != 2 {
		t.Errorf("the first version has the imports %+v (%v)", o.Imports, err)
	}
	if _, is, err := s.DatasetOrigin(ctx, digest("nothing")); is || err != nil {
		t.Errorf("an unknown digest is a version: %v", err)
	}
	for what, c := range map[string]struct {
		find func() ([]storage.VersionUsage, error)
		want []storage.VersionUsage
	}{
		"a labeller": {func() ([]storage.VersionUsage, error) { return s.VersionsByLabeller(ctx, "w1") },
			[]storage.VersionUsage{{first.Digest, "votes", "rankings", 1, 0},
				{second.Digest, "votes", "rankings", 2, 0}}},
		"an item": {func() ([]storage.VersionUsage, error) {
			return s.VersionsWithItem(ctx, trimtab.DigestOf(pair("2", "w2", "test").Canonical()))
		}, []storage.VersionUsage{{first.Digest, "votes", "rankings", 1, 1},
			{second.Digest, "votes", "rankings", 1, 1}}},
		"a model's samples": {func() ([]storage.VersionUsage, error) { return s.VersionsBySampler(ctx, digest("sft")) },
			[]storage.VersionUsage{{first.Digest, "votes", "rankings", 2, 1},
				{second.Digest, "votes", "rankings", 3, 1}}},
		"a file": {func() ([]storage.VersionUsage, error) { return s.VersionsFromFile(ctx, digest("b.jsonl")) },
			[]storage.VersionUsage{{first.Digest, "votes", "rankings", 2, 1},
				{second.Digest, "votes", "rankings", 2, 1}}},
		"a file with nothing new": {func() ([]storage.VersionUsage,
			error) {
			return s.VersionsFromFile(ctx, digest("again.jsonl"))
		}, nil},
		"a demonstrator": {func() ([]storage.VersionUsage,
			error) {
			return s.VersionsByDemonstrator(ctx, "w1")
		}, nil},
	} {
		if got, err := c.find(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s is in %v (%v), want %v", what, got, err, c.want)
		}
	}
	add("cat", []storage.ImportedFile{file("c.jsonl", 1)}, pair("4", "w3", ""))
	third, err := s.Freeze(ctx, "votes", "eve")
	must(t, err)
	if got, err := s.VersionsFromFile(ctx, digest("c.jsonl")); err != nil ||
		!slices.Equal(got, []storage.VersionUsage{{third.Digest, "votes", "rankings", 1, 0}}) {
		t.Errorf("the last file is in %v (%v)", got, err)
	}
	k, err := s.LookUp(ctx, "w1")
	if must(t, err); k != (storage.RecordMatch{Labeller: true}) {
		t.Errorf("w1 is known as %+v", k)
	}
	k, err = s.LookUp(ctx, string(digest("a.jsonl")))
	if must(t, err); k != (storage.RecordMatch{File: true}) {
		t.Errorf("a.jsonl is known as %+v", k)
	}
}

// What was made of something is found through any number of attempts, also
// through one that only went on from another's checkpoint.
func TestOnward(t *testing.T) {
	ctx, s := t.Context(), storagetest.New(t)
	newRun(t, s, "run")
	attempt := func(stage string, number int, in, out, from trimtab.Digest) storage.Attempt {
		t.Helper()
		a, err := s.CreateAttempt(ctx, storage.Attempt{Run: "run", Stage: stage, Kind: "sft", Number: number,
			Config: digest(stage), FromCheckpoint: from,
			Inputs: []trimtab.Named{{Name: "model", Digest: in}}})
		must(t, err)
		must(t, s.Lease(a.ID, 1).Acquire(ctx))
		must(t, s.Lease(a.ID, 1).Start(ctx, 1, "build", "kernels"))
		if out != "" {
			must(t, s.Lease(a.ID, 1).Complete(ctx, []trimtab.Named{{Name: "model", Digest: out}}, nil))
		}
		return a
	}
	attempt("one", 1, digest("a"), digest("b"), "")
	stopped := attempt("two", 1, digest("b"), "", "")
	must(t, s.Lease(stopped.ID, 1).Commit(ctx, []storage.StepReport{report(0, 1, 0, 0)},
		&storage.Checkpoint{Step: 1, Digest: digest("state")}))
	attempt("two", 2, digest("other"), digest("c"), digest("state"))
	attempt("two", 3, digest("other"), digest("d"), "")
	attempt("two", 4, digest("other"), digest("e"), digest("another state"))
	steps, err := s.Descendants(ctx, []trimtab.Digest{digest("a")})
	if want := []storage.Derivation{{digest("a"), digest("b")}, {digest("b"), digest("c")}}; err != nil ||
		!slices.Equal(steps, want) {
		t.Errorf("of a was made %v (%v), want %v", steps, err, want)
	}
	if id, err := s.CheckpointProducer(ctx, "run", "two", digest("state")); err != nil || id != stopped.ID {
		t.Errorf("the checkpoint is of attempt %d (%v), want %d", id, err, stopped.ID)
	}
	made, err := s.OutputsUnderDocument(ctx, digest("two"))
	if want := []trimtab.Digest{digest("c"), digest("d"), digest("e")}; err != nil || !slices.Equal(made, want) {
		t.Errorf("under the config was made %v (%v), want %v", made, err, want)
	}
}
