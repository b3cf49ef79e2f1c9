// Package tokenizer turns text into token ids and back: byte-level
// byte-pair encoding as GPT-2 has it (Radford et al. 2019, section 2.2;
// Sennrich et al. 2016).
//
// Text is cut into words by GPT-2's pattern (see split.go); a word begins as
// its bytes, and the pair of neighbours with the lowest rank is merged, all
// its places from left to right, until no pair has a rule. Any bytes can be
// encoded, and Decode(Encode(x)) is x.
//
// The layout of ids in a vocabulary learned here, which is GPT-2's:
//
//	0 … 255        the single bytes, in GPT-2's order (! is 0, space is 220)
//	256 … V-3      one piece a merge, in the order in which they were learned
//	V-2            <|endoftext|>
//	V-1            <|pad|>
//
// GPT-2's own vocabulary (50,257 ids) has no <|pad|>: see GPT2. Vocabularies
// made by others may have more special tokens, anywhere, and a model may have
// more ids than its tokenizer has tokens: ids without text, never sampled.
// The special ids lie outside the reach of text: the characters
// "<|endoftext|>" in a text are encoded as ordinary characters.
//
// The stored form is that of Hugging Face: vocab.json, merges.txt,
// tokenizer.json, tokenizer_config.json, special_tokens_map.json. A Digest is
// the SHA-256 of the sorted lines "sha256 size name" of these five files.
package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The names of the special tokens in a vocabulary that Train makes.
const (
	EndOfTextName = "<|endoftext|>"
	PadName       = "<|pad|>"
)

// NoToken is what Pad returns when the vocabulary has no such token.
const NoToken int32 = -1

// Tokenizer is a vocabulary and its merges. It does not change after it is
// made, and is safe for concurrent use.
type Tokenizer struct {
	vocabulary
	rules  map[pair]mergeRule
	bytes  [256]int32 // id of each single byte
	files  []File
	digest string
	cache  *wordCache
}

// vocabulary is all that the files of a tokenizer say, and what the files of
// its model say of ids.
type vocabulary struct {
	pieces     []string // by id: the bytes of a piece, or the name of a special token
	merges     []merge  // by rank
	special    map[int32]flags
	roles      roles
	stopTokens []int32 // the ids that end a text, the end-of-text token first
	vocabSize  int     // of the model: the pieces, and behind them ids without text
}

type merge struct{ left, right, result int32 }

// flags are the settings of a special token that other programs obey when
// they look for it in text.
type flags struct{ singleWord, lstrip, rstrip bool }

// roles are the ids of the special tokens that have a name of their own in
// Hugging Face's files; NoToken where there is none.
type roles struct {
	begin, end, pad, unknown, separator, cls, mask int32
	additional                                     []int32 // additional_special_tokens, as listed
}

// rolesOf are the roles of a vocabulary with an end-of-text token and perhaps a padding token.
func rolesOf(end, pad int32) roles {
	return roles{begin: end, end: end, pad: pad, unknown: end, separator: NoToken, cls: NoToken, mask: NoToken}
}

// newTokenizer completes a tokenizer from its pieces, merges and roles: the
// rules, the files and the digest. Tokens with a role are special, whether or
// not v.special lists them. The caller has checked that merges are consistent.
func newTokenizer(v vocabulary) (*Tokenizer, error) {
	t := &Tokenizer{vocabulary: v, cache: newWordCache()}
	t.special = maps.Clone(v.special)
	if t.special == nil {
		t.special = make(map[int32]flags)
	}
	for _, id := range v.roles.all() {
		t.special[id] = v.special[id]
	}
	if t.stopTokens == nil {
		t.stopTokens = []int32{t.roles.end}
	}
	t.vocabSize = max(t.vocabSize, len(t.pieces))
	t.rules = make(map[pair]mergeRule, len(t.merges))
	for rank, m := range t.merges {
		t.rules[pairOf(m.left, m.right)] = mergeRule{rank: int32(rank), result: m.result}
	}
	for b := range t.bytes {
		t.bytes[b] = NoToken
	}
	for id, p := range t.pieces {
		if len(p) == 1 && !t.Special(int32(id)) {
			t.bytes[p[0]] = int32(id)
		}
	}
	if b := slices.Index(t.bytes[:], NoToken); b >= 0 {
		return nil, fmt.Errorf("the vocabulary lacks the single byte %#02x: it is not byte-level", b)
	}
	t.files = t.write()
	t.digest = digestOf(t.files)
	return t, nil
}

// all lists the ids that have a role; some may come twice.
func (r roles) all() []int32 {
	list := append([]int32{r.begin, r.end, r.pad, r.unknown, r.separator, r.cls, r.mask}, r.additional...)
	return slices.DeleteFunc(list, func(id int32) bool { return id == NoToken })
}

// Encode returns the ids of text, never a special one. Bytes that are not
// UTF-8 are encoded too.
func (t *Tokenizer) Encode(text string) []int32 {
	ids := make([]int32, 0, len(text)/3+1)
	for len(text) > 0 {
		n := wordLen(text)
		ids = t.appendWord(ids, text[:n])
		text = text[n:]
	}
	return ids
}

// appendWord appends the ids of one word, through the cache if it is short.
func (t *Tokenizer) appendWord(ids []int32, word string) []int32 {
	if len(word) == 1 {
		return append(ids, t.bytes[word[0]])
	}
	if len(word) > maxCachedWordLen {
		return t.appendMerged(ids, word)
	}
	if known, ok := t.cache.get(word); ok {
		return append(ids, known...)
	}
	start := len(ids)
	ids = t.appendMerged(ids, word)
	t.cache.put(word, ids[start:])
	return ids
}

