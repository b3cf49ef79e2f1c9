package checkpoint

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// Prefixes of wrappers and a value head come off, and it is said.
func TestReadUnwraps(t *testing.T) {
	want, _ := someModel(t, false)
	for prefix, note := range map[string]string{
		"_orig_mod.": "the prefix _orig_mod. was taken off 28 names", "module.": "module. was taken",
		"model.":            "model. was taken",
		"base_model.model.": "base_model.model. was taken", "module._orig_mod.": "module._orig_mod. was taken",
		"pretrained_model.": "pretrained_model. was taken",
	} {
		for _, bare := range []bool{false, true} {
			f := newFolder(t, false)
			f.rename(func(n string) string {
				if bare {
					n = strings.TrimPrefix(n, "transformer.")
				}
				return prefix + n
			})
			f.arrays = append(f.arrays, tensor.NamedArray{Name: "v_head.summary.weight", Shape: []int{1, 8},
				Data: make([]float32, 8)},
				tensor.NamedArray{Name: prefix + "lm_head.weight", Shape: f.arrays[0].Shape, Data: f.arrays[0].Data},
				tensor.NamedArray{Name: prefix + "h.0.attn.masked_bias", Shape: []int{}, Data: []float32{-1e4}})
			got, err := readModel(f.files())
			if err != nil || !slices.Equal(got.Model.Slab, want.Slab) {
				t.Errorf("%s: error %v", prefix, err)
				continue
			}
			all := strings.Join(got.Notes, "\n")
			for _, word := range []string{strings.Replace(note, "28", "30", 1), "v_head.summary.weight",
				"lm_head.weight left out", "1 attention mask left out"} {
				if !strings.Contains(all, word) {
					t.Errorf("%s: the notes lack %q:\n%s", prefix, word, all)
				}
			}
		}
	}
}

// Arrays of something else are named with what they probably are.
func TestReadNamesForeignArrays(t *testing.T) {
	one := func(name string) func(*folder) {
		return func(f *folder) {
			f.arrays = append(f.arrays, tensor.NamedArray{Name: name, Shape: []int{1}, Data: []float32{1}})
		}
	}
	for name, c := range map[string]struct {
		change func(*folder)
		want   []string
	}{
		"lora": {one("base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight"),
			[]string{"lora_A", "an adapter", "merge_and_unload"}},
		"llama": {one("model.layers.0.self_attn.q_proj.weight"),
			[]string{"model.layers.0.self_attn.q_proj.weight", "Llama"}},
		"neox":        {one("gpt_neox.layers.0.attention.bias"), []string{"gpt_neox", "another architecture"}},
		"optimizer":   {one("optimizer.state.exp_avg.0"), []string{"optimizer"}},
		"quantized":   {one("transformer.h.0.attn.c_attn.qweight"), []string{"qweight", "quantized", "float32"}},
		"second head": {one("multiple_choice_head.summary.weight"), []string{"GPT2DoubleHeadsModel"}},
		"cross":       {one("transformer.h.0.crossattention.c_attn.weight"), []string{"attention to an encoder"}},
		"reward head": {one("score.weight"), []string{"score.weight", "reward model", "language model"}},
		"unknown":     {one("transformer.h.0.gate"), []string{"transformer.h.0.gate is not part"}},
		"twice": {func(f *folder) {
			f.arrays = append(f.arrays, tensor.NamedArray{Name: "module.transformer.ln_f.bias", Shape: []int{8},
				Data: make([]float32, 8)})
		}, []string{"module.transformer.ln_f.bias", "are both transformer.ln_f.bias"}},
	} {
		f := newFolder(t, false)
		c.change(&f)
		_, err := readModel(f.files())
		for _, word := range c.want {
			if typeOf(err) != "unsupported_model" || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: error %v, want %q", name, err, word)
			}
		}
	}
}

