package checkpoint

import (
	"encoding/json"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint/gguf"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

// WriteGGUF writes a language model as a GGUF file that llama.cpp opens, with matrices of the type kind: F32, F16, BF16
// or Q8_0. Vectors and the position table are F32; matrices whose rows Q8_0 does not divide are F16. t may be nil: then
// the file has no tokenizer. Errors: unsupported_model for what llama.cpp does not compute in that family, those of
// gguf.Writer.
func WriteGGUF(w io.Writer, m *model.Model, t *tokenizer.Tokenizer, kind gguf.Type) error {
	if err := ggufRefusal(m); err != nil {
		return err
	}
	words := []gguf.KeyValue{{Key: "tokenizer.ggml.model", Value: "no_vocab"}}
	if t != nil {
		var err error
		if words, err = ggufTokens(t); err != nil {
			return err
		}
	}
	metadata := append(ggufMetadata(m.Config, kind), words...)
	arrays := m.Config.GGUFArrays()
	infos := make([]gguf.TensorInfo, len(arrays))
	for i, a := range arrays {
		infos[i] = gguf.TensorInfo{Name: a.Name, Type: ggufType(a, kind), Shape: a.Shape}
	}
	extra := ropeFactors(m.Config)
	if c := m.Config; !c.Untied && (c.Family == "gpt_neox" || c.Family == "olmo2") { // llama.cpp wants a head there
		embedding := m.NamedParameters()[0]
		extra = append(extra, extraTensor{"output.weight", embedding.Shape, embedding.Data, infos[0].Type})
	}
	for _, x := range extra {
		infos = append(infos, gguf.TensorInfo{Name: x.name, Type: x.kind, Shape: x.shape})
	}
	out, err := gguf.NewWriter(w, metadata, infos)
	if err != nil {
		return err
	}
	var buffer []float32
	for i, p := range m.NamedParameters() {
		data := p.Data
		if arrays[i].Reorders() {
			buffer = slices.Grow(buffer[:0], len(data))[:len(data)]
			arrays[i].ToGGUF(buffer, data)
			data = buffer
		}
		if err := out.WriteFloats(arrays[i].Name, data); err != nil {
			return err
		}
	}
	for _, x := range extra {
		if err := out.WriteFloats(x.name, x.data); err != nil {
			return err
		}
	}
	return out.Close()
}

// ggufType returns the type that an array is written in.
func ggufType(a model.GGUFArray, kind gguf.Type) gguf.Type {
	switch {
	case len(a.Shape) < 2 || a.Name == "position_embd.weight":
		return gguf.F32
	case kind == gguf.Q8_0 && a.Shape[1]%32 != 0:
		return gguf.F16
	}
	return kind
}

// ggufRefusal refuses a model that llama.cpp computes otherwise, or not at all. Error: unsupported_model.
func ggufRefusal(m *model.Model) error {
	c := m.Config
	family, _ := model.FamilyOf(c.Family)
	refuse := func(format string, args ...any) error {
		return trimtab.NewError(trimtab.Invalid, "unsupported_model", "export it as a folder of safetensors", format,
			args...)
	}
	spec := model.Config{
		Family: c.Family, Layers: c.Layers, Width: c.Width, Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim,
		Inner: c.Inner, Context: c.Context, Vocab: c.Vocab,
	}.Complete()
	gemma := c.Family == "gemma2" || c.Family == "gemma3_text"
	switch {
	case family.GGUF == "":
		return refuse("llama.cpp does not know the family %s", family.Name)
	case m.Scalar:
		return refuse("a GGUF file holds language models, and this is a reward model")
	case c.CheckFamily() != nil:
		return refuse("%w", c.CheckFamily())
	case c.Activation != spec.Activation:
		return refuse("llama.cpp computes a %s with hidden_act %s, and this model has %s", family.Name, spec.Activation,
			c.Activation)
	case !gemma && c.SlidingWindow > 0 && c.SlidingWindow < c.Context:
		return refuse("llama.cpp computes a %s without the sliding window of %d tokens", family.Name, c.SlidingWindow)
	case c.Untied && (c.Family == "gemma" || c.Family == "gemma2"):
		return refuse("llama.cpp computes a %s with the embedding as its head", family.Name)
	case c.Family == "gemma2" && (c.AttentionCap == 0 || c.LogitCap == 0):
		return refuse("llama.cpp computes a gemma2 with caps of scores and logits")
	case gemma && !slices.Equal(c.FullLayers, spec.FullLayers):
		return refuse("llama.cpp fixes which layers of a %s see all keys", family.Name)
	case c.Family == "gemma2" && c.AttentionScale != gemmaScale(c, 46),
		c.Family == "gemma3_text" && c.AttentionScale != gemmaScale(c, 62):
		return refuse("llama.cpp computes a %s with query_pre_attn_scalar the size of a head", family.Name)
	case c.Family == "gemma3_text" && c.RopeLocalTheta != 1e4:
		return refuse("llama.cpp fixes rope_local_base_freq to 10000")
	case c.RMSNorm && !c.NoQKVBias && family.GGUF != "llama" && family.GGUF != "qwen2":
		return refuse("llama.cpp computes a %s without biases", family.Name)
	}
	return ropeRefusal(c, family, refuse)
}

// ropeRefusal refuses scaled frequencies that llama.cpp does not compute so.
func ropeRefusal(c model.Config, family *model.Family, refuse func(string, ...any) error) error {
	s := c.RopeScaling
	plainYarn := model.RopeScaling{Type: "yarn", Factor: s.Factor, Original: s.Original}
	switch {
	case s.Type == "llama3" && family.GGUF != "llama",
		s.Type == "yarn" && !c.WithScaling(plainYarn).Equal(c),
		s.Type != "" && c.Family == "gemma3_text":
		return refuse("llama.cpp does not compute a %s with the rope_type %s and its settings", family.Name, s.Type)
	}
	return nil
}

// ggufMetadata returns the metadata of a model, without its tokenizer.
func ggufMetadata(c model.Config, kind gguf.Type) []gguf.KeyValue {
	family, _ := model.FamilyOf(c.Family)
	fileType := map[gguf.Type]uint32{gguf.F32: 0, gguf.F16: 1, gguf.Q8_0: 7, gguf.BF16: 32}
	list := []gguf.KeyValue{
		{Key: "general.architecture", Value: family.GGUF},
		{Key: "general.type", Value: "model"},
		{Key: "general.file_type", Value: fileType[kind]},
		{Key: "general.quantization_version", Value: uint32(2)},
	}
	add := func(key string, v any) { list = append(list, gguf.KeyValue{Key: family.GGUF + "." + key, Value: v}) }
	s := c.Sizes()
	add("block_count", uint32(c.Layers))
	add("context_length", uint32(s.LongContext))
	add("embedding_length", uint32(c.Width))
	add("feed_forward_length", uint32(s.Inner))
	add("attention.head_count", uint32(c.Heads))
	add("attention.head_count_kv", uint32(s.KVHeads))
	add("vocab_size", uint32(c.Vocab))
	if c.RMSNorm {
		add("attention.layer_norm_rms_epsilon", float32(s.NormEps))
	} else {
		add("attention.layer_norm_epsilon", float32(s.NormEps))
	}
	if c.Positions == model.RotaryPositions {
		add("attention.key_length", uint32(s.HeadDim))
		add("attention.value_length", uint32(s.HeadDim))
		add("rope.dimension_count", uint32(s.RotaryDim))
		add("rope.freq_base", float32(c.RopeTheta))
	}
	switch c.Family {
	case "gpt_neox":
		add("use_parallel_residual", c.ParallelResidual)
	case "gemma2":
		add("attn_logit_softcapping", float32(c.AttentionCap))
		add("final_logit_softcapping", float32(c.LogitCap))
	case "gemma3_text":
		if c.LogitCap > 0 {
			add("final_logit_softcapping", float32(c.LogitCap))
		}
	}
	if c.SlidingWindow > 0 && family.GGUF != "llama" && !strings.HasPrefix(family.GGUF, "qwen") {
		add("attention.sliding_window", uint32(c.SlidingWindow))
	}
	switch r := c.RopeScaling; r.Type {
	case "linear", "yarn":
		add("rope.scaling.type", r.Type)
		add("rope.scaling.factor", float32(r.Factor))
		if r.Original > 0 {
			add("rope.scaling.original_context_length", uint32(r.Original))
		}
	case "longrope":
		add("rope.scaling.original_context_length", uint32(r.Original))
		add("rope.scaling.attn_factor", longRopeFactor(r))
	}
	return list
}

// longRopeFactor returns by what sine and cosine are multiplied: √(1 + ln(factor)/ln(original)) where the model does
// not say. The logarithms are of whole and nearly whole numbers, and the result is rounded to float32.
func longRopeFactor(r model.RopeScaling) float32 {
	if r.AttentionFactor > 0 {
		return float32(r.AttentionFactor)
	}
	if r.Factor <= 1 {
		return 1
	}
	return float32(math.Sqrt(1 + log2(r.Factor)/log2(float64(r.Original))))
}

// log2 returns the binary logarithm of x ≥ 1 to 52 bits, by squaring: the same bits on every machine.
func log2(x float64) float64 {
	y, bit := 0.0, 1.0
	for x >= 2 {
		x /= 2
		y++
	}
	for range 52 {
		x *= x
		bit /= 2
		if x >= 2 {
			x /= 2
			y += bit
		}
	}
	return y
}

// extraTensor is a tensor that is no parameter.
type extraTensor struct {
	name  string
	shape []int
	data  []float32
	kind  gguf.Type
}

// ropeFactors returns the tensors by which llama.cpp divides rotary frequencies.
func ropeFactors(c model.Config) []extraTensor {
	of := func(name string, list []float64) extraTensor {
		x := extraTensor{name, []int{len(list)}, make([]float32, len(list)), gguf.F32}
		for i, v := range list {
			x.data[i] = float32(v)
		}
		return x
	}
	switch c.RopeScaling.Type {
	case "llama3":
		return []extraTensor{of("rope_freqs.weight", llama3Factors(c))}
	case "longrope":
		return []extraTensor{
			of("rope_factors_long.weight", c.RopeScaling.LongFactor),
			of("rope_factors_short.weight", c.RopeScaling.ShortFactor),
		}
	}
	return nil
}

// llama3Factors returns by what each frequency of a model with rope_type llama3 is divided (Grattafiori et al., 2024):
// by 1 where its wavelength is short, by the factor where it is long, and by something between in between.
func llama3Factors(c model.Config) []float64 {
	s, d := c.RopeScaling, c.Sizes().RotaryDim
	step := root(c.RopeTheta, d/2) // base^(2/d), the ratio of two wavelengths
	factors := make([]float64, d/2)
	wave := 2 * math.Pi
	for i := range factors {
		turns := float64(s.Original) / wave // in the original context
		smooth := (turns - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
		smooth = min(max(smooth, 0), 1)
		factors[i] = 1 / (float64((1-smooth)/s.Factor) + smooth)
		wave *= step
	}
	return factors
}

// root returns the n-th root of x ≥ 1 by Newton's method: the same bits on every machine.
func root(x float64, n int) float64 {
	r := 1 + (x-1)/float64(n)
	for { // from above, so that it falls until it is as near as it gets
		power := 1.0
		for range n - 1 {
			power *= r
		}
		next := r - (r-x/power)/float64(n)
		if !(next < r) {
			return r
		}
		r = next
	}
}

// ggufTokens returns the metadata of a byte-level BPE tokenizer.
func ggufTokens(t *tokenizer.Tokenizer) ([]gguf.KeyValue, error) {
	var vocab map[string]int
	files := t.Files()
	if err := json.Unmarshal(fileData(files, "vocab.json"), &vocab); err != nil {
		return nil, unsupportedError("vocab.json: %w", err)
	}
	const normal, control, unused = int32(1), int32(3), int32(5)
	tokens, types := make([]string, t.VocabSize()), make([]int32, t.VocabSize())
	for i := range tokens {
		tokens[i], types[i] = "[PAD"+joinInts([]int{i})+"]", unused
	}
	for text, id := range vocab {
		if id >= 0 && id < len(tokens) {
			tokens[id], types[id] = text, normal
		}
	}
	for _, id := range append(t.SuppressTokens(), t.StopTokens()...) {
		if int(id) < len(types) && types[id] == normal {
			types[id] = control
		}
	}
	var merges []string
	for line := range strings.Lines(string(fileData(files, "merges.txt"))) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && !strings.HasPrefix(line, "#version") {
			merges = append(merges, line)
		}
	}
	list := []gguf.KeyValue{
		{Key: "tokenizer.ggml.model", Value: "gpt2"},
		{Key: "tokenizer.ggml.pre", Value: "gpt-2"},
		{Key: "tokenizer.ggml.tokens", Value: tokens},
		{Key: "tokenizer.ggml.token_type", Value: types},
		{Key: "tokenizer.ggml.merges", Value: merges},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(t.BeginOfText())},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(t.EndOfText())},
		{Key: "tokenizer.ggml.add_bos_token", Value: false},
	}
	if pad := t.Pad(); pad != tokenizer.NoToken {
		list = append(list, gguf.KeyValue{Key: "tokenizer.ggml.padding_token_id", Value: uint32(pad)})
	}
	return list, nil
}
