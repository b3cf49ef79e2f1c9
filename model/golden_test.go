package model_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
)

// golden is what testdata/gen_golden.py writes: results of an independent
// GPT-2 in PyTorch, float64.
type golden struct {
	Config    model.Config
	Sequences [][]int32
	Language  struct {
		Loss     float64
		Logits   []float64
		Gradient map[string][]float64
	}
	Temperature struct {
		Loss     float64
		Gradient map[string][]float64
	}
	Scalar struct {
		Loss     float64
		Scores   []float64
		Gradient map[string][]float64
	}
	Torch, Tensorflow struct{ Losses, Norms []float64 }
}

func readGolden(t *testing.T) (golden, *model.Model) {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	m := model.New(g.Config, true)
	fillGolden(m)
	return g, m
}

// fillGolden repeats parameters() of gen_golden.py.
func fillGolden(m *model.Model) {
	scale := map[string][2]float64{
		"wte.weight": {.3, 0}, "wpe.weight": {.2, 0}, "ln_1.weight": {.2, 1}, "ln_2.weight": {.2, 1},
		"ln_f.weight":   {.2, 1},
		"c_attn.weight": {.4, 0}, "attn.c_proj.weight": {.2, 0}, "c_fc.weight": {.3, 0}, "mlp.c_proj.weight": {.2, 0},
		"score.weight": {.3, 0}, "score.bias": {.3, 0}, ".bias": {.1, 0},
	}
	state := uint64(12345)
	for _, p := range m.NamedParameters() {
		s := scale[longestSuffix(p.Name, scale)]
		for i := range p.Data {
			state = (1103515245*state + 12345) % (1 << 31)
			p.Data[i] = float32(float64((float64(state)/(1<<30)-1)*s[0]) + s[1])
		}
	}
}

func longestSuffix[T any](name string, of map[string]T) string {
	best := ""
	for s := range of {
		if len(s) <= len(name) && name[len(name)-len(s):] == s && len(s) > len(best) {
			best = s
		}
	}
	return best
}

// nextTokens are the rows of b that have a next token, and it.
func nextTokens(b model.Batch) []model.HeadRow {
	var rows []model.HeadRow
	for s := range b.Sequences() {
		for r := b.Starts[s]; r+1 < b.Starts[s+1]; r++ {
			rows = append(rows, model.HeadRow{Row: r, Target: b.Tokens[r+1]})
		}
	}
	return rows
}

// languageLoss is the mean negative log-likelihood of the next tokens; with g
// its gradient is accumulated there.
func languageLoss(ps *model.Pass, m *model.Model, g []float32, b model.Batch, invTemp float32) float64 {
	if g == nil {
		ps.Infer(m, b)
	} else {
		ps.Forward(m, b)
	}
	rows := nextTokens(b)
	loss := 0.
	model.EachLogProb(ps, m, g, rows, invTemp, func(_ int, logp, _ float32) float32 {
		loss -= float64(logp)
		return -1 / float32(len(rows))
	})
	if g != nil {
		ps.BackwardBody(m, g)
	}
	return loss / float64(len(rows))
}

// worst is the largest error of got, relative to the largest entry of want.
func worst[F float32 | float64](got []F, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	top, err := 0., 0.
	for i, w := range want {
		top = max(top, math.Abs(w))
		if d := math.Abs(float64(got[i]) - w); !(d <= err) {
			err = d
		}
	}
	if top == 0 {
		return err
	}
	return err / top
}

const goldenTolerance = 1e-5

func within(t *testing.T, what string, got, limit float64) {
	t.Helper()
	if !(got <= limit) {
		t.Errorf("%s: relative error %.2g, want at most %.2g", what, got, limit)
	}
}

func compareGradient(t *testing.T, m *model.Model, g []float32, want map[string][]float64) {
	t.Helper()
	all := 0.
	for _, p := range m.NamedViews(m.FoldGradient(nil, g), "") {
		e := worst(p.Data, want[p.Name])
		within(t, p.Name, e, goldenTolerance)
		all = max(all, e)
	}
	t.Logf("gradients: worst relative error %.2g", all)
}

