package tokenizer

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// edited are tok's files, some of them as JSON changed by edit and some left out or added.
type edited struct {
	t     testing.TB
	files []File
}

func edit(t testing.TB, tok *Tokenizer) *edited {
	return &edited{t, slices.Clone(tok.Files())}
}

func (e *edited) index(name string) int {
	return slices.IndexFunc(e.files, func(f File) bool { return f.Name == name })
}

// json changes a file as an object.
func (e *edited) json(name string, change func(v map[string]any)) *edited {
	e.t.Helper()
	v := map[string]any{}
	i := e.index(name)
	if i < 0 {
		e.files, i = append(e.files, File{Name: name}), len(e.files)
	} else if err := json.Unmarshal(e.files[i].Data, &v); err != nil {
		e.t.Fatal(err)
	}
	change(v)
	e.files[i].Data = compact(v)
	return e
}

func (e *edited) without(names ...string) *edited {
	e.files = slices.DeleteFunc(e.files, func(f File) bool { return slices.Contains(names, f.Name) })
	return e
}

func set(path string, value any) func(map[string]any) {
	return func(v map[string]any) {
		keys := strings.Split(path, ".")
		for _, k := range keys[:len(keys)-1] {
			v = v[k].(map[string]any)
		}
		v[keys[len(keys)-1]] = value
	}
}

