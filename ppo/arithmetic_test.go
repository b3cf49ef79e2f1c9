package ppo

import (
	_ "embed"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/diff/fd"
)

//go:embed testdata/golden.json
var goldenJSON []byte

// golden is what testdata/gen_golden.py wrote.
type golden struct {
	GAE []struct {
		Rewards, Values, Advantages, Returns []float64
		Gamma, Lambda                        float64
	}
	KL struct {
		LogP, Ref, K1, K2, K3 []float64
	}
	Policy []struct {
		Clip                               float64
		LogP, Old, Advantages, Loss, DLogP []float64
		Clipped                            []bool
	}
	Value []struct {
		Clip                      float64
		V, Old, Returns, Loss, DV []float64
		Clipped                   []bool
	}
	Whiten []struct {
		X, Centred, Kept []float64
		How              string
	}
}

func readGolden(t *testing.T) golden {
	t.Helper()
	var g golden
	if err := json.Unmarshal(goldenJSON, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func narrow(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*max(1, math.Abs(want))) {
		t.Errorf("%s: got %.9g, want %.9g", what, got, want)
	}
}

func nearAll[T float32 | float64](t *testing.T, what string, got []T, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		near(t, what, float64(got[i]), want[i], tolerance)
	}
}

func TestGAEGolden(t *testing.T) {
	for _, c := range readGolden(t).GAE {
		adv, ret := gaeOf(c.Rewards, c.Values, c.Gamma, c.Lambda)
		nearAll(t, "advantages", adv, c.Advantages, 1e-6)
		nearAll(t, "returns", ret, c.Returns, 1e-6)
	}
}

func gaeOf(rewards, values []float64, gamma, lambda float64) (adv, ret []float32) {
	adv, ret = make([]float32, len(rewards)), make([]float32, len(rewards))
	GAE(adv, ret, narrow(rewards), narrow(values), gamma, lambda)
	return adv, ret
}

// Oracles: NeMo-RL test_ppo.py, NeMo-Aligner ppo_utils_test.py, and three computed by hand.
func TestGAEOracles(t *testing.T) {
	for _, c := range []struct {
		name            string
		rewards, values []float64
		gamma, lambda   float64
		want            []float64
	}{
		{"nemo-rl, lambda 0", []float64{0, 0, 5}, []float64{1, 2, 3}, 1, 0, []float64{1, 1, 2}},
		{"nemo-rl, lambda 1", []float64{0, 0, 5}, []float64{1, 2, 3}, 1, 1, []float64{4, 3, 2}},
		{"nemo-aligner", []float64{0, 0, 1, 0}, []float64{0, 1, 2, 3}, .5, 0, []float64{.5, 0, .5, -3}},
		{"one reward at the end", []float64{0, 0, 1}, []float64{.5, .4, .3}, 1, .95, []float64{.43675, .565, .7}},
		{"penalty and score", []float64{-.1, .05, -.02, 2}, []float64{.2, -.1, .4, .3}, 1, .95,
			[]float64{1.471737, 1.97025, 1.495, 1.7}},
	} {
		adv, ret := gaeOf(c.rewards, c.values, c.gamma, c.lambda)
		nearAll(t, c.name, adv, c.want, 1e-6)
		for i := range ret {
			near(t, c.name+": returns", float64(ret[i]), c.want[i]+c.values[i], 1e-6)
		}
	}
}

// With lambda 1 and gamma 1 the return is the sum of the rewards to come, whatever the values say.
func TestGAELambdaOneIgnoresValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		n := 1 + r.IntN(40)
		rewards, values := make([]float64, n), make([]float64, n)
		for i := range rewards {
			rewards[i], values[i] = r.NormFloat64(), r.NormFloat64()
		}
		_, ret := gaeOf(rewards, values, 1, 1)
		rest := 0.0
		for i := n - 1; i >= 0; i-- {
			rest += rewards[i]
			near(t, "return", float64(ret[i]), rest, 1e-5)
		}
	}
}

