package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// maxVocab bounds what Load accepts.
const maxVocab = 1 << 21

// ConfigIDs is what another file of a model's folder, such as config.json, says of
// ids. What it leaves nil or zero it does not speak of.
type ConfigIDs struct {
	File       string
	Begin, Pad *int32  // bos_token_id, pad_token_id
	End        []int32 // eos_token_id: any of them ends a text
	VocabSize  int     // vocab_size: the ids of the model, which may be more than the tokens
}

// Load reads a stored byte-level vocabulary: vocab.json and merges.txt, or
// tokenizer.json, or all of them, then in agreement. Tokens may be added by
// tokenizer.json, added_tokens.json and tokenizer_config.json; the special ones
// are named by special_tokens_map.json, tokenizer_config.json and the claims.
// Where nothing names them the end-of-text token is "<|endoftext|>", which must
// exist, and the padding token "<|pad|>", which need not; a text begins with
// the end-of-text token. Other files are ignored.
//
// The ids must be 0 … n-1, each once; every single byte must be a piece; both
// parts of a merge and what they make must be pieces. A piece that no merge
// leads to is decoded, and never encoded. Files that disagree are an error that
// names both, but for pad_token_id, where the tokenizer's word holds; and so is
// every setting under which text would be cut in another way than this
// package's (see fast.go). Such errors are of type *Refusal where there is
// something to be done about them.
func Load(files []File, claims ...ConfigIDs) (*Tokenizer, error) {
	byName := make(map[string][]byte, len(files))
	for _, f := range files {
		byName[f.Name] = f.Data
	}
	s, err := readSources(byName)
	if err != nil {
		return nil, err
	}
	w, err := s.join()
	if err != nil {
		return nil, err
	}
	return assemble(w, s, claims)
}

// Refusal is an error with a remedy: what whoever has the files can do.
type Refusal struct {
	Remedy string
	reason error
}

func (r *Refusal) Error() string { return r.reason.Error() }
func (r *Refusal) Unwrap() error { return r.reason }

func refusef(remedy, format string, args ...any) error {
	return &Refusal{Remedy: remedy, reason: fmt.Errorf(format, args...)}
}

// filesDisagree is the refusal of two files that say different things of one.
func filesDisagree(what, file, value, other, otherValue string) error {
	return refusef("make the files agree, or take out the one that is wrong: one of them was changed without the other",
		"%s says that %s is %s, and %s says that it is %s", file, what, value, other, otherValue)
}

// sources are the files of a tokenizer, read one by one.
type sources struct {
	vocab  map[string]int32 // of vocab.json; nil if it is absent
	merges [][2]string      // of merges.txt
	listed bool             // merges.txt is there
	fast   *fastModel       // nil if tokenizer.json is absent
	added  addedEntries
	names  specialNames
}

func readSources(byName map[string][]byte) (s sources, err error) {
	for _, f := range []struct {
		name string
		read func(data []byte) error
	}{
		{vocabName, func(data []byte) error { s.vocab, err = readVocab(data); return err }},
		{mergesName, func(data []byte) error { s.listed, s.merges, err = readMerges(data); return err }},
		{fastName, func(data []byte) error { s.fast, err = readFast(data, &s.added); return err }},
		{addedName, s.added.readIDs},
		{specialName, s.names.readMap},
		{configName, func(data []byte) error { return readConfig(data, &s.names, &s.added) }},
	} {
		data, ok := byName[f.name]
		if !ok {
			continue
		}
		if err := f.read(data); err != nil {
			return s, fmt.Errorf("read %s: %w", f.name, err)
		}
	}
	if s.fast == nil && (s.vocab == nil || !s.listed) {
		return s, fmt.Errorf("a tokenizer needs %s and %s, or %s", vocabName, mergesName, fastName)
	}
	return s, nil
}

// bpeModel is the ids of all tokens by their written names, and the merges as written.
type bpeModel struct {
	vocab  map[string]int32
	merges [][2]string
}

