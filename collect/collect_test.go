package collect

import (
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/tokenizer"
)

// newTrainer returns a stage over a small untrained model and prompts of the starter world.
func newTrainer(t *testing.T, batch int) *Trainer {
	t.Helper()
	world := starter.New(1)
	prompts := world.Prompts(1 << 10)[:12]
	var texts []string
	for _, p := range prompts {
		texts = append(texts, p.Text)
	}
	tok, err := tokenizer.Train(texts, 280)
	if err != nil {
		t.Fatal(err)
	}
	m := model.New(model.Config{Layers: 1, Width: 16, Heads: 2, Context: 96, Vocab: tok.VocabSize()}, false)
	c := Defaults()
	c.Prompts, c.HeldOut, c.MaxNewTokens, c.Batch, c.World = 8, 3, 6, batch, 1
	trainer, err := New(c, Inputs{Seed: 2, Stage: "collect", Model: m, Tokenizer: tok, Prompts: prompts})
	if err != nil {
		t.Fatal(err)
	}
	return trainer
}

// run takes all steps.
func run(t *testing.T, trainer *Trainer) {
	t.Helper()
	for step := range trainer.Steps() {
		if _, err := trainer.Step(t.Context(), step); err != nil {
			t.Fatal(err)
		}
	}
}

// Response i draws by its own number: batches of other sizes give the same responses.
func TestBatchesChangeNoResponse(t *testing.T) {
	small, large := newTrainer(t, 2), newTrainer(t, 64)
	run(t, small)
	run(t, large)
	if small.Steps() != 6 || large.Steps() != 1 {
		t.Errorf("%d and %d steps", small.Steps(), large.Steps())
	}
	n := small.Responses().Len()
	if n < 11*4 || n > 11*9 {
		t.Errorf("%d responses to 11 prompts", n)
	}
	for i := range n {
		if a, b := small.Responses().At(i), large.Responses().At(i); !slices.Equal(a, b) || len(a) == 0 {
			t.Errorf("response %d is %v in small batches and %v in a large one", i, a, b)
		}
	}
}

// The prompts after the first config.Prompts are ranked as held-out ones, and
// every ranking has different responses of the model.
func TestRankings(t *testing.T) {
	trainer := newTrainer(t, 64)
	run(t, trainer)
	rankings, metrics, err := trainer.Rankings()
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, r := range rankings {
		if r.Split == trimtab.SplitTest {
			held++
		}
		seen := map[string]bool{}
		for _, resp := range r.Responses {
			if seen[string(resp.Bytes)] || len(resp.Bytes) == 0 {
				t.Errorf("the responses to %q hold %q twice, or an empty one", r.Prompt, resp.Bytes)
			}
			seen[string(resp.Bytes)] = true
		}
	}
	if held == 0 || held > 3 || len(rankings)-held > 8 {
		t.Errorf("%d rankings, of them %d held out", len(rankings), held)
	}
	report := trimtab.Report{Metrics: metrics}
	if n, ok := report.Value("rankings"); !ok || int(n) != len(rankings) {
		t.Errorf("the metric rankings is %v, %v", n, ok)
	}
}

func TestTooFewPrompts(t *testing.T) {
	trainer := newTrainer(t, 64)
	in := trainer.in
	in.Prompts = in.Prompts[:5]
	if _, err := New(trainer.config, in); trimtab.AsError(err).Type != "too_few_prompts" {
		t.Errorf("5 prompts for 11: %v", err)
	}
}
