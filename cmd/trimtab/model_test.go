package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

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
		m := model.New(model.Config{Layers: 1, Width: cmp.Or(width[name], 8), Heads: 2, Context: 16, Vocab: t.VocabSize()}, scalar)
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