// shards writes the arrays as two files with an index.
func shards(t *testing.T, f folder) (dir string) {
	dir = t.TempDir()
	first, second := f.arrays[:5], f.arrays[5:]
	index := map[string]any{"metadata": map[string]any{"total_size": 1}, "weight_map": map[string]string{}}
	for name, arrays := range map[string][]tensor.NamedArray{"model-00001-of-00002.safetensors": first,
		"model-00002-of-00002.safetensors": second} {
		for _, a := range arrays {
			index["weight_map"].(map[string]string)[a.Name] = name
		}
		writeFile(t, filepath.Join(dir, name), string(EncodeSafetensors(arrays, nil)))
	}
	raw, _ := json.Marshal(index)
	writeFile(t, filepath.Join(dir, indexName), string(raw))
	for _, g := range f.files() {
		if g.Name != weightsName {
			writeFile(t, filepath.Join(dir, g.Name), string(g.Data))
		}
	}
	return dir
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadShards(t *testing.T) {
	f := newFolder(t, false)
	want, err := readModel(f.files())
	if err != nil {
		t.Fatal(err)
	}
	dir := shards(t, f)
	got, err := Read(dir)
	if err != nil || !slices.Equal(got.Model.Slab, want.Model.Slab) ||
		!strings.Contains(strings.Join(got.Notes, "\n"), "read from 2 files") {
		t.Fatalf("error %v", err)
	}
	a, _ := want.Digest()
	if b, err := got.Digest(); err != nil || a != b {
		t.Errorf("digest %s, want %s, error %v", b, a, err)
	}
	index, _ := os.ReadFile(filepath.Join(dir, indexName))
	for name, c := range map[string]struct {
		change func()
		want   string
	}{
		"moved": {func() {
			writeFile(t, filepath.Join(dir, indexName), strings.Replace(string(index), "00002-of", "00001-of", 1))
		}, "does not list"},
		"outside": {func() {
			writeFile(t, filepath.Join(dir, indexName),
				strings.Replace(string(index), "model-00002", "../model-00002", 1))
		}, "not the name of a .safetensors file"},
		"not told": {func() {
			writeFile(t, filepath.Join(dir, indexName),
				strings.Replace(string(index), `"transformer.ln_f.bias"`, `"transformer.other"`, 1))
		}, "ln_f.bias"},
		"empty": {func() { writeFile(t, filepath.Join(dir, indexName), "{}") }, "names no file"},
		"absent": {func() {
			writeFile(t, filepath.Join(dir, indexName), string(index))
			if err := os.Remove(filepath.Join(dir, "model-00002-of-00002.safetensors")); err != nil {
				t.Fatal(err)
			}
		}, "names the file model-00002-of-00002.safetensors, which is absent"},
	} {
		if name != "absent" {
			c.change()
			if _, err := Read(dir); typeOf(err) != "unsupported_model" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: error %v", name, err)
			}
			continue
		}
		defer func() {
			c.change()
			if _, err := Read(dir); typeOf(err) != "unsupported_model" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("absent: error %v", err)
			}
		}()
	}
}

// Ids without a token are read, kept, never sampled, and come back.
func TestMoreRowsThanTokens(t *testing.T) {
	s := open(t)
	small, tok := someModel(t, false)
	words, err := tokenizer.Load(tok.Files(), tokenizer.ConfigIDs{File: configName, VocabSize: 300})
	if err != nil {
		t.Fatal(err)
	}
	m := resizeVocab(small, 300)
	for i := range m.NamedParameters()[0].Data {
		m.NamedParameters()[0].Data[i] = float32(i%7) - 3 // rows without a token are as likely as others
	}
	d := save(t, s, m, words)
	got, back, err := LoadModel(s, d)
	if err != nil || got.Config.Vocab != 300 || back.VocabSize() != 300 || back.TokenCount() != 264 ||
		back.Digest() != tok.Digest() {
		t.Fatalf("error %v", err)
	}
	if again := save(t, s, got, back); again != d {
		t.Error("another digest the second time")
	}
	pool := tensor.NewPool(1)
	defer pool.Close()
	o := model.SampleOptions{Temperature: 5, MaxNewTokens: 12, StopTokens: back.StopTokens(),
		SuppressTokens: back.SuppressTokens()}
	prompts := slices.Repeat([][]int32{{back.BeginOfText()}}, 100)
	seen := map[int32]bool{}
	for _, sample := range model.Generate(model.NewPass(pool), got, prompts, o, draw.New(1, "x"), 0) {
		for _, id := range sample.Tokens {
			if seen[id] = true; int(id) >= back.TokenCount() || id == back.Pad() {
				t.Fatalf("sampled %d", id)
			}
		}
	}
	if len(seen) < 200 {
		t.Errorf("only %d different tokens were sampled: the test shows nothing", len(seen))
	}
}

