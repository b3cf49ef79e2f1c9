package checkpoint

import (
	"github.com/trimtab/trimtab/tokenizer"
)

// Sampling is how a model is sampled.
type Sampling struct {
	Temperature float64 // logits are divided by it
	MaxTokens   int     // of an answer, at most
}

// GenerationConfig is generation_config.json, by which other programs sample as
// Trimtab does: from the whole distribution at a temperature, never a token of
// Ban, until one of Ends or MaxTokens. It is no part of a model's digest.
func GenerationConfig(t *tokenizer.Tokenizer, s Sampling) File {
	pad := t.Pad()
	if pad == tokenizer.NoToken {
		pad = t.EndOfText() // what transformers would take, and say so each time
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
