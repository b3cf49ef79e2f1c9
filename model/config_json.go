package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// ConfigFile is what a config.json says of a model.
type ConfigFile struct {
	Config Config
	// Architecture is the class that architectures names, the family's CausalLM where it names none.
	Architecture string
	// Scalar says that it is a classifier with one label: a reward model.
	Scalar bool
	TokenIDs
	// DType is what weights are, as PyTorch calls it: float32, bfloat16; "" is float32.
	DType string
	// ScoreBias says that the weights hold score.bias (1), to be added to what score.weight gives. Hugging Face's
	// classes have no such parameter and leave it out.
	ScoreBias bool
	// Notes says what of the file was read otherwise than it stands, in phrases for people.
	Notes []string
}

// TokenIDs are the tokens that begin, end and pad a text, as far as a file says.
type TokenIDs struct {
	Begin, Pad *int32
	End        []int32
}

// ReadTokenIDs reads them of a generation_config.json, and nothing else.
func ReadTokenIDs(raw []byte) (TokenIDs, error) {
	r, err := newConfigReader(raw)
	if err != nil {
		return TokenIDs{}, err
	}
	ids := r.tokenIDs()
	return ids, r.err
}

// ReadConfig reads a config.json of any family, in the spelling of any version of transformers. Fields that are absent
// have the defaults of transformers' classes. A field that is not known, and one that says what this package does not
// compute, is refused by its name.
func ReadConfig(raw []byte) (ConfigFile, error) {
	r, err := newConfigReader(raw)
	if err != nil {
		return ConfigFile{}, err
	}
	family, err := r.readFamily()
	if err != nil {
		return ConfigFile{}, err
	}
	r.family = family.Name
	var f ConfigFile
	f.readClass(r, family)
	f.TokenIDs = r.tokenIDs()
	r.refuseOthers()
	body := r.body()
	r.noteDropout(body)
	body.Ignore(family.ignored...)
	f.Config = family.read(body)
	if err := r.finish(); err != nil {
		return f, err
	}
	f.Config.Family = familyField(family)
	if f.Scalar { // a classifier has no head of a language model
		f.Config.Untied = false
	}
	f.Config = f.Config.canonical()
	f.Notes = r.notes
	return f, f.Config.Validate()
}

// familyField returns what Config.Family is for a family.
func familyField(f *Family) string {
	if f == &gpt2 {
		return ""
	}
	return f.Name
}

// readFamily returns the family that model_type names.
func (r *ConfigReader) readFamily() (*Family, error) {
	name := r.String("model_type", "")
	if r.err != nil {
		return nil, r.err
	}
	if name == "gemma3" { // text and images; the text is a model of its own
		name = gemma3.Name
	}
	family, ok := FamilyOf(name)
	if name == "" || !ok {
		return nil, fmt.Errorf("model_type is %.80q: want one of %s", name, strings.Join(FamilyNames(), ", "))
	}
	return family, nil
}

// body returns the reader of the fields of the language model: those of text_config in a model of text and images.
func (r *ConfigReader) body() *ConfigReader {
	text := r.Object("text_config")
	if text == nil {
		return r
	}
	if arch := r.Strings("architectures"); !slices.Contains(arch, "Gemma3ForCausalLM") {
		r.fail("architectures are %q: only the language model alone can be read: save model.language_model", arch)
	}
	r.Ignore("tie_word_embeddings", "vision_config", "image_token_index", "mm_tokens_per_image", "boi_token_index",
		"eoi_token_index")
	text.refuseOthers()
	text.Ignore("model_type", "architectures", "bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype")
	for key := range text.fields {
		if harmless[key] {
			text.Ignore(key)
		}
	}
	return text
}

