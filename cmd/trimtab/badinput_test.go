package main

import (
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tokenizer"
)

// broken is one thing that may be wrong with what a user gives: the file, the
// command that reads it, and what the error has to say.
type broken struct {
	name  string
	data  string
	args  []string // FILE stands for the file
	code  int
	typ   string
	place string // in the message
}

func importing(kind string, more ...string) []string {
	return append([]string{"data", "import", "bad", "--kind", kind, "FILE"}, more...)
}

func planning(more ...string) []string { return append([]string{"plan", "-f", "FILE"}, more...) }

const sound = `name: x
model: {num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2, max_position_embeddings: 32, vocab_size: 300}
data: {text: t, demonstrations: d}
stages:
  - {kind: pretrain, tokens: 4096}
`

var brokenFiles = []broken{
	{"truncated.jsonl", "{\"text\": \"whole\"}\n{\"text\": \"hal", importing("text"), 1, "invalid_data",
		"truncated.jsonl:2: "},
	{"truncated.json", `[{"text": "whole"}, {"text": "hal`, importing("text"), 1, "", "truncated.json"},
	{"truncated.csv", "text\n\"open quote\n", importing("text"), 1, "", "truncated.csv"},
	{"columns.jsonl", `{"question_text": "a", "reply": "b"}`, importing("demonstrations"), 1, "", "columns.jsonl:1: "},
	{"columns.csv", "a,b\n1,2\n", importing("rankings"), 1, "", "columns.csv:2: "},
	{"not_a_string.jsonl", `{"prompt": "a", "responses": ["b", 7], "ranks": [1, 2]}`, importing("rankings"), 1, "",
		"not_a_string.jsonl:1: "},
	{"empty_text.jsonl", "{\"text\": \"good\"}\n{\"text\": \"  \"}\n", importing("text"), 1, "",
		"empty_text.jsonl:2: "},
	{"empty_file.jsonl", "", importing("text"), 1, "", "empty_file.jsonl"},
	{"ranks_word.jsonl",
		"{\"prompt\": \"a\", \"responses\": [\"b\", \"c\"], \"ranks\": [1, 1]}\n{\"prompt\": \"a\", \"responses\": " +
			"[\"b\", \"c\"], \"ranks\": [1, \"x\"]}", importing("rankings"), 1, "", "ranks_word.jsonl:2: "},
	{"votes.jsonl",
		"{\"instruction\": \"a\", \"response1\": \"b\", \"response2\": \"c\", \"annotator1\": 0, \"annotator2\": 1}",
		importing("rankings"), 2, "votes_ambiguous", "votes.jsonl"},
	{"utf16.csv", "t\x00e\x00x\x00t\x00\n\x00a\x00\n\x00", importing("text"), 1, "dataset_unreadable", "UTF-16"},
	{"labeller.jsonl", "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\", \"labeller\": \"w\\u0000\"}",
		importing("rankings"), 1, "", "labeller.jsonl:1: "},
	{"ranks.jsonl", `{"prompt": "a", "responses": ["b", "c"], "ranks": [1]}`, importing("rankings"), 1, "",
		"ranks.jsonl:1: "},
	{"nul.jsonl", "{\"text\": \"a\\u0000b\"}", importing("text"), 1, "", "nul.jsonl:1: "},
	{"utf8.jsonl", "{\"text\": \"good\"}\n{\"text\": \"bad \xff\xfe\"}", importing("text"), 1, "", "utf8.jsonl:2: "},
	{"utf8.txt", "bad \xff\xfe text", importing("text"), 1, "", "utf8.txt"},
	{"long_line.jsonl", "{\"text\": \"short\"}\n{\"text\": \"" + strings.Repeat("x", 10<<20) + "\"}\n",
		importing("text"), 1, "", "long_line.jsonl:2: "},
	{"gzip.jsonl.gz", "this is no gzip", importing("text"), 1, "", "gzip.jsonl.gz"},
	{"array.jsonl", "[1, 2, 3]\n", importing("text"), 1, "", "array.jsonl:1: "},
	{"ending.parquet", "PAR1", importing("text"), 2, "", "ending.parquet"},
	{"key.yaml", sound + "learning_rate: 3\n", planning(), 2, "invalid_spec", "key.yaml:6: "},
	{"stage_key.yaml", sound + "  - {kind: sft, epoch: 2}\n", planning(), 2, "invalid_spec", "stage_key.yaml:6: "},
	{"kind.yaml", sound + "  - {kind: dpo}\n", planning(), 2, "invalid_spec", "kind.yaml:6: "},
	{"negative.yaml", strings.Replace(sound, "num_hidden_layers: 1", "num_hidden_layers: -1", 1), planning(), 2, "invalid_spec",
		"negative.yaml"},
	{"huge.yaml", strings.Replace(sound, "hidden_size: 16", "hidden_size: 99999999999999999999", 1), planning(), 2, "invalid_spec",
		"huge.yaml"},
	{"heads.yaml", strings.Replace(sound, "num_attention_heads: 2", "num_attention_heads: 3", 1), planning(), 2, "invalid_spec", "num_attention_heads"},
	{"word.yaml", strings.Replace(sound, "tokens: 4096", "tokens: many", 1), planning(), 2, "invalid_spec",
		"word.yaml"},
	{"seed.yaml", "seed: -1\n" + sound, planning(), 2, "invalid_spec", "seed.yaml"},
	{"list.yaml", "- a\n- b\n", planning(), 2, "invalid_spec", "list.yaml"},
	{"tabs.yaml", "name: x\n\tmodel: {}\n", planning(), 2, "invalid_spec", "tabs.yaml"},
	{"none.yaml", "", planning(), 2, "invalid_spec", "none.yaml"},
	{"two_names.yaml", sound + "  - {kind: pretrain, tokens: 4096}\n", planning(), 2, "invalid_spec", "two_names.yaml"},
	{"sound.yaml", sound, planning("--set", "pretrain.tokens"), 2, "invalid_spec", "pretrain.tokens"},
	{"settings.yaml", "data: [a, b\n", []string{"recipes", "--config", "FILE"}, 2, "invalid_settings", "settings.yaml"},
}

