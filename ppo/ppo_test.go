package ppo

import (
	"context"
	"errors"
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

// A run that is cut after every iteration ends in the same bytes as one that is not.
func TestResume(t *testing.T) {
	whole := newToy(t, fullConfig(), toyInputs())
	var reports []trimtab.Report
	for i := range whole.Steps() {
		reports = append(reports, step(t, whole, i))
	}
	var state []float32
	for i := range whole.Steps() {
		part := newToy(t, fullConfig(), toyInputs())
		if state != nil {
			restore(part, state)
		}
		if r := step(t, part, i); !reflect.DeepEqual(r, reports[i]) {
			t.Fatalf("iteration %d reports other numbers after a restart", i)
		}
		state = stateOf(part)
		if i == whole.Steps()-1 && !sameBits(part.Result().Slab, whole.Result().Slab) {
			t.Error("the result has other bytes after restarts")
		}
	}
	if !sameBits(state, stateOf(whole)) {
		t.Error("the state has other bytes after restarts")
	}
}

// A trainer that has continued and is set back repeats itself: nothing outside State is remembered.
func TestStateIsAllThereIs(t *testing.T) {
	tr := newToy(t, fullConfig(), toyInputs())
	step(t, tr, 0)
	before := stateOf(tr)
	first := step(t, tr, 1)
	after := stateOf(tr)
	step(t, tr, 2)
	step(t, tr, 3)
	restore(tr, before)
	if again := step(t, tr, 1); !reflect.DeepEqual(first, again) || !sameBits(after, stateOf(tr)) {
		t.Error("iteration 1 does not repeat itself after iterations 2 and 3")
	}
	names := map[string]bool{}
	for _, n := range tr.State() {
		size := 1
		for _, d := range n.Shape {
			size *= d
		}
		if names[n.Name] || size != len(n.Data) {
			t.Errorf("%s: shape %v, %d values, or the name is given twice", n.Name, n.Shape, len(n.Data))
		}
		names[n.Name] = true
	}
	for _, want := range []string{"policy.transformer.wte.weight", "value.score.bias", "ema.transformer.wte.weight",
		"kl_coef", "score_scale"} {
		if !names[want] {
			t.Errorf("%s is not in the state", want)
		}
	}
}

func TestFirstIterationIsOnPolicy(t *testing.T) {
	c := toyConfig()
	c.MiniBatches, c.PPOEpochs, c.Temperature = 1, 1, .7
	r := step(t, newToy(t, c, toyInputs()), 0)
	for name, want := range map[string]float64{
		"objective/kl": 0, "objective/kl3": 0, "objective/non_score_reward": 0,
		"val/ratio": 1, "policy/approxkl_avg": 0, "policy/clipfrac_avg": 0, "val/ratio_var": 0,
	} {
		if got := value(t, r, name); got != want {
			t.Errorf("%s is %g, want exactly %g", name, got, want)
		}
	}
	for _, e := range r.Rollouts {
		for _, k := range e.KL {
			if k != 0 {
				t.Fatalf("episode %d has a token of KL %g", e.Index, k)
			}
		}
	}
}

func TestInputsAreNotChanged(t *testing.T) {
	in := toyInputs()
	before := [][]float32{slices.Clone(in.Model.Slab), slices.Clone(in.Reference.Slab), slices.Clone(in.Value.Slab)}
	tr := newToy(t, fullConfig(), in)
	step(t, tr, 0)
	step(t, tr, 1)
	for i, m := range []*model.Model{in.Model, in.Reference, in.Value} {
		if !sameBits(before[i], m.Slab) {
			t.Errorf("model %d was changed", i)
		}
	}
	if r := step(t, tr, 2); value(t, r, "objective/kl3") == 0 {
		t.Error("after two updated iterations the KL is still 0: the reference moves along")
	}
}

func TestValueBeginsAsGiven(t *testing.T) {
	in := toyInputs()
	tr := newToy(t, toyConfig(), in)
	r := step(t, tr, 0)
	e := r.Rollouts[0]
	ps := model.NewPass(nil)
	ps.Infer(in.Value, model.NewBatch(slices.Concat(e.PromptIDs, e.Tokens)))
	for i, want := range ps.ScalarHead(in.Value, []int{len(e.PromptIDs) - 1, len(e.PromptIDs)})[:min(2,
		len(e.Values))] {
		if e.Values[i] != want {
			t.Errorf("value %d is %g, want %g, read before the token", i, e.Values[i], want)
		}
	}
}

func TestScorerSeesWholeSequences(t *testing.T) {
	in := toyInputs()
	scorer := &likesA{}
	in.Scorer = scorer
	c := toyConfig()
	c.ScoreSamples = 0
	r := step(t, newToy(t, c, in), 0)
	for i, e := range r.Rollouts {
		if !slices.Equal(scorer.seen[i], slices.Concat(e.PromptIDs, e.Tokens)) {
			t.Fatalf("episode %d: the scorer saw %v", i, scorer.seen[i])
		}
	}
}

// Oracles: first-true indices of summarize-from-feedback test_torch_utils.py, and the truncation of its test_tasks.py.
func TestTruncate(t *testing.T) {
	for _, c := range []struct {
		tokens []int32
		kept   int
		ended  bool
	}{
		{[]int32{0, 1, 1}, 2, true}, {[]int32{1, 1, 0}, 1, true}, {[]int32{0, 1, 0}, 2, true},
		{[]int32{0, 0, 0}, 3, false}, {[]int32{1, 0, 0}, 1, true}, {[]int32{0, 0, 1}, 3, true}, {nil, 0, false},
	} {
		kept, ended := Truncate(c.tokens, []int32{1})
		if len(kept) != c.kept || ended != c.ended {
			t.Errorf("Truncate(%v) kept %d, ended %v", c.tokens, len(kept), ended)
		}
	}
	kept, _ := Truncate([]int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, []int32{12, 5, 7})
	if !slices.Equal(kept, []int32{1, 2, 3, 4, 5}) {
		t.Errorf("kept %v", kept)
	}
}

func TestEOSRule(t *testing.T) {
	for _, c := range []struct {
		rule        string
		value       float64
		ended       bool
		score, want float32
	}{
		{EOSIgnore, -1, false, 2, 2}, {EOSPenalty, 1.5, false, 2, .5}, {EOSPenalty, 1.5, true, 2, 2},
		{EOSFixed, -1, false, 2, -1}, {EOSFixed, -1, true, 2, 2},
	} {
		cfg := Config{MissingEOS: c.rule, MissingEOSPenalty: c.value}
		if got := cfg.applyEOS(c.score, c.ended); got != c.want {
			t.Errorf("%s, ended %v: score %g, want %g", c.rule, c.ended, got, c.want)
		}
	}
}

func TestScoreScale(t *testing.T) {
	s := scoreScale{0, 1}
	if err := s.fit([]float32{1, 2, 3, 6}); err != nil {
		t.Fatal(err)
	}
	near(t, "mean", float64(s[0]), 3, 0)
	near(t, "deviation", float64(s[1]), 2.160247, 1e-6)
	near(t, "score", float64(s.standardize(6)), 3/2.160247, 1e-6)
	if err := s.fit([]float32{4, 4, 4}); trimtab.AsError(err).Type != "constant_scores" {
		t.Errorf("constant scores: %v", err)
	}
	in := toyInputs()
	tr := newToy(t, toyConfig(), in)
	r := step(t, tr, 0)
	for _, e := range r.Rollouts {
		want := float32((float64(e.RawScore) - float64(tr.scoreScale[0])) / float64(tr.scoreScale[1]))
		if !e.Ended {
			want = -1
		}
		if e.Score != want {
			t.Errorf("score %g of raw %g, want %g", e.Score, e.RawScore, want)
		}
	}
}

// The log-probabilities that the sampler saw are those that the update starts from, at any temperature.
func TestTemperatureEverywhere(t *testing.T) {
	for _, temperature := range []float64{.7, 1, 1.6} {
		c := toyConfig()
		c.Temperature = temperature
		in := toyInputs()
		tr := newToy(t, c, in)
		r := step(t, tr, 0)
		e := r.Rollouts[3]
		o := model.SampleOptions{Temperature: float32(temperature), MaxNewTokens: c.MaxNewTokens,
			StopTokens: []int32{toyEnd}, SuppressTokens: in.SuppressTokens}
		s := model.Generate(model.NewPass(nil), in.Model, [][]int32{e.PromptIDs}, o,
			draw.New(in.Seed, in.Stage, "sample"), 3)[0]
		if !slices.Equal(s.Tokens, e.Tokens) || !sameBits(s.LogProbs, e.LogProbs) {
			t.Errorf("temperature %g: sampler %v %v, record %v %v", temperature, s.Tokens, s.LogProbs, e.Tokens,
				e.LogProbs)
		}
	}
}

func TestRewards(t *testing.T) {
	got := make([]float32, 3)
	Rewards(got, []float32{-1, -2, -.5}, []float32{-1.5, -1, -.5}, .2, 3)
	nearAll(t, "rewards", got, []float64{-.1, .2, 3}, 1e-6)
}

// Returns are unwhitened advantages plus values; whitening sees all tokens of the batch together.
func TestAdvantages(t *testing.T) {
	c := toyConfig()
	c.WhitenRewards, c.WhitenAdvantages = WhitenPopulation, WhitenUnbiased
	tr := newToy(t, c, toyInputs())
	episodes := iteration0(t, tr)
	var white, rewards []float32
	for _, e := range episodes {
		white, rewards = append(white, e.whitened...), append(rewards, e.rewards...)
		for i := range e.returns {
			near(t, "return", float64(e.returns[i]), float64(e.advantages[i])+float64(e.values[i]), 1e-6)
		}
	}
	mean, variance := moments(white, true)
	near(t, "mean of whitened advantages", mean, 0, 1e-6)
	near(t, "variance of whitened advantages", variance, 1, 1e-5)
	_, variance = moments(rewards, false)
	near(t, "variance of whitened rewards", variance, 1, 1e-5)
}

func TestAdaptiveKLIsState(t *testing.T) {
	c := fullConfig()
	tr := newToy(t, c, toyInputs())
	r := step(t, tr, 0) // KL 0: the coefficient falls by a fifth of batch over horizon
	near(t, "reported", value(t, r, "objective/kl_coef"), c.KLCoef, 1e-6)
	near(t, "next", float64(tr.klCoef[0]), c.KLCoef*(1-.2*12/100), 1e-6)
	if n := tr.State()[len(tr.State())-2]; n.Name != "kl_coef" || &n.Data[0] != &tr.klCoef[0] {
		t.Errorf("%s is not the coefficient itself", n.Name)
	}
}

func TestEveryEpisodeOncePerInnerEpoch(t *testing.T) {
	c := toyConfig()
	c.PPOEpochs, c.MiniBatches = 3, 4
	tr := newToy(t, c, toyInputs())
	episodes := iteration0(t, tr)
	sum, err := tr.trainEpochs(context.Background(), 0, episodes)
	if err != nil {
		t.Fatal(err)
	}
	want := 3 * responseTokens(episodes)
	if sum.policyTokens != want || sum.valueTokens != want || sum.policyUpdates != 12 || sum.valueUpdates != 12 {
		t.Errorf("%d and %d tokens in %d and %d updates, want %d in 12", sum.policyTokens, sum.valueTokens,
			sum.policyUpdates, sum.valueUpdates, want)
	}
}

func TestEveryPromptOncePerEpoch(t *testing.T) {
	tr := newToy(t, toyConfig(), toyInputs())
	seen := make([]int, len(tr.in.Prompts))
	for i := range tr.Steps() {
		for _, e := range step(t, tr, i).Rollouts {
			seen[slices.IndexFunc(tr.in.Prompts, func(p Prompt) bool { return p.Text == e.Prompt })]++
		}
	}
	for i, n := range seen {
		if n != 8 { // 48 episodes on 6 prompts
			t.Errorf("prompt %d was answered %d times, want 8", i, n)
		}
	}
}

func TestSplitsAndWorkersChangeNothing(t *testing.T) {
	var want []float32
	for _, c := range []struct{ workers, micro int }{
		{1, dataset.MicroBatchTokens}, {3, dataset.MicroBatchTokens}, {2, 11}, {1, 1},
	} {
		in := toyInputs()
		in.Pool = tensor.NewPool(c.workers)
		tr := newToy(t, fullConfig(), in)
		tr.microTokens = c.micro
		step(t, tr, 0)
		step(t, tr, 1)
		in.Pool.Close()
		if want == nil {
			want = stateOf(tr)
		} else if !sameBits(want, stateOf(tr)) {
			t.Errorf("%d workers, %d tokens at once: other bytes", c.workers, c.micro)
		}
	}
}

func TestEMA(t *testing.T) {
	c := toyConfig()
	c.EMADecay, c.PPOEpochs, c.MiniBatches = .75, 1, 1
	in := toyInputs()
	tr := newToy(t, c, in)
	want := slices.Clone(in.Model.Slab)
	for i := range 3 {
		step(t, tr, i)
		for k, w := range tr.policy.model.Slab {
			want[k] = .75*want[k] + .25*w
		}
	}
	for k, w := range tr.Result().Slab {
		if math.Abs(float64(w-want[k])) > 1e-6 {
			t.Fatalf("average %d is %g, want %g", k, w, want[k])
		}
	}
}

func TestValueWarmup(t *testing.T) {
	c := toyConfig()
	c.ValueWarmup = 2
	in := toyInputs()
	tr := newToy(t, c, in)
	for i := range 2 {
		r := step(t, tr, i)
		if !sameBits(tr.policy.model.Slab, in.Model.Slab) {
			t.Fatalf("iteration %d moved the policy", i)
		}
		if _, ok := r.Value("loss/policy_avg"); ok {
			t.Error("a value-only iteration reports a policy loss")
		}
	}
	if sameBits(tr.value.model.Slab, in.Value.Slab) {
		t.Error("the value model has not moved")
	}
	step(t, tr, 2)
	if sameBits(tr.policy.model.Slab, in.Model.Slab) {
		t.Error("the policy does not move after the warm-up")
	}
}

func TestMetricNames(t *testing.T) {
	c := toyConfig()
	c.PtxCoef = 1
	r := step(t, newToy(t, c, toyInputs()), 0)
	for _, name := range strings.Fields(`objective/kl objective/entropy objective/non_score_reward objective/rlhf_reward
		objective/scores policy/approxkl_avg policy/clipfrac_avg policy/entropy_avg loss/policy_avg loss/value_avg
		val/clipfrac_avg val/ratio val/ratio_var val/num_eos_tokens val/explained_var objective/kl_coef objective/kl3
		response_length missing_eos_rate lr episode loss/ptx_avg`) {
		value(t, r, name)
	}
	seen := map[string]bool{}
	for _, m := range r.Metrics {
		if seen[m.Name] || math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
			t.Errorf("%s is %g, or given twice", m.Name, m.Value)
		}
		seen[m.Name] = true
	}
	entropy, length := value(t, r, "objective/entropy"), value(t, r, "response_length")
	if most := math.Log(toyVocab) * length; !(entropy > 0 && entropy <= most) {
		t.Errorf("entropy %g of responses of %g tokens, want above 0 and at most %g", entropy, length, most)
	}
	ended := 0.0
	for _, e := range r.Rollouts {
		if e.Ended != (e.Tokens[len(e.Tokens)-1] == toyEnd) {
			t.Errorf("episode %d: ended is %v, tokens %v", e.Index, e.Ended, e.Tokens)
		}
		if e.Ended {
			ended++
		}
	}
	near(t, "val/num_eos_tokens", value(t, r, "val/num_eos_tokens"), ended, 0)
	near(t, "missing_eos_rate", value(t, r, "missing_eos_rate"), 1-ended/12, 1e-12)
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tr := newToy(t, toyConfig(), toyInputs())
	if _, err := tr.Step(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled step: %v", err)
	}
	if _, err := tr.trainEpochs(ctx, 0, iteration0(t, tr)); !errors.Is(err, context.Canceled) {
		t.Errorf("updates of a cancelled step: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config, *Inputs){
		"invalid_config":   func(c *Config, _ *Inputs) { c.Batch = 0 },
		"no_prompts":       func(_ *Config, in *Inputs) { in.Prompts = nil },
		"no_scorer":        func(_ *Config, in *Inputs) { in.Scorer = nil },
		"wrong_model":      func(_ *Config, in *Inputs) { in.Value = in.Model },
		"no_text":          func(c *Config, in *Inputs) { c.PtxCoef, in.Pretrain = 1, nil },
		"context_exceeded": func(c *Config, _ *Inputs) { c.MaxNewTokens = 14 },
	} {
		c, in := toyConfig(), toyInputs()
		change(&c, &in)
		if _, err := New(c, in); trimtab.AsError(err).Type != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Fatalf("the defaults: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"batch_size is 0":            func(c *Config) { c.Batch = 0 },
		"total_episodes is 100":      func(c *Config) { c.Episodes = 100 },
		"total_episodes is 300":      func(c *Config) { c.Episodes = 300 },
		"num_mini_batches is 3":      func(c *Config) { c.MiniBatches = 3 },
		"value_warmup is 32":         func(c *Config) { c.ValueWarmup = 32 },
		"temperature is 0":           func(c *Config) { c.Temperature = 0 },
		"lam is NaN":                 func(c *Config) { c.Lambda = math.NaN() },
		"ema_decay is 1":             func(c *Config) { c.EMADecay = 1 },
		"kl_controller is \"pid\"":   func(c *Config) { c.KLController = "pid" },
		"missing_eos is \"\"":        func(c *Config) { c.MissingEOS = "" },
		"score_samples is 1":         func(c *Config) { c.ScoreSamples = 1 },
		"whiten_advantages is \"x\"": func(c *Config) { c.WhitenAdvantages = "x" },
		"policy: ":                   func(c *Config) { c.Policy.LR = -1 },
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
	base := func() Config {
		c := fullConfig()
		c.MissingEOS, c.Policy.Warmup, c.ScoreSamples = EOSFixed, 0, 8
		return c
	}
	changes := map[string]func(*Config){
		"Episodes": func(c *Config) { c.Episodes *= 2 }, "Batch": func(c *Config) { c.Batch = 6 },
		"MiniBatches": func(c *Config) { c.MiniBatches = 3 }, "PPOEpochs": func(c *Config) { c.PPOEpochs = 1 },
		"ValueWarmup": func(c *Config) { c.ValueWarmup = 0 }, "MaxNewTokens": func(c *Config) { c.MaxNewTokens = 4 },
		"Temperature": func(c *Config) { c.Temperature = .9 }, "KLCoef": func(c *Config) { c.KLCoef = .3 },
		"KLController": func(c *Config) { c.KLController = KLFixed }, "KLTarget": func(c *Config) { c.KLTarget = 1000 },
		"KLHorizon": func(c *Config) { c.KLHorizon = 50 }, "Gamma": func(c *Config) { c.Gamma = .9 },
		"Lambda": func(c *Config) { c.Lambda = .5 }, "ClipRange": func(c *Config) { c.ClipRange = .001 },
		"ClipRangeValue":    func(c *Config) { c.ClipRangeValue = .001 },
		"WhitenRewards":     func(c *Config) { c.WhitenRewards = WhitenNone },
		"WhitenAdvantages":  func(c *Config) { c.WhitenAdvantages = WhitenPopulation },
		"ScoreSamples":      func(c *Config) { c.ScoreSamples = 0 },
		"MissingEOS":        func(c *Config) { c.MissingEOS, c.MissingEOSPenalty = EOSPenalty, 1 },
		"MissingEOSPenalty": func(c *Config) { c.MissingEOSPenalty = -2 },
		"PtxCoef":           func(c *Config) { c.PtxCoef = 1 }, "PtxRows": func(c *Config) { c.PtxRows = 1 },
		"EMADecay": func(c *Config) { c.EMADecay = .5 },
		"Policy":   func(c *Config) { c.Policy.LR = 1e-3 }, "Value": func(c *Config) { c.Value.LR = 1e-3 },
	}
	run := func(c Config) []float32 {
		tr := newToy(t, c, toyInputs())
		for i := range 4 {
			step(t, tr, i)
		}
		return stateOf(tr)
	}
	want := run(base())
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		change, ok := changes[f.Name]
		if !ok {
			t.Errorf("no change of %s is tried", f.Name)
			continue
		}
		c := base()
		change(&c)
		if sameBits(want, run(c)) {
			t.Errorf("%s is not read", f.Name)
		}
	}
}

func TestPassIsUnderTheNumerics(t *testing.T) {
	for given, want := range map[tensor.Numerics]tensor.Numerics{"": tensor.V1, tensor.V1: tensor.V1,
		tensor.V1BF16: tensor.V1BF16} {
		in := toyInputs()
		in.Numerics = given
		if got := newToy(t, toyConfig(), in).pass.Numerics(); got != want {
			t.Errorf("given %q the pass is under %q, want %q", given, got, want)
		}
	}
}
