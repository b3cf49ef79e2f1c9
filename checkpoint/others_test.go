package checkpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

// exportedFolder exports a model of 512 ids, 510 the token that ends a text and 511 padding.
func exportedFolder(t *testing.T) (dir string, m *model.Model) {
	t.Helper()
	var words strings.Builder
	for i := range 400 {
		fmt.Fprintf(&words, "%d is %d and not %d, ", i, i*i, i*7)
	}
	tok, err := tokenizer.Train([]string{words.String()}, 512)
	if err != nil {
		t.Fatal(err)
	}
	m = model.New(model.Config{Layers: 1, Width: 8, Heads: 2, Context: 32, Vocab: 512}, false)
	m.Init(draw.New(1, "test"))
	s := open(t)
	dir = filepath.Join(t.TempDir(), "m")
	if err := Export(s, save(t, s, m, tok), dir); err != nil {
		t.Fatal(err)
	}
	if tok.EndOfText() != 510 || tok.Pad() != 511 {
		t.Fatalf("the test's tokenizer ends with %d and pads with %d", tok.EndOfText(), tok.Pad())
	}
	return dir, m
}

// changeJSON changes a file of a folder as an object; one that is not there begins empty.
func changeJSON(t *testing.T, dir, name string, change func(v map[string]any)) {
	t.Helper()
	v := map[string]any{}
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	change(v)
	if raw, err = json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, name), string(raw))
}

func remove(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// widen gives a folder's embedding one more row, as transformers does when a token was added.
func widen(t *testing.T, dir string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, weightsName))
	if err != nil {
		t.Fatal(err)
	}
	arrays, metadata, err := DecodeSafetensors(raw)
	if err != nil {
		t.Fatal(err)
	}
	for i := range arrays {
		if a := &arrays[i]; a.Name == "transformer.wte.weight" {
			a.Data = append(slices.Clone(a.Data), make([]float32, a.Shape[1])...)
			a.Shape = []int{a.Shape[0] + 1, a.Shape[1]}
		}
	}
	writeFile(t, filepath.Join(dir, weightsName), string(EncodeSafetensors(arrays, metadata)))
	changeJSON(t, dir, configName, func(v map[string]any) { v["vocab_size"] = 513 })
}

// Whole folders as other programs leave them are imported with the tokens that
// they name, and come back from the store and from an export as they are.
func TestFoldersOfOtherPrograms(t *testing.T) {
	added := func(dir string) {
		widen(t, dir)
		changeJSON(t, dir, "added_tokens.json", func(v map[string]any) { v["[PAD]"] = 512 })
		changeJSON(t, dir, "tokenizer.json", func(v map[string]any) {
			list, _ := v["added_tokens"].([]any)
			v["added_tokens"] = append(list, map[string]any{"id": 512, "content": "[PAD]", "special": true,
				"single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
		})
		changeJSON(t, dir, "special_tokens_map.json", func(v map[string]any) { v["pad_token"] = "[PAD]" })
		changeJSON(t, dir, "tokenizer_config.json", func(v map[string]any) { v["pad_token"] = "[PAD]" })
		changeJSON(t, dir, configName, func(v map[string]any) { v["pad_token_id"] = 512 })
	}
	for name, c := range map[string]struct {
		change     func(dir string)
		vocab      int
		begin, pad int32
		ends       []int32
		names      []string // of ids 511 and above
	}{
		"as it is":      {func(string) {}, 512, 510, 511, []int32{510}, []string{"<|pad|>"}},
		"a token added": {added, 513, 510, 512, []int32{510}, []string{"<|pad|>", "[PAD]"}},
		"a token added, tokenizer.json alone": {func(dir string) {
			added(dir)
			remove(t, dir, "vocab.json", "merges.txt")
		}, 513, 510, 512, []int32{510}, []string{"<|pad|>", "[PAD]"}},
		"transformers 5, another end": {func(dir string) {
			remove(t, dir, "vocab.json", "merges.txt", "special_tokens_map.json")
			raw, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, "tokenizer.json"), strings.ReplaceAll(string(raw), "<|pad|>", "<|im_end|>"))
			changeJSON(t, dir, "tokenizer_config.json", func(v map[string]any) {
				v["eos_token"] = "<|im_end|>"
				delete(v, "pad_token")
				delete(v, "added_tokens_decoder")
			})
			changeJSON(t, dir, configName, func(v map[string]any) {
				v["eos_token_id"] = 511
				delete(v, "pad_token_id")
			})
		}, 512, 510, tokenizer.NoToken, []int32{511}, []string{"<|im_end|>"}},
		"several ends": {func(dir string) {
			changeJSON(t, dir, configName, func(v map[string]any) { v["eos_token_id"] = []int{510, 511} })
		}, 512, 510, 511, []int32{510, 511}, []string{"<|pad|>"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, m := exportedFolder(t)
			c.change(dir)
			f, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			if n := f.Model.Config.Vocab; n != c.vocab ||
				!slices.Equal(f.Model.NamedParameters()[0].Data[:512*8], m.NamedParameters()[0].Data) {
				t.Errorf("the model has %d ids", n)
			}
			s := open(t)
			d, err := Import(s, dir)
			if err != nil {
				t.Fatal(err)
			}
			stored, words, err := LoadModel(s, d)
			if err != nil || stored.Config.Vocab != c.vocab {
				t.Fatalf("stored: error %v", err)
			}
			out := filepath.Join(t.TempDir(), "out")
			if err := Export(s, d, out); err != nil {
				t.Fatal(err)
			}
			back, err := Read(out)
			if err != nil {
				t.Fatalf("exported: %v", err)
			}
			if again, err := back.Digest(); err != nil || again != d {
				t.Errorf("exported and read: %s, error %v, want %s", again, err, d)
			}
			for where, tok := range map[string]*tokenizer.Tokenizer{"read": f.Tokenizer, "stored": words,
				"exported": back.Tokenizer} {
				ends := slices.Sorted(slices.Values(tok.StopTokens()))
				if tok.VocabSize() != c.vocab || tok.BeginOfText() != c.begin || tok.EndOfText() != c.ends[0] ||
					tok.Pad() != c.pad || !slices.Equal(ends, c.ends) {
					t.Errorf("%s: %d ids, begin %d, end %d, ends %v, pad %d", where, tok.VocabSize(), tok.BeginOfText(),
						tok.EndOfText(), ends, tok.Pad())
				}
				for i, want := range c.names {
					if id := int32(511 + i); tok.Piece(id) != want || !tok.Special(id) {
						t.Errorf("%s: id %d is %q", where, id, tok.Piece(id))
					}
				}
			}
		})
	}
}