func add(id int, content string, special bool) func(map[string]any) {
	return func(v map[string]any) {
		list, _ := v["added_tokens"].([]any)
		v["added_tokens"] = append(list, map[string]any{"id": id, "content": content, "special": special,
			"single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
	}
}

// A token that transformers added stands in added_tokens.json and in the
// added_tokens of tokenizer.json, and not in vocab.json.
func TestLoadAddedTokens(t *testing.T) {
	tok := trained(t)
	n := tok.VocabSize()
	whole := edit(t, tok).json(addedName, set("[PAD]", n)).json(fastName, add(n, "[PAD]", true)).
		json(specialName, set("pad_token", "[PAD]")).json(configName, set("pad_token", "[PAD]"))
	fast := edit(t, tok).without(vocabName, mergesName, specialName).json(fastName,
		add(n, "[PAD]", true)).json(configName, set("pad_token", "[PAD]"))
	slow := edit(t, tok).without(fastName).json(addedName, set("[PAD]", n)).
		json(specialName, set("pad_token", map[string]any{"content": "[PAD]", "lstrip": false})).json(configName,
		set("pad_token", "[PAD]")).
		json(specialName, set("additional_special_tokens", []any{PadName}))
	for name, e := range map[string]*edited{"all files": whole, "tokenizer.json": fast, "without it": slow} {
		got, err := Load(e.files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.VocabSize() != n+1 || got.Pad() != int32(n) || got.Piece(got.Pad()) != "[PAD]" ||
			!got.Special(tok.Pad()) || !slices.Equal(got.SuppressTokens(), []int32{int32(n)}) {
			t.Errorf("%s: %d ids, pad %d %q, banned %v", name, got.VocabSize(), got.Pad(), got.Piece(got.Pad()),
				got.SuppressTokens())
		}
		again, err := Load(got.Files())
		if err != nil || again.Digest() != got.Digest() {
			t.Errorf("%s: stored and loaded: %v", name, err)
		}
	}
}

// Special tokens besides the two stay special, with the settings that other programs obey.
func TestLoadKeepsSpecialTokens(t *testing.T) {
	tok := trained(t)
	n := tok.VocabSize()
	e := edit(t, tok).json(fastName, add(n, "<|im_start|>", true)).json(fastName,
		add(n+1, "<mask>", true)).json(fastName, func(v map[string]any) {
		v["added_tokens"].([]any)[3].(map[string]any)["lstrip"] = true
	}).without(vocabName, mergesName, specialName).json(configName,
		set("extra_special_tokens", []any{"<|im_start|>"})).json(configName, set("mask_token", "<mask>"))
	got, err := Load(e.files)
	if err != nil {
		t.Fatal(err)
	}
	start := int32(n)
	if !got.Special(start) || !slices.Equal(got.Specials(), []int32{tok.EndOfText(), tok.Pad(), start, start + 1}) {
		t.Errorf("special %v", got.Specials())
	}
	text := "<|im_start|>user <mask>"
	if ids := got.Encode(text); slices.Contains(ids, start) || string(got.Decode(ids)) != text {
		t.Errorf("%q became %v", text, ids)
	}
	if text := got.Decode([]int32{start, tok.Encode("dog")[0], start + 1}); strings.Contains(string(text), "im_start") {
		t.Errorf("decoded %q", text)
	}
	if got.MatchesVerbatim(start+1) || !got.MatchesVerbatim(start) {
		t.Error("lstrip was lost or won")
	}
	var fast struct {
		Added []addedToken `json:"added_tokens"`
	}
	files := got.Files()
	if err := json.Unmarshal(files[2].Data, &fast); err != nil {
		t.Fatal(err)
	}
	want := []addedToken{{ID: tok.EndOfText(), Content: EndOfTextName, Special: true},
		{ID: tok.Pad(), Content: PadName, Special: true},
		{ID: start, Content: "<|im_start|>", Special: true},
		{ID: start + 1, Content: "<mask>", LStrip: true, Special: true}}
	if !slices.Equal(fast.Added, want) {
		t.Errorf("added tokens %+v", fast.Added)
	}
	if again, err := Load(files); err != nil || again.Digest() != got.Digest() {
		t.Errorf("stored and loaded: %v", err)
	}
	for _, f := range files {
		if f.Name == specialName && !strings.Contains(string(f.Data), `"additional_special_tokens": [`) ||
			f.Name == configName && !strings.Contains(string(f.Data), `"mask_token": "<mask>"`) {
			t.Errorf("%s is %s", f.Name, f.Data)
		}
	}
}

func id(n int32) *int32 { return &n }

func TestConfigIDs(t *testing.T) {
	tok := trained(t)
	eot, pad := tok.EndOfText(), tok.Pad()
	unnamed := edit(t, tok).without(specialName, vocabName, mergesName).json(configName,
		func(v map[string]any) { delete(v, "eos_token"); delete(v, "bos_token") })
	pads := edit(t, tok).without(specialName, vocabName, mergesName).json(configName,
		func(v map[string]any) { v["eos_token"] = PadName; delete(v, "pad_token") })
	for name, c := range map[string]struct {
		files      []File
		claims     []ConfigIDs
		begin, end int32
		pad        int32
		ends, ban  []int32
	}{
		"agreed": {tok.Files(), []ConfigIDs{{File: "c", Begin: &eot, Pad: &pad, End: []int32{eot},
			VocabSize: 300}}, eot, eot, pad, []int32{eot}, []int32{pad}},
		"only by an id": {unnamed.files, []ConfigIDs{{File: "c", Begin: &eot, End: []int32{pad}}}, eot, pad,
			NoToken, []int32{pad}, nil},
		"only in the config": {pads.files, []ConfigIDs{{File: "c", Begin: &eot, End: []int32{pad}}}, eot, pad,
			NoToken, []int32{pad}, nil},
		"several ends": {tok.Files(), []ConfigIDs{{File: "c", End: []int32{300 - 1, eot}}}, eot, eot, pad,
			[]int32{eot, pad}, nil},
		"one says more": {tok.Files(), []ConfigIDs{{File: "c", End: []int32{eot}},
			{File: "g", End: []int32{5, eot}}}, eot, eot, pad, []int32{eot, 5}, []int32{pad}},
		"the tokenizer's padding": {tok.Files(), []ConfigIDs{{File: "c", Pad: id(7)}}, eot, eot, pad, []int32{eot},
			[]int32{pad}},
		"more ids than tokens": {tok.Files(), []ConfigIDs{{File: "c", VocabSize: 303}}, eot, eot, pad, []int32{eot},
			[]int32{pad, 300, 301, 302}},
	} {
		got, err := Load(c.files, c.claims...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.BeginOfText() != c.begin || got.EndOfText() != c.end || got.Pad() != c.pad ||
			!slices.Equal(got.StopTokens(), c.ends) || !slices.Equal(got.SuppressTokens(), c.ban) {
			t.Errorf("%s: begin %d, end %d, pad %d, ends %v, banned %v", name, got.BeginOfText(), got.EndOfText(),
				got.Pad(), got.StopTokens(), got.SuppressTokens())
		}
		for _, id := range c.ends {
			if !got.EndsWithStop([]int32{1, id}) || got.EndsWithStop([]int32{id, 1}) || got.EndsWithStop(nil) {
				t.Errorf("%s: Ended is wrong of %d", name, id)
			}
		}
	}
	if tok.VocabSize() != 300 {
		t.Fatalf("the test's vocabulary has %d ids", tok.VocabSize())
	}
}

// Files that disagree are refused with both places and both values.
func TestLoadRefusesDisagreement(t *testing.T) {
	tok := trained(t)
	n := tok.VocabSize()
	eot := tok.EndOfText()
	for name, c := range map[string]struct {
		e      *edited
		claims []ConfigIDs
		want   []string
	}{
		"names": {edit(t, tok).json(configName, set("eos_token", PadName)), nil,
			[]string{specialName, configName, "eos_token", EndOfTextName, PadName}},
		"end": {edit(t, tok), []ConfigIDs{{File: "config.json", End: []int32{1}}},
			[]string{"config.json", specialName, EndOfTextName, "(1)"}},
		"ends": {edit(t, tok).json(specialName,
			func(v map[string]any) { delete(v, "eos_token") }).json(configName,
			func(v map[string]any) { delete(v, "eos_token") }),
			[]ConfigIDs{{File: "config.json", End: []int32{eot, 1}},
				{File: "generation_config.json", End: []int32{eot, 2}}},
			[]string{"config.json", "generation_config.json", "(1)", "(2)"}},
		"begin": {edit(t, tok), []ConfigIDs{{File: "config.json", Begin: id(3)}},
			[]string{"config.json", specialName, "(3)"}},
		"no such end": {edit(t, tok).without(specialName, configName),
			[]ConfigIDs{{File: "config.json", End: []int32{50256}}}, []string{"config.json", "50256", "0 to 299"}},
		"added twice": {edit(t, tok).json(addedName, set("xx", n)).json(fastName, add(n+1, "xx", true)), nil,
			[]string{addedName, fastName, `"xx"`, "300", "301"}},
		"one id, two names": {edit(t, tok).json(addedName, set("xx", n)).json(fastName,
			add(n, "yy", true)).json(specialName, set("additional_special_tokens", []any{"xx"})), nil,
			[]string{`"xx"`, `"yy"`, "300"}},
		"special or not": {edit(t, tok).json(fastName, add(n, "xx", true)).json(configName,
			set("added_tokens_decoder", map[string]any{"300": map[string]any{"content": "xx", "special": false}})), nil,
			[]string{fastName, configName, `"xx"`}},
		"vocabularies": {edit(t, tok).json(vocabName, func(v map[string]any) { v["zz"] = v["!"]; delete(v, "!") }),
			nil, []string{vocabName, fastName}},
		"merges": {func() *edited {
			e := edit(t, tok)
			i := e.index(mergesName)
			lines := strings.Split(string(e.files[i].Data), "\n")
			lines[1], lines[2] = lines[2], lines[1]
			e.files[i].Data = []byte(strings.Join(lines, "\n"))
			return e
		}(), nil, []string{mergesName, fastName, "merge 1"}},
		"lists": {edit(t, tok).json(specialName,
			set("additional_special_tokens", []any{"!"})).json(configName,
			set("additional_special_tokens", []any{"#"})), nil, []string{specialName, configName, "!", "#"}},
		"a name of nobody": {edit(t, tok).json(specialName, set("pad_token", "[PAD]")).json(configName,
			func(v map[string]any) { delete(v, "pad_token") }), nil, []string{specialName, "pad_token", "[PAD]"}},
		"fewer rows": {edit(t, tok), []ConfigIDs{{File: "config.json", VocabSize: n - 1}},
			[]string{"config.json", "299 ids", "300 tokens", PadName}},
	} {
		_, err := Load(c.e.files, c.claims...)
		var refused *Refusal
		if !errors.As(err, &refused) && name != "one id, two names" {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		for _, word := range c.want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: error %q lacks %q", name, err, word)
			}
		}
	}
}

// What would cut text in another way is refused by its name and value.
func TestLoadRefusesOtherPipelines(t *testing.T) {
	tok := trained(t)
	byteLevel := func(key string, v any) map[string]any {
		m := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
		m[key] = v
		return m
	}
	template := map[string]any{"type": "TemplateProcessing", "pair": []any{},
		"special_tokens": map[string]any{EndOfTextName: map[string]any{}},
		"single": []any{map[string]any{"SpecialToken": map[string]any{"id": EndOfTextName}},
			map[string]any{"Sequence": map[string]any{"id": "A"}}}}
	for path, values := range map[string][]any{
		"version":    {"2.0"},
		"truncation": {map[string]any{"max_length": 8}},
		"padding":    {map[string]any{"strategy": "BatchLongest"}},
		"normalizer": {map[string]any{"type": "Lowercase"},
			map[string]any{"type": "Sequence", "normalizers": []any{map[string]any{"type": "NFC"}}}},
		"pre_tokenizer": {nil, byteLevel("add_prefix_space", true), byteLevel("use_regex", false),
			byteLevel("other", 1), map[string]any{"type": "Digits"},
			map[string]any{"type": "Sequence", "pretokenizers": []any{map[string]any{"type": "Digits"},
				byteLevel("type", "ByteLevel")}}, map[string]any{"type": "ByteLevel"}, 7, []any{}},
		"post_processor":                  {template, map[string]any{"type": "BertProcessing"}},
		"decoder":                         {nil, map[string]any{"type": "WordPiece"}},
		"model.dropout":                   {0.1, "0"},
		"model.continuing_subword_prefix": {"##"},
		"model.end_of_word_suffix":        {"</w>"},
		"model.fuse_unk":                  {true},
		"model.byte_fallback":             {true},
		"model.ignore_merges":             {true},
		"model.new_setting":               {1},
		"new_component":                   {map[string]any{}},
	} {
		for _, v := range values {
			files := edit(t, tok).without(vocabName, mergesName).json(fastName, set(path, v)).files
			_, err := Load(files)
			var refused *Refusal
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), path) || v != nil &&
				!strings.Contains(err.Error(), string(compact(v))) {
				t.Errorf("%s %s: error %v", path, compact(v), err)
			}
			if _, err := Load(append(slices.Clone(files), pick(tok, same, vocabName, mergesName)...)); err == nil {
				t.Errorf("%s %s: accepted beside vocab.json", path, compact(v))
			}
		}
	}
	for key, v := range map[string]any{"add_prefix_space": true, "add_bos_token": true, "add_eos_token": true,
		"do_lower_case": true, "tokenizer_class": "BertTokenizer"} {
		_, err := Load(edit(t, tok).json(configName, set(key, v)).files)
		var refused *Refusal
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), key) ||
			!strings.Contains(err.Error(), string(compact(v))) {
			t.Errorf("%s %v: error %v", key, v, err)
		}
	}
	_, err := Load(edit(t, tok).json(fastName, add(299+1, "word", false)).files)
	if err == nil || !strings.Contains(err.Error(), `token "word" (id 300) is added with special false`) {
		t.Errorf("an added token that is not special: error %v", err)
	}
	_, err = Load(edit(t, tok).json(addedName, set("word", 300)).without(fastName).files)
	if err == nil || !strings.Contains(err.Error(), "is not marked as special by any file") {
		t.Errorf("an added token of which nothing is said: error %v", err)
	}
}

