package tokenizer

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestLoadWhatFilesWrite(t *testing.T) {
	tok := trained(t)
	got, err := Load(tok.Files())
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest() != tok.Digest() || !reflect.DeepEqual(got.Files(), tok.Files()) {
		t.Error("other files")
	}
	if got.EndOfText() != tok.EndOfText() || got.Pad() != tok.Pad() ||
		!slices.Equal(got.Encode(sample), tok.Encode(sample)) {
		t.Error("another tokenizer")
	}
}

func TestFilesAreHuggingFaces(t *testing.T) {
	tok := trained(t)
	var names []string
	data := make(map[string][]byte)
	for _, f := range tok.Files() {
		names = append(names, f.Name)
		data[f.Name] = f.Data
	}
	if !slices.IsSorted(names) || len(names) != 5 {
		t.Errorf("files %v", names)
	}
	if head, _, _ := strings.Cut(string(data["merges.txt"]), "\n"); head != "#version: 0.2" {
		t.Errorf("merges.txt begins with %q", head)
	}
	for _, name := range names {
		var v map[string]any
		if name != "merges.txt" && json.Unmarshal(data[name], &v) != nil {
			t.Errorf("%s is not JSON", name)
		}
	}
	var special map[string]string
	if err := json.Unmarshal(data["special_tokens_map.json"], &special); err != nil {
		t.Fatal(err)
	}
	if special["eos_token"] != EndOfTextName || special["pad_token"] != PadName {
		t.Errorf("special tokens %v", special)
	}
	if !strings.HasPrefix(string(data["vocab.json"]), `{"!":0,"\"":1,"#":2,`) {
		t.Errorf("vocab.json begins with %.40s", data["vocab.json"])
	}
}

// pick returns tok's files of these names, changed.
func pick(tok *Tokenizer, change func(name, data string) string, names ...string) []File {
	var out []File
	for _, f := range tok.Files() {
		if slices.Contains(names, f.Name) {
			out = append(out, File{f.Name, []byte(change(f.Name, string(f.Data)))})
		}
	}
	return out
}

func same(_, data string) string { return data }

func TestLoadFewerFiles(t *testing.T) {
	tok := trained(t)
	for _, names := range [][]string{{"vocab.json", "merges.txt"}, {"tokenizer.json"},
		{"tokenizer.json", "vocab.json"}} {
		got, err := Load(pick(tok, same, names...))
		if err != nil || got.Digest() != tok.Digest() {
			t.Errorf("%v: error %v", names, err)
		}
	}
}

