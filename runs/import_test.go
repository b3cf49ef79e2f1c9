package runs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/draw"
	transformer "github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tokenizer"
)

// smallFolder is a model as a folder, not stored.
func smallFolder(t *testing.T, seed uint64) *checkpoint.Folder {
	t.Helper()
	words, err := tokenizer.Train([]string{"hello world, hello model"}, 262)
	if err != nil {
		t.Fatal(err)
	}
	m := transformer.New(transformer.Config{Layers: 1, Width: 8, Heads: 2, Context: 16, Vocab: words.VocabSize()},
		false)
	m.Init(draw.New(seed, "small"))
	return &checkpoint.Folder{Model: m, Tokenizer: words}
}

// A name is a name, a path is a path, and what may be both is refused with both ways to say it.
func TestBaseFolder(t *testing.T) {
	files, err := checkpoint.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := runs.New(nil, storagetest.New(t), files, nil)
	t.Chdir(t.TempDir())
	for _, dir := range []string{"gpt2", "only", "sub/gpt2", "deep/folder"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	absolute, err := filepath.Abs("gpt2")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"gpt2", "sub/gpt2"} { // the second as older versions named models
		if _, err := s.ImportModel(t.Context(), smallFolder(t, uint64(i+1)),
			runs.ImportRequest{Name: name, Actor: "ann"}); err != nil {
			t.Fatal(err)
		}
	}
	for ref, want := range map[string]string{
		"": "", "gpt2": "", "./gpt2": "./gpt2", absolute: absolute, "deep/folder": "deep/folder", "../" +
			filepath.Base(filepath.Dir(absolute)): "../" + filepath.Base(filepath.Dir(absolute)),
		"nothing": "", "run/stage": "", ".": ".",
	} {
		if dir, err := s.BaseFolder(t.Context(), ref); err != nil || dir != want {
			t.Errorf("%q is folder %q, error %v, want %q", ref, dir, err, want)
		}
	}
	for ref, words := range map[string][]string{
		"only": {"model_not_found", `there is no model of that name`, "write ./only for the folder"},
		"sub/gpt2": {"base_ambiguous", "which is both a folder and a model",
			"write ./sub/gpt2 for the folder, or the model's digest"},
		"./none":  {"model_not_found", "there is no such folder"},
		"/none/x": {"model_not_found", "there is no such folder"},
	} {
		_, err := s.BaseFolder(t.Context(), ref)
		e := trimtab.AsError(err)
		for i, word := range words {
			if i == 0 && e.Type != word || i > 0 && !strings.Contains(e.Error()+e.Remedy, word) {
				t.Errorf("%q: error %s %v, hint %s; want %q", ref, e.Type, err, e.Remedy, word)
			}
		}
	}
}

// A name that is taken is not taken again: by an import it is refused, and a folder that a run starts from gets one of
// its own.
func TestImportModelNames(t *testing.T) {
	files, err := checkpoint.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := runs.New(nil, storagetest.New(t), files, nil)
	first, err := s.ImportModel(t.Context(), smallFolder(t, 1), runs.ImportRequest{Name: "gpt2", Actor: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	other := smallFolder(t, 2)
	if _, err := s.ImportModel(t.Context(), other,
		runs.ImportRequest{Name: "gpt2", Actor: "ann"}); trimtab.AsError(err).Type != "name_taken" {
		t.Errorf("error %v", err)
	}
	d, err := other.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := checkpoint.ModelConfig(files, d); ok {
		t.Error("a refused import left its files")
	}
	own, err := s.ImportModel(t.Context(), other, runs.ImportRequest{Name: "gpt2", Actor: "ann", UniqueName: true})
	if err != nil || own.Name != "gpt2-"+d.Short() || own.Digest != d {
		t.Errorf("named %q, error %v", own.Name, err)
	}
	moved, err := s.ImportModel(t.Context(), other, runs.ImportRequest{Name: "gpt2", Actor: "ann", TakeName: true})
	if err != nil || moved.PreviousOwner != first.Digest {
		t.Errorf("moved from %s, error %v", moved.PreviousOwner, err)
	}
}