// What makes no difference is read.
func TestLoadAcceptsWhatMakesNoDifference(t *testing.T) {
	tok := trained(t)
	step := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true}
	template := map[string]any{"type": "TemplateProcessing", "special_tokens": map[string]any{},
		"single": []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}}, "pair": []any{}}
	for name, change := range map[string]func(map[string]any){
		"dropout of 0":      set("model.dropout", 0),
		"an unknown token":  set("model.unk_token", EndOfTextName),
		"no prefix":         set("model.continuing_subword_prefix", nil),
		"a sequence of one": set("pre_tokenizer", map[string]any{"type": "Sequence", "pretokenizers": []any{step}}),
		"an empty sequence": set("normalizer", map[string]any{"type": "Sequence", "normalizers": []any{}}),
		"no post-processor": set("post_processor", nil),
		"no type of the model": func(v map[string]any) { // as GPT-2's own file of 2019 is
			delete(v["model"].(map[string]any), "type")
			delete(v["pre_tokenizer"].(map[string]any), "use_regex")
		},
		"an empty template": set("post_processor",
			map[string]any{"type": "Sequence", "processors": []any{step, template}}),
		"decoder with prefix": set("decoder", map[string]any{"type": "ByteLevel", "add_prefix_space": true,
			"trim_offsets": true, "use_regex": true}),
	} {
		got, err := Load(edit(t, tok).without(vocabName, mergesName).json(fastName, change).files)
		if err != nil || got.Digest() != tok.Digest() {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestWithPad(t *testing.T) {
	tok := trained(t)
	bare, ok := tok.WithoutPad(tok.VocabSize()-1, NoToken)
	if !ok || bare.Pad() != NoToken || bare.VocabSize() != tok.VocabSize()-1 {
		t.Fatalf("without: %v", ok)
	}
	if back := bare.WithPad(); back.Digest() != tok.Digest() || back.Pad() != tok.Pad() {
		t.Error("with it again it is another tokenizer")
	}
	taken := tok.WithPad()
	if taken.Piece(taken.Pad()) != "<|pad_2|>" || !taken.Special(tok.Pad()) {
		t.Errorf("pad %q", taken.Piece(taken.Pad()))
	}
	if back, ok := taken.WithoutPad(tok.VocabSize(), tok.Pad()); !ok || back.Digest() != tok.Digest() {
		t.Error("the second padding token did not come off")
	}
	for _, pad := range []int32{0, taken.Pad(), 1 << 20} {
		if _, ok := taken.WithoutPad(tok.VocabSize(), pad); ok {
			t.Errorf("padding with %d", pad)
		}
	}
	reserved, err := Load(bare.Files(), ConfigIDs{File: "config.json", VocabSize: 310})
	if err != nil {
		t.Fatal(err)
	}
	if padded := reserved.WithPad(); padded.VocabSize() != 310 || padded.Pad() != 299 ||
		len(padded.SuppressTokens()) != 11 || padded.TokenCount() != 300 {
		t.Errorf("%d ids, pad %d, banned %v", padded.VocabSize(), padded.Pad(), padded.SuppressTokens())
	}
}

// FuzzFast reads hostile tokenizer.json and tokenizer_config.json.
func FuzzFast(f *testing.F) {
	tok := trained(f)
	files := tok.Files()
	f.Add(string(files[2].Data), string(files[3].Data), int32(7), 300)
	f.Add(`{"model":{"type":"BPE","vocab":{},"merges":[]},"normalizer":{"type":"Sequence","normalizers":[{"type":"Sequence"}]}}`, `{"eos_token":{"content":"a"}}`, int32(-1), 0)
	f.Add(`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a a"]},"added_tokens":[{"id":0,"content":"a","special":true}]}`, `{"added_tokens_decoder":{"0":{"content":"a"}}}`, int32(0), 9)
	f.Add(strings.Replace(string(files[2].Data), `"normalizer":null`, `"normalizer":{"type":"NFC"}`, 1),
		`{"extra_special_tokens":{"x":"a"}}`, int32(3), 1)
	f.Fuzz(func(t *testing.T, fast, config string, end int32, vocab int) {
		files := []File{{fastName, []byte(fast)}, {configName, []byte(config)}}
		fuzzed(t, files)
		if vocab < 0 || vocab > 1<<16 {
			return
		}
		if tok, err := Load(files, ConfigIDs{File: "config.json", End: []int32{end}, VocabSize: vocab}); err == nil {
			if !slices.Contains(tok.StopTokens(), end) || tok.VocabSize() < vocab ||
				slices.Contains(tok.SuppressTokens(), tok.EndOfText()) {
				t.Fatalf("ends %v, %d ids, banned %v", tok.StopTokens(), tok.VocabSize(), tok.SuppressTokens())
			}
			if padded := tok.WithPad(); padded.Pad() == NoToken || padded.Pad() == tok.Pad() {
				t.Fatal("no padding token")
			}
		}
	})
}

// FuzzPipeline reads hostile settings: what is accepted of a component is one of
// the forms that make no difference.
func FuzzPipeline(f *testing.F) {
	f.Add(`{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel","add_prefix_space":false}]},"decoder":{"type":"ByteLevel"}}`)
	f.Add(`{"version":"1.0","normalizer":{"type":"Sequence","normalizers":[]},"pre_tokenizer":null}`)
	f.Add(`{"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{}}}`)
	f.Add(`{"normalizer":{"type":"Sequence","normalizers":[{"type":"Sequence","normalizers":[{"type":"NFC"}]}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := readSettings([]byte(text))
		if err != nil || checkPipeline(s) != nil {
			return
		}
		for _, word := range []string{"Lowercase", "NFC", "Digits", "Metaspace", "Split", "SpecialToken"} {
			for key, raw := range s {
				if key != "added_tokens" && key != "model" && strings.Contains(compactJSON(raw), `"`+word+`"`) {
					t.Fatalf("%s is accepted: %s", key, raw)
				}
			}
		}
		if !strings.Contains(compactJSON(s["pre_tokenizer"]), `"ByteLevel"`) ||
			!strings.Contains(compactJSON(s["decoder"]), `"ByteLevel"`) {
			t.Fatalf("accepted without cutting: %s", text)
		}
	})
}
