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

// tokenizer.json describes a pipeline (normalizer, pre-tokenizer, model,
// post-processor, decoder) besides the vocabulary. This package has one
// pipeline, GPT-2's. It understands the settings below, and refuses every other
// one by its name and value:
//
//	version         "1.0"
//	truncation      null: Trimtab never cuts a text silently
//	padding         null: nothing here pads
//	added_tokens    special ones; single_word, lstrip and rstrip are kept for other
//	                programs; normalized has no effect here
//	normalizer      null
//	pre_tokenizer   ByteLevel, add_prefix_space false, use_regex true
//	post_processor  null, ByteLevel, or a TemplateProcessing that adds nothing
//	decoder         ByteLevel
//	model           BPE, also where it has merges and no type: vocab, merges; dropout
//	                null or 0; continuing_subword_prefix and end_of_word_suffix empty;
//	                fuse_unk, byte_fallback and ignore_merges false; unk_token has no
//	                effect where every byte is a piece
//
// A Sequence stands for the steps that it holds. trim_offsets affects offsets
// into the text, never ids.

// settings are the properties of a JSON object, still unparsed.
type settings map[string]json.RawMessage

// readSettings reads an object. A property that occurs twice is an error, since
// programs differ in which one they keep.
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
		key := token.(string) // the decoder accepts nothing else as a key
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("%.80q: %w", key, err)
		}
		if _, repeated := s[key]; repeated {
			return nil, fmt.Errorf("%.80q occurs twice", key)
		}
		s[key] = value
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return nil, err
	}
	return s, nil
}

// is reports whether a property is absent, null, or one of values, which are
// written as compact JSON.
func (s settings) is(key string, values ...string) bool {
	raw, ok := s[key]
	return !ok || slices.Contains(append(values, "null"), compactJSON(raw))
}

// compactJSON removes the white space between the parts of a JSON text.
func compactJSON(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// rejectUnknown refuses the properties of s that are not listed: a setting that
// this package does not know may change how text is encoded.
func (s settings) rejectUnknown(where string, known ...string) error {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if !slices.Contains(known, key) {
			return unsupported(where+key, s[key], "this setting is not known")
		}
	}
	return nil
}

// unsupported returns the refusal of a setting under which text would be
// encoded differently.
func unsupported(name string, value json.RawMessage, why string) error {
	return unsupportedWithRemedy(name, value, why,
		"choose a model whose tokenizer splits text as GPT-2's does, or train a new tokenizer with the model; "+
			"docs/models.md lists what is understood")
}

// unsupportedWithRemedy is unsupported with a remedy of its own.
func unsupportedWithRemedy(name string, value json.RawMessage, why, remedy string) error {
	shown := compactJSON(value)
	if len(shown) > 300 {
		shown = fmt.Sprintf("%.300s … (%d bytes in all)", shown, len(shown))
	}
	return refusef(remedy, "%s is %s: %s", name, shown, why)
}

// readFast reads tokenizer.json and appends its added tokens to list.
func readFast(data []byte, list *addedEntries) (*bpeModel, error) {
	if !json.Valid(data) {
		// Unmarshal reports the position in the whole file; the parts below would
		// report one relative to themselves.
		var v any
		return nil, json.Unmarshal(data, &v)
	}
	s, err := readSettings(data)
	if err != nil {
		return nil, err
	}
	bpe, err := readBPE(s["model"])
	if err != nil {
		return nil, err
	}
	if err := list.readFast(s["added_tokens"]); err != nil {
		return nil, err
	}
	if err := checkPipeline(s); err != nil {
		return nil, err
	}
	return bpe, nil
}

