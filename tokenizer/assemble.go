package tokenizer

import (
	"fmt"
	"slices"
	"strconv"
)

// assemble checks ids, pieces, merges, names and claims against each other.
func assemble(w bpeModel, s sources, claims []ConfigIDs) (*Tokenizer, error) {
	v := vocabulary{}
	known := func(name string) bool {
		for _, as := range s.names.role {
			if as.token == name {
				return true
			}
		}
		return slices.Contains(s.names.additional, name)
	}
	var err error
	if v.special, err = s.added.specials(known); err != nil {
		return nil, err
	}
	if v.roles, v.stopTokens, err = resolveRoles(w.vocab, s.names, claims); err != nil {
		return nil, err
	}
	for _, id := range v.roles.all() {
		if _, ok := v.special[id]; !ok {
			v.special[id] = flags{}
		}
	}
	if v.pieces, err = decodePieces(w.vocab, v.special); err != nil {
		return nil, err
	}
	for _, c := range claims {
		if v.vocabSize = max(v.vocabSize, c.VocabSize); c.VocabSize > 0 && c.VocabSize < len(v.pieces) {
			return nil, vocabTooSmall(c, v)
		}
	}
	if v.merges, err = resolveMerges(w, v); err != nil {
		return nil, err
	}
	return newTokenizer(v)
}

// vocabTooSmall is the refusal of a model that has fewer ids than its tokenizer has tokens.
func vocabTooSmall(c ConfigIDs, v vocabulary) error {
	return refusef("make them the same with model.resize_token_embeddings(len(tokenizer)) and save again",
		"%s says that the model has %d ids, and the tokenizer has %d tokens: %q (id %d) is the first without a row "+
			"in the embedding",
		c.File, c.VocabSize, len(v.pieces), v.pieces[c.VocabSize], c.VocabSize)
}

// resolveRoles finds the tokens with a role and the ids that end a text.
func resolveRoles(ids map[string]int32, n specialNames, claims []ConfigIDs) (r roles, ends []int32, err error) {
	find := func(key string, none int32) int32 {
		as, ok := n.role[key]
		if !ok || err != nil {
			return none
		}
		id, ok := ids[as.token]
		if !ok {
			err = refusef("add the token to the vocabulary and give the model a row for it, or take the name out",
				"%s says that %s is %q, and no file of the vocabulary has that token", as.file, key, as.token)
		}
		return id
	}
	r = rolesOf(NoToken, NoToken)
	if r.end, ends, err = resolveEndOfText(ids, find("eos_token", NoToken), n, claims, err); err != nil {
		return r, nil, err
	}
	r.pad = find("pad_token", NoToken)
	if err == nil {
		r.pad, err = resolvePad(ids, r, n, claims)
	}
	r.begin = find("bos_token", NoToken)
	if err == nil {
		r.begin, err = resolveBeginOfText(ids, r, n, claims)
	}
	r.unknown, r.separator = find("unk_token", r.end), find("sep_token", NoToken)
	r.cls, r.mask = find("cls_token", NoToken), find("mask_token", NoToken)
	for _, name := range n.additional {
		id, ok := ids[name]
		if !ok && err == nil {
			err = refusef("add the token to the vocabulary and give the model a row for it, or take the name out",
				"%s lists the special token %q, and no file of the vocabulary has it", n.additionalFile, name)
		}
		r.additional = append(r.additional, id)
	}
	return r, ends, err
}

