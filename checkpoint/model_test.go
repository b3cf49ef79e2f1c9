package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

func someModel(t testing.TB, scalar bool) (*model.Model, *tokenizer.Tokenizer) {
	t.Helper()
	tok, err := tokenizer.Train([]string{"the cat sat on the mat, that is that"}, 264)
	if err != nil {
		t.Fatal(err)
	}
	m := model.New(model.Config{Layers: 2, Width: 8, Heads: 2, Context: 16, Vocab: tok.VocabSize()}, scalar)
	m.Init(draw.New(1, "test"))
	return m, tok
}

func save(t testing.TB, s *Store, m *model.Model, tok *tokenizer.Tokenizer) trimtab.Digest {
	t.Helper()
	d, err := SaveModel(s, m, tok)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What was stored of a GPT-2 before there were families has its digest still, and its export too.
func TestModelDigests(t *testing.T) {
	for scalar, want := range map[bool][2]trimtab.Digest{
		false: {"sha256:fb16fed6ef534a441c0695693d317cfe1ca7ed59ae929fb53932e1145a4895b5",
			"sha256:fb16fed6ef534a441c0695693d317cfe1ca7ed59ae929fb53932e1145a4895b5"},
		true: {"sha256:88d5eb58ca9bafa25bb6d1b6f4e6a8ba3c44097068af2fe50cdd5eae2b1d810d",
			"sha256:590985b4e993535d5d3c8e32ccd47601953325c17f751867768c59d248dd62cb"},
	} {
		s := open(t)
		m, tok := someModel(t, scalar)
		d := save(t, s, m, tok)
		x, err := ExportForm(s, d)
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Put(x.Files)
		if err != nil || d != want[0] || e != want[1] {
			t.Errorf("scalar %v: stored as %s, exported as %s, %v", scalar, d, e, err)
		}
	}
}

func TestModelRoundTrip(t *testing.T) {
	for _, scalar := range []bool{false, true} {
		s := open(t)
		m, tok := someModel(t, scalar)
		d := save(t, s, m, tok)
		got, gotTok, err := LoadModel(s, d)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Config.Equal(m.Config) || got.Scalar != scalar || !slices.Equal(got.Slab, m.Slab) ||
			gotTok.Digest() != tok.Digest() {
			t.Error("another model came back")
		}
		if again := save(t, s, got, gotTok); again != d {
			t.Error("another digest the second time")
		}
	}
}

func TestModelFolder(t *testing.T) {
	s := open(t)
	m, tok := someModel(t, true)
	files, err := s.Files(save(t, s, m, tok))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	want := []string{"config.json", "merges.txt", "model.safetensors", "special_tokens_map.json", "tokenizer.json",
		"tokenizer_config.json", "vocab.json"}
	if !slices.Equal(names, want) {
		t.Errorf("files %v", names)
	}
	var config map[string]any
	if err := json.Unmarshal(fileData(files, configName), &config); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"model_type": "gpt2", "n_layer": 2.0, "n_embd": 8.0, "n_head": 2.0, "n_positions": 16.0, "vocab_size": 264.0,
		"layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "tie_word_embeddings": true,
		"eos_token_id": 262.0, "pad_token_id": 263.0, "num_labels": 1.0, "score_bias": true,
	} {
		if config[key] != want {
			t.Errorf("config %s is %v, want %v", key, config[key], want)
		}
	}
	arrays, metadata, err := DecodeSafetensors(fileData(files, weightsName))
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(metadata, map[string]string{"format": "pt"}) {
		t.Errorf("metadata %v", metadata)
	}
	for i, p := range m.NamedParameters() {
		if arrays[i].Name != p.Name || !slices.Equal(arrays[i].Shape, p.Shape) {
			t.Errorf("array %d is %s %v, want %s %v", i, arrays[i].Name, arrays[i].Shape, p.Name, p.Shape)
		}
	}
}

