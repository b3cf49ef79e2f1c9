package bench

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// tiny is a shape whose work is done at once.
var tiny = Shape{
	Name: "tiny", Config: model.Config{Layers: 2, Width: 32, Heads: 2, Context: 16, Vocab: 64},
	Train: Rows{4, 16}, Score: Rows{4, 16}, Generate: Generation{6, 4, 8}, PPO: Generation{8, 4, 8},
}

func TestTokens(t *testing.T) {
	want := map[string]int{WorkTrain: 64, WorkScore: 64, WorkGenerate: 48, WorkPPO: 64}
	for _, kind := range WorkNames {
		w, err := New(kind, tiny, nil, tensor.V1)
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, w, 0); got != want[kind] || w.Name != kind {
			t.Errorf("%s does %d tokens of %s, want %d", kind, got, w.Name, want[kind])
		}
	}
	if _, err := New(WorkPPO, Shapes[3], nil, tensor.V1); err == nil {
		t.Error("work that a shape does not have was made ready")
	}
}

// The formula against a count of every product: per block qkv, projection and
// the two of the perceptron, and two of attention for each query and key.
func TestFLOPs(t *testing.T) {
	c := tiny.Config
	want := 0.
	multiply := func(rows, in, out int) { want += 2 * float64(rows*in*out) }
	for range c.Layers {
		multiply(16, c.Width, 3*c.Width)
		multiply(16, c.Width, c.Width)
		multiply(16, c.Width, 4*c.Width)
		multiply(16, 4*c.Width, c.Width)
		for query := range 16 {
			multiply(1, c.Width, query+1)
			multiply(1, query+1, c.Width)
		}
	}
	multiply(5, c.Width, c.Vocab)
	if got := c.ForwardFLOPs(16, 5); got != want {
		t.Errorf("forward %g, want %g", got, want)
	}
	for _, s := range Shapes {
		whole := trainFLOPs(s.Config, s.Train.Length, s.Train.Length) / float64(s.Train.Length)
		parameters := s.Config.Parameters()
		if s.Config.Positions == model.LearnedPositions {
			parameters -= s.Config.Context * s.Config.Width
		}
		multiplied := 6 * float64(parameters)
		if r := whole / multiplied; r < .99 || r > 1.1 {
			t.Errorf("%s: %.3f of 6 a parameter", s.Name, r)
		}
	}
}

// A training step after the first allocates nothing, on the caller and on
// workers.
func TestTrainAllocatesNothing(t *testing.T) {
	pool := tensor.NewPool(2)
	defer pool.Close()
	for name, p := range map[string]*tensor.Pool{"caller": nil, "two workers": pool} {
		s, _ := Find("0.9M-16x64")
		w, step := Train(s, p, tensor.V1), 0
		if n := testing.AllocsPerRun(5, func() { run(t, w, step); step++ }); n != 0 {
			t.Errorf("%s: a step allocates %g times", name, n)
		}
	}
}

func TestPartOf(t *testing.T) {
	for _, c := range []struct {
		want  string
		stack []string
	}{
		{"attention", []string{modulePrefix + "tensor.gemm12x2AVX512", modulePrefix + "tensor.Product.Run",
			modulePrefix + "model.(*Pass).attend", modulePrefix + "model.(*Pass).forwardGroup"}},
		{"products", []string{modulePrefix + "tensor.gemm12x2AVX512", modulePrefix + "tensor.Product.Run",
			modulePrefix + "model.(*Pass).LogProbs"}},
		{"products", []string{"runtime.memmove", modulePrefix + "tensor.(*product).packB",
			modulePrefix + "model.(*Pass).linear"}},
		{"panels", []string{"runtime.memmove", modulePrefix + "tensor.packPanel",
			modulePrefix + "tensor.(*PackedB).Pack"}},
		{"products", []string{modulePrefix + "tensor.gemm12x2AVX512", modulePrefix + "tensor.Product.Run",
			modulePrefix + "model.(*Pass).linear"}},
		{"softmax and head", []string{modulePrefix + "tensor.Softmax", modulePrefix +
			"model.(*Pass).headProbabilities"}},
		{"sampling", []string{modulePrefix + "tensor.Softmax", modulePrefix + "model.(*sampler).drawToken"}},
		{"waiting", []string{"runtime.futex", "runtime.chanrecv", modulePrefix + "tensor.(*Pool).await", modulePrefix +
			"tensor.(*Pool).serve"}},
		{"copies and clearing", []string{"runtime.memmove", modulePrefix + "model.(*Pass).mlpNormBackward"}},
		{otherPart, []string{modulePrefix + "train.Run"}},
		{otherPart, nil},
	} {
		if got := PartNames()[partOf(c.stack)]; got != c.want {
			t.Errorf("%q: %s, want %s", c.stack, got, c.want)
		}
	}
}

func TestMeasure(t *testing.T) {
	heard := 0
	s, _ := Find("0.9M-16x64")
	r, err := Measure(func() (*Workload, error) { return New(WorkTrain, s, nil, tensor.V1) }, 2,
		func(int, time.Duration) { heard++ })
	if err != nil {
		t.Fatal(err)
	}
	if r.Runs < 2 || heard != r.Runs+2 || r.Tokens != 1024 || r.Seconds <= 0 || r.TokensPerSecond() <= 0 ||
		r.FLOPsPerSecond() <= 0 || r.Heap <= 0 {
		t.Errorf("%+v", r)
	}
	sum, products := 0., 0.
	for _, p := range r.Parts {
		sum += p.Share
		if p.Name == "products" {
			products = p.Share
		}
	}
	if math.Abs(sum-1) > 1e-9 || products < .2 {
		t.Errorf("parts %+v", r.Parts)
	}
	if _, err := attribute(bytes.NewBufferString("nothing"), 1); err == nil {
		t.Error("what is no profile was read")
	}
}
