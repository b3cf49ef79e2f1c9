package checkpoint

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint/gguf"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

// ReadGGUF reads a GGUF file of llama.cpp's, and the tokenizer's files beside it. Folder.DType lists the types of its
// tensors, which are all widened to F32. Errors: those of ReadGGUFWeights and of the tokenizer.
func ReadGGUF(path string) (*Folder, error) {
	f, words, err := readGGUF(path)
	if err != nil {
		return nil, annotate(err, "read %s", path)
	}
	files, err := readFiles(filepath.Dir(path), tokenizerFiles)
	if err == nil && len(files) == 0 {
		err = trimtab.NewError(trimtab.Invalid, "unsupported_model", "put tokenizer.json of the model beside the file",
			"there is no tokenizer beside the file")
	}
	if err != nil {
		return nil, annotate(err, "read %s", path)
	}
	if f.Tokenizer, err = readTokenizer(files, words.ids); err == nil {
		err = words.check(f.Tokenizer)
	}
	if err != nil {
		return nil, annotate(err, "read %s", path)
	}
	f.Notes = append(f.Notes, "the tokenizer was read from the files beside the GGUF file, not from it")
	f.addTypeNotes()
	if words.template {
		f.Notes = append(f.Notes, "tokenizer.chat_template left out: prompts have Trimtab's own form here")
	}
	return f, nil
}

// ggufWords is what a GGUF file says of its tokenizer.
type ggufWords struct {
	ids      tokenizer.ConfigIDs
	tokens   []string // by id, as vocab.json writes them; nil where the file has them in another form, or none
	types    []int64  // of tokens: 1 for plain text
	template bool     // it has a chat template
}

// check refuses a tokenizer whose plain tokens are not those of the file: that of another model. Error:
// vocabulary_mismatch.
func (w ggufWords) check(t *tokenizer.Tokenizer) error {
	var vocab map[string]int
	if err := json.Unmarshal(fileData(t.Files(), "vocab.json"), &vocab); err != nil {
		return unsupportedError("vocab.json: %w", err)
	}
	first, text := len(w.tokens), ""
	for token, id := range vocab {
		if id >= 0 && id < min(first, len(w.types)) && w.types[id] == 1 && w.tokens[id] != token {
			first, text = id, token // the smallest id, in whichever order the map is
		}
	}
	if first == len(w.tokens) {
		return nil
	}
	return trimtab.NewError(trimtab.Invalid, "vocabulary_mismatch",
		"put tokenizer.json of this very model beside the file",
		"token %d is %.80q in the file, and %.80q of the tokenizer beside it", first, w.tokens[first], text)
}

// tokenizerFiles are the files of a tokenizer.
var tokenizerFiles = []string{
	"vocab.json", "merges.txt", "tokenizer.json", "special_tokens_map.json", "tokenizer_config.json",
	"added_tokens.json",
}

// ReadGGUFWeights reads a GGUF file without a tokenizer: config from its metadata, weights under the names and in the
// order of Hugging Face. Metadata that may change what the model computes and is not known is refused by its name.
// Errors: file_not_found, gguf_corrupt, gguf_unsupported, gguf_key, unsupported_model, not_a_number.
func ReadGGUFWeights(path string) (*Folder, error) {
	f, _, err := readGGUF(path) // what the file says of its tokenizer is not needed
	if err != nil {
		return nil, annotate(err, "read %s", path)
	}
	return f, nil
}

// readGGUF reads a GGUF file, and what it says of its tokenizer.
func readGGUF(path string) (*Folder, ggufWords, error) {
	var words ggufWords
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, words, unsupportedError("it is not a plain file")
	}
	file, err := gguf.Open(path)
	if err != nil {
		return nil, words, err
	}
	defer func() { _ = file.Close() }() // it was only read
	r := ggufReader{File: file, used: make(map[string]bool)}
	c, err := r.config()
	if err != nil {
		return nil, words, err
	}
	m, err := r.load(c)
	if err != nil {
		return nil, words, err
	}
	words = r.words(filepath.Base(path), c)
	family, _ := model.FamilyOf(c.Family)
	f := &Folder{Model: m, Architecture: family.CausalLM, DType: r.types(), Notes: r.notes}
	f.BF16 = f.DType == "BF16" && c.Family != ""
	return f, words, checkRead(m)
}