func TestKLGolden(t *testing.T) {
	g := readGolden(t).KL
	logp, ref := narrow(g.LogP), narrow(g.Ref)
	for i := range logp {
		near(t, "k1", K1(logp[i], ref[i]), g.K1[i], 1e-12)
		near(t, "k2", K2(logp[i], ref[i]), g.K2[i], 1e-12)
		near(t, "k3", K3(logp[i], ref[i]), g.K3[i], 1e-6)
	}
}

// Oracle: NeMo-RL test_loss_functions.py, before its clamp at 10.
func TestKLOracles(t *testing.T) {
	for i, ref := range []float32{0, -15, -30} {
		near(t, "k1", K1(-1, ref), []float64{-1, 14, 29}[i], 0)
		near(t, "k2", K2(-1, ref), []float64{.5, 98, 420.5}[i], 0)
		near(t, "k3", K3(-1, ref), []float64{.718282, 13, 28}[i], 1e-5)
	}
	mean := (K3(0, -1) + K3(-1, -1) + K3(-2, -1)) / 3
	near(t, "mean k3", mean, .362, 1e-3)
}

func TestK3IsNeverNegativeAndFinite(t *testing.T) {
	if K3(-2, -2) != 0 {
		t.Errorf("k3 of equal distributions is %g, want 0", K3(-2, -2))
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		d := float32(math.Pow(10, -7+9*r.Float64()))
		for _, ref := range []float32{-200 + d, -200 - d} {
			if k := K3(-200, ref); !(k >= 0) || math.IsInf(k, 0) {
				t.Fatalf("k3 at d = %g is %g", ref+200, k)
			}
		}
	}
}

// Oracle: computed from lm-human-preferences' formula, n 512, horizon 10000.
func TestAdaptiveKLController(t *testing.T) {
	for kl, want := range map[float64]float64{3: .148464, 6: .15, 9: .151536, 30: .151536} {
		near(t, "beta", AdaptKLCoef(.15, kl, 6, 512, 10000), want, 1e-9)
	}
}

func TestPolicyLossGolden(t *testing.T) {
	for _, c := range readGolden(t).Policy {
		for i := range c.LogP {
			loss, d, _, clipped := PolicyLoss(float32(c.LogP[i]), float32(c.Old[i]), float32(c.Advantages[i]), c.Clip)
			near(t, "loss", loss, c.Loss[i], 1e-6)
			near(t, "gradient", d, c.DLogP[i], 1e-6)
			if clipped != c.Clipped[i] {
				t.Errorf("token %d: clipped is %v", i, clipped)
			}
		}
	}
}

// Oracles: NeMo-RL test_loss_functions.py and two computed by hand.
func TestPolicyLossOracles(t *testing.T) {
	for _, c := range []struct{ ratio, advantage, want float64 }{
		{.5, 1, -.5}, {1, -1, 1}, {1.5, 2, -2.4}, {1.5, -1, 1.5}, {.5, -1, .8},
	} {
		loss, _, ratio, _ := PolicyLoss(float32(math.Log(c.ratio)), 0, float32(c.advantage), .2)
		near(t, "ratio", ratio, c.ratio, 1e-6)
		near(t, "loss", loss, c.want, 1e-6)
	}
}

func TestPolicyLossAtTheOldPolicy(t *testing.T) {
	for _, a := range []float32{-3, 0, 1.25} {
		loss, d, ratio, clipped := PolicyLoss(-1.7, -1.7, a, .2)
		if ratio != 1 || clipped || loss != -float64(a) || d != -float64(a) {
			t.Errorf("advantage %g: loss %g, gradient %g, ratio %g, clipped %v", a, loss, d, ratio, clipped)
		}
	}
}

func TestPolicyLossGradient(t *testing.T) {
	for _, c := range []struct{ logp, old, a float32 }{{-1, -1.1, 1}, {-1, -1.1, -2}, {-1, -.5, 2}, {-1, -.5, -2},
		{-1, -2, 1}, {-1, -2, -1}} {
		_, d, _, _ := PolicyLoss(c.logp, c.old, c.a, .2)
		numeric := fd.Derivative(func(x float64) float64 {
			loss, _, _, _ := PolicyLoss(float32(x), c.old, c.a, .2)
			return loss
		}, float64(c.logp), &fd.Settings{Formula: fd.Central, Step: 1.0 / 256})
		near(t, "dlogp", d, numeric, 2e-4)
	}
}