// readClass reads which class of the family a model is of.
func (f *ConfigFile) readClass(r *ConfigReader, family *Family) {
	names := r.Strings("architectures")
	f.Architecture = append(slices.Clone(names), family.CausalLM)[0]
	f.DType = r.String("torch_dtype", r.String("dtype", ""))
	f.ScoreBias = r.Bool("score_bias", false)
	labels := r.Int("num_labels", 0)
	known := []string{family.CausalLM, family.Body, family.Classifier}
	if len(names) > 1 || !slices.Contains(known, f.Architecture) {
		r.fail("architectures are %q: want %s or %s", names, family.CausalLM, family.Classifier)
	}
	f.Scalar = f.Architecture == family.Classifier
	if !f.Scalar { // labels of a language model are leftovers of nobody's
		r.Ignore("id2label", "label2id")
		return
	}
	r.Ignore("label2id")
	if of := read[map[string]string](r, "id2label", nil); labels == 0 {
		labels = len(of)
	}
	if labels != 1 {
		r.fail("the classifier does not have exactly one label: only scalar heads are supported")
	}
}

// tokenIDs reads the special tokens.
func (r *ConfigReader) tokenIDs() TokenIDs {
	ids := TokenIDs{Begin: r.token("bos_token_id"), Pad: r.token("pad_token_id")}
	raw := r.Raw("eos_token_id")
	if raw == nil || json.Unmarshal(raw, &ids.End) == nil { // a list
		return ids
	}
	var one int32
	if json.Unmarshal(raw, &one) != nil {
		r.fail("eos_token_id is %.80s: want an id, or a list of ids", raw)
	}
	ids.End = []int32{one}
	return ids
}

// token returns the id of a special token, or nil.
func (r *ConfigReader) token(key string) *int32 {
	id := read(r, key, int32(0))
	if !r.Has(key) {
		return nil
	}
	return &id
}

// refuseOthers refuses what makes another model of any family's.
func (r *ConfigReader) refuseOthers() {
	r.Must("quantization_config", "the weights are quantized: export them as float32 first")
	r.Must("compression_config", "the weights are compressed: export them as float32 first")
	for _, key := range []string{"add_cross_attention", "is_encoder_decoder", "tie_encoder_decoder"} {
		r.Must(key, "only language models without an encoder are supported", "false")
	}
	r.Must("cross_attention_hidden_size", "only language models without an encoder are supported")
	r.Must("is_causal", "attention has to be causal", "true")
	r.Must("use_bidirectional_attention", "attention has to be causal", "false")
	r.Must("pruned_heads", "heads must not be pruned", "{}", "[]")
	r.Must("per_layer_config", "all layers must have one shape", "{}", "[]")
	r.Ignore("is_decoder")
}

// noteDropout notes a dropout that is not zero.
func (r *ConfigReader) noteDropout(body *ConfigReader) {
	some := false
	for _, key := range dropouts {
		some = body.Float(key, 0) != 0 || some
	}
	if some {
		r.note("the dropout of config.json is left out: Trimtab trains without")
	}
}

// WriteConfig encodes f as a config.json, sorted by name, as transformers writes it. It is the spelling that all
// versions of transformers read, and ReadConfig reads it back as the same Config. It fails where the family's models
// cannot have the shape.
func WriteConfig(f ConfigFile) ([]byte, error) {
	if err := f.Config.CheckFamily(); err != nil {
		return nil, err
	}
	return f.encode()
}

// encode encodes f as a config.json.
func (f ConfigFile) encode() ([]byte, error) {
	family, ok := FamilyOf(f.Config.Family)
	if !ok {
		return nil, fmt.Errorf("model_type: %q is none of %q", f.Config.Family, FamilyNames())
	}
	fields := family.write(f.Config)
	fields["model_type"] = family.Name
	fields["vocab_size"] = f.Config.Vocab
	fields["tie_word_embeddings"] = !f.Config.Untied
	fields["architectures"] = []string{family.CausalLM}
	fields["bos_token_id"], fields["eos_token_id"] = f.Begin, endIDs(f.End)
	fields["initializer_range"] = 0.02
	fields["torch_dtype"] = "float32"
	if f.DType != "" {
		fields["torch_dtype"] = f.DType
	}
	// Some classes of transformers have a padding token by default, which need not be in the vocabulary.
	if f.Pad != nil || family != &gpt2 {
		fields["pad_token_id"] = f.Pad
	}
	if f.Scalar { // transformers reads a classifier with one label as a regression
		fields["architectures"], fields["num_labels"] = []string{family.Classifier}, 1
		if f.ScoreBias {
			fields["score_bias"] = true
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	err := enc.Encode(fields) // maps are written in order of key
	return b.Bytes(), err
}

// endIDs is eos_token_id: one id is written as a number, several as a list.
type endIDs []int32

// MarshalJSON writes one id as a number.
func (l endIDs) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]int32(l))
}

