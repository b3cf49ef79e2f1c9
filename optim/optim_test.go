package optim

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/tensor"
)

func config(change func(*Config)) Config {
	c := Default()
	change(&c)
	return c
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatalf("Default: %v", err)
	}
	for want, c := range map[string]Config{
		"learning_rate: 0 is out of range, allowed: above 0":    config(func(c *Config) { c.LR = 0 }),
		"learning_rate: NaN is out of range":                    config(func(c *Config) { c.LR = math.NaN() }),
		"adam_beta1: 1 is out of range":                         config(func(c *Config) { c.Beta1 = 1 }),
		"adam_beta2: -0.1 is out of range":                      config(func(c *Config) { c.Beta2 = -.1 }),
		"adam_epsilon: 0 is out of range, allowed: 1e-30 to 1":  config(func(c *Config) { c.Eps = 0 }),
		"weight_decay: -1 is out of range":                      config(func(c *Config) { c.WeightDecay = -1 }),
		"max_grad_norm: -1 is out of range":                     config(func(c *Config) { c.Clip = -1 }),
		"warmup_steps: -1 is out of range":                      config(func(c *Config) { c.Warmup = -1 }),
		"min_lr_ratio: 1.5 is out of range":                     config(func(c *Config) { c.Floor = 1.5 }),
		`lr_scheduler_type: "cosin" is unknown, allowed: const`: config(func(c *Config) { c.Schedule = "cosin" }),
		`adam_epsilon_style: "" is unknown, allowed: torch, te`: config(func(c *Config) { c.EpsStyle = "" }),
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q…", err, want)
		}
	}
}

func TestRate(t *testing.T) {
	base := Config{LR: 1, Floor: .2, Warmup: 4}
	for _, c := range []struct {
		schedule    string
		step, steps int
		want        float64
	}{
		{Constant, 0, 12, .25}, {Constant, 3, 12, 1}, {Constant, 4, 12, 1}, {Constant, 11, 12, 1},
		{Linear, 1, 12, .5}, {Linear, 4, 12, 1}, {Linear, 8, 12, .6}, {Linear, 12, 12, .2}, {Linear, 99, 12, .2},
		{Cosine, 4, 12, 1}, {Cosine, 6, 12, .2 + .8*(1+math.Sqrt(.5))/2}, {Cosine, 8, 12, .6}, {Cosine, 12, 12, .2},
		{Cosine, 3, 4, 1}, {Linear, 4, 4, .2}, // warm-up as long as the run
	} {
		base.Schedule = c.schedule
		if got := LearningRate(base, c.step, c.steps); math.Abs(float64(got)-c.want) > 1e-6 {
			t.Errorf("%s step %d of %d: %v, want %v", c.schedule, c.step, c.steps, got, c.want)
		}
	}
}

func TestPower(t *testing.T) {
	for _, b := range []float64{0, .9, .95, .999} {
		want := 1.
		for n := range 2000 {
			if got := powInt(b, n); math.Abs(got-want) > 1e-13*want {
				t.Fatalf("%v^%d: %v, want %v", b, n, got, want)
			}
			want *= b
		}
	}
}

func random(n int, seed uint64, scale float64) []float32 {
	s, x := draw.New(seed, "optim", "test").At(), make([]float32, n)
	for i := range x {
		x[i] = float32(scale * s.Normal())
	}
	return x
}

// step is AdamW of one scalar in float64, after the formulas of AdamW.
func step(c Config, w, m, v, g float64, t int, decays bool) (float64, float64, float64) {
	m = c.Beta1*m + (1-c.Beta1)*g
	v = c.Beta2*v + (1-c.Beta2)*g*g
	c1, c2 := 1-math.Pow(c.Beta1, float64(t)), 1-math.Pow(c.Beta2, float64(t))
	if decays {
		w *= 1 - c.LR*c.WeightDecay
	}
	if c.EpsStyle == TensorFlow {
		return w - c.LR*math.Sqrt(c2)/c1*m/(math.Sqrt(v)+c.Eps), m, v
	}
	return w - c.LR/c1*m/(math.Sqrt(v/c2)+c.Eps), m, v
}

