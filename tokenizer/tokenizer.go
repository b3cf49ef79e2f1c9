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
// GPT-2's own vocabulary (50,257 ids) has no <|pad|>: see GPT2. The special
// ids lie outside the reach of text: the characters "<|endoftext|>" in a text
// are encoded as ordinary characters.
//
// The stored form is that of Hugging Face: vocab.json, merges.txt,
// tokenizer.json, tokenizer_config.json, special_tokens_map.json. A Digest is
// the SHA-256 of the sorted lines "sha256 size name" of these five files.
package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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
	pieces []string // by id: the bytes of a piece, or the name of a special token
	merges []merge  // by rank
	rules  map[pair]rule
	bytes  [256]int32 // id of each single byte
	eot    int32
	pad    int32 // NoToken if there is none
	files  []File
	digest string
	cache  *cache
}

type merge struct{ left, right, result int32 }

// newTokenizer completes a tokenizer from its pieces and merges: the rules,
// the files and the digest. The caller has checked that merges are consistent.
func newTokenizer(pieces []string, merges []merge, eot, pad int32) (*Tokenizer, error) {
	t := &Tokenizer{pieces: pieces, merges: merges, eot: eot, pad: pad, cache: newCache()}
	t.rules = make(map[pair]rule, len(merges))
	for rank, m := range merges {
		t.rules[pairOf(m.left, m.right)] = rule{rank: int32(rank), result: m.result}
	}
	for b := range t.bytes {
		t.bytes[b] = NoToken
	}
	for id, p := range pieces {
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

// Encode returns the ids of text, never a special one. Bytes that are not
// UTF-8 are encoded too.
func (t *Tokenizer) Encode(text string) []int32 {
	ids := make([]int32, 0, len(text)/3+1)
	for len(text) > 0 {
		n := wordEnd(text)
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
	if len(word) > cachedLength {
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

// EndOfText is the id that stands before and after documents.
func (t *Tokenizer) EndOfText() int32 { return t.eot }

// Pad is the id of the padding token, or NoToken. Nothing here pads; the id
// is kept for other programs, and must never be sampled.
func (t *Tokenizer) Pad() int32 { return t.pad }

// Ban lists the ids that a sampler must never draw: the padding token, if
// there is one. It is a fresh slice.
func (t *Tokenizer) Ban() []int32 {
	if t.pad == NoToken {
		return nil
	}
	return []int32{t.pad}
}

// Special reports whether id is EndOfText or Pad.
func (t *Tokenizer) Special(id int32) bool {
	return id == t.eot || id == t.pad && id != NoToken
}

// Vocab is the number of ids, the special ones included.
func (t *Tokenizer) Vocab() int { return len(t.pieces) }

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