// readBPE reads the field model of tokenizer.json. Its merges are written "left
// right", or ["left", "right"] in newer files.
func readBPE(data json.RawMessage) (*bpeModel, error) {
	s, err := readSettings(data)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if _, merged := s["merges"]; !s.is("type", `"BPE"`) || !merged { // files of before 2021 have no type
		return nil, fmt.Errorf("the model is %s: only BPE is supported",
			cmp.Or(compactJSON(s["type"]), "not named, and has no merges"))
	}
	bpe := new(bpeModel)
	if bpe.vocab, err = readVocab(s["vocab"]); err != nil {
		return nil, fmt.Errorf("vocab: %w", err)
	}
	var merges []json.RawMessage
	if err := json.Unmarshal(s["merges"], &merges); err != nil {
		return nil, fmt.Errorf("merges: %w", err)
	}
	bpe.merges = make([][2]string, len(merges))
	for i, raw := range merges {
		if bpe.merges[i], err = readFastMerge(raw); err != nil {
			return nil, fmt.Errorf("merge %d: %w", i, err)
		}
	}
	return bpe, checkBPE(s)
}

// readFastMerge reads one merge in either form.
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

// checkBPE refuses settings under which words would be merged differently.
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

// checkPipeline refuses settings that would change a text before it is merged,
// or the ids afterwards.
func checkPipeline(s settings) error {
	if !s.is("version", `"1.0"`) {
		return unsupported("version", s["version"], `only "1.0" is known`)
	}
	for _, c := range []struct{ key, why string }{
		{"truncation", "texts would be truncated"},
		{"padding", "texts would be padded"},
	} {
		if !s.is(c.key) {
			return unsupportedWithRemedy(c.key, s[c.key], c.why,
				"a call before the tokenizer was saved left this setting behind: clear it with "+
					"tokenizer.backend_tokenizer.no_truncation() and tokenizer.backend_tokenizer.no_padding(), and "+
					"save again")
		}
	}
	for _, c := range []struct {
		key   string
		steps int  // exactly this many steps
		fewer bool // or any smaller number
		ok    func(step settings) bool
		why   string
	}{
		{"normalizer", 0, false, nil, "texts would be changed before they are split"},
		{"pre_tokenizer", 1, false, isByteLevelPreTokenizer,
			"only ByteLevel is supported, with add_prefix_space false and use_regex true"},
		{"post_processor", 8, true, isIdentityPostProcessor, "it would put further tokens around each text"},
		{"decoder", 1, false, isByteLevelDecoder, "only ByteLevel is supported"},
	} {
		steps, err := pipelineSteps(s[c.key], c.key, 0)
		if err != nil {
			return err
		}
		countOK := len(steps) == c.steps || c.fewer && len(steps) < c.steps
		if !countOK || slices.ContainsFunc(steps, func(step settings) bool { return !c.ok(step) }) {
			return unsupported(c.key, s[c.key], c.why)
		}
	}
	return s.rejectUnknown("", "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
		"post_processor", "decoder", "model")
}

// sequenceKeys are the properties under which a Sequence holds its steps; each
// kind of component has its own.
var sequenceKeys = []string{"normalizers", "pretokenizers", "processors", "decoders"}

// maxSequenceDepth bounds how deep Sequences are nested in each other, against
// hostile files.
const maxSequenceDepth = 8

// pipelineSteps lists the steps of a component of the pipeline: none for null,
// and those of a Sequence one by one.
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

// isByteLevelDecoder reports whether a decoder joins bytes, as Decode does. The
// settings of ByteLevel have no effect on decoding.
func isByteLevelDecoder(s settings) bool { return isByteLevel(s) }

// isByteLevelPreTokenizer reports whether a pre-tokenizer splits as GPT-2's. An
// absent add_prefix_space means true to the tokenizers library.
func isByteLevelPreTokenizer(s settings) bool {
	_, present := s["add_prefix_space"]
	return isByteLevel(s) && present && s.is("add_prefix_space", "false") && s.is("use_regex", "true")
}

// isIdentityPostProcessor reports whether a post-processor leaves the ids as
// they are: ByteLevel, which only trims offsets, or a template of the sequence
// alone.
func isIdentityPostProcessor(s settings) bool {
	if isByteLevel(s) {
		return true
	}
	_, typed := s["type"]
	return typed && s.is("type", `"TemplateProcessing"`) && s.is("special_tokens", "{}") &&
		s.is("single", `[{"Sequence":{"id":"A","type_id":0}}]`) &&
		s.rejectUnknown("", "type", "single", "pair", "special_tokens") == nil
}
