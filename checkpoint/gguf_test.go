package checkpoint

import (
	"bytes"
	"encoding/binary"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/checkpoint/gguf"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// With -smollm2 DIR the test compares the GGUF file there with the folder hf beside it.
var smollm2 = flag.String("smollm2", "",
	"a folder with SmolLM2's GGUF file, and hf, the same weights as transformers saved them")

// writeGGUF writes a model as a GGUF file.
func writeGGUF(t testing.TB, m *model.Model, kind gguf.Type) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "model.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteGGUF(f, m, nil, kind); err != nil {
		t.Fatal(err)
	}
	return path
}

// ggufModels returns the models that GGUF files can hold.
func ggufModels(t testing.TB) map[string]*model.Model {
	t.Helper()
	models, _ := familyModels(t, false)
	for name, m := range models {
		family, _ := model.FamilyOf(m.Config.Family)
		if family.GGUF == "" || m.Config.Untied && slices.Contains([]string{"gemma", "gemma2"}, m.Config.Family) {
			delete(models, name)
		}
	}
	return models
}

// TestGGUFThereAndBack: every family is written and read with the same numbers, but for what the type rounds off, and
// Gemma's norms, whose weights are stored with one added.
func TestGGUFThereAndBack(t *testing.T) {
	for name, m := range ggufModels(t) {
		params := m.NamedParameters()
		for kind, near := range map[gguf.Type]float64{
			gguf.F32: 0, gguf.F16: 1.0 / 2048, gguf.BF16: 1.0 / 256, gguf.Q8_0: 1.0 / 200,
		} {
			f, err := ReadGGUFWeights(writeGGUF(t, m, kind))
			if err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
				continue
			}
			want := m.Config
			if want.Family == "mistral" {
				want.Family = "llama"
			}
			if got := f.Model.Config; !got.Equal(want) {
				t.Errorf("%s, %s:\n%+v, want\n%+v", name, kind, got, want)
				continue
			}
			for i, p := range f.Model.NamedParameters() {
				for k, v := range p.Data {
					x := params[i].Data[k]
					bound := near * math.Max(math.Abs(float64(x)), 0.5)
					if m.Config.NormOffset != 0 && strings.Contains(p.Name, "norm") {
						x, v = x+1, v+1
					}
					if math.Abs(float64(x-v)) > bound {
						t.Fatalf("%s, %s: %s is %v, want %v", name, kind, p.Name, v, x)
					}
				}
			}
		}
	}
}

// TestGGUFScaling: scaled frequencies come back.
func TestGGUFScaling(t *testing.T) {
	base := model.Config{Family: "llama", Layers: 1, Width: 64, Heads: 2, Context: 131072, Vocab: 40}
	for _, s := range []model.RopeScaling{
		{Type: "linear", Factor: 2.5},
		{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, Original: 8192},
		{Type: "llama3", Factor: 32, LowFreqFactor: 1, HighFreqFactor: 4, Original: 8192},
		{Type: "yarn", Factor: 4, Original: 32768},
	} {
		c := base
		c.RopeScaling, c.RopeTheta = s, 500000
		m := model.New(c.Complete(), false)
		f, err := ReadGGUFWeights(writeGGUF(t, m, gguf.F32))
		if err != nil {
			t.Errorf("%+v: %v", s, err)
			continue
		}
		if got := f.Model.Config; !got.WithScaling(model.RopeScaling{}).Equal(m.Config.WithScaling(model.RopeScaling{})) &&
			math.Abs(got.NormEps-m.Config.NormEps) > 1e-12 || got.RopeScaling.Factor != s.Factor ||
			got.RopeScaling.Type != s.Type {
			t.Errorf("%+v, want %+v", got.RopeScaling, s)
		}
	}
	// What transformers divides the frequencies of its fixture by.
	got := llama3Factors(savedConfig(t, "llama"))
	for i, x := range []float64{1, 0.36840315 / 0.17280519, 0.13572088 / 0.03393022} {
		if math.Abs(got[i]-x) > 1e-6*x {
			t.Errorf("factors %v, of %d want %v", got, i, x)
		}
	}
	phi := savedConfig(t, "phi3")
	phi.RopeScaling.AttentionFactor = 1.25
	m := model.New(phi, false)
	m.Init(draw.New(1, "phi"))
	f, err := ReadGGUFWeights(writeGGUF(t, m, gguf.F32))
	if err != nil {
		t.Fatal(err)
	}
	f.Model.Config.NormEps = phi.NormEps
	if !f.Model.Config.Equal(phi) {
		t.Errorf("%+v, want\n%+v", f.Model.Config, phi)
	}
	phi.RopeScaling.AttentionFactor = 0
	if got, want := longRopeFactor(phi.RopeScaling), float32(1.0732479458777748); got != want {
		t.Errorf("factor %v, transformers has %v", got, want)
	}
}

