package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// addedEntry is a token that a file adds to the vocabulary.
type addedEntry struct {
	id           int32
	content      string
	flags        flags
	special      bool
	specialKnown bool // whether the file says if it is special
	file         string
}

// addedEntries are the added tokens of all files, one entry for each time that one is listed.
type addedEntries []addedEntry

func (l addedEntries) has(name string) bool {
	return slices.ContainsFunc(l, func(a addedEntry) bool { return a.content == name })
}

// readFast reads the added_tokens of tokenizer.json.
func (l *addedEntries) readFast(raw json.RawMessage) error {
	var list []json.RawMessage
	if len(raw) > 0 && json.Unmarshal(raw, &list) != nil {
		return errors.New("added_tokens is not a list")
	}
	for i, entry := range list {
		s, err := readSettings(entry)
		if err != nil {
			return fmt.Errorf("added token %d: %w", i, err)
		}
		err = s.rejectUnknown(fmt.Sprintf("added_tokens[%d].", i), "id", "content", "single_word", "lstrip", "rstrip",
			"normalized", "special")
		if err != nil {
			return err
		}
		if err := l.read(fastName, entry, nil); err != nil {
			return fmt.Errorf("added token %d: %w", i, err)
		}
	}
	return nil
}

// read adds one token, whose id stands in it or beside it.
func (l *addedEntries) read(file string, raw json.RawMessage, id *int32) error {
	var a struct {
		addedToken
		ID      *int32  `json:"id"`
		Content *string `json:"content"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return err
	}
	if id == nil {
		id = a.ID
	}
	if id == nil || a.Content == nil {
		return errors.New("it has no id or no content")
	}
	*l = append(*l, addedEntry{
		id: *id, content: *a.Content, flags: flags{a.SingleWord, a.LStrip, a.RStrip}, special: a.Special,
		specialKnown: true, file: file,
	})
	return nil
}

// readIDs reads added_tokens.json: {"token": id, …}.
func (l *addedEntries) readIDs(data []byte) error {
	ids, err := readVocab(data)
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		*l = append(*l, addedEntry{id: ids[name], content: name, file: addedName})
	}
	return err
}

// readDecoder reads added_tokens_decoder of tokenizer_config.json: {"id": {"content": …}, …}.
func (l *addedEntries) readDecoder(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	s, err := readSettings(raw)
	if err != nil {
		return fmt.Errorf("added_tokens_decoder: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(s)) {
		n, err := strconv.ParseInt(key, 10, 32)
		if err != nil {
			return fmt.Errorf("added_tokens_decoder: %q is no id", key)
		}
		id := int32(n)
		if err := l.read(configName, s[key], &id); err != nil {
			return fmt.Errorf("added_tokens_decoder: %s: %w", key, err)
		}
	}
	return nil
}

// specials are the added tokens that are special, by id. A token that is in the
// vocabulary to be found in text is refused: text is cut here without looking
// for tokens.
func (l addedEntries) specials(named func(content string) bool) (map[int32]flags, error) {
	said := make(map[string]addedEntry)
	for _, a := range l {
		if first, ok := said[a.content]; ok && a.specialKnown && first.special != a.special {
			return nil, filesDisagree(fmt.Sprintf("special of token %q", a.content), first.file,
				strconv.FormatBool(first.special),
				a.file, strconv.FormatBool(a.special))
		}
		if a.specialKnown {
			said[a.content] = a
		}
	}
	out := make(map[int32]flags)
	for _, a := range l {
		told, ok := said[a.content]
		if !told.special && !named(a.content) {
			why := "is added with special false"
			if !ok {
				why = "is called special by no file"
			}
			return nil, refusef("add it as a special token, or train a tokenizer in which it is no added token; "+
				"tokens that are looked for in text are not supported yet",
				"%s: token %q (id %d) %s: it would be looked for in every text", a.file, a.content, a.id, why)
		}
		if a.specialKnown || out[a.id] == (flags{}) {
			out[a.id] = told.flags
		}
	}
	return out, nil
}

// roleKeys are the special tokens with a name of their own.
var roleKeys = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// additionalKeys hold a list of special tokens without one: the name before transformers 5, and since.
var additionalKeys = []string{"additional_special_tokens", "extra_special_tokens"}

// namedToken is what a file says of a special token.
type namedToken struct{ file, token string }

// specialNames are the special tokens as special_tokens_map.json and tokenizer_config.json name them.
type specialNames struct {
	role           map[string]namedToken
	additional     []string
	additionalFile string // the file of more
}

// readMap reads special_tokens_map.json, in which everything is a special token.
func (n *specialNames) readMap(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	s, err := readSettings(data)
	if err != nil {
		return err
	}
	return n.read(specialName, s, slices.Sorted(maps.Keys(s)))
}

// read takes what a file says under these keys.
func (n *specialNames) read(file string, s settings, keys []string) error {
	var more []string
	for _, key := range keys {
		raw, ok := s[key]
		if !ok || string(raw) == "null" {
			continue
		}
		tokens, err := parseTokens(raw)
		if err != nil {
			return fmt.Errorf("%s %w", key, err)
		}
		if !slices.Contains(roleKeys, key) {
			more = append(more, tokens...)
			continue
		}
		if len(tokens) != 1 {
			return fmt.Errorf("%s is neither a string nor an object with a content", key)
		}
		if err := n.setRole(key, namedToken{file, tokens[0]}); err != nil {
			return err
		}
	}
	return n.setAdditional(file, unique(more))
}

// setRole takes what a file says of one role; an empty name says nothing.
func (n *specialNames) setRole(key string, as namedToken) error {
	if as.token == "" {
		return nil
	}
	if other, ok := n.role[key]; ok {
		if other.token != as.token {
			return filesDisagree(key, other.file, strconv.Quote(other.token), as.file, strconv.Quote(as.token))
		}
		return nil
	}
	if n.role == nil {
		n.role = make(map[string]namedToken)
	}
	n.role[key] = as
	return nil
}

// setAdditional takes the special tokens without a role that a file lists.
func (n *specialNames) setAdditional(file string, more []string) error {
	if len(more) == 0 {
		return nil
	}
	if a, b := slices.Sorted(slices.Values(n.additional)), slices.Sorted(slices.Values(more)); len(a) > 0 &&
		!slices.Equal(a, b) {
		return filesDisagree(additionalKeys[0], n.additionalFile, fmt.Sprintf("%q", a), file, fmt.Sprintf("%q", b))
	}
	if len(n.additional) == 0 {
		n.additional, n.additionalFile = more, file
	}
	return nil
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// parseTokens reads a token, an object with its content, or a list or an object of such.
func parseTokens(raw json.RawMessage) ([]string, error) {
	wrong := errors.New("is neither a string nor an object with a content")
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var parts []json.RawMessage
	if json.Unmarshal(raw, &parts) == nil {
		return parseTokenList(parts, wrong)
	}
	s, err := readSettings(raw)
	if err != nil {
		return nil, wrong
	}
	if content, ok := s["content"]; ok {
		if json.Unmarshal(content, &one) != nil {
			return nil, wrong
		}
		return []string{one}, nil
	}
	for _, key := range slices.Sorted(maps.Keys(s)) {
		parts = append(parts, s[key])
	}
	return parseTokenList(parts, wrong)
}

func parseTokenList(parts []json.RawMessage, wrong error) ([]string, error) {
	var list []string
	for _, part := range parts {
		var a struct {
			Content *string `json:"content"`
		}
		var one string
		switch {
		case json.Unmarshal(part, &one) == nil:
		case json.Unmarshal(part, &a) == nil && a.Content != nil:
			one = *a.Content
		default:
			return nil, wrong
		}
		if one != "" {
			list = append(list, one)
		}
	}
	return list, nil
}

// tokenizerClasses are the tokenizer_class that cut text as tokenizer.json or GPT-2 does; the first is written.
var tokenizerClasses = []string{"GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", "PreTrainedTokenizer",
	"TokenizersBackend"}

// readConfig reads tokenizer_config.json: names of special tokens, added tokens,
// and settings under which other programs would cut text otherwise.
func readConfig(data []byte, n *specialNames, list *addedEntries) error {
	s, err := readSettings(data)
	if err != nil {
		return err
	}
	if err := n.read(configName, s, append(slices.Clone(roleKeys), additionalKeys...)); err != nil {
		return err
	}
	for _, c := range []struct{ key, why string }{
		{"add_prefix_space", "each text would get a space in front"},
		{"add_bos_token",
			"each text would get a token in front; Trimtab puts the one that begins a text there by itself"},
		{"add_eos_token",
			"each text would get a token at its end; Trimtab puts the end-of-text token there where one belongs"},
		{"do_lower_case", "texts would be changed before they are cut"},
	} {
		if !s.is(c.key, "false") {
			return unsupported(c.key, s[c.key], c.why)
		}
	}
	quoted := make([]string, len(tokenizerClasses))
	for i, c := range tokenizerClasses {
		quoted[i] = strconv.Quote(c)
	}
	if !s.is("tokenizer_class", quoted...) {
		return unsupported("tokenizer_class", s["tokenizer_class"],
			"it is not one of those that cut text as GPT-2's does")
	}
	return list.readDecoder(s["added_tokens_decoder"])
}
