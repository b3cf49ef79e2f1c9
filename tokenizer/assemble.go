package tokenizer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// assemble compares ids, merges, names of special tokens and the model's
// configs with each other and builds the tokenizer. Roles are resolved first,
// since a token with a role is special even if no file lists it as such.
func assemble(bpe bpeModel, s sources, configs []ConfigIDs) (*Tokenizer, error) {
	v := vocabulary{}
	hasRole := func(name string) bool {
		for _, named := range s.names.role {
			if named.token == name {
				return true
			}
		}
		return slices.Contains(s.names.additional, name)
	}
	var err error
	if v.special, err = s.added.specials(hasRole); err != nil {
		return nil, err
	}
	if v.roles, v.stopTokens, err = resolveRoles(bpe.vocab, s.names, configs); err != nil {
		return nil, err
	}
	for _, id := range v.roles.all() {
		if _, ok := v.special[id]; !ok {
			v.special[id] = flags{}
		}
	}
	if v.pieces, err = decodePieces(bpe.vocab, v.special); err != nil {
		return nil, err
	}
	for _, c := range configs {
		if v.vocabSize = max(v.vocabSize, c.VocabSize); c.VocabSize > 0 && c.VocabSize < len(v.pieces) {
			return nil, vocabTooSmall(c, v)
		}
	}
	if v.merges, err = resolveMerges(bpe, v); err != nil {
		return nil, err
	}
	return newTokenizer(v)
}

// vocabTooSmall returns the refusal of a model that has fewer ids than its
// tokenizer has tokens: some tokens would have no embedding.
func vocabTooSmall(c ConfigIDs, v vocabulary) error {
	return refusef("make them the same with model.resize_token_embeddings(len(tokenizer)) and save again",
		"%s says that the model has %d ids, and the tokenizer has %d tokens: "+
			"%q (id %d) is the first without a row in the embedding",
		c.File, c.VocabSize, len(v.pieces), v.pieces[c.VocabSize], c.VocabSize)
}

// resolveRoles finds the id of each token with a role, and the ids that end a
// text. The end of text comes first, since the others default to it.
func resolveRoles(ids map[string]int32, n specialNames, configs []ConfigIDs) (r roles, stop []int32, err error) {
	const addOrRemove = "add the token to the vocabulary and give the model an embedding row for it, or remove the name"
	// find keeps the first error, so that the calls below need no check each.
	find := func(key string, absent int32) int32 {
		named, ok := n.role[key]
		if !ok || err != nil {
			return absent
		}
		id, ok := ids[named.token]
		if !ok {
			err = refusef(addOrRemove, "%s says that %s is %q, and no file of the vocabulary has that token",
				named.file, key, named.token)
		}
		return id
	}
	r = rolesOf(NoToken, NoToken)
	r.end = find("eos_token", NoToken)
	if err != nil {
		return r, nil, err
	}
	if r.end, stop, err = resolveEndOfText(ids, r.end, n, configs); err != nil {
		return r, nil, err
	}
	r.pad = find("pad_token", NoToken)
	if err == nil {
		r.pad, err = resolvePad(ids, r, n, configs)
	}
	r.begin = find("bos_token", NoToken)
	if err == nil {
		r.begin, err = resolveBeginOfText(ids, r, n, configs)
	}
	r.unknown, r.separator = find("unk_token", r.end), find("sep_token", NoToken)
	r.cls, r.mask = find("cls_token", NoToken), find("mask_token", NoToken)
	for _, name := range n.additional {
		id, ok := ids[name]
		if !ok && err == nil {
			err = refusef(addOrRemove, "%s lists the special token %q, and no file of the vocabulary has it",
				n.additionalFile, name)
		}
		r.additional = append(r.additional, id)
	}
	return r, stop, err
}

// resolveEndOfText combines the statements about the tokens that end a text.
// The tokenizer's own eos_token must be among the ids of every config, and of
// two configs one must contain the other: generation_config.json commonly lists
// more than config.json.
func resolveEndOfText(ids map[string]int32, end int32, n specialNames, configs []ConfigIDs) (int32, []int32, error) {
	const key = "eos_token_id"
	var all ConfigIDs // the config with the most ids so far
	for _, c := range configs {
		if len(c.End) == 0 {
			continue
		}
		if named, ok := n.role["eos_token"]; ok && !slices.Contains(c.End, end) {
			return end, nil, configContradicts("the token that ends a text", named.file, ids, end, c.File, key, c.End)
		}
		more, fewer := all, c
		if len(c.End) > len(all.End) {
			more, fewer = c, all
		}
		if slices.ContainsFunc(fewer.End, func(id int32) bool { return !slices.Contains(more.End, id) }) {
			return end, nil, filesDisagree(key, all.File, describeIDs(ids, all.End), c.File, describeIDs(ids, c.End))
		}
		all = more
	}
	if end == NoToken && len(all.End) > 0 {
		end = all.End[0]
	}
	if end == NoToken {
		var ok bool
		if end, ok = ids[EndOfTextName]; !ok {
			return end, nil, refusef("name it: eos_token in special_tokens_map.json or tokenizer_config.json",
				"no file names the token that ends a text, and the vocabulary has no %s", EndOfTextName)
		}
	}
	stop := []int32{end}
	for _, id := range all.End {
		if err := checkID(ids, all.File, key, id); err != nil {
			return end, nil, err
		}
		if !slices.Contains(stop, id) {
			stop = append(stop, id)
		}
	}
	return end, stop, nil
}