func TestGoldenLogits(t *testing.T) {
	g, m := readGolden(t)
	ps := model.NewPass(nil)
	b := model.NewBatch(g.Sequences...)
	hidden := ps.Forward(m, b)
	wte, c, v := m.NamedParameters()[0].Data, g.Config.Width, g.Config.Vocab
	logits := make([]float64, b.Rows()*v)
	for r := range b.Rows() {
		for j := range v {
			for k := range c {
				logits[r*v+j] += float64(hidden[r*c+k]) * float64(wte[j*c+k])
			}
		}
	}
	e := worst(logits, g.Language.Logits)
	t.Logf("logits: worst relative error %.2g", e)
	within(t, "logits", e, goldenTolerance)
}

func TestGoldenLanguage(t *testing.T) {
	g, m := readGolden(t)
	ps := model.NewPass(nil)
	grad := m.NewGradient()
	loss := languageLoss(ps, m, grad, model.NewBatch(g.Sequences...), 1)
	within(t, "loss", math.Abs(loss/g.Language.Loss-1), goldenTolerance)
	compareGradient(t, m, grad, g.Language.Gradient)
}

func TestGoldenTemperature(t *testing.T) {
	g, m := readGolden(t)
	ps := model.NewPass(nil)
	grad := make([]float32, len(m.Slab)) // a plain slab is accepted as well
	loss := languageLoss(ps, m, grad, model.NewBatch(g.Sequences...), float32(1/.7))
	within(t, "loss", math.Abs(loss/g.Temperature.Loss-1), goldenTolerance)
	compareGradient(t, m, grad, g.Temperature.Gradient)
}

func TestGoldenScalar(t *testing.T) {
	g, m := readGolden(t)
	ps := model.NewPass(nil)
	b := model.NewBatch(g.Sequences...)
	ps.Forward(m, b)
	rows := make([]int, b.Rows())
	for i := range rows {
		rows[i] = i
	}
	scores := ps.ScalarHead(m, rows)
	within(t, "scores", worst(scores, g.Scalar.Scores), goldenTolerance)
	grad := m.NewGradient()
	ps.ScalarBackward(m, grad, rows, scores) // of Σ score²/2
	ps.BackwardBody(m, grad)
	compareGradient(t, m, grad, g.Scalar.Gradient)
}

func TestGoldenTenSteps(t *testing.T) {
	g, scored := readGolden(t)
	for _, style := range []string{optim.Torch, optim.TensorFlow} {
		t.Run(style, func(t *testing.T) {
			want := g.Torch
			if style == optim.TensorFlow {
				want = g.Tensorflow
			}
			m := model.New(g.Config, false)
			copy(m.Slab, scored.Slab)
			a := optim.New(optim.Config{LR: 1e-2, Beta1: .9, Beta2: .95, Eps: 1e-3, WeightDecay: .1, Clip: 1,
				Schedule: optim.Constant, EpsStyle: style}, len(m.Slab), m.DecayRanges())
			ps, grad, b := model.NewPass(nil), m.NewGradient(), model.NewBatch(g.Sequences...)
			losses, norms := make([]float64, 10), make([]float64, 10)
			for step := range 10 {
				clear(grad)
				losses[step] = languageLoss(ps, m, grad, b, 1)
				norm, _ := a.Step(m.Slab, m.FoldGradient(nil, grad), step, 10)
				norms[step] = float64(norm)
			}
			t.Logf("losses %.6f … %.6f: worst relative error %.2g, norms %.2g",
				losses[0], losses[9], worst(losses, want.Losses), worst(norms, want.Norms))
			within(t, "losses", worst(losses, want.Losses), goldenTolerance)
			within(t, "norms", worst(norms, want.Norms), goldenTolerance)
		})
	}
}
