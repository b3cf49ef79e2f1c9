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

// maxVocab bounds the vocabularies that Load accepts, and with it the memory
// that a hostile file can claim. It is several times the largest in use.
const maxVocab = 1 << 21

// ConfigIDs is what another file of a model's folder, such as config.json, says
// about token ids. A field that is nil or zero says nothing.
type ConfigIDs struct {
	// File is the file's name, for messages.
	File       string
	Begin, Pad *int32 // bos_token_id, pad_token_id
	// End is eos_token_id: each of these ids ends a text.
	End []int32
	// VocabSize is vocab_size, the number of the model's ids. It may exceed the
	// number of tokens.
	VocabSize int
}

// Load reads a stored byte-level vocabulary: vocab.json and merges.txt, or
// tokenizer.json, or all three, which must then agree. Tokens may be added by
// tokenizer.json, added_tokens.json and tokenizer_config.json; the special ones
// are named by special_tokens_map.json, tokenizer_config.json and configs.
// Where no file names them, the end-of-text token is "<|endoftext|>", which
// must exist, and the padding token "<|pad|>", which need not; texts begin with
// the end-of-text token. Other files are ignored.
//
// The ids must be 0 … n-1, each once; every single byte must be a piece; both
// parts of a merge and its result must be pieces. A piece that no merge leads
// to is decoded and never encoded. Files that contradict each other are an
// error that names both, except for pad_token_id, where the tokenizer's own
// files win. So is every setting under which text would be encoded differently
// than by this package (see fast.go). Such errors are of type *Refusal where
// the user can do something about them.
func Load(files []File, configs ...ConfigIDs) (*Tokenizer, error) {
	byName := make(map[string][]byte, len(files))
	for _, f := range files {
		byName[f.Name] = f.Data
	}
	s, err := readSources(byName)
	if err != nil {
		return nil, err
	}
	bpe, err := s.join()
	if err != nil {
		return nil, err
	}
	return assemble(bpe, s, configs)
}

// Refusal is an error with a remedy: what the owner of the files can do about
// it.
type Refusal struct {
	// Remedy says what to do, in the imperative and without a final period.
	Remedy string
	reason error
}

// Error returns the reason, without the remedy.
func (r *Refusal) Error() string { return r.reason.Error() }

// Unwrap returns the reason.
func (r *Refusal) Unwrap() error { return r.reason }

// refusef returns a Refusal with a remedy and a formatted reason.
func refusef(remedy, format string, args ...any) error {
	return &Refusal{Remedy: remedy, reason: fmt.Errorf(format, args...)}
}

// filesDisagree returns the Refusal of two files that give different values for
// the same thing.
func filesDisagree(what, file, value, other, otherValue string) error {
	return refusef("make the files agree, or remove the wrong one: one of them was changed without the other",
		"%s says that %s is %s, and %s says that it is %s", file, what, value, other, otherValue)
}

// sources are the files of a tokenizer, parsed one by one and not yet compared.
type sources struct {
	vocab  map[string]int32 // of vocab.json; nil if it is absent
	merges [][2]string      // of merges.txt
	listed bool             // merges.txt is there
	fast   *bpeModel        // of tokenizer.json; nil if it is absent
	added  addedEntries
	names  specialNames
}

// readSources parses the files that are present. The order is fixed, so that a
// folder with several errors always reports the same one.
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

// bpeModel is the part of a tokenizer that BPE needs: the id of every token by
// its written form, and the merges as pairs of written forms, by rank. It is
// what the field model of tokenizer.json holds.
type bpeModel struct {
	vocab  map[string]int32
	merges [][2]string
}

// join combines what the files say about ids and merges, and refuses a
// contradiction. Added tokens get their ids here; whether they are special is
// decided in assemble.
func (s *sources) join() (bpeModel, error) {
	bpe := bpeModel{vocab: make(map[string]int32, len(s.vocab)), merges: s.merges}
	put := func(file string, ids map[string]int32) error {
		name, bad := first(ids, func(name string, id int32) bool {
			other, ok := bpe.vocab[name]
			return ok && other != id
		})
		if bad {
			before := bpe.vocab[name]
			if s.fileOf(name, before) == file {
				return fmt.Errorf("%s: token %q has the ids %d and %d", file, name, before, ids[name])
			}
			return filesDisagree(fmt.Sprintf("the id of token %q", name), s.fileOf(name, before), fmt.Sprint(before),
				file, fmt.Sprint(ids[name]))
		}
		maps.Copy(bpe.vocab, ids)
		return nil
	}
	if err := put(vocabName, s.vocab); err != nil {
		return bpe, err
	}
	if s.fast != nil {
		if err := s.compareFast(); err != nil {
			return bpe, err
		}
		if err := put(fastName, s.fast.vocab); err != nil {
			return bpe, err
		}
		bpe.merges = s.fast.merges
	}
	for _, a := range s.added {
		if err := put(a.file, map[string]int32{a.content: a.id}); err != nil {
			return bpe, err
		}
	}
	return bpe, nil
}

// fileOf returns a file that gives a token this id. The caller knows that there
// is one.
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

// compareFast compares tokenizer.json with vocab.json and merges.txt, where
// those are present too. An added token may be in one vocabulary and not in the
// other; of the merges, nothing may differ.
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
			return refusef("save the tokenizer again, so that both files come from one vocabulary, "+
				"or remove the wrong one",
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

// mergeAt shows merge n of a list in a message.
func mergeAt(list [][2]string, n int) string {
	if n >= len(list) {
		return "none"
	}
	return fmt.Sprintf("%q", list[n][0]+" "+list[n][1])
}

// first returns the alphabetically first name for which bad holds, so that the
// error for a map does not depend on the order of iteration.
func first(ids map[string]int32, bad func(name string, id int32) bool) (found string, ok bool) {
	for name, id := range ids { // any order: the least is kept
		if (!ok || name < found) && bad(name, id) {
			found, ok = name, true
		}
	}
	return found, ok
}

// readVocab reads vocab.json, {"piece": id, …}. A name that occurs twice is an
// error: encoding/json would silently keep the last one. The decoder reads
// token by token for that reason.
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
			return nil, fmt.Errorf("piece %q occurs twice", name)
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
		return nil, errors.New("there is more data after the object")
	}
	return vocab, nil
}

// expect reads one delimiter.
func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("found %v instead of %v", got, want)
	}
	return nil
}

// readMerges reads merges.txt: "left right" on each line, after an optional
// line that begins with "#version". listed reports that the file is there, even
// if it has no merge.
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

// readMerge splits "left right". Pieces have no space: byte-level BPE writes
// the space as Ġ.
func readMerge(line string) ([2]string, error) {
	left, right, ok := strings.Cut(line, " ")
	if !ok || left == "" || right == "" || strings.Contains(right, " ") {
		return [2]string{}, fmt.Errorf("%q is not two pieces with a space between", line)
	}
	return [2]string{left, right}, nil
}
