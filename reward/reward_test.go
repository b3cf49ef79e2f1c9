package reward

import (
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

var shape = model.Config{Layers: 2, Width: 16, Heads: 2, Context: 12, Vocab: 10}

// inputs rank responses by how many sevens they hold; equal counts are tied.
func inputs() Inputs {
	m := model.New(shape, false)
	m.Init(draw.New(1, "toy"))
	in := Inputs{Seed: 5, Stage: "reward", Model: m}
	for i := range 30 {
		in.Rankings = append(in.Rankings, ranking(draw.New(3, "rankings").At(uint64(i)), 2+i%4))
	}
	in.Rankings[4].Ranks = []int{1, 1} // nothing to learn
	in.Validation = in.Rankings[:6]
	in.Demonstrations = [][]int32{{0, 1, 7, 7, 0}, {0, 1, 3, 0}, {0, 2, 1, 5, 6, 0}}
	return in
}

func ranking(s *draw.Stream, k int) Ranking {
	r := Ranking{Ranks: make([]int, k)}
	prompt := []int32{0, int32(2 + s.IntN(8)), 1}
	for i := range k {
		seq := slices.Clone(prompt)
		for range 2 + s.IntN(5) {
			id := int32(2 + s.IntN(8))
			if s.Bool(.3) {
				id = 7
			}
			if id == 7 {
				r.Ranks[i]--
			}
			seq = append(seq, id)
		}
		r.Sequences = append(r.Sequences, append(seq, 0))
	}
	r.Ranks = trimtab.DenseRanks(r.Ranks)
	if r.pairs() == 0 {
		r.Ranks[0] = 2
	}
	return r
}

func config() Config {
	c := Defaults()
	c.Epochs, c.Batch, c.Optim.LR, c.Optim.Warmup = 2, 4, 1e-2, 0
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

func TestLearnsToCountSevens(t *testing.T) {
	c := config()
	c.Epochs = 12
	tr := newTrainer(t, c, inputs())
	first := step(t, tr, 0)
	var r trimtab.Report
	for i := 1; i < tr.Steps(); i++ {
		r = step(t, tr, i)
	}
	if a, b := value(t, first, "loss"), value(t, r, "eval_loss"); b > a/2 {
		t.Errorf("the loss went from %g to %g", a, b)
	}
	if a := value(t, r, "eval_accuracy"); a < .9 {
		t.Errorf("accuracy %g, want over .9", a)
	}
	low, mean, high := value(t, r, "min_reward"), value(t, r, "mean_reward"), value(t, r, "max_reward")
	if !(low < mean && mean < high) || value(t, r, "eval_margin") < .5 {
		t.Errorf("rewards %g, %g, %g, margin %g", low, mean, high, value(t, r, "eval_margin"))
	}
	var fresh []Ranking
	for i := range 100 {
		fresh = append(fresh, ranking(draw.New(4, "fresh").At(uint64(i)), 4))
	}
	if a := Evaluate(model.NewPass(nil), tr.Result(), fresh).Accuracy(); a < .85 {
		t.Errorf("accuracy on fresh rankings %g, want over .85", a)
	}
}

func TestDemonstrationsScoreZero(t *testing.T) {
	in := inputs()
	tr := newTrainer(t, config(), in)
	for i := range 3 {
		step(t, tr, i)
	}
	before := stateOf(tr)
	m := tr.Result()
	mean := 0.0
	for _, s := range NewScorer(model.NewPass(nil), m).Scores(in.Demonstrations) {
		mean += float64(s) / 3
	}
	near(t, "mean score of the demonstrations", mean, 0, 1e-6)
	if !slices.Equal(m.Slab, tr.Result().Slab) {
		t.Error("the result differs the second time")
	}
	if !slices.Equal(before, stateOf(tr)) {
		t.Error("asking for the result changed the state")
	}
	a, b := Evaluate(model.NewPass(nil), m, in.Validation), Evaluate(model.NewPass(nil), tr.model, in.Validation)
	if a.Correct != b.Correct {
		t.Error("the bias changed the order of responses")
	}
}

func TestResume(t *testing.T) {
	whole := newTrainer(t, config(), inputs())
	var state []float32
	for i := range whole.Steps() {
		want := step(t, whole, i)
		part := newTrainer(t, config(), inputs())
		if state != nil {
			restore(part, state)
		}
		if r := step(t, part, i); !reflect.DeepEqual(r, want) {
			t.Fatalf("step %d reports other numbers after a restart", i)
		}
		state = stateOf(part)
		if i == whole.Steps()-1 && !slices.Equal(part.Result().Slab, whole.Result().Slab) {
			t.Error("the result has other bytes after restarts")
		}
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
		got := append(stateOf(tr), tr.Result().Slab...)
		in.Pool.Close()
		if want == nil {
			want = got
		} else if !slices.Equal(want, got) {
			t.Errorf("%d workers: other bytes", workers)
		}
	}
}

// A ranking without a pair is left out, and every other is one batch element once an epoch.
func TestBatches(t *testing.T) {
	tr := newTrainer(t, config(), inputs())
	if len(tr.in.Rankings) != 29 || tr.Steps() != 15 {
		t.Fatalf("%d rankings in %d steps, want 29 in 15", len(tr.in.Rankings), tr.Steps())
	}
	seen := map[*int]int{}
	for i := range tr.Steps() {
		for _, r := range tr.batch(i*4, min(i*4+4, 58)) {
			seen[&r.Ranks[0]]++
		}
	}
	tokens := 0
	for _, r := range tr.in.Rankings {
		tokens += 2 * r.tokens()
		if seen[&r.Ranks[0]] != 2 {
			t.Errorf("a ranking was seen %d times, want 2", seen[&r.Ranks[0]])
		}
	}
	if tr.tokensSeen(58) != tokens {
		t.Errorf("%d tokens in all, want %d", tr.tokensSeen(58), tokens)
	}
}

// A prompt with many responses weighs as much as one with two: the batch loss is the mean of the rankings' own.
func TestPromptsWeighAlike(t *testing.T) {
	in := inputs()
	tr := newTrainer(t, config(), in)
	want := 0.0
	for _, r := range tr.in.Rankings[:5] {
		want += Evaluate(model.NewPass(nil), tr.model, []Ranking{r}).LossSum / 5
	}
	all := Evaluate(model.NewPass(nil), tr.model, tr.in.Rankings[:5])
	near(t, "loss", all.LossSum/5, want, 1e-12)
}

// The head reads the last token, and a score does not depend on its neighbours.
func TestScores(t *testing.T) {
	tr := newTrainer(t, config(), inputs())
	seqs := [][]int32{{0, 1, 7, 0}, {0, 3}, {0, 1, 2, 3, 4, 5}}
	together := NewScorer(model.NewPass(nil), tr.model).Scores(seqs)
	weight, bias := tr.model.ScoreHead()
	for i, s := range seqs {
		hidden := model.NewPass(nil).Infer(tr.model, model.NewBatch(s))
		want := tensor.Dot(hidden[(len(s)-1)*16:], weight) + bias[0]
		if together[i] != want {
			t.Errorf("sequence %d scores %g, want %g", i, together[i], want)
		}
	}
}

// The gradient of the whole loss through the model, against central differences along random directions.
func TestGradient(t *testing.T) {
	tr := newTrainer(t, config(), inputs())
	m, rankings, ps := tr.model, tr.in.Rankings[:7], model.NewPass(nil)
	g := m.NewGradient()
	forwardBackward(ps, m, g, rankings)
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
			return forwardBackward(ps, m, nil, rankings).LossSum / 7
		}
		const h = 1.0 / 64
		got := (at(h) - at(-h)) / (2 * h)
		if math.Abs(got-want) > 2e-3*math.Abs(want)+1e-4 {
			t.Errorf("direction %d: differences say %.6g, the gradient %.6g", k, got, want)
		}
	}
}

func TestBeginsFromAScalarModel(t *testing.T) {
	in := inputs()
	in.Model = in.Model.ToScalar(draw.New(1, "other head"))
	tr := newTrainer(t, config(), in)
	if !slices.Equal(tr.model.Slab, in.Model.Slab) {
		t.Error("a model with a scalar head does not keep it")
	}
}

func TestRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config, *Inputs){
		"invalid_config":   func(c *Config, _ *Inputs) { c.Batch = 0 },
		"no_rankings":      func(_ *Config, in *Inputs) { in.Rankings = in.Rankings[4:5] },
		"wrong_ranking":    func(_ *Config, in *Inputs) { in.Rankings[1].Ranks = []int{1, 2} },
		"context_exceeded": func(_ *Config, in *Inputs) { in.Demonstrations = [][]int32{make([]int32, 13)} },
		"wrong_model":      func(_ *Config, in *Inputs) { in.Model = nil },
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
		"adam_epsilon: -1":      func(c *Config) { c.Optim.Eps = -1 },
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
		"Epochs": func(c *Config) { c.Epochs = 5 }, "Batch": func(c *Config) { c.Batch = 3 },
		"Optim": func(c *Config) { c.Optim.LR /= 2 },
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