func TestLoadOtherForms(t *testing.T) {
	tok := trained(t)
	for name, files := range map[string][]File{
		"no version, CRLF": pick(tok, func(name, data string) string {
			if name != "merges.txt" {
				return data
			}
			_, rest, _ := strings.Cut(data, "\n")
			return strings.ReplaceAll(rest, "\n", "\r\n")
		}, "vocab.json", "merges.txt"),
		"merges as lists": pick(tok, func(_, data string) string {
			head, merges, _ := strings.Cut(data, `"merges":[`)
			merges = strings.TrimSuffix(merges, "]}}")
			var lines []string
			if err := json.Unmarshal([]byte("["+merges+"]"), &lines); err != nil {
				t.Fatal(err)
			}
			pairs := make([][]string, len(lines))
			for i, line := range lines {
				pairs[i] = strings.Split(line, " ")
			}
			return head + `"merges":` + string(compact(pairs)) + "}}"
		}, "tokenizer.json"),
		"special tokens as objects": append(pick(tok, same, "vocab.json", "merges.txt"),
			File{"special_tokens_map.json",
				[]byte(`{"eos_token":{"content":"<|endoftext|>","lstrip":false},"pad_token":{"content":"<|pad|>"}}`)}),
		"padded with the end of text": append(pick(tok, same, "vocab.json", "merges.txt"),
			File{"special_tokens_map.json", []byte(`{"eos_token":"<|endoftext|>","pad_token":"<|endoftext|>"}`)}),
	} {
		got, err := Load(files)
		if err != nil || got.Digest() != tok.Digest() {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestLoadOtherNamesOfSpecialTokens(t *testing.T) {
	tok := trained(t)
	files := pick(tok, func(_, data string) string {
		return strings.NewReplacer(EndOfTextName, "</s> end", PadName, "[PAD]").Replace(data)
	}, "vocab.json", "merges.txt", "special_tokens_map.json")
	got, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	if got.Piece(got.EndOfText()) != "</s> end" || got.Piece(got.Pad()) != "[PAD]" {
		t.Errorf("special tokens %q, %q", got.Piece(got.EndOfText()), got.Piece(got.Pad()))
	}
	again, err := Load(got.Files())
	if err != nil || again.Digest() != got.Digest() {
		t.Errorf("stored and loaded: error %v", err)
	}
	checkRoundTrip(t, got, "[PAD] </s> end")
}

func TestLoadRefuses(t *testing.T) {
	tok := trained(t)
	last := tok.mergeLines()[0]
	left, right, _ := strings.Cut(last, " ")
	both := []string{"vocab.json", "merges.txt"}
	replace := func(file, old, with string) []File {
		return pick(tok, func(name, data string) string {
			if name != file {
				return data
			}
			if !strings.Contains(data, old) {
				t.Fatalf("%s has no %q", file, old)
			}
			return strings.Replace(data, old, with, 1)
		}, both...)
	}
	for name, c := range map[string]struct {
		files []File
		want  string
	}{
		"nothing":          {nil, "needs vocab.json"},
		"no merges":        {pick(tok, same, "vocab.json"), "needs vocab.json and merges.txt"},
		"no JSON":          {replace("vocab.json", "{", "["), "found ["},
		"more":             {append(pick(tok, same, "merges.txt"), File{"vocab.json", []byte("{}{}")}), "more data"},
		"name twice":       {replace("vocab.json", `"#":2`, `"!":2`), "occurs twice"},
		"id twice":         {replace("vocab.json", `"#":2`, `"#":1`), "each once"},
		"id too large":     {replace("vocab.json", `"#":2`, `"#":300`), "each once"},
		"id negative":      {replace("vocab.json", `"#":2`, `"#":-2`), "each once"},
		"id no integer":    {replace("vocab.json", `"#":2`, `"#":2.5`), `id of "#"`},
		"id too wide":      {replace("vocab.json", `"#":2`, `"#":4294967298`), `id of "#"`},
		"byte lacking":     {replace("vocab.json", `"#":2`, `"##":2`), "single byte 0x23"},
		"no byte":          {replace("vocab.json", `"#":2`, `"#漢":2`), "stands for no byte"},
		"no end of text":   {replace("vocab.json", EndOfTextName, "<end>"), "no " + EndOfTextName},
		"merge of one":     {replace("merges.txt", last, left), "line 2"},
		"merge of three":   {replace("merges.txt", last, last+" x"), "line 2"},
		"merge of a gap":   {replace("merges.txt", last, left+"  "+right), "line 2"},
		"merge unknown":    {replace("merges.txt", last, "漢 x"), "not in the vocabulary"},
		"merge makes none": {replace("merges.txt", last, "q q"), `"qq" is not in the vocabulary`},
		"merge twice":      {replace("merges.txt", last, last+"\n"+last), "occurs twice"},
		"special map bad": {append(pick(tok, same, both...),
			File{"special_tokens_map.json", []byte(`{"eos_token":7}`)}), "eos_token"},
		"special is a byte": {append(pick(tok, same, both...),
			File{"special_tokens_map.json", []byte(`{"eos_token":"!"}`)}), "single byte 0x21"},
		"special is merged": {append(pick(tok, same, both...),
			File{"special_tokens_map.json", compact(map[string]string{"eos_token": left + right})}),
			"which text cannot produce"},
		"not BPE": {[]File{{"tokenizer.json", []byte(`{"model":{"type":"Unigram","vocab":{}}}`)}},
			"only BPE"},
		"two ids": {pick(tok, func(_, d string) string { return strings.Replace(d, `"id":298`, `"id":1`, 1) },
			"tokenizer.json"), "has the ids"},
		"fast merge": {[]File{{"tokenizer.json",
			[]byte(`{"model":{"type":"BPE","vocab":{},"merges":[["a"]]}}`)}}, "merge 0"},
	} {
		if _, err := Load(c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// fuzzed checks a tokenizer that hostile files made.
func fuzzed(t *testing.T, files []File) {
	tok, err := Load(files)
	if err != nil {
		return
	}
	checkRoundTrip(t, tok, sample)
	checkRoundTrip(t, tok, "abcabc"+tok.Piece(tok.EndOfText())+tok.Piece(tok.Pad()))
	again, err := Load(tok.Files())
	if err != nil || again.Digest() != tok.Digest() {
		t.Fatalf("stored and loaded: error %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	tok := trained(f)
	files := tok.Files()
	f.Add(string(files[4].Data), string(files[0].Data), string(files[1].Data))
	f.Add(`{"a":0,"a":1}`, "a b", `{"pad_token":{}}`)
	f.Add(`{"`+EndOfTextName+`":0}`, "#version\na b\n", "null")
	f.Fuzz(func(t *testing.T, vocab, merges, special string) {
		fuzzed(t, []File{{"vocab.json", []byte(vocab)}, {"merges.txt", []byte(merges)},
			{"special_tokens_map.json", []byte(special)}})
	})
}

// FuzzMerges keeps the bytes and lets the input choose what is merged, so that
// most inputs are accepted and odd orders of merges are met.
func FuzzMerges(f *testing.F) {
	f.Add("ab bc abc", "ab c\nabc a\nb c\na bc\na b", "abcabcaabbcc")
	f.Add("aa aaa aaaa", "aa a\na aa\na a\naa aa", "aaaaaaaaaa")
	f.Fuzz(func(t *testing.T, extra, merges, text string) {
		vocab := map[string]int32{EndOfTextName: 256}
		for id, b := range byteByID {
			vocab[bytesToUnicode(string([]byte{b}))] = int32(id)
		}
		for _, name := range strings.Fields(extra) {
			if _, known := vocab[name]; !known {
				vocab[name] = int32(len(vocab))
			}
		}
		tok, err := Load([]File{{"vocab.json", compact(vocab)}, {"merges.txt", []byte(merges)}})
		if err != nil || len(text) > 500 {
			return
		}
		checkRoundTrip(t, tok, text)
		if got, want := tok.appendMerged(nil, text), naive(tok, text); !slices.Equal(got, want) {
			t.Fatal(fmt.Sprint("got ", got, ", want ", want))
		}
	})
}

func TestLoadTruncatedFiles(t *testing.T) {
	tok := trained(t)
	for _, f := range tok.Files() {
		for n := 0; n < len(f.Data); n += 37 {
			files := slices.Clone(tok.Files())
			for i := range files {
				if files[i].Name == f.Name {
					files[i].Data = f.Data[:n]
				}
			}
			fuzzed(t, files)
		}
	}
}
