package activities

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// twoEnds stores a model whose folder says that two tokens end a text, each as
// likely as all other tokens together, and a reward model of the same words.
func twoEnds(t *testing.T, w *smallWorker) (language, scores trimtab.Digest, words *tokenizer.Tokenizer) {
	t.Helper()
	var bodies []string
	for _, d := range starter.New(w.spec.Starter.World).Documents(2000) {
		bodies = append(bodies, d.Body)
	}
	plain, err := tokenizer.Train(bodies, 300)
	if err != nil {
		t.Fatal(err)
	}
	m := model.New(model.Config{Layers: 1, Width: 8, Heads: 2, Context: 96, Vocab: plain.VocabSize()}, false)
	m.Init(draw.New(1, "test"))
	other := plain.Encode("e")[0]
	for _, p := range m.NamedParameters() {
		switch p.Name {
		case "transformer.wte.weight":
			clear(p.Data)
			p.Data[8*plain.EndOfText()], p.Data[8*other] = 5.5, 5.5
		case "transformer.ln_f.weight":
			clear(p.Data)
		case "transformer.ln_f.bias":
			p.Data[0] = 1
		}
	}
	d, err := checkpoint.SaveModel(w.files, m, plain)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "m")
	if err := checkpoint.Export(w.files, d, dir); err != nil {
		t.Fatal(err)
	}
	path, config := filepath.Join(dir, "config.json"), map[string]any{}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	config["eos_token_id"] = []int32{plain.EndOfText(), other}
	if raw, err = json.Marshal(config); err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if language, err = checkpoint.Import(w.files, dir); err != nil {
		t.Fatal(err)
	}
	if _, words, err = checkpoint.LoadModel(w.files, language); err != nil || len(words.StopTokens()) != 2 {
		t.Fatalf("the folder's ends are not read: %v", err)
	}
	scorer := model.New(m.Config, true)
	scorer.Init(draw.New(2, "test"))
	if scores, err = checkpoint.SaveModel(w.files, scorer, words); err != nil {
		t.Fatal(err)
	}
	return language, scores, words
}

// Answers that collect and ppo sample stop at any of the tokens that end a text, and count as ended.
func TestAnyEndStops(t *testing.T) {
	w := newSmallWorker(t, "smallest")
	c := w.chain(t, tensor.V1)
	language, scores, words := twoEnds(t, w)
	c.made["sft"] = []trimtab.Named{{Name: "model", Digest: language}}
	c.made["reward"] = []trimtab.Named{{Name: "model", Digest: scores}}
	ends := words.StopTokens()
	seen := map[string]map[int32]int{}
	take := func(stage string, ids []int32, ended bool) {
		if at := slices.IndexFunc(ids, func(id int32) bool { return slices.Contains(ends, id) }); at >= 0 &&
			at < len(ids)-1 || (at >= 0) != ended || ended != words.EndsWithStop(ids) {
			t.Errorf("%s: the answer %v, ended %v, continues after a stop token, of %v", stage, ids, ended, ends)
		}
		if seen[stage] == nil {
			seen[stage] = map[int32]int{}
		}
		if ended {
			seen[stage][ids[len(ids)-1]]++
		}
	}
	for _, st := range c.plan.Stages {
		switch st.Kind {
		case recipes.KindCollect:
			j := c.job(t, st).(*collectJob)
			for step := range j.Steps() {
				if _, err := j.Step(t.Context(), step); err != nil {
					t.Fatal(err)
				}
			}
			for i := range j.Responses().Len() {
				ids := j.Responses().At(i)
				take(st.Name, ids, words.EndsWithStop(ids))
			}
		case recipes.KindPPO:
			r, err := c.job(t, st).Step(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range r.Rollouts {
				take(st.Name, o.Tokens, o.Ended)
			}
		}
	}
	for _, stage := range []string{"collect", "ppo"} {
		for _, end := range ends {
			if seen[stage][end] == 0 {
				t.Errorf("%s: no answer of %v ends with %d: the test shows nothing", stage, seen[stage], end)
			}
		}
	}
}
