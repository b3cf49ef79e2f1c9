package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// tokenizer.json says how text is cut, besides what the tokens are. This
// package cuts in one way, GPT-2's; what is understood of the file is this, and
// every other setting is refused by its name and value:
//
//	version         "1.0"
//	truncation      null: Trimtab never cuts a text silently
//	padding         null: nothing here pads
//	added_tokens    special ones; single_word, lstrip and rstrip are kept for other programs, normalized means nothing here
//	normalizer      null
//	pre_tokenizer   ByteLevel, add_prefix_space false, use_regex true
//	post_processor  null, ByteLevel, or a TemplateProcessing that adds nothing
//	decoder         ByteLevel
//	model           BPE, also where it has merges and no type: vocab, merges; dropout null or 0; continuing_subword_prefix and
//	                end_of_word_suffix empty; fuse_unk, byte_fallback, ignore_merges false; unk_token means nothing where
//	                every byte is a piece
//
// A Sequence is what it holds, and trim_offsets is about places, not about ids.

// fastModel is what tokenizer.json says.
type fastModel struct {
	vocab  map[string]int32
	merges [][2]string
}

// settings are the properties of a JSON object, in the order of their names.
type settings map[string]json.RawMessage

// readSettings reads an object; a property that comes twice is an error.
func readSettings(data []byte) (settings, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := expect(dec, json.Delim('{')); err != nil {
		return nil, err
	}
	s := make(settings)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		key := token.(string) // the decoder lets nothing else be a key
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("%.80q: %w", key, err)
		}
		if _, twice := s[key]; twice {
			return nil, fmt.Errorf("%.80q comes twice", key)
		}
		s[key] = value
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return nil, err
	}
	return s, nil
}

// is reports whether a property is absent, null or one of these values, written compactly.
func (s settings) is(key string, values ...string) bool {
	raw, ok := s[key]
	return !ok || slices.Contains(append(values, "null"), compactJSON(raw))
}

// compactJSON is JSON without white space between its parts.
func compactJSON(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// rejectUnknown refuses the properties of s that are not listed.
func (s settings) rejectUnknown(where string, known ...string) error {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if !slices.Contains(known, key) {
			return unsupported(where+key, s[key], "it is not known here")
		}
	}
	return nil
}

// unsupported is the refusal of a setting under which text would be cut otherwise.
func unsupported(name string, value json.RawMessage, why string) error {
	return unsupportedWithRemedy(name, value, why,
		"choose a model whose tokenizer cuts text as GPT-2's does, or train a new tokenizer with the model; "+
			"docs/models.md lists what is understood")
}

// unsupportedWithRemedy is unlike with a remedy of its own.
func unsupportedWithRemedy(name string, value json.RawMessage, why, remedy string) error {
	shown := compactJSON(value)
	if len(shown) > 300 {
		shown = fmt.Sprintf("%.300s … (%d bytes in all)", shown, len(shown))
	}
	return refusef(remedy, "%s is %s: %s", name, shown, why)
}

// readFast reads tokenizer.json, and puts its added tokens into the list.
func readFast(data []byte, list *addedEntries) (*fastModel, error) {
	if !json.Valid(data) { // one error, with its place, in place of one of a part
		var v any
		return nil, json.Unmarshal(data, &v)
	}
	s, err := readSettings(data)
	if err != nil {
		return nil, err
	}
	f, err := readBPE(s["model"])
	if err != nil {
		return nil, err
	}
	if err := list.readFast(s["added_tokens"]); err != nil {
		return nil, err
	}
	if err := checkPipeline(s); err != nil {
		return nil, err
	}
	return f, nil
}