// words returns what the file of that name says of its tokenizer.
func (r *ggufReader) words(name string, c model.Config) ggufWords {
	w := ggufWords{ids: tokenizer.ConfigIDs{
		File: name, VocabSize: c.Vocab, Begin: r.token("bos"), Pad: r.token("padding"),
	}}
	if end := r.token("eos"); end != nil {
		w.ids.End = []int32{*end}
	}
	w.template = r.Metadata.Has("tokenizer.chat_template")
	// Only byte-level BPE, which llama.cpp calls gpt2, has the tokens as vocab.json writes them.
	if kind, err := r.Metadata.String("tokenizer.ggml.model"); err != nil || kind != "gpt2" {
		return w
	}
	w.tokens, _ = r.Metadata.Strings("tokenizer.ggml.tokens") // absent in some files, which is no error
	w.types, _ = r.Metadata.Ints("tokenizer.ggml.token_type")
	return w
}

// ggufReader reads a model of a GGUF file.
type ggufReader struct {
	*gguf.File
	family *model.Family
	used   map[string]bool // keys of the architecture that were asked for
	err    error           // the first
	notes  []string
}

// int returns a whole number of the architecture's metadata.
func (r *ggufReader) int(key string, absent int) int {
	key = r.key(key)
	if !r.Metadata.Has(key) || r.err != nil {
		return absent
	}
	n, err := r.Metadata.Int(key)
	if err == nil && (n < 0 || n > math.MaxInt32) {
		err = unsupportedError("%s: %d is outside 0 to %d", key, n, math.MaxInt32)
	}
	if err != nil {
		r.err = err
		return absent
	}
	return int(n)
}

// float returns a number of the architecture's metadata. A float32 is widened to the shortest decimal that rounds to
// it, which is what config.json of the same model says: 1e-5, and not 9.999999747378752e-06.
func (r *ggufReader) float(key string, absent float64) float64 {
	key = r.key(key)
	if !r.Metadata.Has(key) || r.err != nil {
		return absent
	}
	x, err := r.Metadata.Float(key)
	if narrow := float32(x); err == nil && float64(narrow) == x {
		x, err = strconv.ParseFloat(strconv.FormatFloat(x, 'g', -1, 32), 64)
	}
	if err != nil {
		r.err = err
		return absent
	}
	return x
}

// key returns the whole name of a key of the architecture, and marks it as known.
func (r *ggufReader) key(key string) string {
	key = r.family.GGUF + "." + key
	r.used[key] = true
	return key
}

// token returns the id of a special token, or nil.
func (r *ggufReader) token(what string) *int32 {
	n, err := r.Metadata.Int("tokenizer.ggml." + what + "_token_id")
	if err != nil || n < 0 || n > math.MaxInt32 {
		return nil
	}
	id := int32(n)
	return &id
}

