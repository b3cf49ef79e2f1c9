package pretrain

import (
	"flag"
	"math"
	"testing"
	"time"

	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

var numericsSteps = flag.Int("numerics-steps", 60,
	"in TestNumericsLearnAlike: the length of the two runs; the claim is about 500")

const (
	lastSteps = 20  // whose losses are averaged
	heldRows  = 256 // of text that is not trained on
	alike     = .01 // of a loss
)

// Training under v1-bf16 ends at the loss of v1, within 1 %: in the mean over
// the last 20 steps, and on text held out. It is the default model and
// settings on the starter world's text, with Tokens for -numerics-steps
// updates, so that the schedule of each run is completed.
func TestNumericsLearnAlike(t *testing.T) {
	if tensor.Implementation() == "portable" {
		t.Skip("slow, and the same bytes")
	}
	texts := worldTexts(600_000)
	words, err := tokenizer.Train(texts, 1024)
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := dataset.PackRows(words, texts, Defaults().BlockSize, draw.New(1, "pretrain", "pack"))
	rows = rows[:len(rows)-1] // the last may be short
	m := model.New(model.Config{Layers: 4, Width: 128, Heads: 4, Context: 128, Vocab: words.VocabSize()}, false)
	m.Init(draw.New(1, "pretrain", "init"))
	pool := tensor.NewPool(0)
	defer pool.Close()
	in := Inputs{Pool: pool, Seed: 1, Stage: "pretrain", Model: m, Rows: rows[heldRows:]}
	var losses [2][2]float64
	for i, n := range []tensor.Numerics{tensor.V1, tensor.V1BF16} {
		in.Numerics = n
		begin := time.Now()
		last, held := lossesOf(t, in, rows[:heldRows], *numericsSteps)
		losses[i] = [2]float64{last, held}
		t.Logf("%s: %.5f over the last %d of %d steps, %.5f on held-out text, %.1f s", n, last, lastSteps,
			*numericsSteps, held, time.Since(begin).Seconds())
	}
	for i, what := range []string{"over the last steps", "on held-out text"} {
		ratio := losses[1][i]/losses[0][i] - 1
		t.Logf("%s: %+.3f %%", what, 100*ratio)
		if !(math.Abs(ratio) <= alike) {
			t.Errorf("%s the loss is %.5f under v1 and %.5f under v1-bf16", what, losses[0][i], losses[1][i])
		}
	}
}

// worldTexts are about that many words of the default world's documents.
func worldTexts(n int) []string {
	var texts []string
	for _, d := range starter.New(1).Documents(n) {
		texts = append(texts, d.Body)
	}
	return texts
}

// lossesOf trains and gives the mean loss of the last steps, and that on held.
func lossesOf(t *testing.T, in Inputs, held [][]int32, steps int) (last, eval float64) {
	t.Helper()
	c := Defaults()
	c.Tokens = steps * c.BatchTokens
	tr := newTrainer(t, c, in)
	for i := range steps {
		r := step(t, tr, i)
		if i >= steps-lastSteps {
			last += value(t, r, "loss") / lastSteps
		}
	}
	s := tr.forwardBackward(held) // its gradient is not used
	return last, s.NLL / float64(s.Tokens)
}
