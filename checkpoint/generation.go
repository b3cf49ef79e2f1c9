package checkpoint

import (
	"github.com/trimtab/trimtab/tokenizer"
)

// Sampling says how a model is sampled by default.
type Sampling struct {
	Temperature float64 // by which logits are divided
	MaxTokens   int     // of an answer
}

// GenerationConfig returns generation_config.json, by which other programs
// sample as Trimtab does: from the whole distribution at a temperature, with the
// tokens that stand for no text suppressed, until a stop token or MaxTokens. The
// file is no part of a model's digest. pad_token_id is the end-of-text token
// where the tokenizer has no padding token.
func GenerationConfig(t *tokenizer.Tokenizer, s Sampling) File {
	pad := t.Pad()
	if pad == tokenizer.NoToken {
		pad = t.EndOfText() // transformers does the same, with a warning for each call
	}
	return File{Name: generationName, Data: indented(struct {
		BOS         int32   `json:"bos_token_id"`
		Sample      bool    `json:"do_sample"`
		EOS         idList  `json:"eos_token_id"`
		MaxTokens   int     `json:"max_new_tokens"`
		Pad         int32   `json:"pad_token_id"`
		Suppress    []int32 `json:"suppress_tokens,omitempty"`
		Temperature float64 `json:"temperature"`
		TopK        int     `json:"top_k"`
		TopP        float64 `json:"top_p"`
	}{t.BeginOfText(), true, t.StopTokens(), s.MaxTokens, pad, t.SuppressTokens(), s.Temperature, 0, 1})}
}
