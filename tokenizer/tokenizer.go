// Package tokenizer converts text to token ids and back: byte-level byte-pair
// encoding (BPE) as in GPT-2 (Radford et al. 2019, section 2.2; Sennrich et al.
// 2016).
//
// Encoding has two steps. The pre-tokenizer splits text into words with GPT-2's
// pattern (split.go). Within a word, which starts as its single bytes, the pair
// of neighbours whose merge has the lowest rank is merged at every place, from
// left to right, until no pair has a merge (merge.go). Every byte is a token,
// so any byte string can be encoded, and Decode(Encode(x)) equals x.
//
// The ids of a vocabulary that Train learns are laid out like GPT-2's:
//
//	0 … 255        the single bytes, in GPT-2's order (! is 0, space is 220)
//	256 … V-3      one piece per merge, in the order in which they were learned
//	V-2            <|endoftext|>
//	V-1            <|pad|>
//
// GPT-2's own vocabulary (50,257 ids) has no <|pad|>; see GPT2. A vocabulary
// made by another program may have more special tokens, at any ids, and its
// model may have more ids than the tokenizer has tokens: ids without text,
// which are never sampled. Special tokens cannot be produced by text: the
// characters "<|endoftext|>" in a text are encoded as ordinary characters.
//
// The stored form is Hugging Face's: vocab.json, merges.txt, tokenizer.json,
// tokenizer_config.json and special_tokens_map.json. A tokenizer's Digest is
// the SHA-256 over the sorted lines "sha256 size name" of these five files.
package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The names of the special tokens in a vocabulary that Train learns.
const (
	EndOfTextName = "<|endoftext|>"
	PadName       = "<|pad|>"
)

// NoToken is the id that stands for "there is no such token", for example from
// Pad. It equals the -1 that Hugging Face's configs use for it.
const NoToken int32 = -1

// Tokenizer is a vocabulary with its merges. It is immutable once built, and
// safe for concurrent use; only its word cache changes, behind a lock.
type Tokenizer struct {
	vocabulary
	// rules maps a pair of neighbouring ids to its merge.
	rules map[pair]mergeRule
	// bytes holds the id of each single byte: every word starts as these.
	bytes [256]int32
	// files and digest are the stored form. They are built once, since a digest
	// is asked for whenever sampled tokens are compared with a tokenizer.
	files  []File
	digest string
	cache  *wordCache
}

// vocabulary is everything that the files of a tokenizer say, together with
// what the config files of its model say about token ids.
type vocabulary struct {
	pieces  []string // by id: the bytes of a piece, or the name of a special token
	merges  []merge  // by rank
	special map[int32]flags
	roles   roles
	// stopTokens are the ids that end a text, the end-of-text token first. Chat
	// models often have several (eos_token_id may be a list).
	stopTokens []int32
	// vocabSize is the number of ids of the model: the pieces, then ids without
	// text, which pad the embedding of many models to a round size.
	vocabSize int
}

// merge says that left followed by right becomes result.
type merge struct{ left, right, result int32 }

// flags are the settings of a special token that other programs apply when they
// search text for it. This package never searches, and keeps them so that files
// are written as they were read.
type flags struct{ singleWord, lstrip, rstrip bool }

// roles are the ids of the special tokens that have a key of their own in
// Hugging Face's files (bos_token, eos_token …); NoToken where there is none.
type roles struct {
	begin, end, pad, unknown, separator, cls, mask int32
	additional                                     []int32 // additional_special_tokens, as listed
}

// rolesOf returns the roles in a vocabulary of this package: the end-of-text
// token also begins texts and stands for unknown ones, as in GPT-2; pad may be
// NoToken.
func rolesOf(end, pad int32) roles {
	return roles{begin: end, end: end, pad: pad, unknown: end, separator: NoToken, cls: NoToken, mask: NoToken}
}

// newTokenizer completes a tokenizer from its vocabulary: the merge table, the
// ids of the single bytes, the files and the digest. Tokens with a role are
// special whether or not v.special lists them. The caller has checked that the
// merges are consistent; a vocabulary without one of the 256 single bytes is an
// error, since some text could not be encoded.
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

// all lists the ids that have a role. An id with several roles occurs several
// times.
func (r roles) all() []int32 {
	list := append([]int32{r.begin, r.end, r.pad, r.unknown, r.separator, r.cls, r.mask}, r.additional...)
	return slices.DeleteFunc(list, func(id int32) bool { return id == NoToken })
}

