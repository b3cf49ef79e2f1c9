package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxVocab bounds what Load accepts.
const maxVocab = 1 << 21

// Load reads a stored byte-level vocabulary: vocab.json and merges.txt, or
// tokenizer.json where one of them is absent. special_tokens_map.json, if
// present, names the end-of-text and the padding token; otherwise they are
// "<|endoftext|>", which must exist, and "<|pad|>", which need not. Other
// files are ignored. The ids must be 0 … n-1, each once; every single byte
// must be a piece; both parts of a merge and what they make must be pieces.
// A piece that no merge leads to is decoded, and never encoded.
func Load(files []File) (*Tokenizer, error) {
	byName := make(map[string][]byte, len(files))
	for _, f := range files {
		byName[f.Name] = f.Data
	}
	vocab, lines, err := readPieces(byName)
	if err != nil {
		return nil, err
	}
	names, err := readSpecial(byName[specialName])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", specialName, err)
	}
	return assemble(vocab, lines, names)
}

// readPieces returns the ids by written name and the merges as written.
func readPieces(byName map[string][]byte) (map[string]int32, [][2]string, error) {
	vocabData, hasVocab := byName[vocabName]
	mergesData, hasMerges := byName[mergesName]
	if fast, ok := byName[fastName]; ok && !(hasVocab && hasMerges) {
		vocab, lines, err := readFast(fast)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", fastName, err)
		}
		return vocab, lines, nil
	}
	if !hasVocab || !hasMerges {
		return nil, nil, fmt.Errorf("a tokenizer needs %s and %s, or %s", vocabName, mergesName, fastName)
	}
	vocab, err := readVocab(vocabData)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", vocabName, err)
	}
	lines, err := readMerges(mergesData)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", mergesName, err)
	}
	return vocab, lines, nil
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
func readMerges(data []byte) ([][2]string, error) {
	var pairs [][2]string
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || i == 0 && strings.HasPrefix(line, "#version") {
			continue
		}
		p, err := readMerge(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

func readMerge(line string) ([2]string, error) {
	left, right, ok := strings.Cut(line, " ")
	if !ok || left == "" || right == "" || strings.Contains(right, " ") {
		return [2]string{}, fmt.Errorf("%q is not two pieces with a space between", line)
	}
	return [2]string{left, right}, nil
}

// readFast reads tokenizer.json; its merges are "left right" or ["left", "right"].
func readFast(data []byte) (map[string]int32, [][2]string, error) {
	var fast struct {
		Added []addedToken `json:"added_tokens"`
		Model struct {
			Type   string            `json:"type"`
			Vocab  json.RawMessage   `json:"vocab"`
			Merges []json.RawMessage `json:"merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &fast); err != nil {
		return nil, nil, err
	}
	if fast.Model.Type != "BPE" {
		return nil, nil, fmt.Errorf("the model is %q: only BPE is supported", fast.Model.Type)
	}
	vocab, err := readVocab(fast.Model.Vocab)
	if err != nil {
		return nil, nil, fmt.Errorf("vocab: %w", err)
	}
	for _, a := range fast.Added {
		if id, ok := vocab[a.Content]; ok && id != a.ID {
			return nil, nil, fmt.Errorf("token %q has the ids %d and %d", a.Content, id, a.ID)
		}
		vocab[a.Content] = a.ID
	}
	pairs := make([][2]string, len(fast.Model.Merges))
	for i, raw := range fast.Model.Merges {
		if pairs[i], err = readFastMerge(raw); err != nil {
			return nil, nil, fmt.Errorf("merge %d: %w", i, err)
		}
	}
	return vocab, pairs, nil
}

func readFastMerge(raw json.RawMessage) (p [2]string, err error) {
	var parts []string
	if json.Unmarshal(raw, &parts) == nil && len(parts) == 2 {
		return [2]string(parts), nil
	}
	var line string
	if err := json.Unmarshal(raw, &line); err != nil {
		return p, fmt.Errorf("%.40s is not a pair of pieces", raw)
	}
	return readMerge(line)
}

// readSpecial returns the names of the end-of-text and of the padding token.
func readSpecial(data []byte) ([2]string, error) {
	names := [2]string{EndOfTextName, PadName}
	if data == nil {
		return names, nil
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(data, &entries); err != nil {
		return names, err
	}
	for i, key := range []string{"eos_token", "pad_token"} {
		var token struct {
			Content string `json:"content"`
		}
		raw, ok := entries[key]
		if !ok {
			continue
		}
		if json.Unmarshal(raw, &token.Content) != nil && json.Unmarshal(raw, &token) != nil {
			return names, fmt.Errorf("%s is neither a string nor an object with a content", key)
		}
		if token.Content != "" {
			names[i] = token.Content
		}
	}
	return names, nil
}

// assemble checks ids, pieces and merges against each other.
func assemble(vocab map[string]int32, lines [][2]string, names [2]string) (*Tokenizer, error) {
	eot, ok := vocab[names[0]]
	if !ok {
		return nil, fmt.Errorf("the vocabulary has no %s", names[0])
	}
	if names[1] == names[0] { // GPT-2 users often pad with the end of text
		names[1] = PadName
	}
	pad, ok := vocab[names[1]]
	if !ok || pad == eot {
		pad = NoToken
	}
	pieces, err := piecesOf(vocab, eot, pad)
	if err != nil {
		return nil, err
	}
	merges := make([]merge, len(lines))
	seen := make(map[pair]bool, len(lines))
	for i, line := range lines {
		m, err := mergeOf(vocab, line)
		if err != nil {
			return nil, fmt.Errorf("merge %d: %w", i+1, err)
		}
		for _, id := range []int32{m.left, m.right, m.result} {
			if id == eot || id == pad {
				return nil, fmt.Errorf("merge %d, %q: %q is a special token, outside the reach of text", i+1, line, pieces[id])
			}
		}
		if seen[pairOf(m.left, m.right)] {
			return nil, fmt.Errorf("merge %d, %q, comes twice", i+1, line)
		}
		seen[pairOf(m.left, m.right)] = true
		merges[i] = m
	}
	return newTokenizer(pieces, merges, eot, pad)
}

// piecesOf orders the pieces by id and turns their names into bytes.
func piecesOf(vocab map[string]int32, eot, pad int32) ([]string, error) {
	pieces := make([]string, len(vocab))
	taken := make([]bool, len(vocab))
	for name, id := range vocab { // any order: each id is set once
		if id < 0 || int(id) >= len(vocab) || taken[id] {
			return nil, fmt.Errorf("the ids are not 0 … %d, each once", len(vocab)-1)
		}
		taken[id] = true
		piece, err := unspell(name)
		if id == eot || id == pad {
			piece, err = name, nil
		}
		if err != nil {
			return nil, err
		}
		if piece == "" {
			return nil, fmt.Errorf("id %d is an empty piece", id)
		}
		pieces[id] = piece
	}
	return pieces, nil
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