// types lists the types of the tensors.
func (r *ggufReader) types() string {
	var names []string
	for _, t := range r.Tensors {
		if len(t.Shape) > 1 || t.Type != gguf.F32 { // vectors are F32 in every file
			names = append(names, t.Type.String())
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// has reports whether there is a tensor of that name.
func (r *ggufReader) has(name string) bool {
	_, err := r.Tensor(name)
	return err == nil
}

// config makes a Config of the metadata and of which tensors there are.
func (r *ggufReader) config() (model.Config, error) {
	var c model.Config
	name, err := r.Metadata.String("general.architecture")
	if err != nil {
		return c, err
	}
	family, ok := model.FamilyOfGGUF(name)
	if !ok {
		return c, unsupportedError("general.architecture is %.80q: want one of %s", name,
			strings.Join(model.GGUFArchitectures(), ", "))
	}
	r.family = family
	embedding, err := r.Tensor("token_embd.weight")
	if err != nil {
		return c, err
	}
	if len(embedding.Shape) != 2 {
		return c, unsupportedError("tensor token_embd.weight has the shape %v", embedding.Shape)
	}
	c = model.Config{Family: family.Name, Vocab: embedding.Shape[0]}
	r.sizes(&c)
	r.numbers(&c)
	c = c.Complete()
	r.variants(&c)
	r.rope(&c)
	if err := r.finish(); err != nil {
		return c, err
	}
	if err := c.CheckFamily(); err != nil {
		return c, unsupportedError("%w", err)
	}
	return c, nil
}

// sizes reads the sizes of a model.
func (r *ggufReader) sizes(c *model.Config) {
	c.Layers, c.Width = r.int("block_count", 0), r.int("embedding_length", 0)
	c.Heads = r.int("attention.head_count", 0)
	c.KVHeads = r.int("attention.head_count_kv", c.Heads)
	c.HeadDim = r.int("attention.key_length", 0)
	c.Inner, c.Context = r.int("feed_forward_length", 0), r.int("context_length", 0)
	r.key("vocab_size")
	if n := r.int("attention.value_length", c.HeadDim); n != c.HeadDim && r.err == nil {
		r.err = unsupportedError("%s.attention.value_length is %d, and key_length %d", r.family.GGUF, n, c.HeadDim)
	}
	if n := r.int("expert_count", 0); n > 0 && r.err == nil {
		r.err = unsupportedError("%s.expert_count is %d: mixtures of experts are not supported", r.family.GGUF, n)
	}
	r.key("expert_used_count")
	if c.Layers > len(r.Tensors) && r.err == nil { // before a list is made of so many
		r.err = unsupportedError("%s.block_count is %d, and there are %s in all", r.family.GGUF, c.Layers,
			number(len(r.Tensors), "tensor"))
	}
}

// numbers reads epsilons, caps and windows.
func (r *ggufReader) numbers(c *model.Config) {
	c.NormEps = r.float("attention.layer_norm_rms_epsilon", r.float("attention.layer_norm_epsilon", 0))
	window := r.int("attention.sliding_window", 0)
	c.RopeTheta = r.float("rope.freq_base", 10000)
	r.key("rope.dimension_count_swa")
	switch c.Family {
	case "gpt2":
		c.RopeTheta = 0
	case "gemma2":
		c.AttentionCap, c.LogitCap = r.float("attn_logit_softcapping", 50), r.float("final_logit_softcapping", 30)
		c.SlidingWindow, c.AttentionScale = window, gemmaScale(*c, 46)
	case "gemma3_text":
		c.LogitCap = r.float("final_logit_softcapping", 0)
		c.RopeTheta = r.float("rope.freq_base", 1e6)
		c.RopeLocalTheta = r.float("rope.freq_base_swa", 1e4)
		c.SlidingWindow, c.AttentionScale = window, gemmaScale(*c, 62)
	case "phi3":
		c.SlidingWindow = window
	}
}

// gemmaScale returns the attention scale of a Gemma, which llama.cpp knows by the number of layers: that of the largest
// is of the width of a head of Width/Heads.
func gemmaScale(c model.Config, largest int) float64 {
	d := c.HeadDim
	if c.Heads > 0 && (d == 0 || c.Layers == largest) {
		d = c.Width / c.Heads
	}
	if d == 0 {
		return 0
	}
	return 1 / math.Sqrt(float64(d))
}

// variants reads what of a family's variants a file has: which biases, whether the head is tied.
func (r *ggufReader) variants(c *model.Config) {
	if c.RMSNorm {
		c.NoQKVBias = !r.has("blk.0.attn_q.bias") && !r.has("blk.0.attn_qkv.bias")
		c.NoOutBias = !r.has("blk.0.attn_output.bias")
		c.NoMLPBias = !r.has("blk.0.ffn_down.bias")
	}
	if c.Family == "gpt_neox" {
		key := r.key("use_parallel_residual")
		c.ParallelResidual = true
		if r.Metadata.Has(key) {
			yes, err := r.Metadata.Bool(key)
			if err != nil && r.err == nil {
				r.err = err
			}
			c.ParallelResidual = yes
		}
	}
	c.Untied = r.has("output.weight") && !r.sameTensor("output.weight", "token_embd.weight")
}

// sameTensor reports whether two tensors hold the same numbers.
func (r *ggufReader) sameTensor(a, b string) bool {
	x, _ := r.Tensor(a)
	y, _ := r.Tensor(b)
	if !slices.Equal(x.Shape, y.Shape) || len(x.Shape) != 2 {
		return false
	}
	p, q := make([]float32, x.Shape[1]), make([]float32, x.Shape[1])
	for i := range x.Shape[0] {
		if x.Rows(p, i) != nil || y.Rows(q, i) != nil || !slices.Equal(p, q) {
			return false
		}
	}
	return true
}

// ropeTensors are tensors of rotary frequencies, which are no parameters.
var ropeTensors = []string{"rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"}

// rope reads rotary positions.
func (r *ggufReader) rope(c *model.Config) {
	if c.Positions != model.RotaryPositions {
		return
	}
	head := c.HeadDim
	n := r.int("rope.dimension_count", head)
	if c.RotaryDim = n; n == head {
		c.RotaryDim = 0
	}
	s := &c.RopeScaling
	kind := ""
	if key := r.key("rope.scaling.type"); r.Metadata.Has(key) {
		var err error
		if kind, err = r.Metadata.String(key); err != nil && r.err == nil {
			r.err = err
		}
	}
	factor := r.float("rope.scaling.factor", 0)
	original := r.int("rope.scaling.original_context_length", c.Context)
	attention := r.float("rope.scaling.attn_factor", 0)
	r.key("rope.scaling.finetuned")
	switch {
	case r.has("rope_factors_short.weight") || r.has("rope_factors_long.weight"):
		s.Type, s.Original, s.AttentionFactor = "longrope", original, attention
		s.ShortFactor, s.LongFactor = r.factors("rope_factors_short.weight"), r.factors("rope_factors_long.weight")
		s.Factor = float64(c.Context) / float64(max(original, 1))
		if c.Context > original {
			c.Context = original
			r.notes = append(r.notes,
				fmt.Sprintf("the longest sequence is %d tokens, beyond which the model changes the "+
					"rotary frequencies of all positions", original))
		}
	case r.has("rope_freqs.weight"):
		r.llama3(c)
	case kind == "linear":
		s.Type, s.Factor = kind, factor
	case kind == "yarn":
		s.Type, s.Factor = kind, factor
		s.Original, s.AttentionFactor = original, attention
	case kind != "" && kind != "none" && r.err == nil:
		r.err = unsupportedError("%s.rope.scaling.type is %.80q", r.family.GGUF, kind)
	}
}

// factors reads the numbers by which frequencies are divided.
func (r *ggufReader) factors(name string) []float64 {
	t, err := r.Tensor(name)
	if err == nil && t.Elements() > 1<<16 {
		err = unsupportedError("tensor %s has %d elements", name, t.Elements())
	}
	if err != nil {
		r.err = firstError(r.err, err)
		return nil
	}
	narrow := make([]float32, t.Elements())
	if err := t.Floats(narrow); err != nil {
		r.err = firstError(r.err, err)
		return nil
	}
	wide := make([]float64, len(narrow))
	for i, v := range narrow {
		wide[i] = float64(v)
	}
	return wide
}

// firstError returns the first of two errors.
func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// llama3 finds the settings of Llama 3 that give the factors of a file, which does not hold them: all published models
// have 8192 tokens, 1 and 4, and the factor is the largest of the factors.
func (r *ggufReader) llama3(c *model.Config) {
	factors := r.factors("rope_freqs.weight")
	if r.err != nil {
		return
	}
	s := model.RopeScaling{
		Type: "llama3", Factor: 1, LowFreqFactor: 1, HighFreqFactor: 4, Original: 8192,
	}
	for _, x := range factors {
		s.Factor = max(s.Factor, x)
	}
	c.RopeScaling = s
	want := llama3Factors(*c)
	for i, x := range factors {
		if i >= len(want) || !(math.Abs(x-want[i]) <= 1e-4*want[i]) {
			r.err = unsupportedError("tensor rope_freqs.weight is not that of a Llama 3")
			return
		}
	}
}

// finish refuses metadata of the architecture that nothing has read.
func (r *ggufReader) finish() error {
	if r.err != nil {
		return r.err
	}
	for _, key := range r.Metadata.Keys() {
		if strings.HasPrefix(key, r.family.GGUF+".") && !r.used[key] && !strings.HasSuffix(key, ".tensor_data_layout") {
			return unsupportedError("the key %q is not known, and may change what the model computes", key)
		}
	}
	return nil
}

// load reads the tensors, after it has seen that all are there: nothing of a size that the file does not have is
// allocated.
func (r *ggufReader) load(c model.Config) (*model.Model, error) {
	arrays := c.GGUFArrays()
	known := make(map[string]bool)
	for _, a := range arrays {
		t, err := r.Tensor(a.Name)
		if err != nil {
			return nil, err
		}
		if known[a.Name] = true; !slices.Equal(t.Shape, a.Shape) {
			return nil, unsupportedError("tensor %s must have the shape %v, and has %v", a.Name, a.Shape, t.Shape)
		}
	}
	if err := r.checkRest(known); err != nil {
		return nil, err
	}
	m := model.New(c, false)
	var buffer []float32
	for i, p := range m.NamedParameters() {
		t, err := r.Tensor(arrays[i].Name)
		if err == nil && arrays[i].Reorders() {
			buffer = slices.Grow(buffer[:0], len(p.Data))[:len(p.Data)]
			err = t.Floats(buffer)
			arrays[i].FromGGUF(p.Data, buffer)
		} else if err == nil {
			err = t.Floats(p.Data)
		}
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// checkRest refuses tensors that are no parameters, except an output head that is the embedding, and frequencies.
func (r *ggufReader) checkRest(known map[string]bool) error {
	for _, t := range r.Tensors {
		switch {
		case known[t.Name] || slices.Contains(ropeTensors, t.Name):
		case t.Name == "output.weight":
			r.notes = append(r.notes,
				"output.weight left out: it equals the embedding, to which the head is tied here too")
		default:
			return unsupportedError("tensor %.80q is not part of this transformer", t.Name)
		}
	}
	return nil
}