func TestValueLossGolden(t *testing.T) {
	for _, c := range readGolden(t).Value {
		for i := range c.V {
			loss, d, clipped := ValueLoss(float32(c.V[i]), float32(c.Old[i]), float32(c.Returns[i]), c.Clip)
			near(t, "loss", loss, c.Loss[i], 1e-6)
			near(t, "gradient", d, c.DV[i], 1e-6)
			if clipped != c.Clipped[i] {
				t.Errorf("token %d: clipped is %v", i, clipped)
			}
		}
	}
}

func TestValueLossOracles(t *testing.T) {
	for _, c := range []struct{ v, old, ret, want float64 }{{1, .5, 2, .845}, {.6, .5, .4, .02}, {1, .5, 0, .5}} {
		loss, _, _ := ValueLoss(float32(c.v), float32(c.old), float32(c.ret), .2)
		near(t, "loss", loss, c.want, 1e-6)
	}
}

func TestValueLossGradient(t *testing.T) {
	for _, c := range []struct{ v, old, ret float32 }{{1, .5, 2}, {.6, .5, .4}, {1, .5, 0}, {.55, .5, 3}, {-1, 1, 2}} {
		_, d, _ := ValueLoss(c.v, c.old, c.ret, .2)
		numeric := fd.Derivative(func(x float64) float64 {
			loss, _, _ := ValueLoss(float32(x), c.old, c.ret, .2)
			return loss
		}, float64(c.v), &fd.Settings{Formula: fd.Central, Step: 1.0 / 1024})
		near(t, "dv", d, numeric, 1e-4)
	}
}

func TestWhitenGolden(t *testing.T) {
	for _, c := range readGolden(t).Whiten {
		centred, kept := narrow(c.X), narrow(c.X)
		Whiten(centred, c.How, false)
		Whiten(kept, c.How, true)
		nearAll(t, c.How+", centred", centred, c.Centred, 1e-6)
		nearAll(t, c.How+", kept", kept, c.Kept, 1e-6)
	}
}

// Oracles: TRL test_ppo_trainer.py (its masked places are simply absent here), and the nine numbers of "The N
// implementation details of RLHF with PPO".
func TestWhitenOracles(t *testing.T) {
	x := []float32{2, 3}
	mean, variance := moments(x, true)
	near(t, "mean", mean, 2.5, 0)
	near(t, "variance", variance, .5, 0)
	Whiten(x, WhitenUnbiased, false)
	nearAll(t, "trl", x, []float64{-.70711, .70711}, 1e-5)

	blog := []float32{1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0}
	_, variance = moments(blog, false)
	near(t, "population variance", variance, .066667, 1e-5)
	kept := slices.Clone(blog)
	Whiten(kept, WhitenPopulation, true)
	nearAll(t, "mean kept", kept, []float64{.0508, .4381, .8254, 1.2127, 1.6, 1.9873, 2.3746, 2.7619, 3.1492}, 1e-4)
	Whiten(blog, WhitenPopulation, false)
	nearAll(t, "mean removed", blog, []float64{-1.5492, -1.1619, -.7746, -.3873, 0, .3873, .7746, 1.1619, 1.5492}, 1e-4)
}

func TestWhitenNone(t *testing.T) {
	x := []float32{3, 1, 2}
	Whiten(x, WhitenNone, false)
	if !slices.Equal(x, []float32{3, 1, 2}) {
		t.Errorf("whitening by none changed the values to %v", x)
	}
	Whiten(nil, WhitenUnbiased, false)
	one := []float32{7}
	Whiten(one, WhitenUnbiased, false)
	if one[0] != 0 {
		t.Errorf("a single value became %g, want 0", one[0])
	}
}
