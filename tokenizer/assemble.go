package tokenizer

import (
	"fmt"
	"slices"
	"strconv"
)

// assemble checks ids, pieces, merges, names and claims against each other.
func assemble(w lexicon, s sources, claims []Claim) (*Tokenizer, error) {
	v := vocabulary{}
	known := func(name string) bool {
		for _, as := range s.names.role {
			if as.token == name {
				return true
			}
		}
		return slices.Contains(s.names.more, name)
	}
	var err error
	if v.special, err = s.added.specials(known); err != nil {
		return nil, err
	}
	if v.roles, v.ends, err = decide(w.ids, s.names, claims); err != nil {
		return nil, err
	}
	for _, id := range v.roles.all() {
		if _, ok := v.special[id]; !ok {
			v.special[id] = flags{}
		}
	}
	if v.pieces, err = piecesOf(w.ids, v.special); err != nil {
		return nil, err
	}
	for _, c := range claims {
		if v.ids = max(v.ids, c.Vocab); c.Vocab > 0 && c.Vocab < len(v.pieces) {
			return nil, tooFew(c, v)
		}
	}
	if v.merges, err = mergesIn(w, v); err != nil {
		return nil, err
	}
	return newTokenizer(v)
}

// tooFew is the refusal of a model that has fewer ids than its tokenizer has tokens.
func tooFew(c Claim, v vocabulary) error {
	return refuse("make them the same with model.resize_token_embeddings(len(tokenizer)) and save again",
		"%s says that the model has %d ids, and the tokenizer has %d tokens: %q (id %d) is the first without a row in the embedding",
		c.File, c.Vocab, len(v.pieces), v.pieces[c.Vocab], c.Vocab)
}

// decide finds the tokens with a role and the ids that end a text.
func decide(ids map[string]int32, n names, claims []Claim) (r roles, ends []int32, err error) {
	find := func(key string, none int32) int32 {
		as, ok := n.role[key]
		if !ok || err != nil {
			return none
		}
		id, ok := ids[as.token]
		if !ok {
			err = refuse("add the token to the vocabulary and give the model a row for it, or take the name out",
				"%s says that %s is %q, and no file of the vocabulary has that token", as.file, key, as.token)
		}
		return id
	}
	r = rolesOf(NoToken, NoToken)
	if r.end, ends, err = decideEnd(ids, find("eos_token", NoToken), n, claims, err); err != nil {
		return r, nil, err
	}
	r.pad = find("pad_token", NoToken)
	if err == nil {
		r.pad, err = decidePad(ids, r, n, claims)
	}
	r.begin = find("bos_token", NoToken)
	if err == nil {
		r.begin, err = decideBegin(ids, r, n, claims)
	}
	r.unknown, r.separator = find("unk_token", r.end), find("sep_token", NoToken)
	r.class, r.mask = find("cls_token", NoToken), find("mask_token", NoToken)
	for _, name := range n.more {
		id, ok := ids[name]
		if !ok && err == nil {
			err = refuse("add the token to the vocabulary and give the model a row for it, or take the name out",
				"%s lists the special token %q, and no file of the vocabulary has it", n.from, name)
		}
		r.more = append(r.more, id)
	}
	return r, ends, err
}

