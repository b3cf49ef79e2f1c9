package dataset

import (
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tokenizer"
)

// Sequence is one training example as token ids. The first PromptLen of them
// are given and carry no loss.
type Sequence struct {
	Tokens    []int32
	PromptLen int
	// Cut reports that the end did not fit into the context and is missing.
	Cut bool
}

// EncodePrompt returns what a model is given to continue: the token that begins
// a text (end-of-text, unless the vocabulary has another one for it), the
// prompt and a newline. Without the leading token a base model continues as if
// in the middle of a document. The newline is encoded by itself, so that the
// ids of a prompt do not depend on what follows it. ChatTemplate gives other
// programs the same form.
func EncodePrompt(t *tokenizer.Tokenizer, prompt string) []int32 {
	ids := append([]int32{t.BeginOfText()}, t.Encode(prompt)...)
	return append(ids, t.Encode("\n")...)
}

// EncodeExample returns prompt and response as one sequence: EncodePrompt, the
// response, end-of-text. A sequence longer than context tokens loses its end,
// and with it the end-of-text token, so that nothing teaches a model to stop in
// the middle. It reports false if the prompt leaves no room for a token of the
// response.
func EncodeExample(t *tokenizer.Tokenizer, prompt, response string, context int) (Sequence, bool) {
	return newSequence(EncodePrompt(t, prompt), append(t.Encode(response), t.EndOfText()), context)
}

// EncodeRanking returns a ranking's responses as sequences, in the order of the
// ranking. Responses with token ids of this very tokenizer keep them, as they
// were sampled; others are encoded, which may split them differently. It
// reports false if the prompt leaves no room for a response.
func EncodeRanking(t *tokenizer.Tokenizer, r trimtab.Ranking, context int) ([]Sequence, bool) {
	prompt := EncodePrompt(t, r.Prompt)
	out := make([]Sequence, len(r.Responses))
	for i, resp := range r.Responses {
		ids := resp.Tokens
		if len(ids) == 0 || string(resp.Tokenizer) != t.Digest() {
			ids = append(t.Encode(string(resp.Bytes)), t.EndOfText())
		}
		var ok bool
		if out[i], ok = newSequence(prompt, ids, context); !ok {
			return nil, false
		}
	}
	return out, true
}

// newSequence concatenates prompt and response and cuts them to the context.
func newSequence(prompt, response []int32, context int) (Sequence, bool) {
	if len(prompt) >= context {
		return Sequence{}, false
	}
	ids := slices.Concat(prompt, response)
	return Sequence{Tokens: ids[:min(len(ids), context)], PromptLen: len(prompt), Cut: len(ids) > context}, true
}

// FullRows is PackRows without the last row if that is short: a trainer takes
// rows of one length.
func FullRows(t *tokenizer.Tokenizer, texts []string, rowLen int, src draw.Source) ([][]int32, trimtab.Fit) {
	rows, fit := PackRows(t, texts, rowLen, src)
	if k := len(rows); k > 0 && len(rows[k-1]) < rowLen {
		return rows[:k-1], fit
	}
	return rows, fit
}

// PackRows packs texts, in an order drawn by src, into rows of rowLen tokens
// for pretraining, and counts the documents: those cut over several rows, and
// those that no full row holds.
//
// A document is the end-of-text token and a text, as in GPT-2; in a vocabulary
// in which another token begins texts, it is that token, the text and
// end-of-text. Each row starts at the start of a document. A document that does
// not fit into the rest of its row fills that rest with its beginning and is
// laid out again, whole, in the next row, so that every document occurs whole
// once. Only documents longer than a row are cut: they fill rows of their own,
// and what is left of them starts a row that others share. All rows but the
// last are full. Texts that encode to nothing are left out.
func PackRows(t *tokenizer.Tokenizer, texts []string, rowLen int, src draw.Source) ([][]int32, trimtab.Fit) {
	docs := make([][]int32, 0, len(texts))
	for _, i := range EpochOrder(src, len(texts), 0) {
		if ids := t.Encode(texts[i]); len(ids) > 0 {
			docs = append(docs, document(t, ids))
		}
	}
	rows, fit := pack(docs, rowLen)
	fit.LeftOut += len(texts) - len(docs)
	return rows, fit
}

