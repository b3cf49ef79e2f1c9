package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

const (
	// Names in the field architectures.

	languageModel = "GPT2LMHeadModel"
	scalarModel   = "GPT2ForSequenceClassification"
	bareModel     = "GPT2Model"

	epsilon = 1e-5 // of LayerNorm; tensor has no other
)

// hfConfig is config.json as it is written: the fields of Hugging Face's
// GPT2Config in alphabetical order, as the transformers library writes them. The
// order is part of a model's digest.
type hfConfig struct {
	// Fields without a comment mean what they mean in GPT2Config. Inner is null,
	// which stands for 4·n_embd, and every dropout is 0 in what is written.

	Activation    string   `json:"activation_function"`
	Architectures []string `json:"architectures"` // one name: languageModel or scalarModel
	AttnDropout   float64  `json:"attn_pdrop"`
	BOS           *int32   `json:"bos_token_id"`
	EmbdDropout   float64  `json:"embd_pdrop"`
	EOS           idList   `json:"eos_token_id"`
	InitRange     float64  `json:"initializer_range"`
	Epsilon       float64  `json:"layer_norm_epsilon"`
	ModelType     string   `json:"model_type"`
	Width         int      `json:"n_embd"`
	Heads         int      `json:"n_head"`
	Inner         *int     `json:"n_inner"`
	Layers        int      `json:"n_layer"`
	Context       int      `json:"n_positions"`
	Labels        *int     `json:"num_labels,omitempty"`
	Pad           *int32   `json:"pad_token_id,omitempty"`
	ResidDropout  float64  `json:"resid_pdrop"`
	ScaleByLayer  bool     `json:"scale_attn_by_inverse_layer_idx"` // false here: attention is not scaled by layer
	Scale         bool     `json:"scale_attn_weights"`
	// ScoreBias says that model.safetensors holds score.bias (1), to be added
	// to what score.weight gives. Hugging Face's class has no such parameter
	// and would leave it out: Export folds it into the last layer norm.
	ScoreBias bool   `json:"score_bias,omitempty"`
	Tied      bool   `json:"tie_word_embeddings"`
	DType     string `json:"torch_dtype"`
	Vocab     int    `json:"vocab_size"`
}

// idList is eos_token_id: one id is written as a number, several as a list.
type idList []int32

// MarshalJSON writes one id as a number.
func (l idList) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]int32(l))
}

// UnmarshalJSON accepts a number, a list, or null for no id.
func (l *idList) UnmarshalJSON(raw []byte) error {
	// A list, or null, decodes as one; anything else has to be a single id.
	var one int32
	if string(raw) == "null" || json.Unmarshal(raw, (*[]int32)(l)) == nil {
		return nil
	}
	if json.Unmarshal(raw, &one) != nil {
		return fmt.Errorf("eos_token_id is %s: want an id, or a list of ids", raw)
	}
	*l = idList{one}
	return nil
}

// writeConfig encodes config.json of a model. scoreBias says whether score.bias
// is among its arrays.
func writeConfig(m *model.Model, t *tokenizer.Tokenizer, scoreBias bool) []byte {
	// gelu_new is the tanh approximation, as tensor computes it.
	begin := t.BeginOfText()
	c := hfConfig{
		Activation: "gelu_new", Architectures: []string{languageModel}, BOS: &begin, EOS: t.StopTokens(),
		InitRange: 0.02, Epsilon: epsilon, ModelType: "gpt2", Width: m.Config.Width, Heads: m.Config.Heads,
		Layers: m.Config.Layers, Context: m.Config.Context, Scale: true, Tied: true, DType: "float32",
		Vocab: m.Config.Vocab,
	}
	if pad := t.Pad(); pad != tokenizer.NoToken {
		c.Pad = &pad
	}
	if m.Scalar { // transformers reads a classifier with one label as a regression
		one := 1
		c.Architectures, c.Labels, c.ScoreBias = []string{scalarModel}, &one, scoreBias
	}
	return indented(c)
}

// indented encodes v as JSON over several lines, with a newline at the end, as
// the transformers library writes its files. The values are strings and finite
// numbers, so encoding cannot fail.
func indented(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic("checkpoint: " + err.Error()) // strings and finite numbers always encode
	}
	return b.Bytes()
}