// resolvePad finds the padding token: the tokenizer's own, or else the first
// one that a config names. Padding with the end-of-text token, a common choice
// with GPT-2, counts as having none. Then, and where nothing is said, it is
// <|pad|> if the vocabulary has that.
func resolvePad(ids map[string]int32, r roles, n specialNames, configs []ConfigIDs) (int32, error) {
	pad, known := r.pad, n.role["pad_token"].file != ""
	for _, c := range configs {
		if c.Pad == nil || known {
			continue
		}
		if err := checkID(ids, c.File, "pad_token_id", *c.Pad); err != nil {
			return NoToken, err
		}
		pad, known = *c.Pad, true
	}
	if known && pad != r.end {
		return pad, nil
	}
	if id, ok := ids[PadName]; ok && id != r.end {
		return id, nil
	}
	return NoToken, nil
}

// resolveBeginOfText finds the token that precedes a text: the end-of-text
// token where no file names one.
func resolveBeginOfText(ids map[string]int32, r roles, n specialNames, configs []ConfigIDs) (int32, error) {
	begin, file := r.begin, n.role["bos_token"].file
	for _, c := range configs {
		if c.Begin == nil {
			continue
		}
		if err := checkID(ids, c.File, "bos_token_id", *c.Begin); err != nil {
			return NoToken, err
		}
		if file != "" && begin != *c.Begin {
			return NoToken, configContradicts("the token that begins a text", file, ids, begin, c.File, "bos_token_id",
				[]int32{*c.Begin})
		}
		begin, file = *c.Begin, c.File
	}
	if file == "" {
		return r.end, nil
	}
	return begin, nil
}

// configContradicts returns the refusal of a config that contradicts another
// file.
func configContradicts(what, file string, ids map[string]int32, id int32, config, key string, theirs []int32) error {
	remedy := fmt.Sprintf("make the files agree: set %s in %s to %d if %s is right, or correct that file",
		key, config, id, file)
	return refusef(remedy, "%s says that %s is %s, and %s says that it is %s", file, what,
		describeIDs(ids, []int32{id}), config, describeIDs(ids, theirs))
}

// checkID refuses an id that no token has.
func checkID(ids map[string]int32, file, key string, id int32) error {
	if id >= 0 && int(id) < len(ids) {
		return nil
	}
	return refusef(fmt.Sprintf("set %s in %s to the id of that token, or to null", key, file),
		"%s says that %s is %d, and the tokenizer has the ids 0 to %d", file, key, id, len(ids)-1)
}

// describeIDs shows ids with their tokens in a message.
func describeIDs(ids map[string]int32, list []int32) string {
	described := make([]string, len(list))
	for i, id := range list {
		described[i] = strconv.Itoa(int(id))
		if name, ok := first(ids, func(_ string, other int32) bool { return other == id }); ok {
			described[i] = fmt.Sprintf("%q (%d)", name, id)
		}
	}
	return strings.Join(described, ", ")
}

// decodePieces orders the tokens by id and decodes their written forms to
// bytes. Special tokens keep their names, which are ordinary text.
func decodePieces(ids map[string]int32, special map[int32]flags) ([]string, error) {
	if name, bad := first(ids, func(_ string, id int32) bool { return id < 0 || int(id) >= len(ids) }); bad {
		return nil, fmt.Errorf("token %q has the id %d: the ids are not 0 … %d, each once", name, ids[name], len(ids)-1)
	}
	names := make([]string, len(ids))
	// The order of the map does not matter: of several names with one id, the
	// greatest is kept, and the others are reported below.
	for name, id := range ids {
		names[id] = max(names[id], name)
	}
	if name, bad := first(ids, func(name string, id int32) bool { return names[id] != name }); bad {
		return nil, fmt.Errorf("tokens %q and %q both have the id %d: the ids are not 0 … %d, each once",
			name, names[ids[name]], ids[name], len(ids)-1)
	}
	for id, name := range names {
		_, isSpecial := special[int32(id)]
		piece, err := unicodeToBytes(name)
		switch {
		case name == "":
			return nil, fmt.Errorf("id %d is an empty piece", id)
		case !isSpecial && err != nil:
			return nil, err
		case !isSpecial:
			names[id] = piece
		}
	}
	return names, nil
}

// resolveMerges turns written merges into ids. Merges with special tokens are
// refused, since text must never produce one, and so are repeated merges, whose
// rank would be ambiguous.
func resolveMerges(bpe bpeModel, v vocabulary) ([]merge, error) {
	merges := make([]merge, len(bpe.merges))
	seen := make(map[pair]bool, len(bpe.merges))
	for i, line := range bpe.merges {
		m, err := resolveMerge(bpe.vocab, line)
		if err != nil {
			return nil, fmt.Errorf("merge %d: %w", i+1, err)
		}
		for _, id := range []int32{m.left, m.right, m.result} {
			if _, ok := v.special[id]; ok {
				return nil, fmt.Errorf("merge %d, %q: %q is a special token, which text cannot produce",
					i+1, line, v.pieces[id])
			}
		}
		if seen[pairOf(m.left, m.right)] {
			return nil, fmt.Errorf("merge %d, %q, occurs twice", i+1, line)
		}
		seen[pairOf(m.left, m.right)] = true
		merges[i] = m
	}
	return merges, nil
}

// resolveMerge looks up the two parts of a merge and its result.
func resolveMerge(vocab map[string]int32, line [2]string) (m merge, err error) {
	var ok [3]bool
	m.left, ok[0] = vocab[line[0]]
	m.right, ok[1] = vocab[line[1]]
	m.result, ok[2] = vocab[line[0]+line[1]]
	for i, name := range []string{line[0], line[1], line[0] + line[1]} {
		if !ok[i] {
			return m, fmt.Errorf("%q is not in the vocabulary", name)
		}
	}
	return m, nil
}