// Decode returns the bytes of ids. Special ids, and ids outside the
// vocabulary, decode to nothing.
func (t *Tokenizer) Decode(ids []int32) []byte {
	out := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		if id >= 0 && int(id) < len(t.pieces) && !t.Special(id) {
			out = append(out, t.pieces[id]...)
		}
	}
	return out
}

// BeginOfText is the id that stands before a text: the end-of-text token,
// unless the files of the vocabulary name another one.
func (t *Tokenizer) BeginOfText() int32 { return t.roles.begin }

// EndOfText is the id that is put after a text.
func (t *Tokenizer) EndOfText() int32 { return t.roles.end }

// StopTokens lists the ids of which any ends a text, EndOfText first. It is a fresh slice.
func (t *Tokenizer) StopTokens() []int32 { return slices.Clone(t.stopTokens) }

// EndsWithStop reports whether ids end in one of Ends.
func (t *Tokenizer) EndsWithStop(ids []int32) bool {
	return len(ids) > 0 && slices.Contains(t.stopTokens, ids[len(ids)-1])
}

// Pad is the id of the padding token, or NoToken. Nothing here pads; the id
// is kept for other programs.
func (t *Tokenizer) Pad() int32 { return t.roles.pad }

// SuppressTokens lists the ids that a sampler must never draw, in order: the padding
// token, if there is one and it ends no text, and the ids of the model that
// have no text. It is a fresh slice.
func (t *Tokenizer) SuppressTokens() []int32 {
	var list []int32
	if t.Pad() != NoToken && !slices.Contains(t.stopTokens, t.Pad()) {
		list = append(list, t.Pad())
	}
	for id := len(t.pieces); id < t.vocabSize; id++ {
		list = append(list, int32(id))
	}
	return list
}

// Special reports whether id is a special token: never made of text, and
// decoded to nothing.
func (t *Tokenizer) Special(id int32) bool {
	_, ok := t.special[id]
	return ok
}

// MatchesVerbatim reports whether other programs, too, find the special token id in a
// text wherever its name stands and leave what is beside it as it is.
func (t *Tokenizer) MatchesVerbatim(id int32) bool { return t.special[id] == flags{} }

// Specials lists the special ids in order.
func (t *Tokenizer) Specials() []int32 { return slices.Sorted(maps.Keys(t.special)) }

// VocabSize is the number of ids, the special ones and those without text included.
func (t *Tokenizer) VocabSize() int { return t.vocabSize }

// TokenCount is the number of ids that stand for something: Vocab without the ids without text.
func (t *Tokenizer) TokenCount() int { return len(t.pieces) }

// WithPad is the tokenizer with a padding token of its own, <|pad|> or another
// name where that is taken: an id behind all tokens, one of those without text
// if the model has such.
func (t *Tokenizer) WithPad() *Tokenizer {
	taken := make(map[string]bool, len(t.pieces))
	for id := range t.pieces {
		taken[t.fileName(int32(id))] = true
	}
	name := PadName
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("<|pad_%d|>", n)
	}
	v := t.vocabulary
	v.pieces = append(slices.Clone(t.pieces), name)
	v.roles.pad = int32(len(t.pieces))
	return mustNew(v)
}

// WithoutPad takes off what WithPad put on, for a model of vocab ids whose
// padding token was pad, perhaps NoToken. It reports false unless the last
// token is the padding token.
func (t *Tokenizer) WithoutPad(vocab int, pad int32) (*Tokenizer, bool) {
	last := int32(len(t.pieces) - 1)
	_, special := t.special[pad]
	if t.roles.pad != last || slices.Contains(t.stopTokens, last) || vocab < int(last) || pad != NoToken &&
		(!special || pad == last) {
		return nil, false
	}
	v := t.vocabulary
	v.pieces = t.pieces[:last]
	v.vocabSize = vocab
	v.special = maps.Clone(t.special)
	delete(v.special, last)
	v.roles.additional = slices.DeleteFunc(slices.Clone(v.roles.additional), func(id int32) bool { return id == last })
	for _, role := range []*int32{&v.roles.begin, &v.roles.end, &v.roles.unknown, &v.roles.separator, &v.roles.cls,
		&v.roles.mask} {
		if *role == last {
			return nil, false
		}
	}
	v.roles.pad = pad
	return mustNew(v), true
}

// mustNew completes a tokenizer whose single bytes are those of one that there is.
func mustNew(v vocabulary) *Tokenizer {
	t, err := newTokenizer(v)
	if err != nil {
		panic("tokenizer: " + err.Error())
	}
	return t
}

// Piece is what id stands for: its bytes, or the name of a special token; ""
// outside the vocabulary.
func (t *Tokenizer) Piece(id int32) string {
	if id < 0 || int(id) >= len(t.pieces) {
		return ""
	}
	return t.pieces[id]
}

// Digest is "sha256:" and the SHA-256 of the manifest of Files, in
// hexadecimal digits.
func (t *Tokenizer) Digest() string { return t.digest }

// digestOf hashes the sorted lines "sha256 size name" of files.
func digestOf(files []File) string {
	lines := make([]string, len(files))
	for i, f := range files {
		lines[i] = fmt.Sprintf("%x %d %s\n", sha256.Sum256(f.Data), len(f.Data), f.Name)
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "sha256:" + hex.EncodeToString(sum[:])
}
