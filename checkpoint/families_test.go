package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/checkpoint/gguf"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// saved lists the folders that transformers saved: see model/testdata/families.
func saved(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("../model/testdata/families/*/config.json")
	if err != nil || len(paths) < 15 {
		t.Fatalf("%d fixtures, %v", len(paths), err)
	}
	for i, p := range paths {
		paths[i] = filepath.Dir(p)
	}
	return paths
}

// savedFolder reads one of them, to be changed as other programs would write it.
func savedFolder(t testing.TB, name string) folder {
	t.Helper()
	f := folder{config: make(map[string]any)}
	raw, err := os.ReadFile(filepath.Join("../model/testdata/families", name, configName))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &f.config); err != nil {
		t.Fatal(err)
	}
	if raw, err = os.ReadFile(filepath.Join("../model/testdata/families", name, weightsName)); err != nil {
		t.Fatal(err)
	}
	if f.arrays, _, err = DecodeSafetensors(raw); err != nil {
		t.Fatal(err)
	}
	return f
}

// write writes the folder.
func (f *folder) write(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, g := range f.files() {
		if err := os.WriteFile(filepath.Join(dir, g.Name), g.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestReadSavedFolders: every number that transformers saved is in the model, under its name, and no other.
func TestReadSavedFolders(t *testing.T) {
	for _, dir := range saved(t) {
		f, err := ReadWeights(dir)
		if err != nil {
			t.Error(err)
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, weightsName))
		if err != nil {
			t.Fatal(err)
		}
		arrays, _, err := DecodeSafetensors(raw)
		if err != nil {
			t.Fatal(err)
		}
		want := make(map[string][]float32)
		for _, a := range arrays {
			want[a.Name] = a.Data
		}
		for _, p := range f.Model.NamedParameters() {
			data := want[p.Name]
			if strings.HasSuffix(p.Name, "embed_positions.weight") { // of OPT, with two rows in front
				data = data[2*f.Model.Config.Width:]
			}
			if !slices.Equal(p.Data, data) {
				t.Errorf("%s: %s has other numbers", dir, p.Name)
			}
			delete(want, p.Name)
		}
		if len(want) > 0 {
			t.Errorf("%s: not read: %v", dir, slices.Sorted(maps.Keys(want)))
		}
	}
}

// TestReadFamiliesAsOthersWriteThem: names with wrappers and without the body's prefix, buffers, tied heads that were
// stored, or alone stored, give the same model, and it is told.
func TestReadFamiliesAsOthersWriteThem(t *testing.T) {
	for _, dir := range saved(t) {
		name := filepath.Base(dir)
		want, err := ReadWeights(dir)
		if err != nil {
			t.Fatal(err)
		}
		family, _ := model.FamilyOf(want.Model.Config.Family)
		embedding := want.Model.NamedParameters()[0].Name
		for what, c := range map[string]struct {
			change func(f *folder)
			note   string
		}{
			"bare": {func(f *folder) {
				f.rename(func(n string) string { return strings.TrimPrefix(n, family.Prefix) })
			}, ""},
			"compiled": {func(f *folder) {
				f.rename(func(n string) string { return "_orig_mod." + n })
			}, "the prefix _orig_mod. was taken off"},
			"of peft, bare": {func(f *folder) {
				f.rename(func(n string) string { return "base_model.model." + strings.TrimPrefix(n, family.Prefix) })
			}, "base_model.model. was taken off"},
			"of peft": {func(f *folder) {
				f.rename(func(n string) string { return "module.base_model.model." + n })
			}, "module.base_model.model. was taken off"},
			"with buffers": {func(f *folder) {
				block := map[string]string{"transformer.": "h.0.attn.", "gpt_neox.": "layers.0.attention."}[family.Prefix]
				if block == "" {
					block = "layers.0.self_attn."
				}
				for _, n := range []string{block + "bias", block + "rotary_emb.inv_freq", "position_ids"} {
					f.arrays = append(f.arrays,
						tensor.NamedArray{Name: family.Prefix + n, Shape: []int{1}, Data: []float32{1}})
				}
			}, "2 arrays of positions or their frequencies left out"},
			"with a tied head": {func(f *folder) {
				if !want.Model.Config.Untied {
					a := *f.array(embedding)
					a.Name = family.HeadName()
					f.arrays = append(f.arrays, a)
				}
			}, "equals the embedding"},
			"with the head alone": {func(f *folder) {
				if !want.Model.Config.Untied {
					f.array(embedding).Name = family.HeadName()
				}
			}, "is taken for the embedding"},
		} {
			f := savedFolder(t, name)
			c.change(&f)
			got, err := ReadWeights(f.write(t))
			if err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
				continue
			}
			if !slices.Equal(got.Model.Slab, want.Model.Slab) {
				t.Errorf("%s, %s: other numbers", name, what)
			}
			tied := strings.Contains(what, "head")
			if !strings.Contains(strings.Join(got.Notes, "\n"), c.note) && !(tied && want.Model.Config.Untied) {
				t.Errorf("%s, %s: notes %q", name, what, got.Notes)
			}
		}
	}
}

// familyModels returns a small model of every family, with the tokenizer's vocabulary.
func familyModels(t testing.TB, scalar bool) (map[string]*model.Model, *tokenizer.Tokenizer) {
	t.Helper()
	words := chatWords(t)
	list := make(map[string]*model.Model)
	for _, name := range model.FamilyNames() {
		for _, untied := range []bool{false, true} {
			c := model.Config{
				Family: name, Layers: 2, Width: 16, Heads: 2, Context: 64, Vocab: words.VocabSize(), Untied: untied,
			}.Complete()
			m := model.New(c, scalar)
			m.Init(draw.New(5, name))
			s := draw.New(6, name).At(0)
			for i := range m.Slab { // biases and norms too
				m.Slab[i] += float32(.1 * s.Normal())
			}
			if untied {
				name += ", untied"
			}
			list[name] = m
		}
	}
	return list, words
}

// TestFamiliesThereAndBack: every family is stored, loaded, exported and imported bit for bit.
func TestFamiliesThereAndBack(t *testing.T) {
	models, words := familyModels(t, false)
	for name, m := range models {
		s := open(t)
		d := save(t, s, m, words)
		got, _, err := LoadModel(s, d)
		if err != nil || !slices.Equal(got.Slab, m.Slab) || !got.Config.Equal(m.Config) {
			t.Errorf("%s: loaded %v\n%+v", name, err, m.Config)
			continue
		}
		for _, o := range []ExportOptions{{}, {MaxBytes: 4000}} {
			dir := filepath.Join(t.TempDir(), "out")
			if err := ExportAs(s, d, dir, o); err != nil {
				t.Fatal(err)
			}
			if back, err := Import(open(t), dir); err != nil || back != d {
				t.Errorf("%s: imported as %s, %v, want %s", name, back, err, d)
			}
			if same, err := FolderDigest(dir); err != nil || same != d {
				t.Errorf("%s: the folder is %s, %v, want %s", name, same, err, d)
			}
			_, err := os.Stat(filepath.Join(dir, indexName))
			if (err == nil) != (o.MaxBytes > 0) {
				t.Errorf("%s: with %+v: index: %v", name, o, err)
			}
		}
	}
}

// TestFamiliesInBF16: weights that are BF16 are stored in half the size, and are the same numbers.
func TestFamiliesInBF16(t *testing.T) {
	models, words := familyModels(t, false)
	for name, m := range models {
		s := open(t)
		dir := filepath.Join(t.TempDir(), "out")
		if err := ExportAs(s, save(t, s, m, words), dir, ExportOptions{DType: "BF16"}); err != nil {
			t.Fatal(err)
		}
		f, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		gpt2 := m.Config.Family == ""
		if f.DType != "BF16" || f.BF16 == gpt2 {
			t.Errorf("%s: %s, stored as BF16 %v", name, f.DType, f.BF16)
		}
		for i, v := range f.Model.Slab {
			if near := math.Abs(float64(v - m.Slab[i])); near > math.Abs(float64(m.Slab[i]))/256 ||
				math.Float32bits(v)&0xffff != 0 {
				t.Fatalf("%s: %v became %v", name, m.Slab[i], v)
			}
		}
		d, err := f.Save(s)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := f.Digest(); err != nil || want != d {
			t.Errorf("%s: stored as %s, said %s, %v", name, d, want, err)
		}
		got, _, err := LoadModel(s, d)
		if err != nil || !slices.Equal(got.Slab, f.Model.Slab) || !got.Config.Equal(m.Config) {
			t.Errorf("%s: loaded %v", name, err)
		}
		entries, _ := Contents(s, d)
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == weightsName })
		if size := int64(len(m.Slab)); (entries[i].Bytes < 3*size) == gpt2 {
			t.Errorf("%s: %d numbers in %d bytes", name, size, entries[i].Bytes)
		}
		if same, err := FolderDigest(dir); !gpt2 && (err != nil || same != d) {
			t.Errorf("%s: the folder is %s, %v, want %s", name, same, err, d)
		}
	}
}

