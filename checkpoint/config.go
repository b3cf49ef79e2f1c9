package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tokenizer"
)

// modelInfo is what config.json says of a model.
type modelInfo struct {
	model.ConfigFile
	claim tokenizer.ConfigIDs // the special tokens, to compare with the tokenizer's
}

// readConfig decodes config.json, with the defaults of Hugging Face's classes for fields that are absent, and refuses
// what this transformer cannot compute.
func readConfig(raw []byte) (modelInfo, error) {
	f, err := model.ReadConfig(raw)
	claim := tokenizer.ConfigIDs{
		File: configName, Begin: f.Begin, Pad: f.Pad, End: f.End, VocabSize: f.Config.Vocab,
	}
	return modelInfo{f, claim}, err
}

// writeConfig encodes config.json of a model. scoreBias says whether score.bias is among its arrays, dtype what its
// arrays are, F32 or BF16.
func writeConfig(m *model.Model, t *tokenizer.Tokenizer, scoreBias bool, dtype string) ([]byte, error) {
	begin := t.BeginOfText()
	f := model.ConfigFile{
		Config: m.Config, Scalar: m.Scalar, ScoreBias: scoreBias,
		TokenIDs: model.TokenIDs{Begin: &begin, End: t.StopTokens()},
	}
	if pad := t.Pad(); pad != tokenizer.NoToken {
		f.Pad = &pad
	}
	if dtype == "BF16" {
		f.DType = "bfloat16"
	}
	raw, err := model.WriteConfig(f)
	if err != nil {
		return nil, unsupportedError("a model of this shape cannot be stored: %w", err)
	}
	return raw, nil
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

// indented encodes v as JSON over several lines, with a newline at the end, as the transformers library writes its
// files. The values are strings and finite numbers, so encoding cannot fail.
func indented(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("checkpoint: %v", err)) // strings and finite numbers always encode
	}
	return b.Bytes()
}
