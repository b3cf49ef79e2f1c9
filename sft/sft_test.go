package sft

import (
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

var shape = model.Config{Layers: 2, Width: 16, Heads: 2, Context: 12, Vocab: 10}

// inputs ask with two letters and want them back in reverse, then the end (token 0).
func inputs() Inputs {
	m := model.New(shape, false)
	m.Init(draw.New(1, "toy"))
	in := Inputs{Seed: 5, Stage: "sft", Model: m}
	for a := int32(2); a < 8; a++ {
		for b := int32(2); b < 8; b++ {
			in.Examples = append(in.Examples, dataset.Sequence{Tokens: []int32{0, a, b, 1, b, a, 0}, PromptLen: 4})
		}
	}
	in.Examples[7].Tokens = []int32{0, 3, 1, 3, 0} // not all of one length
	in.Examples[7].PromptLen = 3
	in.Rows = [][]int32{{0, 2, 3, 4, 5}, {0, 7, 6, 5, 4}, {0, 9, 9, 9, 9}}
	in.Validation = in.Examples[:5]
	return in
}

func config() Config {
	c := Defaults()
	c.Epochs, c.Batch, c.Optim.LR = 2, 10, 1e-2
	return c
}

func newTrainer(t *testing.T, c Config, in Inputs) *Trainer {
	t.Helper()
	tr, err := New(c, in)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func step(t *testing.T, tr *Trainer, i int) trimtab.Report {
	t.Helper()
	r, err := tr.Step(context.Background(), i)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func stateOf(tr *Trainer) (all []float32) {
	for _, n := range tr.State() {
		all = append(all, n.Data...)
	}
	return all
}

func restore(tr *Trainer, state []float32) {
	for _, n := range tr.State() {
		state = state[copy(n.Data, state):]
	}
}

func value(t *testing.T, r trimtab.Report, name string) float64 {
	t.Helper()
	v, ok := r.Value(name)
	if !ok {
		t.Fatalf("no metric %s", name)
	}
	return v
}

func TestLearnsToReverse(t *testing.T) {
	c := config()
	c.Epochs, c.Batch = 60, 12
	tr := newTrainer(t, c, inputs())
	var r trimtab.Report
	for i := range tr.Steps() {
		r = step(t, tr, i)
	}
	if loss := value(t, r, "eval_loss"); loss > .5 {
		t.Errorf("the last loss on demonstrations is %g, want under .5", loss)
	}
	if acc := value(t, r, "eval_mean_token_accuracy"); acc < .7 {
		t.Errorf("the last accuracy on demonstrations is %g, want over .7", acc)
	}
	if e := value(t, r, "epoch"); e != 60 {
		t.Errorf("ended at epoch %g, want 60", e)
	}
}

// What a prompt holds is read and never learned: the loss does not change with the mask's other side.
func TestPromptIsMasked(t *testing.T) {
	in := inputs()
	ps := model.NewPass(nil)
	seqs := in.Examples[:9]
	got := forwardBackward(ps, in.Model, nil, seqs)
	want, n := 0.0, 0
	for _, s := range seqs {
		for at := s.PromptLen; at < len(s.Tokens); at++ {
			ps.Infer(in.Model, model.NewBatch(s.Tokens[:at]))
			rows := []model.HeadRow{{Row: at - 1, Target: s.Tokens[at]}}
			want -= float64(ps.LogProbs(in.Model, rows, 1).LogP[0])
			n++
		}
	}
	if got.Tokens != n || got.NLL != want {
		t.Errorf("loss %v over %d tokens, want %v over %d", got.NLL, got.Tokens, want, n)
	}
	if n != 9*3-1 {
		t.Errorf("%d response tokens, want 26", n)
	}
}

func TestResume(t *testing.T) {
	c := config()
	c.PretrainMix = .2
	whole := newTrainer(t, c, inputs())
	var state []float32
	for i := range whole.Steps() {
		want := step(t, whole, i)
		part := newTrainer(t, c, inputs())
		if state != nil {
			restore(part, state)
		}
		if r := step(t, part, i); !reflect.DeepEqual(r, want) {
			t.Fatalf("step %d reports other numbers after a restart", i)
		}
		state = stateOf(part)
	}
	if !slices.Equal(state, stateOf(whole)) {
		t.Error("other bytes after restarts")
	}
}

func TestWorkersDoNotShow(t *testing.T) {
	var want []float32
	for _, workers := range []int{1, 3} {
		in := inputs()
		in.Pool = tensor.NewPool(workers)
		tr := newTrainer(t, config(), in)
		for i := range 3 {
			step(t, tr, i)
		}
		in.Pool.Close()
		if want == nil {
			want = stateOf(tr)
		} else if !slices.Equal(want, stateOf(tr)) {
			t.Errorf("%d workers: other bytes", workers)
		}
	}
}

func TestBatches(t *testing.T) {
	tr := newTrainer(t, config(), inputs()) // 36 demonstrations, 2 epochs, 10 a step
	if tr.Steps() != 8 {
		t.Fatalf("%d steps, want 8", tr.Steps())
	}
	seen, evaluated := map[*int32]int{}, 0
	for i := range tr.Steps() {
		for _, s := range tr.batch(i, i*10, min(i*10+10, 72)) {
			seen[&s.Tokens[0]]++
		}
		if _, ok := step(t, tr, i).Value("eval_loss"); ok {
			evaluated++
		}
	}
	for _, s := range tr.in.Examples {
		if seen[&s.Tokens[0]] != 2 {
			t.Errorf("a demonstration was seen %d times, want 2", seen[&s.Tokens[0]])
		}
	}
	if evaluated != 2 {
		t.Errorf("%d measurements on validation, want one an epoch", evaluated)
	}
	if want := 2 * (35*7 + 5); tr.tokensSeen(72) != want {
		t.Errorf("%d tokens in all, want %d", tr.tokensSeen(72), want)
	}
}

func TestPretrainMix(t *testing.T) {
	c := config()
	c.PretrainMix = .3
	in := inputs()
	tr := newTrainer(t, c, in)
	if tr.Steps() != 11 { // 72 demonstrations, 7 a step
		t.Errorf("%d steps, want 11", tr.Steps())
	}
	batch := tr.batch(2, 14, 21)
	rows := 0
	for _, s := range batch {
		if s.PromptLen == 1 {
			rows++
		}
	}
	if len(batch) != 10 || rows != 3 {
		t.Errorf("%d sequences of which %d are rows, want 10 and 3", len(batch), rows)
	}
}

// The gradient of the whole loss through the model, against central differences along random directions.
func TestGradient(t *testing.T) {
	in := inputs()
	m, seqs, ps := in.Model, in.Examples[:9], model.NewPass(nil)
	g := m.NewGradient()
	forwardBackward(ps, m, g, seqs)
	gradient := m.FoldGradient(nil, g)
	before := slices.Clone(m.Slab)
	for k := range 4 {
		s := draw.New(8, "directions").At(uint64(k))
		direction := make([]float64, len(before))
		norm, want := 0.0, 0.0
		for i := range direction {
			direction[i] = s.Normal()
			norm += direction[i] * direction[i]
		}
		for i := range direction {
			direction[i] /= math.Sqrt(norm)
			want += direction[i] * float64(gradient[i])
		}
		at := func(x float64) float64 {
			for i := range before {
				m.Slab[i] = float32(float64(before[i]) + x*direction[i])
			}
			sums := forwardBackward(ps, m, nil, seqs)
			return sums.NLL / float64(sums.Tokens)
		}
		const h = 1.0 / 64
		got := (at(h) - at(-h)) / (2 * h)
		if math.Abs(got-want) > 2e-3*math.Abs(want)+1e-4 {
			t.Errorf("direction %d: differences say %.6g, the gradient %.6g", k, got, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config, *Inputs){
		"invalid_config":    func(c *Config, _ *Inputs) { c.Batch = 0 },
		"no_demonstrations": func(_ *Config, in *Inputs) { in.Examples = nil },
		"no_text":           func(c *Config, in *Inputs) { c.PretrainMix, in.Rows = .2, nil },
		"context_exceeded":  func(_ *Config, in *Inputs) { in.Examples[1].Tokens = make([]int32, 14) },
		"wrong_model":       func(_ *Config, in *Inputs) { in.Model = model.New(shape, true) },
	} {
		c, in := config(), inputs()
		change(&c, &in)
		if _, err := New(c, in); trimtab.AsError(err).Type != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := newTrainer(t, config(), inputs()).Step(ctx, 0); err == nil {
		t.Error("a cancelled step has no error")
	}
}

func TestValidate(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Fatalf("the defaults: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"num_train_epochs is 0": func(c *Config) { c.Epochs = 0 },
		"batch_size is 5000":    func(c *Config) { c.Batch = 5000 },
		"pretrain_mix is 1":     func(c *Config) { c.PretrainMix = 1 },
		"pretrain_mix is NaN":   func(c *Config) { c.PretrainMix = math.NaN() },
		"pretrain_mix is 0.9: ": func(c *Config) { c.Batch, c.PretrainMix = 4, .9 },
		"max_grad_norm: -1":     func(c *Config) { c.Optim.Clip = -1 },
	} {
		c := Defaults()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// Each field of Config makes a difference: none is written down and not read.
func TestEveryFieldIsRead(t *testing.T) {
	changes := map[string]func(*Config){
		"Epochs": func(c *Config) { c.Epochs = 5 }, "Batch": func(c *Config) { c.Batch = 9 },
		"PretrainMix": func(c *Config) { c.PretrainMix = .2 }, "Optim": func(c *Config) { c.Optim.LR /= 2 },
	}
	run := func(c Config) []float32 {
		tr := newTrainer(t, c, inputs())
		for i := range 4 {
			step(t, tr, i)
		}
		return stateOf(tr)
	}
	want := run(config())
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		c := config()
		changes[f.Name](&c)
		if slices.Equal(want, run(c)) {
			t.Errorf("%s is not read", f.Name)
		}
	}
}

func TestPassIsUnderTheNumerics(t *testing.T) {
	for given, want := range map[tensor.Numerics]tensor.Numerics{"": tensor.V1, tensor.V1: tensor.V1,
		tensor.V1BF16: tensor.V1BF16} {
		in := inputs()
		in.Numerics = given
		if got := newTrainer(t, config(), in).pass.Numerics(); got != want {
			t.Errorf("given %q the pass is under %q, want %q", given, got, want)
		}
	}
}
