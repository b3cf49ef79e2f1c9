package tokenizer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const sample = "The quick brown fox didn't jump: it's 1234 times, over the lazy dog's back.\n\n" +
	"  Indented\ttext, ünïcode — 漢字, émojis 🦊, ½ and Ⅷ.\n" +
	"The end of the text is <|endoftext|> and <|pad|>, as characters. the the then there\n"

func trained(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := Train([]string{sample}, 300)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestLayout(t *testing.T) {
	tok := trained(t)
	if tok.VocabSize() != 300 || tok.EndOfText() != 298 || tok.Pad() != 299 {
		t.Fatalf("vocab %d, end of text %d, pad %d", tok.VocabSize(), tok.EndOfText(), tok.Pad())
	}
	if got := []string{tok.Piece(0), tok.Piece(220), tok.Piece(298), tok.Piece(299), tok.Piece(300),
		tok.Piece(-1)}; !slices.Equal(got, []string{"!", " ", EndOfTextName, PadName, "", ""}) {
		t.Errorf("pieces %q", got)
	}
	if !slices.Equal(tok.SuppressTokens(), []int32{299}) {
		t.Errorf("ban %v", tok.SuppressTokens())
	}
}

func checkRoundTrip(t *testing.T, tok *Tokenizer, text string) {
	t.Helper()
	ids := tok.Encode(text)
	if got := tok.Decode(ids); string(got) != text {
		t.Fatalf("%.200q came back as %.200q", text, got)
	}
	for _, id := range ids {
		if tok.Special(id) || id < 0 || int(id) >= tok.VocabSize() {
			t.Fatalf("%.200q yields id %d", text, id)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	tok := trained(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, text := range []string{"", " ", "a", sample, EndOfTextName, EndOfTextName + PadName, string(every),
		"\xff\xfe \xc3", "a\u0085b\u00a0 c", strings.Repeat(" ", 1000)} {
		checkRoundTrip(t, tok, text)
	}
}

func TestDecodeDropsSpecialsAndStrangers(t *testing.T) {
	tok := trained(t)
	ids := append([]int32{tok.EndOfText(), -1, 1 << 30, tok.Pad()}, tok.Encode("dog")...)
	if got := tok.Decode(append(ids, tok.EndOfText())); string(got) != "dog" {
		t.Errorf("decoded %q", got)
	}
}

// words splits text with the scanner.
func words(text string) []string {
	var out []string
	for len(text) > 0 {
		n := wordLen(text)
		out, text = append(out, text[:n]), text[n:]
	}
	return out
}

// The expected words are what the pattern gives in Python's regex module, but
// for the strings that are not UTF-8.
func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"Hello world":           "Hello| world",
		"it's we'll I'd he'S":   "it|'s| we|'ll| I|'d| he|'|S",
		"''s 've'rex":           "''|s| '|ve|'re|x",
		"a  b":                  "a| | b",
		"a   b\n\n c":           "a|  | b|\n\n| c",
		"a\n\nb":                "a|\n|\n|b",
		"end  ":                 "end|  ",
		"  ":                    "  ",
		" \n":                   " \n",
		"x1234y":                "x|1234|y",
		"¾ and Ⅷ, ²":            "¾| and| Ⅷ|,| ²",
		"漢字か。!":                 "漢字か|。!",
		"tab\tx":                "tab|\t|x",
		"a\u00a0b\u3000\u3000c": "a|\u00a0|b|\u3000|\u3000|c",
		"e\u0301":               "e|\u0301",
		" \xff\xfe a":           " \xff\xfe| a",
		"<|endoftext|>":         "<|||endoftext|||>",
		"\u200b\u200bz":         "\u200b\u200b|z",
		"\x1c\x1c\x85\u0085":    "\x1c\x1c\x85|\u0085",
	} {
		if text == "<|endoftext|>" {
			want = "<|\x00endoftext\x00|>"
		} else {
			want = strings.ReplaceAll(want, "|", "\x00")
		}
		if got := strings.Join(words(text), "\x00"); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// naive is GPT-2's own procedure (openai/gpt-2, src/encoder.py, bpe): find the
// lowest rank, merge all its places from left to right, again.
func naive(tok *Tokenizer, word string) []int32 {
	var ids []int32
	for i := range len(word) {
		ids = append(ids, tok.bytes[word[i]])
	}
	for {
		best := int32(len(tok.merges))
		for i := range len(ids) - 1 {
			if r, ok := tok.rules[pairOf(ids[i], ids[i+1])]; ok {
				best = min(best, r.rank)
			}
		}
		if int(best) == len(tok.merges) {
			return ids
		}
		ids = mergePair(ids, tok.merges[best])
	}
}

func TestMergesAsGPT2Does(t *testing.T) {
	tok, err := Train([]string{strings.Repeat("aaa abab baab aabb bbbb abba aaaa babab ", 3)}, 275)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		word := make([]byte, 1+r.IntN(40))
		for i := range word {
			word[i] = "ab"[r.IntN(2)]
		}
		if got, want := tok.Encode(string(word)), naive(tok, string(word)); !slices.Equal(got, want) {
			t.Fatalf("%s: got %v, want %v", word, got, want)
		}
	}
}

// Ranks need not rise with ids in files from elsewhere: here (ab)(c) and
// (a)(bc) both make abc, and a pair with abc has a lower rank than the second.
func TestMergesOutOfOrder(t *testing.T) {
	tok := trained(t)
	vocab := map[string]int32{EndOfTextName: 256}
	for id := range int32(256) {
		vocab[bytesToUnicode(tok.Piece(id))] = id
	}
	for i, p := range []string{"ab", "bc", "abc", "abca"} {
		vocab[p] = 257 + int32(i)
	}
	lines := [][2]string{{"ab", "c"}, {"abc", "a"}, {"b", "c"}, {"a", "bc"}, {"a", "b"}}
	odd, err := assemble(bpeModel{vocab, lines}, sources{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		word := make([]byte, 1+r.IntN(24))
		for i := range word {
			word[i] = "abc"[r.IntN(3)]
		}
		if got, want := odd.Encode(string(word)), naive(odd, string(word)); !slices.Equal(got, want) {
			t.Fatalf("%s: got %v, want %v", word, got, want)
		}
	}
}

func TestHostileWordIsNotQuadratic(t *testing.T) {
	tok := trained(t)
	size := 10 << 20
	if testing.Short() {
		size = 1 << 20
	}
	r := rand.New(rand.NewPCG(5, 6))
	mixed := make([]byte, size)
	for i := range mixed {
		mixed[i] = "then"[r.IntN(4)]
	}
	start := time.Now()
	for _, text := range []string{strings.Repeat("t", size), string(mixed), strings.Repeat("!", size),
		strings.Repeat(" ", size)} {
		checkRoundTrip(t, tok, text)
	}
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("took %v", took)
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := trained(t)
	want := tok.Encode(sample)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 200 {
				tok.Encode(fmt.Sprint("word", i))
				if !slices.Equal(tok.Encode(sample), want) {
					t.Error("another result")
				}
			}
		})
	}
	group.Wait()
}

func TestCacheIsBoundedAndInvisible(t *testing.T) {
	tok := trained(t)
	for i := range maxCachedWords + 100 {
		tok.Encode(fmt.Sprintf("w%dx", i)[:2])
		tok.cache.put(fmt.Sprint(i), nil)
	}
	if n := len(tok.cache.words); n > maxCachedWords {
		t.Errorf("the cache holds %d words", n)
	}
	if got, want := tok.Encode("thethethe"), naive(tok, "thethethe"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTrainIsDeterministic(t *testing.T) {
	lines := strings.SplitAfter(sample, "\n")
	a, err := Train(lines, 290)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(lines)
	b, err := Train(lines, 290)
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest() != b.Digest() || !reflect.DeepEqual(a.Files(), b.Files()) {
		t.Error("the order of texts changed the vocabulary")
	}
	const golden = "sha256:dcfc4b6782dbc9f1d94c58e2b43b6f047a67a15127c90851c835838ba3547d5f"
	if a.Digest() != golden {
		t.Errorf("digest %s: the stored form or the learning has changed", a.Digest())
	}
}

func TestTrainTieBreak(t *testing.T) {
	tok, err := Train([]string{"ab\ncd\nef"}, 259) // each pair once
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Piece(256); got != "ef" {
		t.Errorf("merged %q first, want the greatest pair", got)
	}
}

func TestTrainRefuses(t *testing.T) {
	if _, err := Train([]string{sample}, 257); err == nil {
		t.Error("257 ids accepted")
	}
	_, err := Train([]string{"ab"}, 300)
	if err == nil || !strings.Contains(err.Error(), "259 at most") {
		t.Errorf("error %v", err)
	}
	if _, err := Train(nil, 258); err != nil {
		t.Errorf("bytes alone need no text: %v", err)
	}
}

func TestTrainLongWords(t *testing.T) {
	start := time.Now()
	if _, err := Train([]string{strings.Repeat("abcdefghij", 200_000)}, 270); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzRoundTrip(f *testing.F) {
	tok := trained(f)
	for _, s := range []string{"", sample, EndOfTextName, "a\xff\xf0\x9f b", "   \n\n  x", "'s'll'r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		checkRoundTrip(t, tok, string(text))
		if !bytes.Equal([]byte(strings.Join(words(string(text)), "")), text) {
			t.Fatal("words do not add up to the text")
		}
	})
}

func FuzzMerge(f *testing.F) {
	tok := trained(f)
	f.Add([]byte("thethere"))
	f.Fuzz(func(t *testing.T, word []byte) {
		if len(word) > 2000 {
			return
		}
		if got, want := tok.appendMerged(nil, string(word)), naive(tok, string(word)); !slices.Equal(got, want) {
			t.Fatalf("%q: got %v, want %v", word, got, want)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tok := trained(b)
	text := strings.Repeat(sample, 1<<20/len(sample))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.Encode(text)
	}
}