// Several tokens that end a text are kept in config.json, and one as before.
func TestSeveralEnds(t *testing.T) {
	f := newFolder(t, false)
	before, err := readModel(f.files())
	if err != nil {
		t.Fatal(err)
	}
	f.config["eos_token_id"] = []int{263, 262}
	got, err := readModel(f.files())
	if err != nil || !slices.Equal(got.Tokenizer.StopTokens(), []int32{262, 263}) {
		t.Fatalf("error %v", err)
	}
	s := open(t)
	d := save(t, s, got.Model, got.Tokenizer)
	_, words, err := LoadModel(s, d)
	if err != nil || !slices.Equal(words.StopTokens(), []int32{262, 263}) ||
		words.Digest() != before.Tokenizer.Digest() {
		t.Errorf("stored: ends %v, error %v", words.StopTokens(), err)
	}
	raw, _ := readArtifactConfig(s, d)
	if !strings.Contains(strings.Join(strings.Fields(string(raw)), ""), `"eos_token_id":[262,263]`) {
		t.Errorf("config.json is %s", raw)
	}
	f.config["eos_token_id"] = []int{262}
	one, err := readModel(f.files())
	if err != nil {
		t.Fatal(err)
	}
	a, _ := before.Digest()
	if b, _ := one.Digest(); a != b {
		t.Errorf("a list of one gives %s, the number %s", b, a)
	}
	f.config["eos_token_id"] = map[string]any{}
	if _, err := readModel(f.files()); err == nil ||
		!strings.Contains(err.Error(), "eos_token_id is {}: want an id, or a list of ids") {
		t.Errorf("error %v", err)
	}
	f.config["eos_token_id"], f.config["n_layer"] = 262, "two"
	if _, err := readModel(f.files()); err == nil ||
		!strings.Contains(err.Error(), "n_layer is a string, and should be a whole number") ||
		strings.Contains(err.Error(), "Go ") {
		t.Errorf("error %v", err)
	}
}

// generation_config.json may say more of the ends, and not otherwise.
func TestGenerationConfig(t *testing.T) {
	f := newFolder(t, false)
	for text, want := range map[string]string{
		`{"eos_token_id":[262,263]}`: "", `{"eos_token_id":262,"temperature":0.1,"pad_token_id":null}`: "",
		`{"eos_token_id":263}`: "generation_config.json says that it is \"<|pad|>\" (263)",
		`{"bos_token_id":5}`:   "generation_config.json",
		`{"eos_token_id":"x"}`: "generation_config.json: eos_token_id",
	} {
		_, err := readModel(append(f.files(), blob(generationName, text)))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v", text, err)
		}
	}
	_, tok := someModel(t, false)
	written := GenerationConfig(tok, Sampling{Temperature: .7, MaxTokens: 12})
	if _, err := readModel(append(f.files(), written)); err != nil {
		t.Errorf("what is written is not read: %v", err)
	}
	for _, word := range []string{`"eos_token_id": 262`, `"max_new_tokens": 12`, `"temperature": 0.7`, `"top_k": 0`,
		`"do_sample": true`} {
		if !strings.Contains(string(written.Data), word) {
			t.Errorf("no %s in %s", word, written.Data)
		}
	}
}

// A reward model goes out without a bias and with padding, and comes back as it was.
func TestRewardModelThereAndBack(t *testing.T) {
	for name, make := range rewardModels(t) {
		s := open(t)
		m, words := make()
		d := save(t, s, m, words)
		dir := filepath.Join(t.TempDir(), "out")
		if err := Export(s, d, dir); err != nil {
			t.Fatal(err)
		}
		x, err := ExportForm(s, d)
		if err != nil || x.Padded != (name == "no padding token") || x.KeepsBias || len(x.Changed) < 2 {
			t.Errorf("%s: %+v, error %v", name, x.Changed, err)
		}
		if x.Tokenizer.Pad() == tokenizer.NoToken {
			t.Errorf("%s: no padding token", name)
		}
		raw, err := os.ReadFile(filepath.Join(dir, weightsName))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), `"score.bias":`) {
			t.Errorf("%s: score.bias is in the folder", name)
		}
		if back, err := Import(open(t), dir); err != nil || back != d {
			t.Errorf("%s: imported as %s, error %v, want %s", name, back, err, d)
		}
		if same, err := FolderDigest(dir); err != nil || same != d {
			t.Errorf("%s: the folder is %s, error %v, want %s", name, same, err, d)
		}
		changed(t, name, dir, d.Short())
	}
}