// decideEnd joins what is said of the tokens that end a text. The tokenizer's
// own must be among those of every claim; of two claims one may say more.
func decideEnd(ids map[string]int32, end int32, n names, claims []Claim, err error) (int32, []int32, error) {
	if err != nil {
		return end, nil, err
	}
	const key = "eos_token_id"
	var all Claim // that says the most
	for _, c := range claims {
		if len(c.End) == 0 {
			continue
		}
		if as, ok := n.role["eos_token"]; ok && !slices.Contains(c.End, end) {
			return end, nil, contradict("the token that ends a text", as.file, ids, end, c.File, key, c.End)
		}
		more, fewer := all, c
		if len(c.End) > len(all.End) {
			more, fewer = c, all
		}
		if slices.ContainsFunc(fewer.End, func(id int32) bool { return !slices.Contains(more.End, id) }) {
			return end, nil, disagree(key, all.File, shownIDs(ids, all.End), c.File, shownIDs(ids, c.End))
		}
		all = more
	}
	if end == NoToken && len(all.End) > 0 {
		end = all.End[0]
	}
	if end == NoToken {
		var ok bool
		if end, ok = ids[EndOfTextName]; !ok {
			return end, nil, refuse("name it: eos_token in special_tokens_map.json or tokenizer_config.json",
				"no file names the token that ends a text, and the vocabulary has no %s", EndOfTextName)
		}
	}
	ends := []int32{end}
	for _, id := range all.End {
		if err := exists(ids, all.File, key, id); err != nil {
			return end, nil, err
		}
		if !slices.Contains(ends, id) {
			ends = append(ends, id)
		}
	}
	return end, ends, nil
}

// decidePad finds the padding token: the tokenizer's, or else the first that a
// claim names. Padding with the end of text, as users of GPT-2 do, says that
// there is none: then, and where nothing is said, it is <|pad|> if the
// vocabulary has that.
func decidePad(ids map[string]int32, r roles, n names, claims []Claim) (int32, error) {
	pad, said := r.pad, n.role["pad_token"].file != ""
	for _, c := range claims {
		if c.Pad == nil || said {
			continue
		}
		if err := exists(ids, c.File, "pad_token_id", *c.Pad); err != nil {
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

// decideBegin finds the token before a text: the one that ends texts, where nothing names one.
func decideBegin(ids map[string]int32, r roles, n names, claims []Claim) (int32, error) {
	begin, by := r.begin, n.role["bos_token"].file
	for _, c := range claims {
		if c.Begin == nil {
			continue
		}
		if err := exists(ids, c.File, "bos_token_id", *c.Begin); err != nil {
			return NoToken, err
		}
		if by != "" && begin != *c.Begin {
			return NoToken, contradict("the token that begins a text", by, ids, begin, c.File, "bos_token_id", []int32{*c.Begin})
		}
		begin, by = *c.Begin, c.File
	}
	if by == "" {
		return r.end, nil
	}
	return begin, nil
}

// contradict is the refusal of a claim that says otherwise than another file.
func contradict(what, file string, ids map[string]int32, id int32, claim, key string, said []int32) error {
	return refuse(fmt.Sprintf("make the files agree: set %s in %s to %d if %s is right, or change that", key, claim, id, file),
		"%s says that %s is %s, and %s says that it is %s", file, what, shownIDs(ids, []int32{id}), claim, shownIDs(ids, said))
}

// exists refuses an id that no token has.
func exists(ids map[string]int32, file, key string, id int32) error {
	if id >= 0 && int(id) < len(ids) {
		return nil
	}
	return refuse(fmt.Sprintf("set %s in %s to the id of that token, or to null", key, file),
		"%s says that %s is %d, and the tokenizer has the ids 0 to %d", file, key, id, len(ids)-1)
}

// shownIDs names ids with their tokens.
func shownIDs(ids map[string]int32, list []int32) string {
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

// piecesOf orders the pieces by id and turns their names into bytes.
func piecesOf(ids map[string]int32, special map[int32]flags) ([]string, error) {
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
		piece, err := unspell(name)
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

// mergesIn turns written merges into ids.
func mergesIn(w lexicon, v vocabulary) ([]merge, error) {
	merges := make([]merge, len(w.merges))
	seen := make(map[pair]bool, len(w.merges))
	for i, line := range w.merges {
		m, err := mergeOf(w.ids, line)
		if err != nil {
			return nil, fmt.Errorf("merge %d: %w", i+1, err)
		}
		for _, id := range []int32{m.left, m.right, m.result} {
			if _, ok := v.special[id]; ok {
				return nil, fmt.Errorf("merge %d, %q: %q is a special token, outside the reach of text", i+1, line, v.pieces[id])
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

func mergeOf(vocab map[string]int32, line [2]string) (m merge, err error) {
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