func TestSaveModelRefuses(t *testing.T) {
	s := open(t)
	m, tok := someModel(t, false)
	m.Slab[5] = float32(math.NaN())
	if _, err := SaveModel(s, m, tok); typeOf(err) != "not_a_number" {
		t.Errorf("NaN: error %v", err)
	}
	larger := model.New(model.Config{Layers: 1, Width: 8, Heads: 2, Context: 16, Vocab: tok.VocabSize() + 1}, false)
	if _, err := SaveModel(s, larger, tok); typeOf(err) != "vocabulary_mismatch" {
		t.Errorf("vocabulary: error %v", err)
	}
}

func TestExportAndImport(t *testing.T) {
	for _, scalar := range []bool{false, true} {
		s := open(t)
		m, tok := someModel(t, scalar)
		d := save(t, s, m, tok)
		dir := filepath.Join(t.TempDir(), "out", "model")
		if err := Export(s, d, dir, File{Name: "README.md", Data: []byte("a card")}); err != nil {
			t.Fatal(err)
		}
		if body, err := os.ReadFile(filepath.Join(dir, "README.md")); err != nil || string(body) != "a card" {
			t.Errorf("the card is %q, error %v", body, err)
		}
		got, err := Import(open(t), dir)
		if err != nil || got != d {
			t.Errorf("imported as %s, error %v, want %s", got, err, d)
		}
		if err := Export(s, d, dir); typeOf(err) != "folder_not_empty" {
			t.Errorf("exported over a model: error %v", err)
		}
		again := filepath.Join(t.TempDir(), "again")
		if err := Export(s, d, again, File{Name: configName}); err == nil {
			t.Error("a paper took the place of a file of the model")
		}
		if left, err := os.ReadDir(again); err != nil || len(left) > 0 {
			t.Errorf("a failed export left %v, error %v", left, err)
		}
		entries, err := Contents(s, d)
		if err != nil || len(entries) == 0 || entries[0].Name != configName {
			t.Errorf("the contents are %v, error %v", entries, err)
		}
		if words, ok := TokenizerDigest(s, d); !ok || string(words) != tok.Digest() {
			t.Errorf("the tokenizer is %s, want %s", words, tok.Digest())
		}
	}
}

