package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// addedEntry is one mention of an added token in a file.
type addedEntry struct {
	id      int32
	content string
	flags   flags
	special bool
	// specialKnown reports whether the file says if the token is special;
	// added_tokens.json does not.
	specialKnown bool
	file         string
}

// addedEntries are the added tokens of all files, one entry per mention.
type addedEntries []addedEntry

// has reports whether a token of that name is added by any file.
func (l addedEntries) has(name string) bool {
	return slices.ContainsFunc(l, func(a addedEntry) bool { return a.content == name })
}

// readFast reads the list added_tokens of tokenizer.json.
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

// read appends one token of a file. Its id is a property of the object, or the
// key under which the object stands, which the caller then passes.
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

// readIDs reads added_tokens.json, which does not say whether a token is
// special:
//
//	{"token": id, …}
//
// Names are taken in sorted order, so that errors do not depend on the order of
// a map.
func (l *addedEntries) readIDs(data []byte) error {
	ids, err := readVocab(data)
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		*l = append(*l, addedEntry{id: ids[name], content: name, file: addedName})
	}
	return err
}

// readDecoder reads added_tokens_decoder of tokenizer_config.json, which has
// the form
//
//	{"id": {"content": …, "special": …}, …}
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
			return fmt.Errorf("added_tokens_decoder: %q is not an id", key)
		}
		id := int32(n)
		if err := l.read(configName, s[key], &id); err != nil {
			return fmt.Errorf("added_tokens_decoder: %s: %w", key, err)
		}
	}
	return nil
}

// specials returns the settings of the added tokens by id. Every added token
// has to be special, by some entry or because named says that it has a role: a
// normal added token would be searched for in text before splitting, which this
// package does not do, so it is refused.
func (l addedEntries) specials(named func(content string) bool) (map[int32]flags, error) {
	known := make(map[string]addedEntry) // by content, of the files that say whether it is special
	for _, a := range l {
		if first, ok := known[a.content]; ok && a.specialKnown && first.special != a.special {
			return nil, filesDisagree(fmt.Sprintf("special of token %q", a.content),
				first.file, strconv.FormatBool(first.special), a.file, strconv.FormatBool(a.special))
		}
		if a.specialKnown {
			known[a.content] = a
		}
	}
	out := make(map[int32]flags)
	for _, a := range l {
		entry, ok := known[a.content]
		if !entry.special && !named(a.content) {
			why := "is added with special false"
			if !ok {
				why = "is not marked as special by any file"
			}
			return nil, refusef("add it as a special token, or train a tokenizer in which it is not an added token; "+
				"tokens that are matched in text are not supported yet",
				"%s: token %q (id %d) %s: it would be matched in every text", a.file, a.content, a.id, why)
		}
		if a.specialKnown || out[a.id] == (flags{}) {
			out[a.id] = entry.flags
		}
	}
	return out, nil
}

// roleKeys are the special tokens that have a key of their own.
var roleKeys = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// additionalKeys are the lists of special tokens without one: the key that
// transformers used before version 5, and the one since.
var additionalKeys = []string{"additional_special_tokens", "extra_special_tokens"}

// namedToken is a special token as a file names it.
type namedToken struct{ file, token string }

// specialNames are the special tokens as special_tokens_map.json and
// tokenizer_config.json name them, by role, and those without a role.
type specialNames struct {
	role           map[string]namedToken
	additional     []string
	additionalFile string // the first file that lists additional
}

// readMap reads special_tokens_map.json, in which every entry is a special
// token, under whatever key.
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
	var additional []string
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
			additional = append(additional, tokens...)
			continue
		}
		if len(tokens) != 1 {
			return fmt.Errorf("%s is neither a string nor an object with a content", key)
		}
		if err := n.setRole(key, namedToken{file, tokens[0]}); err != nil {
			return err
		}
	}
	return n.setAdditional(file, unique(additional))
}

// setRole records the token of one role. An empty name says nothing; two files
// that name different tokens are refused.
func (n *specialNames) setRole(key string, named namedToken) error {
	if named.token == "" {
		return nil
	}
	if other, ok := n.role[key]; ok {
		if other.token != named.token {
			return filesDisagree(key, other.file, strconv.Quote(other.token), named.file, strconv.Quote(named.token))
		}
		return nil
	}
	if n.role == nil {
		n.role = make(map[string]namedToken)
	}
	n.role[key] = named
	return nil
}

// setAdditional records the special tokens without a role. Files may list them
// in different order, and must list the same ones.
func (n *specialNames) setAdditional(file string, additional []string) error {
	if len(additional) == 0 {
		return nil
	}
	if len(n.additional) == 0 {
		n.additional, n.additionalFile = additional, file
		return nil
	}
	before, now := slices.Sorted(slices.Values(n.additional)), slices.Sorted(slices.Values(additional))
	if !slices.Equal(before, now) {
		return filesDisagree(additionalKeys[0], n.additionalFile, fmt.Sprintf("%q", before),
			file, fmt.Sprintf("%q", now))
	}
	return nil
}

// unique returns the elements of list without repetitions, in order.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// parseTokens reads a token (a string, or an object with its content), or a
// list or an object of tokens.
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

// parseTokenList reads each part as a token and drops empty ones. wrong is the
// error for anything else.
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

// tokenizerClasses are the values of tokenizer_class with which transformers
// encodes text as tokenizer.json says, or as GPT-2. Files writes the first.
var tokenizerClasses = []string{"GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", "PreTrainedTokenizer",
	"TokenizersBackend"}

// readConfig reads tokenizer_config.json: the names of special tokens, added
// tokens, and settings under which other programs would encode text
// differently.
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
		{"add_bos_token", "each text would get a token in front; Trimtab itself adds the token that begins a text"},
		{"add_eos_token",
			"each text would get a token at its end; Trimtab itself adds the end-of-text token where one belongs"},
		{"do_lower_case", "texts would be changed before they are split"},
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
			"it is not one of the classes that split text as GPT-2's does")
	}
	return list.readDecoder(s["added_tokens_decoder"])
}
