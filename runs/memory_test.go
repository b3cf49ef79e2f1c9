package runs_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/draw"
	transformer "github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// A run, or its starter world, that needs more memory than there is, is refused
// by a launch before anything is made, and reported by a plan.
func TestTooLargeForThisMachine(t *testing.T) {
	files, err := checkpoint.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store, ctx := storagetest.New(t), t.Context()
	s := runs.New(nil, store, files, nil)
	folder := smallFolder(t, 1)
	folder.Model = transformer.New(transformer.Config{Layers: 1, Width: 256, Heads: 2, Context: 128,
		Vocab: folder.Tokenizer.VocabSize()}, false)
	folder.Model.Init(draw.New(1, "wide"))
	made, err := s.ImportModel(ctx, folder, runs.ImportRequest{Name: "wide", Actor: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := files.Files(made.Digest)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := checkpoint.WriteFolder(dir, parts); err != nil {
		t.Fatal(err)
	}
	datasets := func() int {
		t.Helper()
		list, err := store.Datasets(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	read := func(sets []string) (recipes.Spec, error) {
		if len(sets) == 1 && strings.HasPrefix(sets[0], "model.base=") {
			return recipes.Read("tuned.yaml",
				[]byte("name: tuned\nstarter: {world: 1, words: 1000, demonstrations: 8, prompts: 8, tests: "+
					"4}\nstages: [{kind: sft, num_train_epochs: 1}]\n"), "", sets)
		}
		return recipes.Load("instructgpt", "smallest", sets)
	}
	const mb, gb = 1 << 20, 1 << 30
	for _, c := range []struct {
		what        string
		sets        []string
		total, free int64
		typ, says   string // nothing where there is room
	}{
		{"a machine as others are", nil, 8 * gb, 4 * gb, "", ""},
		{"a small machine", nil, mb, mb, "memory_too_small", "stage pretrain needs at least"},
		{"a world that the machine cannot hold", []string{"starter.words=100000000"}, 8 * gb, gb, "memory_short",
			"generating the starter world takes about 3814 MB of memory, but only 1024 MB is free"},
		{"a stored base", []string{"model.base=wide"}, 8 * mb, 8 * mb, "memory_too_small",
			"stage sft needs at least 27 MB of memory, but this machine has 8192 KB"},
		{"a base in a folder", []string{"model.base=" + dir}, 8 * mb, 8 * mb, "memory_too_small",
			"stage sft needs at least 27 MB of memory, but this machine has 8192 KB"},
	} {
		spec, err := read(c.sets)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		s.SetMemory(c.total, c.free)
		_, notes, err := s.Preview(ctx, spec)
		if err != nil {
			t.Errorf("%s: the plan: %v", c.what, err)
		}
		if said := strings.Join(notes, "\n"); strings.Contains(said,
			"too large for this machine: ") != (c.says != "") || !strings.Contains(said, c.says) {
			t.Errorf("%s: the plan says %q", c.what, said)
		}
		if c.says == "" {
			continue
		}
		_, err = s.Launch(ctx, runs.LaunchRequest{Spec: spec, Actor: "ann", New: true, LocalWorker: true})
		wantRefusal(t, c.what, err, c.typ, map[string]int{"memory_too_small": 2, "memory_short": 6}[c.typ])
		if err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.what, err)
		}
		if n := datasets(); n > 0 {
			t.Errorf("%s: %d datasets were made", c.what, n)
		}
	}
}