// hfConfigExtra adds the fields of GPT2Config that are only read: each must have
// its default, or the model computes something else than this transformer.
type hfConfigExtra struct {
	hfConfig
	// CrossAttention adds attention to an encoder in each block.
	CrossAttention bool `json:"add_cross_attention"`
	// ID2Label has the labels of a classifier, where num_labels is absent.
	ID2Label map[string]string `json:"id2label"`
	// Quantization is present in models whose weights are not plain floats.
	Quantization json.RawMessage `json:"quantization_config"`
}

// modelInfo is what config.json says of a model.
type modelInfo struct {
	model.Config
	scalar       bool                // it has a scalar head, for a score
	architecture string              // the first name in architectures
	claim        tokenizer.ConfigIDs // the special tokens, to compare with the tokenizer's
	dropout      bool                // one of the dropouts is not 0; noted, since training here has none
}

// readConfig decodes config.json, with GPT2Config's defaults for fields that are
// absent, and refuses what this transformer cannot compute.
func readConfig(raw []byte) (modelInfo, error) {
	h := hfConfigExtra{hfConfig: hfConfig{
		Activation: "gelu_new", Epsilon: epsilon, Width: 768, Heads: 12, Layers: 12, Context: 1024, Scale: true,
		Tied: true, Vocab: 50257,
	}}
	if err := json.Unmarshal(raw, &h); err != nil { // fields that are not listed are ignored
		return modelInfo{}, jsonError(err)
	}
	if err := h.check(); err != nil {
		return modelInfo{}, err
	}
	s := modelInfo{
		Config: model.Config{Layers: h.Layers, Width: h.Width, Heads: h.Heads, Context: h.Context,
			Vocab: h.Vocab},
		scalar:       slices.Contains(h.Architectures, scalarModel),
		architecture: append(h.Architectures, languageModel)[0],
		claim:        tokenizer.ConfigIDs{File: configName, Begin: h.BOS, Pad: h.Pad, End: h.EOS, VocabSize: h.Vocab},
		dropout:      h.AttnDropout != 0 || h.EmbdDropout != 0 || h.ResidDropout != 0,
	}
	return s, s.Config.Validate()
}

// jsonError says in plain words that a value has another type than it should.
func jsonError(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%s is a %s, and should be %s", wrong.Field, wrong.Value, typeWord(wrong.Type))
	}
	return err
}

// typeWord names the JSON type that decodes into a Go type, for people who edit
// config.json and do not know Go.
func typeWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number that fits in " + strconv.Itoa(t.Bits()) + " bits"
}

// check refuses a config of another architecture, or one that sets what this
// transformer does not implement.
func (h hfConfigExtra) check() error {
	arch := append(h.Architectures, languageModel)[0]
	scalar := arch == scalarModel
	switch {
	case h.ModelType != "gpt2":
		return fmt.Errorf("model_type is %q, not gpt2", h.ModelType)
	case arch != languageModel && arch != bareModel && !scalar, len(h.Architectures) > 1:
		return fmt.Errorf("architectures are %q: want %s or %s", h.Architectures, languageModel, scalarModel)
	case scalar && (h.Labels == nil && len(h.ID2Label) != 1 || h.Labels != nil && *h.Labels != 1):
		return errors.New("the classifier does not have exactly one label: only scalar heads are supported")
	// Two names of the same function.
	case h.Activation != "gelu_new" && h.Activation != "gelu_pytorch_tanh":
		return fmt.Errorf("activation_function is %q: only gelu_new is supported", h.Activation)
	case h.Epsilon != epsilon:
		return fmt.Errorf("layer_norm_epsilon is %v: only %v is supported", h.Epsilon, epsilon)
	case h.Inner != nil && *h.Inner != 4*h.Width:
		return fmt.Errorf("n_inner is %d: only 4·n_embd = %d is supported", *h.Inner, 4*h.Width)
	// An output head of its own would be a parameter that this transformer does not have.
	case !h.Tied:
		return errors.New("tie_word_embeddings is false: only tied heads are supported")
	case !h.Scale || h.ScaleByLayer || h.CrossAttention:
		return errors.New("attention is not GPT-2's own: scale_attn_weights, scale_attn_by_inverse_layer_idx and " +
			"add_cross_attention must have their defaults")
	case len(h.Quantization) > 0 && string(h.Quantization) != "null":
		return errors.New("the weights are quantized: export them as float32 first")
	}
	return nil
}