// TestToBF16 rounds to nearest, ties to even.
func TestToBF16(t *testing.T) {
	for bits, want := range map[uint32]uint16{
		0x3f800000: 0x3f80, 0x3f807fff: 0x3f80, 0x3f808000: 0x3f80, 0x3f808001: 0x3f81, 0x3f818000: 0x3f82,
		0xbf80ffff: 0xbf81, 0: 0, 1 << 31: 1 << 15, 0x00018000: 2,
	} {
		if got := toBF16(math.Float32frombits(bits)); got != want {
			t.Errorf("%08x is %04x, want %04x", bits, got, want)
		}
	}
}

// TestFamiliesMixedTypes: F16, BF16 and F32 in one folder are widened exactly.
func TestFamiliesMixedTypes(t *testing.T) {
	f := savedFolder(t, "llama")
	want := slices.Clone(f.arrays)
	var raw []rawArray
	for i, a := range f.arrays {
		bits := make([]byte, 4*len(a.Data))
		r := rawArray{name: a.Name, shape: a.Shape, dtype: []string{"F32", "BF16", "F16"}[i%3]}
		want[i].Data = make([]float32, len(a.Data))
		for k, v := range a.Data {
			switch r.dtype {
			case "F32":
				binary.LittleEndian.PutUint32(bits[4*k:], math.Float32bits(v))
				want[i].Data[k] = v
			case "BF16":
				binary.LittleEndian.PutUint16(bits[2*k:], toBF16(v))
				want[i].Data[k] = math.Float32frombits(uint32(toBF16(v)) << 16)
			case "F16": // 1.5, -1.5, 2⁻²⁴, 65504
				h := []uint16{0x3e00, 0xbe00, 1, 0x7bff}[k%4]
				binary.LittleEndian.PutUint16(bits[2*k:], h)
				want[i].Data[k] = []float32{1.5, -1.5, 0x1p-24, 65504}[k%4]
			}
		}
		r.raw = bits[:dtypeSize[r.dtype]*uint64(len(a.Data))]
		r.to = uint64(len(r.raw))
		raw = append(raw, r)
	}
	dir := f.write(t)
	writeFile(t, filepath.Join(dir, weightsName), string(encodeRaw(raw, nil)))
	got, err := ReadWeights(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.DType != "BF16, F16, F32" || got.BF16 {
		t.Errorf("types %s", got.DType)
	}
	for _, p := range got.Model.NamedParameters() {
		i := slices.IndexFunc(want, func(a tensor.NamedArray) bool { return a.Name == p.Name })
		if !slices.Equal(p.Data, want[i].Data) {
			t.Errorf("%s: %v, want %v", p.Name, p.Data[:4], want[i].Data[:4])
		}
	}
}

// TestRewardFamilies: a reward model of every family is exported without what Hugging Face's class does not have, and
// comes back as it was. Where the last norm has a bias, that holds the score's; elsewhere it stays in the file.
func TestRewardFamilies(t *testing.T) {
	models, words := familyModels(t, true)
	for name, m := range models {
		for _, bias := range []float32{0, 0.75} {
			s := open(t)
			_, b := m.ScoreHead()
			b[0] = bias
			d := save(t, s, m, words)
			x, err := ExportForm(s, d)
			if err != nil {
				t.Fatal(err)
			}
			if folds := m.Config.LastNormBias() != ""; x.KeepsBias == (folds || bias == 0) {
				t.Errorf("%s, bias %v: kept %v", name, bias, x.KeepsBias)
			}
			if raw := fileData(x.Files, weightsName); bytes.Contains(raw, []byte(`"lm_head.weight"`)) ||
				bytes.Contains(raw, []byte(`"embed_out.weight"`)) ||
				bytes.Contains(raw, []byte(`"score.bias":`)) != x.KeepsBias {
				t.Errorf("%s, bias %v: wrong arrays in the folder", name, bias)
			}
			dir := filepath.Join(t.TempDir(), "out")
			if err := Export(s, d, dir); err != nil {
				t.Fatal(err)
			}
			if back, err := Import(open(t), dir); err != nil || back != d {
				t.Errorf("%s, bias %v: imported as %s, %v, want %s", name, bias, back, err, d)
			}
			got, _, err := LoadModel(s, d)
			if err != nil || !got.Scalar || got.Config.Untied {
				t.Errorf("%s: loaded %v", name, err)
			}
		}
	}
}

// TestBrokenFolders: whatever is wrong with a folder is told with its place and a remedy, nothing is stored, and no
// more memory is taken than the folder justifies.
func TestBrokenFolders(t *testing.T) {
	set := func(key string, v any) func(f *folder) { return func(f *folder) { f.config[key] = v } }
	for name, c := range map[string]struct {
		change func(f *folder)           // before the folder is written
		spoil  func(dir string) error    // afterwards
		bytes  func(raw []byte) []byte   // of model.safetensors
		header func(text string) string  // of model.safetensors
		index  func(m map[string]string) // makes it two shards, with this index
		want   string                    // in the error
	}{
		"no config": {spoil: func(d string) error { return os.Remove(filepath.Join(d, configName)) },
			want: "config.json is absent"},
		"empty config": {spoil: func(d string) error { return os.Truncate(filepath.Join(d, configName), 0) },
			want: "config.json"},
		"half a config": {spoil: func(d string) error { return os.Truncate(filepath.Join(d, configName), 50) },
			want: "config.json"},
		"unknown field": {change: set("foo_scale", 2), want: `config.json: "foo_scale" is not known for llama`},
		"other family":  {change: set("model_type", "mamba"), want: "model_type is \"mamba\""},
		"other class": {change: set("architectures", []string{"LlamaForTokenClassification"}),
			want: "architectures are"},
		"quantized": {change: set("quantization_config", map[string]int{"bits": 4}), want: "quantization_config"},
		"10^9 layers": {change: set("num_hidden_layers", 1000000000),
			want: "num_hidden_layers: 1000000000 is outside"},
		"1024 layers": {change: set("num_hidden_layers", 1024),
			want: "config.json says that there are 1024 blocks, and model.safetensors holds 21 arrays"},
		"one layer": {change: set("num_hidden_layers", 1), want: "of a block that config.json does not count"},
		"absurd width": {change: set("hidden_size", 65536),
			want: "model.embed_tokens.weight must have the shape [12 65536]"},
		"absurd MLP": {change: set("intermediate_size", 1<<20), want: "asks for"},
		"absurd vocab": {change: set("vocab_size", 1<<24),
			want: "vocab_size is 16777216, and the embedding in model.safetensors has 12 rows"},
		"negative width": {change: set("hidden_size", -8), want: "hidden_size: -8 is outside"},
		"width as text": {change: set("hidden_size", "8"),
			want: "hidden_size is a string, and should be a whole number"},
		"other heads": {change: set("num_key_value_heads", 4),
			want: "k_proj.weight must have the shape [24 8], and has [12 8]"},
		"other head size": {change: set("head_dim", 4),
			want: "q_proj.weight must have the shape [16 8], and has [24 8]"},
		"biases": {change: set("attention_bias", true),
			want: "q_proj.bias must have the shape [24], and is absent"},
		"tied": {change: set("tie_word_embeddings", true),
			want: "lm_head.weight differs from the embedding"},
		"no head": {change: func(f *folder) { f.drop("lm_head.weight") },
			want: "lm_head.weight must have the shape [12 8], and is absent"},
		"a classifier": {change: func(f *folder) {
			set("architectures", []string{"LlamaForSequenceClassification"})(f)
			set("num_labels", 1)(f)
		}, want: "score.weight must have"},
		"array absent": {change: func(f *folder) { f.drop("model.norm.weight") },
			want: "model.norm.weight must have the shape [8], and is absent"},
		"array renamed": {change: func(f *folder) { f.array("model.norm.weight").Name = "model.norm.w" },
			want: "model.norm.weight must have"},
		"surplus array": {change: func(f *folder) {
			f.arrays = append(f.arrays, tensor.NamedArray{Name: "model.gate", Shape: []int{1}, Data: []float32{1}})
		}, want: "array model.gate is not part"},
		"an adapter": {change: func(f *folder) {
			f.array("model.norm.weight").Name = "base_model.model.model.norm.lora_A.weight"
		},
			want: "merge the adapter"},
		"transposed": {change: func(f *folder) {
			f.array("model.layers.1.mlp.up_proj.weight").Shape = []int{8, 10}
		},
			want: "up_proj.weight must have the shape [10 8], and has [8 10]"},
		"twice": {change: func(f *folder) {
			f.arrays = append(f.arrays, tensor.NamedArray{
				Name: "module.model.norm.weight", Shape: []int{8}, Data: make([]float32, 8),
			})
		}, want: "are both model.norm.weight"},
		"NaN": {change: func(f *folder) { f.array("model.norm.weight").Data[3] = float32(math.NaN()) },
			want: "array model.norm.weight, element 3 is NaN"},
		"infinity": {change: func(f *folder) { f.array("model.norm.weight").Data[0] = float32(math.Inf(-1)) },
			want: "element 0 is -Inf: get the folder again"},
		"no weights": {spoil: func(d string) error { return os.Remove(filepath.Join(d, weightsName)) },
			want: "model.safetensors is absent"},
		"pickled weights": {spoil: func(d string) error {
			return os.Rename(filepath.Join(d, weightsName), filepath.Join(d, "pytorch_model.bin"))
		}, want: "safe_serialization"},
		"a folder of that name": {spoil: func(d string) error {
			os.Remove(filepath.Join(d, weightsName))
			return os.Mkdir(filepath.Join(d, weightsName), 0o700)
		}, want: "not a plain file"},
		"link out of the folder": {spoil: func(d string) error {
			out := filepath.Join(filepath.Dir(d), "elsewhere.safetensors")
			return cmpErr(os.Rename(filepath.Join(d, weightsName), out), os.Symlink(out, filepath.Join(d, weightsName)))
		}, want: "model.safetensors is a link that leads out of the folder: copy the file"},
		"config linked out of the folder": {spoil: func(d string) error {
			return cmpErr(os.Remove(filepath.Join(d, configName)), os.Symlink("/etc/passwd", filepath.Join(d, configName)))
		}, want: "config.json is a link that leads out"},
		"truncated":        {bytes: func(raw []byte) []byte { return raw[:len(raw)-100] }, want: "has the offsets"},
		"truncated header": {bytes: func(raw []byte) []byte { return raw[:60] }, want: "claims"},
		"no header":        {bytes: func(raw []byte) []byte { return raw[:5] }, want: "too short"},
		"huge header": {bytes: func(raw []byte) []byte { raw[6] = 0x7f; return raw },
			want: "the safetensors header claims"},
		"more at the end": {bytes: func(raw []byte) []byte { return append(raw, 0, 0) },
			want: "2 bytes of data after the last array"},
		"overlapping": {header: func(h string) string { return strings.Replace(h, "[384,", "[380,", 1) },
			want: "needs 384 bytes, its offsets are 380 to 768"},
		"unknown type": {header: func(h string) string { return strings.Replace(h, `"F32"`, `"F8X"`, 1) },
			want: "dtype \"F8X\" is unknown"},
		"integers": {header: func(h string) string { return strings.Replace(h, `"F32"`, `"I32"`, 1) },
			want: "only F32, F16 and BF16 can be read"},
		"overflowing shape": {header: func(h string) string {
			return strings.Replace(h, "[12,8]", "[4294967296,4294967296]", 1)
		},
			want: "the shape overflows"},
		"header no JSON": {header: func(h string) string { return strings.Replace(h, "{", "[", 1) },
			want: "does not begin with {"},
		"index names an absent file": {index: func(m map[string]string) {
			m["model.norm.weight"] = "model-00003-of-00003.safetensors"
		},
			want: "model.safetensors.index.json names the file model-00003-of-00003.safetensors, which is absent"},
		"index leads out": {index: func(m map[string]string) { m["model.norm.weight"] = "../a.safetensors" },
			want: "is not the name of a .safetensors file in the same folder"},
		"index names another file": {index: func(m map[string]string) { m["model.norm.weight"] = m["lm_head.weight"] },
			want: "does not list"},
		"index lacks an array": {index: func(m map[string]string) { delete(m, "model.norm.weight") },
			want: "which model.safetensors.index.json does not list"},
		"index names one more": {index: func(m map[string]string) { m["a"] = m["lm_head.weight"] },
			want: "says that array a is in"},
		"index names no array": {index: func(m map[string]string) { clear(m) }, want: "weight_map names no file"},
		"a shard is truncated": {index: func(map[string]string) {}, spoil: func(d string) error {
			return os.Truncate(filepath.Join(d, "model-00002-of-00002.safetensors"), 700)
		}, want: "model-00002-of-00002.safetensors: "},
	} {
		t.Run(name, func(t *testing.T) {
			f := savedFolder(t, "llama")
			if c.change != nil {
				c.change(&f)
			}
			dir := f.write(t)
			path := filepath.Join(dir, weightsName)
			raw, _ := os.ReadFile(path)
			if c.bytes != nil {
				writeFile(t, path, string(c.bytes(raw)))
			}
			if c.header != nil {
				n := 8 + binary.LittleEndian.Uint64(raw)
				head := []byte(c.header(string(raw[8:n])))
				writeFile(t, path, string(headerLength(head))+string(head)+string(raw[n:]))
			}
			if c.index != nil {
				divideFolder(t, dir, raw, c.index)
			}
			if c.spoil != nil {
				if err := c.spoil(dir); err != nil {
					t.Fatal(err)
				}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := ReadWeights(dir)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) ||
				typeOf(err) == "internal" || typeOf(err) == "" {
				t.Errorf("%s: error %q of type %s, want %q", name, err, typeOf(err), c.want)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
				t.Errorf("%s: %d bytes were allocated for a folder of %d", name, took, len(raw))
			}
			s := open(t)
			if _, err := Import(s, dir); err == nil {
				t.Errorf("%s: imported", name)
			}
			if left, _ := os.ReadDir(filepath.Join(s.dir, objects)); len(left) > 0 {
				t.Errorf("%s: %v was stored", name, left)
			}
		})
	}
}

// cmpErr returns the first error.
func cmpErr(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// divideFolder divides model.safetensors of a folder into two, with an index that change changes.
func divideFolder(t *testing.T, dir string, raw []byte, change func(m map[string]string)) {
	t.Helper()
	arrays, metadata, err := parseSafetensors(raw)
	if err != nil {
		t.Fatal(err)
	}
	files := divide(arrays, metadata, int64(len(raw))*2/3)
	if len(files) != 3 {
		t.Fatalf("%d files", len(files))
	}
	of, err := readIndex(fileData(files, indexName))
	if err != nil {
		t.Fatal(err)
	}
	change(of)
	index, _ := json.Marshal(weightMap{of})
	setFile(files, indexName, index)
	for _, f := range files {
		writeFile(t, filepath.Join(dir, f.Name), string(f.Data))
	}
	if err := os.Remove(filepath.Join(dir, weightsName)); err != nil {
		t.Fatal(err)
	}
}

// TestHubCache: the links of Hugging Face's cache lead to files of the same model, and are followed.
func TestHubCache(t *testing.T) {
	f := savedFolder(t, "llama")
	from := f.write(t)
	root := t.TempDir()
	snapshot := filepath.Join(root, "snapshots", "1a2b")
	if err := cmpErr(os.MkdirAll(snapshot, 0o700), os.Mkdir(filepath.Join(root, "blobs"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{configName, weightsName} {
		if err := cmpErr(os.Rename(filepath.Join(from, name), filepath.Join(root, "blobs", name)),
			os.Symlink("../../blobs/"+name, filepath.Join(snapshot, name))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ReadWeights(snapshot); err != nil {
		t.Error(err)
	}
}

// TestWriteFamilies, with -folders DIR, writes what transformers saved again, as folders and as GGUF files, for
// testdata/transformers/check_families.py.
func TestWriteFamilies(t *testing.T) {
	if *folders == "" {
		t.Skip("no -folders")
	}
	for _, dir := range saved(t) {
		f, err := ReadWeights(dir)
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(*folders, "families", filepath.Base(dir))
		write := func(to string, m *model.Model) {
			config, err := model.WriteConfig(model.ConfigFile{Config: m.Config, Scalar: m.Scalar})
			if err != nil {
				t.Fatal(err)
			}
			arrays := storedArrays(m)
			if m.Scalar {
				arrays = arrays[:len(arrays)-1] // without the bias of the score
			}
			err = WriteFolder(to, []File{
				{Name: configName, Data: config}, {Name: weightsName, Data: EncodeSafetensors(arrays, ptMetadata)},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		write(out, f.Model)
		reward := withoutSpareHead(f.Model.ToScalar(draw.New(9, "score")))
		write(out+"-reward", reward)
		var b bytes.Buffer
		if err := WriteGGUF(&b, f.Model, nil, gguf.F32); err != nil {
			t.Logf("%s: %v", dir, err)
			continue
		}
		writeFile(t, filepath.Join(out, "model.gguf"), b.String())
	}
}
