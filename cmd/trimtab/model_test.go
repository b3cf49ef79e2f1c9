package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

// TestParseSize: sizes are those of transformers' max_shard_size, but for bits, and never overflow.
func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"5GB": 5e9, "500MB": 5e8, "2KiB": 2048, "3MiB": 3 << 20, "1GiB": 1 << 30, "12KB": 12000, "5000000000": 5e9,
		"9223372036GB": 9223372036e9,
		"":             0, "GB": 0, "0": 0, "0GB": 0, "-1GB": 0, "+1GB": 0, "1.5GB": 0, "5gb": 0, "5 GB": 0, "5TB": 0,
		"9223372037GB": 0, "9223372036854775808": 0, "1GBGB": 0,
	} {
		if n, ok := parseSize(s); ok != (want > 0) || ok && n != want {
			t.Errorf("%q: %d, %v, want %d", s, n, ok, want)
		}
	}
}

// smallModels writes models as folders for scripts: language, another language
// model, wide, whose rows Q8_0 divides, foreign, of another vocabulary, scores, a
// reward model of a vocabulary without padding, and odd, whose files disagree.
func smallModels(dir string) error {
	words, err := tokenizer.Train([]string{"hello world, hello model"}, 262)
	if err != nil {
		return err
	}
	others, err := tokenizer.Train([]string{"yellow submarine, yellow river"}, 262)
	if err != nil {
		return err
	}
	bare, _ := words.WithoutPad(words.VocabSize()-1, tokenizer.NoToken)
	width := map[string]int{"wide": 32}
	write := func(name string, seed uint64, t *tokenizer.Tokenizer, scalar bool) error {
		m := model.New(model.Config{Layers: 1, Width: cmp.Or(width[name], 8), Heads: 2, Context: 16,
			Vocab: t.VocabSize()}, scalar)
		m.Init(draw.New(seed, "small"))
		if scalar {
			_, bias := m.ScoreHead()
			bias[0] = .25
		}
		s, err := checkpoint.Open(filepath.Join(dir, ".models"))
		if err != nil {
			return err
		}
		d, err := checkpoint.SaveModel(s, m, t)
		if err != nil {
			return err
		}
		files, err := s.Files(d) // as older versions exported them
		if err != nil {
			return err
		}
		return checkpoint.WriteFolder(filepath.Join(dir, name), files)
	}
	err = errors.Join(write("language", 1, words, false), write("another", 2, words, false),
		write("scores", 3, bare, true), write("odd", 1, words, false), write("wide", 4, words, false),
		write("foreign", 5, others, false))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "odd", "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		return err
	}
	config["eos_token_id"] = 5
	if raw, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}