// join joins what the files say of ids and merges, and holds them against each other.
func (s *sources) join() (bpeModel, error) {
	w := bpeModel{vocab: make(map[string]int32, len(s.vocab)), merges: s.merges}
	put := func(file string, ids map[string]int32) error {
		name, bad := first(ids, func(name string, id int32) bool {
			other, ok := w.vocab[name]
			return ok && other != id
		})
		if bad && s.fileOf(name, w.vocab[name]) == file {
			return fmt.Errorf("%s: token %q has the ids %d and %d", file, name, w.vocab[name], ids[name])
		}
		if bad {
			return filesDisagree(fmt.Sprintf("the id of token %q", name), s.fileOf(name, w.vocab[name]),
				fmt.Sprint(w.vocab[name]),
				file, fmt.Sprint(ids[name]))
		}
		maps.Copy(w.vocab, ids)
		return nil
	}
	if err := put(vocabName, s.vocab); err != nil {
		return w, err
	}
	if s.fast != nil {
		if err := s.compareFast(); err != nil {
			return w, err
		}
		if err := put(fastName, s.fast.vocab); err != nil {
			return w, err
		}
		w.merges = s.fast.merges
	}
	for _, a := range s.added {
		if err := put(a.file, map[string]int32{a.content: a.id}); err != nil {
			return w, err
		}
	}
	return w, nil
}

// fileOf is a file that gives a token this id.
func (s *sources) fileOf(name string, id int32) string {
	if got, ok := s.vocab[name]; ok && got == id {
		return vocabName
	}
	if s.fast != nil {
		if got, ok := s.fast.vocab[name]; ok && got == id {
			return fastName
		}
	}
	i := slices.IndexFunc(s.added, func(a addedEntry) bool { return a.content == name && a.id == id })
	return s.added[i].file
}

// compareFast holds tokenizer.json against vocab.json and merges.txt, where
// these are there too. Added tokens may stand in one and not in the other.
func (s *sources) compareFast() error {
	for _, side := range []struct {
		file, other string
		in, notIn   map[string]int32
	}{{vocabName, fastName, s.vocab, s.fast.vocab}, {fastName, vocabName, s.fast.vocab, s.vocab}} {
		if s.vocab == nil {
			break
		}
		name, bad := first(side.in, func(name string, _ int32) bool {
			_, ok := side.notIn[name]
			return !ok && !s.added.has(name)
		})
		if bad {
			return refusef("save the tokenizer again, so that both files come from one vocabulary, or take out the "+
				"one that is wrong",
				"%s holds the token %q and %s does not", side.file, name, side.other)
		}
	}
	if !s.listed || slices.Equal(s.merges, s.fast.merges) {
		return nil
	}
	n := 0
	for n < len(s.merges) && n < len(s.fast.merges) && s.merges[n] == s.fast.merges[n] {
		n++
	}
	return filesDisagree(fmt.Sprintf("merge %d", n+1), mergesName, mergeAt(s.merges, n), fastName,
		mergeAt(s.fast.merges, n))
}

func mergeAt(list [][2]string, n int) string {
	if n >= len(list) {
		return "none"
	}
	return fmt.Sprintf("%q", list[n][0]+" "+list[n][1])
}

// first is the first name, in their order, of which bad is true.
func first(ids map[string]int32, bad func(name string, id int32) bool) (found string, ok bool) {
	for name, id := range ids { // any order: the least is kept
		if (!ok || name < found) && bad(name, id) {
			found, ok = name, true
		}
	}
	return found, ok
}

// readVocab reads {"piece": id, …}; a name that comes twice is an error.
func readVocab(data []byte) (map[string]int32, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := expect(dec, json.Delim('{')); err != nil {
		return nil, err
	}
	vocab := make(map[string]int32)
	for dec.More() {
		var id int32
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := key.(string) // the decoder lets nothing else be a key
		if err := dec.Decode(&id); err != nil {
			return nil, fmt.Errorf("id of %q: %w", name, err)
		}
		if _, twice := vocab[name]; twice {
			return nil, fmt.Errorf("piece %q comes twice", name)
		}
		vocab[name] = id
		if len(vocab) > maxVocab {
			return nil, fmt.Errorf("more than %d pieces", maxVocab)
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more data after the end")
	}
	return vocab, nil
}

func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("found %v in place of %v", got, want)
	}
	return nil
}

// readMerges reads one "left right" a line; the first line may be a version.
func readMerges(data []byte) (listed bool, pairs [][2]string, err error) {
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || i == 0 && strings.HasPrefix(line, "#version") {
			continue
		}
		p, err := readMerge(line)
		if err != nil {
			return true, nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		pairs = append(pairs, p)
	}
	return true, pairs, nil
}

func readMerge(line string) ([2]string, error) {
	left, right, ok := strings.Cut(line, " ")
	if !ok || left == "" || right == "" || strings.Contains(right, " ") {
		return [2]string{}, fmt.Errorf("%q is not two pieces with a space between", line)
	}
	return [2]string{left, right}, nil
}