// decimal is a number that is written with a point, so that Python reads a float.
type decimal float64

// MarshalJSON writes the shortest text that reads back as the same float64.
func (x decimal) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(x), 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return []byte(text), nil
}

// CheckFamily returns an error that names a field which models of c's family cannot have as it is: one that their
// config.json has no way to say. c must be complete (see Complete).
func (c Config) CheckFamily() error {
	if err := c.Validate(); err != nil {
		return err
	}
	raw, err := ConfigFile{Config: c}.encode()
	if err != nil {
		return err
	}
	f, err := ReadConfig(raw)
	if err != nil {
		return fmt.Errorf("%s cannot have this shape: %w", c.familyName(), err)
	}
	return c.differs(f.Config)
}

// familyName returns the name of c's family.
func (c Config) familyName() string {
	if c.Family == "" {
		return gpt2.Name
	}
	return c.Family
}

// differs returns an error that names the first field in which c differs from d, which is what c's family makes of it.
func (c Config) differs(d Config) error {
	have, want := reflect.ValueOf(c.canonical()), reflect.ValueOf(d)
	for i := range have.NumField() {
		x, y := have.Field(i).Interface(), want.Field(i).Interface()
		if !reflect.DeepEqual(x, y) {
			name, _, _ := strings.Cut(have.Type().Field(i).Tag.Get("yaml"), ",")
			return fmt.Errorf("%s: %s", name, c.otherwise(x, y))
		}
	}
	return nil
}

// otherwise says that a field is x, and that the family's models have y.
func (c Config) otherwise(x, y any) string {
	return fmt.Sprintf("a %s cannot have %s, it would be read as %s", c.familyName(), textOf(x), textOf(y))
}

// textOf writes the value of a field for people.
func textOf(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// canonical returns c in the one form that a shape has: fields of which zero stands for a default have zero in a
// GPT-2, where it is theirs, and the default in other families; a window that nothing sees is left out.
func (c Config) canonical() Config {
	if a, err := c.activation(); err == nil { // otherwise Validate refuses it
		c.Activation = a.String()
	}
	if c.Family == "" || c.Family == gpt2.Name {
		return c.canonicalGPT2()
	}
	c.KVHeads, c.Inner = c.kvHeads(), c.inner()
	if c.Heads > 0 && c.Width%c.Heads == 0 { // Validate refuses another width where heads have no size of their own
		c.HeadDim = c.headDim()
	}
	if c.NormEps == 0 {
		c.NormEps = 1e-5
	}
	if c.Positions == RotaryPositions && c.RopeTheta == 0 {
		c.RopeTheta = 10000
	}
	if c.RotaryDim == c.HeadDim {
		c.RotaryDim = 0
	}
	if len(c.FullLayers) == 0 || c.SlidingWindow == 0 {
		c.FullLayers = nil
	}
	return c
}

// canonicalGPT2 returns c with zero wherever it says what a GPT-2 has anyway.
func (c Config) canonicalGPT2() Config {
	c.Family = ""
	if c.Activation == "gelu_pytorch_tanh" {
		c.Activation = ""
	}
	if c.Inner == 4*c.Width {
		c.Inner = 0
	}
	if c.NormEps == 1e-5 {
		c.NormEps = 0
	}
	if c.KVHeads == c.Heads {
		c.KVHeads = 0
	}
	if c.Heads > 0 && c.HeadDim*c.Heads == c.Width {
		c.HeadDim = 0
	}
	return c
}