func TestStepFollowsTheFormula(t *testing.T) {
	const n = 100
	decay := [][2]int{{10, 30}, {50, 51}}
	decays := func(i int) bool { return i >= 10 && i < 30 || i == 50 }
	for _, style := range []string{Torch, TensorFlow} {
		c := Config{LR: 1e-2, Beta1: .9, Beta2: .99, Eps: 1e-2, WeightDecay: .5, Clip: 2, Schedule: Constant,
			EpsStyle: style}
		a, w := New(c, n, decay), random(n, 1, 1)
		wants, m, v := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range w {
			wants[i] = float64(w[i])
		}
		for s := range 20 {
			g := random(n, uint64(s+2), .05+.05*float64(s)) // below the clip at first, then above
			norm := 0.
			for _, x := range g {
				norm += float64(x) * float64(x)
			}
			norm = math.Sqrt(norm)
			got, lr := a.Step(w, g, s, 20)
			if math.Abs(float64(got)/norm-1) > 1e-6 || lr != 1e-2 {
				t.Fatalf("step %d: norm %v, want %v; rate %v", s, got, norm, lr)
			}
			for i := range w {
				wants[i], m[i], v[i] = step(c, wants[i], m[i], v[i], float64(g[i])*min(1, c.Clip/norm), s+1, decays(i))
				if math.Abs(float64(w[i])-wants[i]) > 1e-5 {
					t.Fatalf("%s step %d: w[%d] = %v, want %v", style, s, i, w[i], wants[i])
				}
			}
		}
	}
}

// The first update moves each weight by lr, whatever the size of its gradient,
// with torch's eps; TensorFlow's dampens it.
func TestFirstUpdate(t *testing.T) {
	for style, want := range map[string]float64{Torch: 1e-3 / 1.1, TensorFlow: 1e-3 / (1 + .1/math.Sqrt(1-.999))} {
		c := Config{LR: 1e-3, Beta1: .9, Beta2: .999, Eps: .1, Schedule: Constant, EpsStyle: style}
		w := []float32{0}
		New(c, 1, nil).Step(w, []float32{1}, 0, 1)
		if math.Abs(float64(w[0])+want) > 1e-7 {
			t.Errorf("%s: first update %v, want %v", style, w[0], -want)
		}
	}
}

// The workers do not show, and a run resumed from its state takes the same steps.
func TestSameBytes(t *testing.T) {
	const n = 3*sweepPart + 777
	c := config(func(c *Config) { c.LR, c.Clip = 1e-2, .5 })
	decay := [][2]int{{100, 2*sweepPart + 5}}
	run := func(workers, from, until int, a *AdamW, w []float32) {
		a.Pool = tensor.NewPool(workers)
		defer a.Pool.Close()
		for s := from; s < until; s++ {
			a.Step(w, random(n, uint64(s), 1), s, 6)
		}
	}
	whole, want := New(c, n, decay), random(n, 99, 1)
	run(1, 0, 6, whole, want)
	for _, workers := range []int{2, 3, 5} {
		first, w := New(c, n, decay), random(n, 99, 1)
		run(workers, 0, 3, first, w)
		second := New(c, n, decay)
		state := second.State("policy.")
		for i, p := range first.State("policy.") {
			if p.Name != state[i].Name {
				t.Fatalf("state %q, want %q", state[i].Name, p.Name)
			}
			copy(state[i].Data, p.Data)
		}
		run(workers, 3, 6, second, w)
		if !slices.Equal(w, want) {
			t.Errorf("%d workers, resumed at 3: other weights", workers)
		}
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	pool := tensor.NewPool(2)
	defer pool.Close()
	a := New(Default(), 2*sweepPart, nil)
	a.Pool = pool
	w, g := random(2*sweepPart, 1, 1), random(2*sweepPart, 2, 1)
	if n := testing.AllocsPerRun(5, func() { a.Step(w, g, 1, 10) }); n > 0 {
		t.Errorf("%v allocations a step", n)
	}
}

func TestPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"config": func() { New(Config{}, 1, nil) },
		"decay":  func() { New(Default(), 5, [][2]int{{2, 9}}) },
		"length": func() { New(Default(), 5, nil).Step(make([]float32, 5), make([]float32, 6), 0, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// An average moves in the sweep as tensor.EMA moves it afterwards.
func TestAverage(t *testing.T) {
	const n = 2*sweepPart + 7
	w, g := make([]float32, n), make([]float32, n)
	for i := range w {
		w[i], g[i] = float32(i%13)-6, float32(i%7)-3
	}
	average := append([]float32(nil), w...)
	want := append([]float32(nil), w...)
	a := New(Default(), n, nil)
	a.Average, a.AverageDecay = average, .9
	for step := range 3 {
		a.Step(w, g, step, 10)
		tensor.EMA(want, w, .9)
	}
	for i := range want {
		if average[i] != want[i] {
			t.Fatalf("element %d of the average is %g, want %g", i, average[i], want[i])
		}
	}
}