// resolveEndOfText joins what is said of the tokens that end a text. The tokenizer's
// own must be among those of every claim; of two claims one may say more.
func resolveEndOfText(ids map[string]int32, end int32, n specialNames, claims []ConfigIDs,
	err error) (int32, []int32, error) {
	if err != nil {
		return end, nil, err
	}
	const key = "eos_token_id"
	var all ConfigIDs // that says the most
	for _, c := range claims {
		if len(c.End) == 0 {
			continue
		}
		if as, ok := n.role["eos_token"]; ok && !slices.Contains(c.End, end) {
			return end, nil, configContradicts("the token that ends a text", as.file, ids, end, c.File, key, c.End)
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
	ends := []int32{end}
	for _, id := range all.End {
		if err := checkID(ids, all.File, key, id); err != nil {
			return end, nil, err
		}
		if !slices.Contains(ends, id) {
			ends = append(ends, id)
		}
	}
	return end, ends, nil
}

// resolvePad finds the padding token: the tokenizer's, or else the first that a
// claim names. Padding with the end of text, as users of GPT-2 do, says that
// there is none: then, and where nothing is said, it is <|pad|> if the
// vocabulary has that.
func resolvePad(ids map[string]int32, r roles, n specialNames, claims []ConfigIDs) (int32, error) {
	pad, said := r.pad, n.role["pad_token"].file != ""
	for _, c := range claims {
		if c.Pad == nil || said {
			continue
		}
		if err := checkID(ids, c.File, "pad_token_id", *c.Pad); err != nil {
			return NoToken, err
		}
		pad, said = *c.Pad, true
	}
	if said && pad != r.end {
		return pad, nil
	}
	if id, ok := ids[PadName]; ok && id != r.end {
		return id, nil
	}
	return NoToken, nil
}

// resolveBeginOfText finds the token before a text: the one that ends texts, where nothing names one.
func resolveBeginOfText(ids map[string]int32, r roles, n specialNames, claims []ConfigIDs) (int32, error) {
	begin, by := r.begin, n.role["bos_token"].file
	for _, c := range claims {
		if c.Begin == nil {
			continue
		}
		if err := checkID(ids, c.File, "bos_token_id", *c.Begin); err != nil {
			return NoToken, err
		}
		if by != "" && begin != *c.Begin {
			return NoToken, configContradicts("the token that begins a text", by, ids, begin, c.File, "bos_token_id",
				[]int32{*c.Begin})
		}
		begin, by = *c.Begin, c.File
	}
	if by == "" {
		return r.end, nil
	}
	return begin, nil
}

// configContradicts is the refusal of a claim that says otherwise than another file.
func configContradicts(what, file string, ids map[string]int32, id int32, claim, key string, said []int32) error {
	return refusef(fmt.Sprintf("make the files agree: set %s in %s to %d if %s is right, or change that", key, claim,
		id, file),
		"%s says that %s is %s, and %s says that it is %s", file, what, describeIDs(ids, []int32{id}), claim,
		describeIDs(ids, said))
}

// checkID refuses an id that no token has.
func checkID(ids map[string]int32, file, key string, id int32) error {
	if id >= 0 && int(id) < len(ids) {
		return nil
	}
	return refusef(fmt.Sprintf("set %s in %s to the id of that token, or to null", key, file),
		"%s says that %s is %d, and the tokenizer has the ids 0 to %d", file, key, id, len(ids)-1)
}

// describeIDs names ids with their tokens.
func describeIDs(ids map[string]int32, list []int32) string {
	shown := ""
	for i, id := range list {
		if i > 0 {
			shown += ", "
		}
		text := strconv.Itoa(int(id))
		if name, ok := first(ids, func(_ string, other int32) bool { return other == id }); ok {
			text = fmt.Sprintf("%q (%d)", name, id)
		}
		shown += text
	}
	return shown
}

// decodePieces orders the pieces by id and turns their names into bytes.
func decodePieces(ids map[string]int32, special map[int32]flags) ([]string, error) {
	if name, bad := first(ids, func(_ string, id int32) bool { return id < 0 || int(id) >= len(ids) }); bad {
		return nil, fmt.Errorf("token %q has the id %d: the ids are not 0 … %d, each once", name, ids[name], len(ids)-1)
	}
	names := make([]string, len(ids))
	for name, id := range ids { // any order: the greatest of several with one id is kept
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

// resolveMerges turns written merges into ids.
func resolveMerges(w bpeModel, v vocabulary) ([]merge, error) {
	merges := make([]merge, len(w.merges))
	seen := make(map[pair]bool, len(w.merges))
	for i, line := range w.merges {
		m, err := resolveMerge(w.vocab, line)
		if err != nil {
			return nil, fmt.Errorf("merge %d: %w", i+1, err)
		}
		for _, id := range []int32{m.left, m.right, m.result} {
			if _, ok := v.special[id]; ok {
				return nil, fmt.Errorf("merge %d, %q: %q is a special token, outside the reach of text", i+1, line,
					v.pieces[id])
			}
		}
		if seen[pairOf(m.left, m.right)] {
			return nil, fmt.Errorf("merge %d, %q, comes twice", i+1, line)
		}
		seen[pairOf(m.left, m.right)] = true
		merges[i] = m
	}
	return merges, nil
}

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