// Encode returns the ids of text, which never include a special token. Bytes
// that are not valid UTF-8 are encoded too.
func (t *Tokenizer) Encode(text string) []int32 {
	ids := make([]int32, 0, len(text)/3+1)
	for len(text) > 0 {
		n := wordLen(text)
		ids = t.appendWord(ids, text[:n])
		text = text[n:]
	}
	return ids
}

// appendWord appends the ids of one word. Short words, which repeat often, go
// through the cache.
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

// Decode returns the bytes of ids. Special ids and ids outside the vocabulary
// decode to nothing. The result need not be valid UTF-8: a token may be a part
// of a character.
func (t *Tokenizer) Decode(ids []int32) []byte {
	out := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		if id >= 0 && int(id) < len(t.pieces) && !t.Special(id) {
			out = append(out, t.pieces[id]...)
		}
	}
	return out
}

// BeginOfText returns the id that precedes a text (bos_token): the end-of-text
// token, unless the files name another one.
func (t *Tokenizer) BeginOfText() int32 { return t.roles.begin }

// EndOfText returns the id that follows a text (eos_token).
func (t *Tokenizer) EndOfText() int32 { return t.roles.end }

// StopTokens returns the ids any of which ends a text, EndOfText first, as a
// fresh slice.
func (t *Tokenizer) StopTokens() []int32 { return slices.Clone(t.stopTokens) }

// EndsWithStop reports whether the last of ids is one of StopTokens: whether a
// sample was finished by the model rather than cut at a limit.
func (t *Tokenizer) EndsWithStop(ids []int32) bool {
	return len(ids) > 0 && slices.Contains(t.stopTokens, ids[len(ids)-1])
}

// Pad returns the id of the padding token, or NoToken. Nothing in Trimtab pads;
// the id is kept for other programs.
func (t *Tokenizer) Pad() int32 { return t.roles.pad }

// SuppressTokens returns the ids that a sampler must never draw, ascending: the
// padding token, if there is one and it is no stop token, and the model's ids
// without text. The slice is fresh.
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

// Special reports whether id is a special token: never produced by Encode, and
// decoded to nothing.
func (t *Tokenizer) Special(id int32) bool {
	_, ok := t.special[id]
	return ok
}

// MatchesVerbatim reports whether other programs find the special token id in a
// text wherever its name occurs, and leave the characters around it alone: it
// has none of single_word, lstrip and rstrip.
func (t *Tokenizer) MatchesVerbatim(id int32) bool { return t.special[id] == flags{} }

// Specials returns the special ids in ascending order.
func (t *Tokenizer) Specials() []int32 { return slices.Sorted(maps.Keys(t.special)) }

// VocabSize returns the number of the model's ids, including the special ones
// and those without text.
func (t *Tokenizer) VocabSize() int { return t.vocabSize }

// TokenCount returns the number of ids that have a token: VocabSize less the
// ids without text.
func (t *Tokenizer) TokenCount() int { return len(t.pieces) }

// WithPad returns the tokenizer with a padding token of its own, named <|pad|>,
// or <|pad_2|> and so on where that name is taken. Its id follows all tokens;
// it takes the first id without text where the model has any.
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

// WithoutPad undoes WithPad for a model of vocab ids whose padding token was
// pad, which may be NoToken. It reports false if this tokenizer cannot have
// come from WithPad on such a model: the last token has to be the padding token
// and have no other role, and pad has to be a special token before it.
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

// mustNew is newTokenizer for a vocabulary derived from a valid one, which
// still has every single byte.
func mustNew(v vocabulary) *Tokenizer {
	t, err := newTokenizer(v)
	if err != nil {
		panic("tokenizer: " + err.Error())
	}
	return t
}

// Piece returns what id stands for: its bytes, or the name of a special token.
// It returns "" for an id outside the vocabulary.
func (t *Tokenizer) Piece(id int32) string {
	if id < 0 || int(id) >= len(t.pieces) {
		return ""
	}
	return t.pieces[id]
}

// Digest returns "sha256:" and the hexadecimal SHA-256 of the manifest of
// Files. Two tokenizers with equal digests encode every text to the same ids.
func (t *Tokenizer) Digest() string { return t.digest }

// digestOf hashes the manifest of files: their sorted lines "sha256 size name".
func digestOf(files []File) string {
	lines := make([]string, len(files))
	for i, f := range files {
		lines[i] = fmt.Sprintf("%x %d %s\n", sha256.Sum256(f.Data), len(f.Data), f.Name)
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "sha256:" + hex.EncodeToString(sum[:])
}
