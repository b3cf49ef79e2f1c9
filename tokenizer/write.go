package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
)

// File is one file of a stored tokenizer. Name has no folder.
type File struct {
	Name string
	Data []byte
}

// The names of the files, in order.
const (
	mergesName  = "merges.txt"
	specialName = "special_tokens_map.json"
	fastName    = "tokenizer.json"
	configName  = "tokenizer_config.json"
	addedName   = "added_tokens.json" // read, never written
	vocabName   = "vocab.json"
)

// Files returns the stored form, in order of name: the same bytes for the same
// vocabulary. The caller must not change the data.
func (t *Tokenizer) Files() []File { return slices.Clone(t.files) }

// write builds the stored form. Every file is written from the vocabulary,
// never copied from what was read, so that equal vocabularies have equal
// digests.
func (t *Tokenizer) write() []File {
	vocab := t.writeVocab()
	return []File{
		{mergesName, t.writeMerges()},
		{specialName, indented(t.specialTokens())},
		{fastName, t.writeFast(vocab)},
		{configName, indented(t.config())},
		{vocabName, vocab},
	}
}

// writeVocab returns vocab.json: {"!":0,"\"":1,…}, in order of id.
func (t *Tokenizer) writeVocab() []byte {
	var b bytes.Buffer
	open := byte('{')
	for id := range t.pieces {
		b.WriteByte(open)
		b.Write(compact(t.fileName(int32(id))))
		fmt.Fprintf(&b, ":%d", id)
		open = ','
	}
	b.WriteByte('}')
	return b.Bytes()
}

// fileName returns the written form of an id in the files: the name of a
// special token, or GPT-2's characters for the bytes of a piece.
func (t *Tokenizer) fileName(id int32) string {
	if t.Special(id) {
		return t.pieces[id]
	}
	return bytesToUnicode(t.pieces[id])
}

// writeMerges returns merges.txt, with a newline after every merge.
func (t *Tokenizer) writeMerges() []byte {
	return []byte("#version: 0.2\n" + strings.Join(append(t.mergeLines(), ""), "\n"))
}

// mergeLines returns the merges by rank, each as "left right".
func (t *Tokenizer) mergeLines() []string {
	lines := make([]string, len(t.merges))
	for i, m := range t.merges {
		lines[i] = t.fileName(m.left) + " " + t.fileName(m.right)
	}
	return lines
}

// specialTokens is the content of special_tokens_map.json, keys in alphabetical
// order.
func (t *Tokenizer) specialTokens() any {
	return struct {
		More      []string `json:"additional_special_tokens,omitempty"`
		BOS       string   `json:"bos_token"`
		Class     string   `json:"cls_token,omitempty"`
		EOS       string   `json:"eos_token"`
		Mask      string   `json:"mask_token,omitempty"`
		Pad       string   `json:"pad_token,omitempty"`
		Separator string   `json:"sep_token,omitempty"`
		Unk       string   `json:"unk_token"`
	}{
		More: t.additionalNames(), BOS: t.Piece(t.roles.begin), Class: t.Piece(t.roles.cls), EOS: t.Piece(t.roles.end),
		Mask: t.Piece(t.roles.mask), Pad: t.Piece(t.roles.pad), Separator: t.Piece(t.roles.separator),
		Unk: t.Piece(t.roles.unknown),
	}
}

// additionalNames are the names of the special tokens without a role of their
// own, in the order in which they were listed.
func (t *Tokenizer) additionalNames() []string {
	var names []string
	for _, id := range t.roles.additional {
		names = append(names, t.pieces[id])
	}
	return names
}

// config is the content of tokenizer_config.json, keys in alphabetical order.
func (t *Tokenizer) config() any {
	return struct {
		AddPrefixSpace bool     `json:"add_prefix_space"`
		More           []string `json:"additional_special_tokens,omitempty"`
		BOS            string   `json:"bos_token"`
		CleanUp        bool     `json:"clean_up_tokenization_spaces"`
		ClassToken     string   `json:"cls_token,omitempty"`
		EOS            string   `json:"eos_token"`
		Errors         string   `json:"errors"`
		Mask           string   `json:"mask_token,omitempty"`
		Pad            string   `json:"pad_token,omitempty"`
		Separator      string   `json:"sep_token,omitempty"`
		Class          string   `json:"tokenizer_class"`
		Unk            string   `json:"unk_token"`
	}{
		More: t.additionalNames(), BOS: t.Piece(t.roles.begin), ClassToken: t.Piece(t.roles.cls),
		EOS: t.Piece(t.roles.end), Errors: "replace",
		Mask: t.Piece(t.roles.mask), Pad: t.Piece(t.roles.pad), Separator: t.Piece(t.roles.separator),
		Class: tokenizerClasses[0], Unk: t.Piece(t.roles.unknown),
	}
}

// addedToken is an entry of added_tokens in tokenizer.json. The order of its
// fields is the order in the file.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	// Normalized is written as false and has no effect here: there is no
	// normalizer that could run before the search.
	Normalized bool `json:"normalized"`
	Special    bool `json:"special"`
}

// writeFast returns tokenizer.json, the form of Hugging Face's tokenizers
// library. It is put together by hand, since a map would not keep the order of
// the vocabulary.
func (t *Tokenizer) writeFast(vocab []byte) []byte {
	var added []addedToken
	for _, id := range t.Specials() {
		f := t.special[id]
		added = append(added, addedToken{
			ID: id, Content: t.pieces[id], SingleWord: f.singleWord, LStrip: f.lstrip, RStrip: f.rstrip, Special: true,
		})
	}
	const byteLevel = `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}`
	var b bytes.Buffer
	b.WriteString(`{"version":"1.0","truncation":null,"padding":null,"added_tokens":`)
	b.Write(compact(added))
	b.WriteString(`,"normalizer":null,"pre_tokenizer":` + byteLevel +
		`,"post_processor":` + byteLevel + `,"decoder":` + byteLevel)
	b.WriteString(`,"model":{"type":"BPE","dropout":null,"unk_token":null,` +
		`"continuing_subword_prefix":"","end_of_word_suffix":"",` +
		`"fuse_unk":false,"byte_fallback":false,"vocab":`)
	b.Write(vocab)
	b.WriteString(`,"merges":`)
	b.Write(compact(t.mergeLines()))
	b.WriteString("}}")
	return b.Bytes()
}

// compact returns v, made of strings, numbers and booleans, as compact JSON.
func compact(v any) []byte {
	raw, err := trimtab.EncodeJSON(v)
	if err != nil {
		panic("tokenizer: " + err.Error()) // such values always encode
	}
	return raw
}

// indented returns v as JSON indented by two spaces, with a final newline.
func indented(v any) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, compact(v), "", "  "); err != nil {
		panic("tokenizer: " + err.Error()) // compact's output is JSON
	}
	b.WriteByte('\n')
	return b.Bytes()
}