func TestImportNeedsAFolder(t *testing.T) {
	if _, err := Import(open(t), filepath.Join(t.TempDir(), "none")); typeOf(err) != "model_not_found" {
		t.Errorf("error %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pytorch_model.bin"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(open(t), dir); typeOf(err) != "unsupported_model" ||
		!strings.Contains(err.Error(), "safe_serialization") {
		t.Errorf("error %v", err)
	}
}

// makeFolder is a model's files, to be changed as other programs would write them.
type folder struct {
	config map[string]any
	arrays []tensor.NamedArray
	rest   []File
}

func newFolder(t testing.TB, scalar bool) folder {
	s := open(t)
	m, tok := someModel(t, scalar)
	files, err := s.Files(save(t, s, m, tok))
	if err != nil {
		t.Fatal(err)
	}
	f := folder{config: make(map[string]any)}
	if err := json.Unmarshal(fileData(files, configName), &f.config); err != nil {
		t.Fatal(err)
	}
	if f.arrays, _, err = DecodeSafetensors(fileData(files, weightsName)); err != nil {
		t.Fatal(err)
	}
	f.rest = slices.DeleteFunc(files, func(f File) bool { return f.Name == configName || f.Name == weightsName })
	return f
}

func (f *folder) array(name string) *tensor.NamedArray {
	return &f.arrays[slices.IndexFunc(f.arrays, func(a tensor.NamedArray) bool { return a.Name == name })]
}

func (f *folder) drop(name string) {
	f.arrays = slices.DeleteFunc(f.arrays, func(a tensor.NamedArray) bool { return a.Name == name })
}

func (f *folder) files() []File {
	config, _ := json.Marshal(f.config)
	return append([]File{blob(configName, string(config)), blob(weightsName, string(EncodeSafetensors(f.arrays, nil)))},
		f.rest...)
}

// What exports of Hugging Face look like, and must give the same model.
func TestReadModelAsOthersWriteIt(t *testing.T) {
	want, _ := someModel(t, false)
	for name, change := range map[string]func(f *folder){
		"as it is":  func(f *folder) {},
		"no prefix": func(f *folder) { f.rename(func(n string) string { return strings.TrimPrefix(n, "transformer.") }) },
		"bare":      func(f *folder) { f.config["architectures"] = []string{"GPT2Model"} },
		"no architecture": func(f *folder) {
			delete(f.config, "architectures")
			delete(f.config, "n_inner")
		},
		"other order": func(f *folder) { slices.Reverse(f.arrays) },
		"buffers": func(f *folder) {
			f.arrays = append(f.arrays,
				tensor.NamedArray{Name: "transformer.h.0.attn.bias", Shape: []int{1, 1, 2, 2},
					Data: make([]float32, 4)},
				tensor.NamedArray{Name: "h.1.attn.masked_bias", Shape: []int{}, Data: []float32{-1e4}})
		},
		"tied head": func(f *folder) {
			wte := f.array("transformer.wte.weight")
			f.arrays = append(f.arrays, tensor.NamedArray{Name: "lm_head.weight", Shape: wte.Shape, Data: wte.Data})
		},
		"tokenizer.json alone": func(f *folder) {
			f.rest = slices.DeleteFunc(f.rest, func(f File) bool {
				return f.Name == "merges.txt" ||
					f.Name == "vocab.json"
			})
		},
		"more settings": func(f *folder) {
			f.config["n_ctx"], f.config["task_specific_params"], f.config["quantization_config"] = 16, map[string]any{"a": 1}, nil
			f.config["activation_function"], f.config["n_inner"] = "gelu_pytorch_tanh", 32
		},
	} {
		f := newFolder(t, false)
		change(&f)
		got, err := readModel(f.files())
		if err != nil || !slices.Equal(got.Model.Slab, want.Slab) || got.Model.Scalar {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func (f *folder) rename(change func(string) string) {
	for i := range f.arrays {
		f.arrays[i].Name = change(f.arrays[i].Name)
	}
}

func TestReadScalarModelWithoutBias(t *testing.T) {
	f := newFolder(t, true)
	f.drop("score.bias")
	delete(f.config, "num_labels")
	f.config["id2label"] = map[string]string{"0": "LABEL_0"}
	got, err := readModel(f.files())
	if err != nil || !got.Model.Scalar {
		t.Fatalf("error %v", err)
	}
	if _, bias := got.Model.ScoreHead(); bias[0] != 0 {
		t.Errorf("bias %v", bias)
	}
}

func TestReadModelRefuses(t *testing.T) {
	set := func(key string, v any) func(*folder) { return func(f *folder) { f.config[key] = v } }
	for name, c := range map[string]struct {
		change func(f *folder)
		want   string
	}{
		"llama":        {set("model_type", "llama"), "architectures are"},
		"double heads": {set("architectures", []string{"GPT2DoubleHeadsModel"}), "architectures"},
		"classifier of 2": {func(f *folder) {
			set("architectures", []string{"GPT2ForSequenceClassification"})(f)
			set("num_labels",
				2)(f)
		}, "one label"},
		"other family":    {set("model_type", "bloom"), "model_type is"},
		"quick gelu":      {set("activation_function", "quick_gelu"), "activation_function"},
		"epsilon":         {set("layer_norm_epsilon", 0), "layer_norm_epsilon"},
		"wide":            {set("n_inner", 64), "c_fc.weight must have the shape [8 64], and has [8 32]"},
		"untied":          {set("tie_word_embeddings", false), `"tie_word_embeddings": true`},
		"scaled by layer": {set("scale_attn_by_inverse_layer_idx", true), "attention"},
		"not scaled":      {set("scale_attn_weights", false), "attention"},
		"cross attention": {set("add_cross_attention", true), "attention"},
		"quantized":       {set("quantization_config", map[string]any{"bits": 4}), "quantized"},
		"heads":           {set("n_head", 3), "is not a multiple of"},
		"negative":        {set("n_layer", -1), "n_layer: -1"},
		"no number":       {set("n_layer", "two"), "n_layer"},
		"huge":            {func(f *folder) { set("n_layer", 28)(f); set("n_embd", 65536)(f) }, "numbers"},
		"other vocabulary": {set("vocab_size", 265),
			"vocab_size is 265, and the embedding in model.safetensors has 264 rows"},
		"array absent": {func(f *folder) { f.drop("transformer.ln_f.bias") }, "numbers"},
		"array renamed": {func(f *folder) { f.array("transformer.ln_f.bias").Name = "transformer.ln_f.b" },
			"ln_f.bias must have"},
		"transposed": {func(f *folder) { f.array("transformer.h.0.attn.c_attn.weight").Shape = []int{24, 8} },
			"c_attn.weight must have"},
		"stranger": {func(f *folder) {
			f.arrays = append(f.arrays,
				tensor.NamedArray{Name: "rotary", Shape: []int{0}})
		}, "rotary is not part"},
		"untied head": {func(f *folder) {
			f.arrays = append(f.arrays, tensor.NamedArray{Name: "lm_head.weight", Shape: []int{264, 8},
				Data: make([]float32, 264*8)})
		}, "differs from the embedding"},
		"NaN":          {func(f *folder) { f.arrays[0].Data[0] = float32(math.NaN()) }, "wte.weight, element 0 is NaN"},
		"no tokenizer": {func(f *folder) { f.rest = nil }, "tokenizer"},
	} {
		f := newFolder(t, false)
		c.change(&f)
		if _, err := readModel(f.files()); err == nil || typeOf(err) == "internal" ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// narrowed writes the arrays with the upper half of each float32, as BF16.
func narrowed(arrays []tensor.NamedArray) []byte {
	var fields []string
	var data []byte
	for _, a := range arrays {
		from := len(data)
		for _, v := range a.Data {
			data = binary.LittleEndian.AppendUint16(data, uint16(math.Float32bits(v)>>16))
		}
		fields = append(fields, fmt.Sprintf(`%q:{"dtype":"BF16","shape":[%s],"data_offsets":[%d,%d]}`, a.Name,
			joinInts(a.Shape), from, len(data)))
	}
	header := "{" + strings.Join(fields, ",") + "}"
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(raw, header...), data...)
}

func TestImportBF16(t *testing.T) {
	f := newFolder(t, false)
	files := f.files()
	files[1].Data = narrowed(f.arrays)
	got, err := readModel(files)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := someModel(t, false)
	for i, v := range got.Model.Slab {
		if math.Float32bits(v) != math.Float32bits(want.Slab[i])&0xffff0000 {
			t.Fatalf("parameter %d is %v, was %v", i, v, want.Slab[i])
		}
	}
	if _, _, err := DecodeSafetensors(files[1].Data); err == nil {
		t.Error("DecodeSafetensors is for F32 only")
	}
}

// No file may hold when, where or for whom it was made.
func TestModelBytesAreAFunctionOfTheModel(t *testing.T) {
	m, tok := someModel(t, false)
	a, b := open(t), open(t)
	if save(t, a, m, tok) != save(t, b, m.Clone(), tok) {
		t.Error("another store, another digest")
	}
	files, err := a.Files(save(t, a, m, tok))
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	for _, f := range files {
		for _, word := range []string{host, a.dir} {
			if len(word) > 5 && f.Name != weightsName && bytes.Contains(f.Data, []byte(word)) {
				t.Errorf("%s holds %q", f.Name, word)
			}
		}
	}
}

func FuzzConfig(f *testing.F) {
	m, tok := someModel(f, true)
	config, err := writeConfig(m, tok, true, "F32")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(config)
	f.Add([]byte(`{"model_type":"gpt2"}`))
	f.Add([]byte(`{"model_type":"gpt2","architectures":["GPT2ForSequenceClassification"],"num_labels":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := readConfig(raw); err == nil && c.Config.Validate() != nil {
			t.Fatalf("%v accepted", c)
		}
	})
}

// A tokenizer's digest is that of its files as an artifact.
func TestTokenizerDigestIsItsArtifact(t *testing.T) {
	_, tok := someModel(t, false)
	if d := put(t, open(t), tok.Files()); string(d) != tok.Digest() {
		t.Errorf("artifact %s, tokenizer %s", d, tok.Digest())
	}
}