// document returns a text's ids with the tokens that separate it from others in
// a row: one token between two texts if a single token both begins and ends
// them.
func document(t *tokenizer.Tokenizer, ids []int32) []int32 {
	if t.BeginOfText() == t.EndOfText() {
		return append([]int32{t.EndOfText()}, ids...)
	}
	return append(append([]int32{t.BeginOfText()}, ids...), t.EndOfText())
}

// pack lays documents into rows of rowLen tokens; see PackRows for the rules.
// The count Kept is of documents that lie in rows that are full; those of a
// short last row alone are LeftOut.
func pack(docs [][]int32, rowLen int) ([][]int32, trimtab.Fit) {
	fit := trimtab.Fit{Items: "text"}
	var rows [][]int32
	var row []int32
	// Documents that lie in row alone.
	begun := 0
	// finish completes the current row; everything in it is then in a full row,
	// or in the last one.
	finish := func() {
		if len(row) > 0 {
			rows, row, begun = append(rows, row), nil, 0
		}
	}
	for _, d := range docs {
		if len(d) > rowLen {
			fit.Cut++
		}
		// The filler is a copy of the beginning: d itself starts the next row.
		if room := rowLen - len(row); len(row) > 0 && len(d) > room {
			row = append(row, d[:room]...)
			finish()
		}
		begun++
		for ; len(d) > rowLen; d = d[rowLen:] {
			rows = append(rows, d[:rowLen:rowLen])
			begun = 0
		}
		row = append(row, d...)
		if len(row) == rowLen {
			finish()
		}
	}
	fit.LeftOut, fit.Kept = begun, len(docs)-begun
	finish()
	return rows, fit
}

// EpochOrder returns the permutation of 0 … n-1 in which an epoch visits its
// items. It depends on src, n and epoch alone, so that training can resume in
// the middle of an epoch.
func EpochOrder(src draw.Source, n, epoch int) []int { return src.At(uint64(epoch)).Perm(n) }

// EpochSampler numbers N items without end: each epoch is a new permutation, a
// function of Source and the number of the epoch. Its two other fields only
// cache the last permutation.
type EpochSampler struct {
	// Source and N are set by the user and not changed afterwards.
	Source draw.Source
	N      int
	epoch  int
	perm   []int // of epoch; nil before the first Index
}

// Index returns the k-th item, where k counts over all epochs.
func (c *EpochSampler) Index(k int) int {
	if e := k / c.N; e != c.epoch || c.perm == nil {
		c.epoch, c.perm = e, EpochOrder(c.Source, c.N, e)
	}
	return c.perm[k%c.N]
}

// SplitByGroup divides indices into training and test so that no group is in
// both. Groups are visited in a drawn order; each one that brings the test part
// nearer to testShare of the items is held out. With more than one group and
// testShare above 0, neither part is empty. Indices stay in order.
func SplitByGroup(groups []string, testShare float64, src draw.Source) (train, test []int) {
	// Names in order of first occurrence: the order of a map is random.
	sizes, names := map[string]int{}, []string(nil)
	for _, g := range groups {
		if sizes[g] == 0 {
			names = append(names, g)
		}
		sizes[g]++
	}
	inTest := map[string]bool{}
	order := EpochOrder(src, len(names), 0)
	// Items that the test part still lacks.
	missing := testShare * float64(len(groups))
	for _, i := range order {
		// Adding size brings the part nearer if it overshoots by less than it lacked.
		if size := float64(sizes[names[i]]); size < 2*missing && len(inTest) < len(names)-1 {
			inTest[names[i]] = true
			missing -= size
		}
	}
	if len(inTest) == 0 && testShare > 0 && len(names) > 1 {
		inTest[names[order[0]]] = true
	}
	for i, g := range groups {
		if inTest[g] {
			test = append(test, i)
		} else {
			train = append(train, i)
		}
	}
	return train, test
}
