package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// TestSmolLM2AgainstTransformers compares a published model with transformers on the same float32 weights: the logits of
// 200 tokens, and the greedy answers to 20 prompts. testdata/transformers/smollm2.py makes what it is compared with, in
// the folder of -smollm2.
func TestSmolLM2AgainstTransformers(t *testing.T) {
	if *smollm2 == "" {
		t.Skip("no -smollm2")
	}
	f, err := ReadWeights(filepath.Join(*smollm2, "hf"))
	if err != nil {
		t.Fatal(err)
	}
	pool := tensor.NewPool(0)
	defer pool.Close()
	ps := model.NewPass(pool)
	t.Run("logits", func(t *testing.T) { compareLogits(t, ps, f.Model) })
	t.Run("answers", func(t *testing.T) { compareAnswers(t, ps, f.Model) })
}

// numbers reads the words of a .npy file (numpy, format version 1).
func numbers(t *testing.T, name string) []uint32 {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(*smollm2, name))
	if err != nil {
		t.Fatal(err)
	}
	raw = raw[bytes.IndexByte(raw, '\n')+1:]
	x := make([]uint32, len(raw)/4)
	for i := range x {
		x[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return x
}

// compareLogits compares the logits of a text.
func compareLogits(t *testing.T, ps *model.Pass, m *model.Model) {
	var text []int32
	for _, x := range numbers(t, "tokens.npy") {
		text = append(text, int32(x))
	}
	ps.Infer(m, model.NewBatch(text))
	got, want := ps.Logits(m), numbers(t, "logits.npy")
	worst, top := 0., 0.
	for i, w := range want {
		x := float64(math.Float32frombits(w))
		top = max(top, math.Abs(x))
		worst = max(worst, math.Abs(x-float64(got[i])))
	}
	t.Logf("%d tokens: logits up to %.1f differ by %.1e, %.1e of that", len(text), top, worst, worst/top)
	if !(worst < 1e-4*top) || len(got) != len(want) {
		t.Errorf("logits differ by %g", worst)
	}
}

// compareAnswers compares greedy answers.
func compareAnswers(t *testing.T, ps *model.Pass, m *model.Model) {
	raw, err := os.ReadFile(filepath.Join(*smollm2, "greedy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Items []struct {
			Text           string
			Prompt, Answer []int32
			Margins        []float64
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var prompts [][]int32
	for _, item := range file.Items {
		prompts = append(prompts, item.Prompt)
	}
	o := model.SampleOptions{MaxNewTokens: len(file.Items[0].Answer)}
	equal := 0
	for i, s := range model.Generate(ps, m, prompts, o, draw.New(1, "greedy"), 0) {
		item := file.Items[i]
		if slices.Equal(s.Tokens, item.Answer) {
			equal++
			continue
		}
		at := 0
		for s.Tokens[at] == item.Answer[at] {
			at++
		}
		t.Errorf("%q: token %d is %d, not %d; the two best logits differ by %g there", item.Text, at, s.Tokens[at],
			item.Answer[at], item.Margins[at])
	}
	t.Logf("%d of %d answers of %d tokens are equal", equal, len(file.Items), o.MaxNewTokens)
}
