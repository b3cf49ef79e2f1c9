package checkpoint

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// With -folders DIR the test writes the folders that gen_scores.py reads there.
var folders = flag.String("folders", "",
	"write exported models into this folder, for testdata/transformers/gen_scores.py")

// golden is what transformers makes of exported models.
type golden struct {
	Rewards map[string]scored `json:"rewards"`
	Answer  continued         `json:"answer"`
}

// scored are texts under AutoModelForSequenceClassification, in one padded batch and one by one.
type scored struct {
	IDs    [][]int32 `json:"ids"`
	Batch  []float64 `json:"batch"`
	Single []float64 `json:"single"`
}

// continued is a message list under pipeline("text-generation"), the likeliest token each time.
type continued struct {
	Prompt []int32 `json:"prompt"`
	IDs    []int32 `json:"ids"`
	Text   string  `json:"text"`
}

// chats are twenty questions with answers.
func chats() (list [][2]string) {
	asked := []string{"Where does Anna live?", "", " leading space", "Zoë, 漢字, 🦊", "a\n\nb"}
	answers := []string{"Anna lives in Oakton.", "No", " one space", "ö 漢 🦊 \u00a0x"}
	for _, q := range asked {
		for _, a := range answers {
			list = append(list, [2]string{q, a})
		}
	}
	return list
}

// rewardModels are reward models by name, each with its tokenizer.
func rewardModels(t testing.TB) map[string]func() (*model.Model, *tokenizer.Tokenizer) {
	make := func(words *tokenizer.Tokenizer, bias float32) (*model.Model, *tokenizer.Tokenizer) {
		m := model.New(model.Config{Layers: 2, Width: 32, Heads: 2, Context: 64, Vocab: words.VocabSize()}, true)
		m.Init(draw.New(3, "reward"))
		for i, p := range m.NamedParameters() {
			if strings.HasSuffix(p.Name, "ln_f.bias") || strings.HasSuffix(p.Name, "ln_f.weight") {
				s := draw.New(4, "norm").At(uint64(i))
				for j := range p.Data {
					p.Data[j] += float32(.3 * s.Normal())
				}
			}
		}
		_, b := m.ScoreHead()
		b[0] = bias
		return m, words
	}
	return map[string]func() (*model.Model, *tokenizer.Tokenizer){
		"padding token":    func() (*model.Model, *tokenizer.Tokenizer) { return make(chatWords(t), 0.7310586) },
		"no padding token": func() (*model.Model, *tokenizer.Tokenizer) { return make(withoutPad(t), -5.25) },
	}
}

func chatWords(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	words, err := tokenizer.Train([]string{"Where does Anna live? Anna lives in Oakton. No, Anna lives here."}, 280)
	if err != nil {
		t.Fatal(err)
	}
	return words
}

// withoutPad is chatWords without its last token, <|pad|>.
func withoutPad(t testing.TB) *tokenizer.Tokenizer {
	words := chatWords(t)
	bare, ok := words.WithoutPad(words.VocabSize()-1, tokenizer.NoToken)
	if !ok {
		t.Fatal("the padding token is not the last")
	}
	return bare
}

// languageModel32 is a model whose likeliest tokens are far apart.
func languageModel32(t testing.TB) (*model.Model, *tokenizer.Tokenizer) {
	words := chatWords(t)
	m := model.New(model.Config{Layers: 2, Width: 32, Heads: 2, Context: 64, Vocab: words.VocabSize()}, false)
	m.Init(draw.New(5, "language"))
	for i := range m.Slab {
		m.Slab[i] *= 3
	}
	return m, words
}

func TestTransformersScoresAsTrimtabDoes(t *testing.T) {
	if *folders != "" {
		writeFolders(t)
		return
	}
	g := readGolden(t)
	pool := tensor.NewPool(1)
	defer pool.Close()
	for name, make := range rewardModels(t) {
		m, words := make()
		scorer := reward.NewScorer(model.NewPass(pool), m)
		var ids [][]int32
		for _, c := range chats() {
			seq, _ := dataset.EncodeExample(words, c[0], c[1], m.Config.Context)
			ids = append(ids, seq.Tokens)
		}
		want := g.Rewards[name]
		if !slices.EqualFunc(want.IDs, ids, slices.Equal[[]int32]) {
			t.Errorf("%s: transformers reads other ids", name)
			continue
		}
		worst := 0.0
		for i, s := range scorer.Scores(ids) {
			worst = max(worst, math.Abs(want.Batch[i]-float64(s)), math.Abs(want.Single[i]-float64(s)))
		}
		if t.Logf("%s: at most %.2g apart over %d texts", name, worst, len(ids)); worst > 5e-6 || math.IsNaN(worst) {
			t.Errorf("%s: transformers' scores are up to %v off", name, worst)
		}
	}
}

func TestTransformersAnswersAsTrimtabDoes(t *testing.T) {
	g := readGolden(t).Answer
	m, words := languageModel32(t)
	pool := tensor.NewPool(1)
	defer pool.Close()
	prompt := dataset.EncodePrompt(words, "Where does Anna live?")
	if !slices.Equal(prompt, g.Prompt) {
		t.Errorf("transformers asks with %v, Trimtab with %v", g.Prompt, prompt)
	}
	got := model.Generate(model.NewPass(pool), m, [][]int32{prompt},
		model.SampleOptions{MaxNewTokens: len(g.IDs), StopTokens: words.StopTokens(),
			SuppressTokens: words.SuppressTokens()}, draw.New(1, "x"), 0)[0]
	text := strings.ToValidUTF8(string(words.Decode(got.Tokens)), "\ufffd")
	if !slices.Equal(got.Tokens, g.IDs) || text != g.Text {
		t.Errorf("transformers answers %v %q, Trimtab %v %q", g.IDs, g.Text, got.Tokens, text)
	}
}

func readGolden(t *testing.T) (g golden) {
	raw, err := os.ReadFile("testdata/transformers/golden.json")
	if err == nil {
		err = json.Unmarshal(raw, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func writeFolders(t *testing.T) {
	list, err := json.Marshal(chats())
	if err != nil {
		t.Fatal(err)
	}
	s := open(t)
	put := func(name string, m *model.Model, words *tokenizer.Tokenizer) {
		x, err := ExportForm(s, save(t, s, m, words))
		if err != nil {
			t.Fatal(err)
		}
		template, _ := dataset.ChatTemplate(x.Tokenizer)
		files := append(x.Files, blob("chat_template.jinja", string(template)), blob("chats.json", string(list)))
		if !m.Scalar {
			files = append(files, GenerationConfig(words, Sampling{Temperature: 1, MaxTokens: 12}))
		}
		if err := WriteFolder(filepath.Join(*folders, name), files); err != nil {
			t.Fatal(err)
		}
	}
	for name, make := range rewardModels(t) {
		m, words := make()
		put(name, m, words)
	}
	m, words := languageModel32(t)
	put("language", m, words)
	fmt.Println("now: python3 checkpoint/testdata/transformers/gen_scores.py", *folders)
}