// Every broken file gives an error with its place, a remedy and the exit code,
// and changes nothing.
func TestBadInput(t *testing.T) {
	folder := quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	for _, b := range brokenFiles {
		t.Run(b.name, func(t *testing.T) {
			file := filepath.Join(folder, b.name)
			write(t, file, b.data)
			args := make([]string, len(b.args))
			for i, arg := range b.args {
				args[i] = strings.ReplaceAll(arg, "FILE", file)
			}
			f := fails(t, b.code, args...)
			if b.typ != "" && f.Type != b.typ {
				t.Errorf("type %q, want %q", f.Type, b.typ)
			}
			if !strings.Contains(f.Message, b.place) {
				t.Errorf("the message does not say %q: %s", b.place, f.Message)
			}
			if len(f.Message) > 1000 {
				t.Errorf("the message has %d bytes", len(f.Message))
			}
		})
	}
	nothingStored(t)
}

// Duplicate rows are no error: they are counted, and stored once.
func TestDuplicateRows(t *testing.T) {
	folder := quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	file := filepath.Join(folder, "twice.jsonl")
	write(t, file, strings.Repeat("{\"text\": \"the same\"}\n", 5))
	code, out, errs := command(t, "", "data", "import", "twice", "--kind", "text", file)
	if code != 0 || !strings.HasPrefix(out, "twice: 1 accepted, 4 duplicate, 0 rejected; 1 new") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// With --skip-bad, the records before a fault are imported, and the fault is reported.
func TestTruncatedArchive(t *testing.T) {
	folder := quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	var zipped strings.Builder
	w := gzip.NewWriter(&zipped)
	for i := range 5000 {
		fmt.Fprintf(w, "{\"text\": \"document %d %x\"}\n", i, draw.New(uint64(i), "text").At(0).Uint64())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "cut.jsonl.gz")
	write(t, file, zipped.String()[:zipped.Len()/2])
	if f := fails(t, 1, "data", "import", "cut", "--kind", "text", file); !strings.Contains(f.Message, "cut.jsonl.gz") {
		t.Errorf("%+v", f)
	}
	nothingStored(t)
	code, out, errs := command(t, "", "data", "import", "cut", "--kind", "text", "--skip-bad", file)
	if code != 0 || strings.Contains(out, " 0 rejected") || !strings.Contains(errs, "cut.jsonl.gz") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// A model folder with lying offsets, not-a-numbers or a damaged file is refused, and so is a store that was tampered
// with.
func TestBadModels(t *testing.T) {
	folder := quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	good := filepath.Join(folder, "good")
	code, out, errs := importGoodModel(t, folder, good)
	if code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	weights, err := os.ReadFile(filepath.Join(good, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"lying_length": func(b []byte) []byte { binary.LittleEndian.PutUint64(b, 1<<60); return b },
		"lying_offsets": func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"data_offsets":[0,`, `"data_offsets":[9,`, 1))
		},
		"truncated": func(b []byte) []byte { return b[:len(b)-5] },
		"not_a_number": func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[len(b)-4:], math.Float32bits(float32(math.NaN())))
			return b
		},
		"empty": func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(folder, name)
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "model.safetensors"), string(damage([]byte(string(weights)))))
			f := fails(t, 1, "model", "import", dir)
			if !strings.Contains(f.Message, "model.safetensors") && f.Type != "not_a_number" {
				t.Errorf("no place in %+v", f)
			}
		})
	}
	fails(t, 3, "model", "import", filepath.Join(folder, "absent"))
	tamper(t)
	if f := fails(t, 5, "model", "show", "good"); f.Type != "artifact_corrupt" {
		t.Errorf("a tampered store gives %+v", f)
	}
	if _, out, _ := command(t, "", "model", "list", "-o", "csv"); strings.Count(out, "\n") != 2 {
		t.Errorf("models besides the good one:\n%s", out)
	}
}

// importGoodModel writes a small model as a folder, imports it and shows it.
func importGoodModel(t *testing.T, folder, dir string) (int, string, string) {
	t.Helper()
	words, err := tokenizer.Train([]string{"hello world, hello model"}, 262)
	if err != nil {
		t.Fatal(err)
	}
	m := model.New(model.Config{Layers: 1, Width: 8, Heads: 2, Context: 16, Vocab: words.VocabSize()}, false)
	m.Init(draw.New(1, "test"))
	files, err := checkpoint.Open(filepath.Join(folder, "elsewhere"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := checkpoint.SaveModel(files, m, words)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.Export(files, d, dir); err != nil {
		t.Fatal(err)
	}
	return command(t, "", "model", "import", dir)
}

// tamper changes a byte in every stored weights file.
func tamper(t *testing.T) {
	t.Helper()
	store := filepath.Join(os.Getenv("XDG_DATA_HOME"), "trimtab", "store")
	changed := 0
	err := filepath.WalkDir(store, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(b), "transformer.wte.weight") {
			return err
		}
		changed++
		b[len(b)-1] ^= 1
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || changed == 0 {
		t.Fatalf("changed %d files: %v", changed, err)
	}
}

func nothingStored(t *testing.T) {
	t.Helper()
	if _, out, _ := command(t, "", "data", "list", "-o", "csv"); strings.Count(out, "\n") != 1 {
		t.Errorf("a refused import left something:\n%s", out)
	}
}
