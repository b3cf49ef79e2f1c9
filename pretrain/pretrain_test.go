package pretrain

import (
	"context"
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train"
)

var shape = model.Config{Layers: 2, Width: 16, Heads: 2, Context: 8, Vocab: 11}

var _ train.Trainer = (*Trainer)(nil)

func inputs() Inputs {
	m := model.New(shape, false)
	m.Init(draw.New(1, "toy"))
	in := Inputs{Seed: 5, Stage: "pretrain", Model: m}
	s := draw.New(2, "rows").At()
	for range 10 { // counting upwards from a random number: learnable
		row := make([]int32, 8)
		first := s.IntN(10)
		for i := range row[1:] {
			row[i+1] = int32(1 + (first+i)%10)
		}
		in.Rows = append(in.Rows, row)
	}
	return in
}

func config() Config {
	c := Defaults()
	c.Tokens, c.BlockSize, c.BatchTokens = 8*4*60, 8, 8*4
	c.Optim.LR, c.Optim.Warmup = 2e-2, 2
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

// golden pins the bytes of the model that has learned to count: of every kernel.
const golden = "sha256:07a22679c0544ce0f4e472a8278345c2b1c07c4b18e060bfc3bde2b180775fe8"

func TestLearnsToCount(t *testing.T) {
	in := inputs()
	before := slices.Clone(in.Model.Slab)
	tr := newTrainer(t, config(), in)
	if tr.Steps() != 60 {
		t.Fatalf("%d steps, want 60", tr.Steps())
	}
	first := step(t, tr, 0)
	if loss := value(t, first, "loss"); math.Abs(loss-math.Log(11)) > .1 {
		t.Errorf("the first loss is %g, want about ln 11", loss)
	}
	var last trimtab.Report
	for i := 1; i < tr.Steps(); i++ {
		last = step(t, tr, i)
	}
	if loss := value(t, last, "loss"); loss > 1 {
		t.Errorf("the last loss is %g, want under 1", loss)
	}
	if acc := value(t, last, "mean_token_accuracy"); acc < .7 {
		t.Errorf("the last accuracy is %g, want over .7", acc)
	}
	if n := value(t, last, "num_tokens"); n != 8*4*60 {
		t.Errorf("%g tokens seen, want 1920", n)
	}
	if e := value(t, last, "epoch"); e != 24 {
		t.Errorf("epoch %g, want 24", e)
	}
	var b []byte
	for _, w := range tr.model.Slab {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(w))
	}
	if got := trimtab.DigestOf(b); got != golden {
		t.Errorf("the model is %s, want %s: if the bytes are meant to change, raise Version and write the new digest "+
			"here", got, golden)
	}
	if !slices.Equal(before, in.Model.Slab) {
		t.Error("the model given was changed")
	}
	if &tr.Result().Slab[0] == &tr.model.Slab[0] || !slices.Equal(tr.Result().Slab, tr.model.Slab) {
		t.Error("the result is not a copy of the model")
	}
}

func TestResume(t *testing.T) {
	whole := newTrainer(t, config(), inputs())
	var state []float32
	for i := range 7 {
		want := step(t, whole, i)
		part := newTrainer(t, config(), inputs())
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

func TestEveryRowOncePerEpoch(t *testing.T) {
	tr := newTrainer(t, config(), inputs())
	seen := map[*int32]int{}
	for i := range 5 { // 20 rows: two epochs of ten
		for _, row := range tr.batchAt(i) {
			seen[&row[0]]++
		}
	}
	for _, row := range tr.in.Rows {
		if seen[&row[0]] != 2 {
			t.Errorf("a row was seen %d times, want 2", seen[&row[0]])
		}
	}
	again := newTrainer(t, config(), inputs())
	if !reflect.DeepEqual(tr.batchAt(4), again.batchAt(4)) {
		t.Error("the rows of step 4 depend on what was asked before")
	}
}

// The gradient of the whole loss through the model, against central differences along random directions.
func TestGradient(t *testing.T) {
	tr := newTrainer(t, config(), inputs())
	rows := tr.batchAt(0)
	tr.forwardBackward(rows)
	gradient := slices.Clone(tr.model.FoldGradient(nil, tr.grad))
	before := slices.Clone(tr.model.Slab)
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
				tr.model.Slab[i] = float32(float64(before[i]) + x*direction[i])
			}
			sums := tr.forwardBackward(rows)
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
		"invalid_config":   func(c *Config, _ *Inputs) { c.Tokens = 1 },
		"no_text":          func(_ *Config, in *Inputs) { in.Rows = nil },
		"wrong_row":        func(_ *Config, in *Inputs) { in.Rows[3] = in.Rows[3][1:] },
		"context_exceeded": func(c *Config, _ *Inputs) { c.BlockSize, c.BatchTokens = 16, 16 },
		"wrong_model":      func(_ *Config, in *Inputs) { in.Model = model.New(shape, true) },
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
		"block_size is 1":     func(c *Config) { c.BlockSize = 1 },
		"batch_tokens is 32":  func(c *Config) { c.BatchTokens = 32 },
		"batch_tokens is 100": func(c *Config) { c.BatchTokens = 100 },
		"tokens is 0":         func(c *Config) { c.Tokens = 0 },
		"adam_beta1: 2":       func(c *Config) { c.Optim.Beta1 = 2 },
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
	changes := map[string]func(*Config, *Inputs){
		"Tokens": func(c *Config, _ *Inputs) { c.Tokens *= 2 },
		"BlockSize": func(c *Config, in *Inputs) {
			c.BlockSize = 4
			for i := range in.Rows {
				in.Rows[i] = in.Rows[i][:4]
			}
		},
		"BatchTokens": func(c *Config, _ *Inputs) { c.BatchTokens *= 2 },
		"Optim":       func(c *Config, _ *Inputs) { c.Optim.LR /= 2 },
	}
	run := func(c Config, in Inputs) []float32 {
		tr := newTrainer(t, c, in)
		for i := range 4 {
			step(t, tr, i)
		}
		return stateOf(tr)
	}
	want := run(config(), inputs())
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		c, in := config(), inputs()
		changes[f.Name](&c, &in)
		if slices.Equal(want, run(c, in)) {
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
