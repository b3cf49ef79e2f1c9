package tokenizer

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tiktoken-go/tokenizer/codec"
)

// fixture reads a file of the shared data, from the folder that
// TRIMTAB_SHARED names or from shared/data beside the repository.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	for _, dir := range []string{os.Getenv("TRIMTAB_SHARED"), "../../shared/data", "../shared/data"} {
		if dir == "" {
			continue
		}
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return data
		}
	}
	t.Skipf("the shared data has no %s: set TRIMTAB_SHARED to the folder that holds it", name)
	return nil
}

// The reference trainer puts <|endoftext|> at id 0, the bytes after it, and
// then the merges; ours puts the special tokens last.
func TestTrainMatchesReference(t *testing.T) {
	corpus := fixture(t, "tokenizer/corpus.en")
	var want map[string]int32
	if err := json.Unmarshal(fixture(t, "tokenizer/train-bpe-reference-vocab.json"), &want); err != nil {
		t.Fatal(err)
	}
	tok, err := Train([]string{string(corpus)}, len(want)+1) // we have one special token more
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int32{EndOfTextName: 0}
	for id := range tok.EndOfText() {
		got[tok.fileName(id)] = id + 1
	}
	if !maps.Equal(got, want) {
		t.Error("the vocabulary differs")
	}
	merges := strings.Split(strings.TrimSpace(string(fixture(t, "tokenizer/train-bpe-reference-merges.txt"))), "\n")
	if !slices.Equal(tok.mergeLines(), merges) {
		t.Error("the merges differ")
	}
}

func gpt2Text(t testing.TB) string {
	text := sample + string(fixture(t, "tokenizer/tinystories_sample.txt"))
	text += string(fixture(t, "tokenizer/corpus.en")) + string(fixture(t, "text/tinyshakespeare.txt"))
	return text
}

func loadGPT2(t testing.TB) *Tokenizer {
	tok, err := Load([]File{
		{"vocab.json", fixture(t, "tokenizer/gpt2_vocab.json")},
		{"merges.txt", fixture(t, "tokenizer/gpt2_merges.txt")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestGPT2IsOpenAIsVocabulary(t *testing.T) {
	ours, err := GPT2()
	if err != nil {
		t.Fatal(err)
	}
	if got := loadGPT2(t).Digest(); got != ours.Digest() {
		t.Errorf("the published files give %s, r50k_base gives %s", got, ours.Digest())
	}
}

func TestTinyShakespeareHas338025Tokens(t *testing.T) {
	text := string(fixture(t, "text/tinyshakespeare.txt"))
	if n := len(loadGPT2(t).Encode(text)); n != 338025 {
		t.Errorf("%d tokens", n)
	}
}

func TestGPT2MatchesTiktoken(t *testing.T) {
	ours, err := GPT2()
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string) {
		ids, _, err := codec.NewR50kBase().Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]int32, len(ids))
		for i, id := range ids {
			want[i] = int32(id)
		}
		if got := ours.Encode(text); !slices.Equal(got, want) {
			t.Errorf("%.100q: got %.200v, want %.200v", text, got, want)
		}
	}
	for _, text := range []string{sample, EndOfTextName, "a\n\n b", "  x  ", "'s'S'll", "ö漢字🦊½Ⅷ\u00a0\u3000\u2028x",
		"\u0085\u180e\u200b\ufeff"} {
		check(text)
	}
	check(mixture(20_000))
	for _, line := range strings.SplitAfter(gpt2Text(t), "\n\n") {
		check(line)
	}
}

// mixture is random text of characters from different classes of the pattern.
func mixture(n int) string {
	r := rand.New(rand.NewPCG(7, 8))
	alphabet := []rune("aetsdmrvl '''   \n\t19½é漢-,.!\u00a0\u0301🦊Ⅷ\u3000\u2028")
	out := make([]rune, n)
	for i := range out {
		out[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(out)
}

func BenchmarkEncodeGPT2(b *testing.B) {
	tok, err := GPT2()
	if err != nil {
		b.Fatal(err)
	}
	text := string(fixture(b, "text/tinyshakespeare.txt"))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.Encode(text)
	}
}

func BenchmarkEncodeCold(b *testing.B) {
	tok := loadGPT2(b)
	text := string(fixture(b, "text/tinyshakespeare.txt"))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.cache = newWordCache()
		tok.Encode(text)
	}
}

func BenchmarkTrain(b *testing.B) {
	text := []string{string(fixture(b, "text/tinyshakespeare.txt"))}
	b.SetBytes(int64(len(text[0])))
	for b.Loop() {
		if _, err := Train(text, 4096); err != nil {
			b.Fatal(err)
		}
	}
}