// readBPE reads the model of tokenizer.json; its merges are "left right" or ["left", "right"].
func readBPE(data json.RawMessage) (*fastModel, error) {
	s, err := readSettings(data)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if _, merged := s["merges"]; !s.is("type", `"BPE"`) || !merged { // files of before 2021 have no type
		return nil, fmt.Errorf("the model is %s: only BPE is supported",
			cmp.Or(compactJSON(s["type"]), "not named, and has no merges"))
	}
	f := new(fastModel)
	if f.vocab, err = readVocab(s["vocab"]); err != nil {
		return nil, fmt.Errorf("vocab: %w", err)
	}
	var merges []json.RawMessage
	if err := json.Unmarshal(s["merges"], &merges); err != nil {
		return nil, fmt.Errorf("merges: %w", err)
	}
	f.merges = make([][2]string, len(merges))
	for i, raw := range merges {
		if f.merges[i], err = readFastMerge(raw); err != nil {
			return nil, fmt.Errorf("merge %d: %w", i, err)
		}
	}
	return f, checkBPE(s)
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

// checkBPE refuses what would merge otherwise.
func checkBPE(s settings) error {
	for _, c := range []struct {
		key, why string
		values   []string
	}{
		{"dropout", "words would be merged at random", []string{"0", "0.0"}},
		{"continuing_subword_prefix", "only pieces without marks are supported", []string{`""`}},
		{"end_of_word_suffix", "only pieces without marks are supported", []string{`""`}},
		{"fuse_unk", "only false is supported", []string{"false"}},
		{"byte_fallback", "only false is supported: every byte is a piece of its own", []string{"false"}},
		{"ignore_merges", "only false is supported: words that are tokens as a whole would not be merged",
			[]string{"false"}},
	} {
		if !s.is(c.key, c.values...) {
			return unsupported("model."+c.key, s[c.key], c.why)
		}
	}
	return s.rejectUnknown("model.", "type", "vocab", "merges", "dropout", "unk_token", "continuing_subword_prefix",
		"end_of_word_suffix",
		"fuse_unk", "byte_fallback", "ignore_merges")
}

// checkPipeline refuses what would change a text before it is merged, or the ids after.
func checkPipeline(s settings) error {
	if !s.is("version", `"1.0"`) {
		return unsupported("version", s["version"], `only "1.0" is known`)
	}
	for _, c := range []struct{ key, why string }{{"truncation", "texts would be cut"},
		{"padding", "texts would be padded"}} {
		if !s.is(c.key) {
			return unsupportedWithRemedy(c.key, s[c.key], c.why,
				"it is a trace of a call before the tokenizer was saved: take it out with "+
					"tokenizer.backend_tokenizer.no_truncation() and tokenizer.backend_tokenizer.no_padding(), and "+
					"save again")
		}
	}
	for _, c := range []struct {
		key  string
		most int // steps, and at least as many unless any number will do
		any  bool
		ok   func(step settings) bool
		why  string
	}{
		{"normalizer", 0, false, nil, "texts would be changed before they are cut"},
		{"pre_tokenizer", 1, false, isByteLevelPreTokenizer,
			"only ByteLevel is supported, with add_prefix_space false and use_regex true"},
		{"post_processor", 8, true, isIdentityPostProcessor, "it would put further tokens around each text"},
		{"decoder", 1, false, isByteLevelDecoder, "only ByteLevel is supported"},
	} {
		steps, err := pipelineSteps(s[c.key], c.key, 0)
		if err != nil {
			return err
		}
		number := len(steps) == c.most || c.any && len(steps) < c.most
		if !number || slices.ContainsFunc(steps, func(step settings) bool { return !c.ok(step) }) {
			return unsupported(c.key, s[c.key], c.why)
		}
	}
	return s.rejectUnknown("", "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
		"post_processor", "decoder",
		"model")
}

// sequenceKeys are the names that a Sequence gives to what it holds.
var sequenceKeys = []string{"normalizers", "pretokenizers", "processors", "decoders"}

const maxSequenceDepth = 8 // of a Sequence in a Sequence

// pipelineSteps lists the steps of a component of the pipeline: none for null, those of a Sequence one by one.
func pipelineSteps(raw json.RawMessage, name string, depth int) ([]settings, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	s, err := readSettings(raw)
	if err != nil || depth > maxSequenceDepth {
		return nil, unsupported(name, raw, "it is not an object with a type")
	}
	if !s.is("type", `"Sequence"`) {
		return []settings{s}, nil
	}
	var all []settings
	for _, key := range sequenceKeys {
		list, ok := s[key]
		if !ok {
			continue
		}
		var parts []json.RawMessage
		if json.Unmarshal(list, &parts) != nil {
			return nil, unsupported(name, raw, key+" is not a list")
		}
		for i, part := range parts {
			steps, err := pipelineSteps(part, name+"."+key+"["+strconv.Itoa(i)+"]", depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, steps...)
		}
	}
	return all, nil
}

// isByteLevel reports whether a step is a ByteLevel without unknown settings.
func isByteLevel(s settings) bool {
	_, typed := s["type"]
	return typed && s.is("type", `"ByteLevel"`) &&
		s.rejectUnknown("", "type", "add_prefix_space", "trim_offsets", "use_regex") == nil
}

func isByteLevelDecoder(s settings) bool { return isByteLevel(s) }

// isByteLevelPreTokenizer: tokenizers reads add_prefix_space as true where it is absent.
func isByteLevelPreTokenizer(s settings) bool {
	_, said := s["add_prefix_space"]
	return isByteLevel(s) && said && s.is("add_prefix_space", "false") && s.is("use_regex", "true")
}

// isIdentityPostProcessor reports whether a post-processor leaves the ids as they are.
func isIdentityPostProcessor(s settings) bool {
	if isByteLevel(s) {
		return true
	}
	_, typed := s["type"]
	return typed && s.is("type", `"TemplateProcessing"`) && s.is("special_tokens", "{}") &&
		s.is("single", `[{"Sequence":{"id":"A","type_id":0}}]`) &&
		s.rejectUnknown("", "type", "single", "pair", "special_tokens") == nil
}