// changed checks that an exported reward model of which something was changed is no longer taken for the stored one.
func changed(t *testing.T, name, dir, short string) {
	t.Helper()
	raw, _ := os.ReadFile(filepath.Join(dir, weightsName))
	arrays, metadata, err := DecodeSafetensors(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range arrays {
		if a.Name == "transformer.ln_f.bias" {
			a.Data[0] = math.Nextafter32(a.Data[0], 9)
		}
	}
	writeFile(t, filepath.Join(dir, weightsName), string(EncodeSafetensors(arrays, metadata)))
	f, err := Read(dir)
	if err != nil || !strings.Contains(strings.Join(f.Notes, "\n"), "was changed after Trimtab exported it") {
		t.Errorf("%s, changed: notes %q, error %v", name, f.Notes, err)
	}
	if d, err := f.Digest(); err != nil || d.Short() == short {
		t.Errorf("%s, changed: digest %s, error %v", name, d.Short(), err)
	}
	writeFile(t, filepath.Join(dir, weightsName), string(raw))
	config, _ := os.ReadFile(filepath.Join(dir, configName))
	writeFile(t, filepath.Join(dir, configName), string(config)+" ")
	if d, err := FolderDigest(dir); err != nil || d.Short() == short {
		t.Errorf("%s, one space more: digest %s, error %v", name, d.Short(), err)
	}
}

// Where the score's weights are zero nothing can hold the bias: it is kept, and said.
func TestBiasThatCannotBeFolded(t *testing.T) {
	s := open(t)
	m, words := rewardModels(t)["padding token"]()
	w, _ := m.ScoreHead()
	clear(w)
	d := save(t, s, m, words)
	x, err := ExportForm(s, d)
	if err != nil || !x.KeepsBias {
		t.Errorf("kept %v, error %v", x.KeepsBias, err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := Export(s, d, dir); err != nil {
		t.Fatal(err)
	}
	if back, err := Import(open(t), dir); err != nil || back != d {
		t.Errorf("imported as %s, error %v, want %s", back, err, d)
	}
	w[0] = 1e-40
	if _, ok := foldBias(m); ok {
		t.Error("a bias over a weight of 1e-40 was folded")
	}
	w[0] = float32(math.Inf(1))
	if _, ok := foldBias(m); ok {
		t.Error("a bias over an infinite weight was folded")
	}
}

// What older versions exported had score.bias among the arrays: the same digest as ever.
func TestOlderExportOfARewardModel(t *testing.T) {
	s := open(t)
	m, words := rewardModels(t)["padding token"]()
	d := save(t, s, m, words)
	files, err := s.Files(d)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := WriteFolder(dir, files); err != nil {
		t.Fatal(err)
	}
	if back, err := Import(open(t), dir); err != nil || back != d {
		t.Errorf("imported as %s, error %v", back, err)
	}
	if same, err := FolderDigest(dir); err != nil || same != d {
		t.Errorf("the folder is %s, error %v", same, err)
	}
}

// FuzzExported reads reward models with hostile metadata: what is taken for a
// stored model exports to the folder that it was read from.
func FuzzExported(f *testing.F) {
	m, words := rewardModels(f)["no padding token"]()
	form := newExportedModel(m, words)
	f.Add(form.metadata[metaBias], form.metadata[metaNorm], form.metadata[metaIDs], "")
	f.Add("AAAAAA==", form.metadata[metaNorm], "", "0")
	f.Add("", "", "280", "-5")
	f.Fuzz(func(t *testing.T, bias, norm, ids, pad string) {
		metadata := map[string]string{metaBias: bias, metaNorm: norm, metaIDs: ids, metaPad: pad}
		got := &Folder{Model: form.model.Clone(), Tokenizer: form.tokenizer}
		got.restoreStored(metadata)
		if got.Model.Config.Vocab == form.model.Config.Vocab && slices.Equal(got.Model.Slab, form.model.Slab) {
			return
		}
		if !newExportedModel(got.Model, got.Tokenizer).equals(form.model, form.tokenizer) {
			t.Fatal("another model was made")
		}
	})
}

// FuzzBeside reads hostile files beside the weights: an index names only files
// of the folder, and what is read of generation_config.json is in the vocabulary.
func FuzzBeside(f *testing.F) {
	made := newFolder(f, false)
	from := made.files()
	f.Add(`{"weight_map":{"a":"model-00001-of-00002.safetensors"}}`, `{"eos_token_id":[262,263]}`)
	f.Add(`{"weight_map":{"a":"../x.safetensors","b":"/x.safetensors","c":"a\\b.safetensors","d":".safetensors"}}`,
		`{"eos_token_id":-1,"bos_token_id":1e9}`)
	f.Add(`{"weight_map":null}`, `{"eos_token_id":[[]],"pad_token_id":{}}`)
	f.Fuzz(func(t *testing.T, index, generation string) {
		if names, err := shardNames([]byte(index)); err == nil {
			for _, name := range names {
				if filepath.Base(name) != name || name == "." || name == ".." || strings.ContainsAny(name, `/\`) {
					t.Fatalf("%q is outside the folder", name)
				}
			}
		}
		got, err := readModel(append(slices.Clone(from), blob(generationName, generation)))
		if err != nil {
			return
		}
		for _, id := range got.Tokenizer.StopTokens() {
			if id < 0 || int(id) >= got.Tokenizer.TokenCount() {
				t.Fatalf("%d ends a text", id)
			}
		}
	})
}