// savedConfig returns the Config of a folder that transformers saved.
func savedConfig(t testing.TB, name string) model.Config {
	t.Helper()
	c, err := FolderConfig(filepath.Join("../model/testdata/families", name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestGGUFRefuses: what llama.cpp computes otherwise is not written.
func TestGGUFRefuses(t *testing.T) {
	models, _ := familyModels(t, false)
	for name, c := range map[string]struct {
		family string
		change func(c *model.Config)
		want   string
	}{
		"GPT-1":      {"openai-gpt", func(*model.Config) {}, "does not know the family openai-gpt"},
		"OPT":        {"opt", func(*model.Config) {}, "does not know the family opt"},
		"window":     {"mistral", func(c *model.Config) { c.SlidingWindow = 8 }, "without the sliding window of 8"},
		"scale":      {"gemma2", func(c *model.Config) { c.AttentionScale = 0.5 }, "query_pre_attn_scalar"},
		"no caps":    {"gemma2", func(c *model.Config) { c.LogitCap = 0 }, "with caps of scores and logits"},
		"untied":     {"gemma, untied", func(*model.Config) {}, "with the embedding as its head"},
		"pattern":    {"gemma2", func(c *model.Config) { c.FullLayers = []int{0} }, "which layers of a gemma2"},
		"local":      {"gemma3_text", func(c *model.Config) { c.RopeLocalTheta = 100 }, "rope_local_base_freq"},
		"biases":     {"qwen3", func(c *model.Config) { c.NoQKVBias, c.NoOutBias = false, false }, "a qwen3 without biases"},
		"GELU":       {"llama", func(c *model.Config) { c.Activation = "gelu" }, "hidden_act silu, and this model has gelu"},
		"impossible": {"llama", func(c *model.Config) { c.QKNorm = model.QKNormHead }, "qk_norm"},
		"yarn": {"llama", func(c *model.Config) {
			c.RopeScaling = model.RopeScaling{Type: "yarn", Factor: 2, Original: 32, BetaFast: 3}
		}, "rope_type yarn"},
	} {
		m := *models[c.family]
		c.change(&m.Config)
		if err := WriteGGUF(&bytes.Buffer{}, &m, nil, gguf.F32); typeOf(err) != "unsupported_model" ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, _ := someModel(t, true)
	if err := WriteGGUF(&bytes.Buffer{}, m, nil, gguf.F32); err == nil || !strings.Contains(err.Error(), "reward model") {
		t.Error(err)
	}
}

// TestGGUFBroken: what is wrong with a file is told by its key or tensor.
func TestGGUFBroken(t *testing.T) {
	m := ggufModels(t)["llama"]
	path := writeGGUF(t, m, gguf.F32)
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, c := range map[string]struct {
		set  gguf.KeyValue
		drop string // a tensor
		add  string // another
		want string
	}{
		"architecture": {set: gguf.KeyValue{Key: "general.architecture", Value: "mamba"},
			want: `is "mamba": want one of gpt2`},
		"no such type": {set: gguf.KeyValue{Key: "general.architecture", Value: uint32(1)}, want: "general.architecture"},
		"layers": {set: gguf.KeyValue{Key: "llama.block_count", Value: uint32(1 << 30)},
			want: "llama.block_count is 1073741824"},
		"more layers":  {set: gguf.KeyValue{Key: "llama.block_count", Value: uint32(3)}, want: "blk.2."},
		"fewer layers": {set: gguf.KeyValue{Key: "llama.block_count", Value: uint32(1)}, want: "tensor \"blk.1."},
		"no width":     {set: gguf.KeyValue{Key: "llama.embedding_length", Value: uint32(0)}, want: "hidden_size"},
		"width":        {set: gguf.KeyValue{Key: "llama.embedding_length", Value: uint32(12)}, want: "must have the shape"},
		"absurd width": {set: gguf.KeyValue{Key: "llama.embedding_length", Value: uint32(1 << 16)},
			want: "must have the shape"},
		"text":        {set: gguf.KeyValue{Key: "llama.embedding_length", Value: "16"}, want: "llama.embedding_length"},
		"experts":     {set: gguf.KeyValue{Key: "llama.expert_count", Value: uint32(8)}, want: "mixtures of experts"},
		"unknown key": {set: gguf.KeyValue{Key: "llama.foo", Value: uint32(8)}, want: `key "llama.foo" is not known`},
		"rope type": {set: gguf.KeyValue{Key: "llama.rope.scaling.type", Value: "foo"},
			want: "rope.scaling.type is \"foo\""},
		"no tensor":    {drop: "blk.1.ffn_norm.weight", want: "blk.1.ffn_norm.weight"},
		"no embedding": {drop: "token_embd.weight", want: "token_embd.weight"},
		"other tensor": {add: "blk.0.gate.weight", want: `tensor "blk.0.gate.weight" is not part`},
		"rope factors": {add: "rope_freqs.weight", want: "rope_freqs.weight is not that of a Llama 3"},
	} {
		var metadata []gguf.KeyValue
		for _, kv := range f.Metadata.Entries() {
			if kv.Key != c.set.Key {
				metadata = append(metadata, kv)
			}
		}
		if c.set.Key != "" {
			metadata = append(metadata, c.set)
		}
		var infos []gguf.TensorInfo
		for _, x := range f.Tensors {
			if x.Name != c.drop {
				infos = append(infos, gguf.TensorInfo{Name: x.Name, Type: x.Type, Shape: x.Shape})
			}
		}
		if c.add != "" {
			infos = append(infos, gguf.TensorInfo{Name: c.add, Type: gguf.F32, Shape: []int{4}})
		}
		var b bytes.Buffer
		w, err := gguf.NewWriter(&b, metadata, infos)
		for _, x := range infos {
			n := 1
			for _, d := range x.Shape {
				n *= d
			}
			if err == nil {
				err = w.WriteFloats(x.Name, slices.Repeat([]float32{0.25}, n))
			}
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), "bad.gguf")
		writeFile(t, bad, b.String())
		if _, err := ReadGGUFWeights(bad); err == nil || typeOf(err) == "internal" ||
			!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: error %v of type %s, want %q", name, err, typeOf(err), c.want)
		}
	}
}

// TestGGUFTokenizer: the tokenizer is read from beside the file.
func TestGGUFTokenizer(t *testing.T) {
	models, words := familyModels(t, false)
	path := writeGGUF(t, models["llama"], gguf.F32)
	if _, err := ReadGGUF(path); err == nil || !strings.Contains(err.Error(), "put tokenizer.json") {
		t.Error(err)
	}
	for _, f := range words.Files() {
		writeFile(t, filepath.Join(filepath.Dir(path), f.Name), string(f.Data))
	}
	f, err := ReadGGUF(path)
	if err != nil || f.Tokenizer.Digest() != words.Digest() {
		t.Fatal(err)
	}
	if _, err := f.Save(open(t)); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if err := WriteGGUF(&b, models["llama"], words, gguf.F32); err != nil {
		t.Fatal(err)
	}
	file, err := gguf.New(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := file.Metadata.Strings("tokenizer.ggml.tokens")
	if err != nil || len(tokens) != words.VocabSize() || tokens[words.EndOfText()] == "" {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
}

// TestSmolLM2: the folder and the GGUF file of a published model hold the same numbers.
func TestSmolLM2(t *testing.T) {
	if *smollm2 == "" {
		t.Skip("no -smollm2")
	}
	paths, _ := filepath.Glob(filepath.Join(*smollm2, "*.gguf"))
	if len(paths) != 1 {
		t.Fatalf("%q", paths)
	}
	a, err := ReadGGUFWeights(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadWeights(filepath.Join(*smollm2, "hf"))
	if err != nil {
		t.Fatal(err)
	}
	if !a.Model.Config.Equal(b.Model.Config) {
		t.Errorf("%+v, the folder has\n%+v", a.Model.Config, b.Model.Config)
	}
	if !slices.Equal(a.Model.Slab, b.Model.Slab) {
		t.Error("other numbers")
	}
	t.Logf("%d numbers, %s, %q", len(a.Model.Slab), a.DType, b.Notes)
}

// FuzzGGUFModel: no file makes reading panic, and what is read is a model that can be stored.
func FuzzGGUFModel(f *testing.F) {
	for _, name := range []string{"llama", "gpt2", "gemma2", "gpt_neox"} {
		raw, err := os.ReadFile(writeGGUF(f, ggufModels(f)[name], gguf.Q8_0))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "model.gguf")
		writeFile(t, path, string(raw))
		got, err := ReadGGUFWeights(path)
		if err != nil {
			return
		}
		if err := got.Model.Config.CheckFamily(); err != nil {
			t.Fatal(err)
		}
		if n := len(got.Model.Slab); n > 4*len(raw) {
			t.Fatalf("%d numbers of %d bytes", n, len(raw))
		}
	})
}

// FuzzReadWeights: no header of a safetensors file makes reading a folder panic.
func FuzzReadWeights(f *testing.F) {
	made := savedFolder(f, "llama")
	raw := fileData(made.files(), weightsName)
	n := 8 + binary.LittleEndian.Uint64(raw)
	f.Add(string(raw[8:n]))
	config := fileData(made.files(), configName)
	f.Fuzz(func(t *testing.T, header string) {
		head := []byte(header)
		data := slices.Concat(headerLength(head), head, raw[n:])
		files := []File{{Name: configName, Data: config}, {Name: weightsName, Data: data}}
		c, err := readConfigFile(files)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := readBody(files, c); err == nil && len(got.Model.Slab) > len(data) {
			t.Fatalf("%d numbers of %d bytes", len(got.Model.Slab), len(data))
		}
	})
}
