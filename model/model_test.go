package model_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

var small = model.Config{Layers: 2, Width: 8, Heads: 2, Context: 6, Vocab: 11}

func TestConfigValidate(t *testing.T) {
	if err := small.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*model.Config){
		"num_hidden_layers: 0 is outside 1 to 1024": func(c *model.Config) { c.Layers = 0 },
		"hidden_size: -8 is outside":                func(c *model.Config) { c.Width = -8 },
		"num_attention_heads: 0 is outside":         func(c *model.Config) { c.Heads = 0 },
		"hidden_size: 8 is not a multiple of num":   func(c *model.Config) { c.Heads = 3 },
		"max_position_embeddings: 0 is outside":     func(c *model.Config) { c.Context = 0 },
		"vocab_size: 1 is outside 2 to":             func(c *model.Config) { c.Vocab = 1 },
	} {
		c := small
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q…", err, want)
		}
	}
}

// The names and shapes are those of Hugging Face's GPT-2; the arrays cover the
// slab in order and without gaps.
func TestNamed(t *testing.T) {
	m := model.New(small, true)
	var lines []string
	for _, p := range m.NamedParameters() {
		lines = append(lines, fmt.Sprint(p.Name, p.Shape))
	}
	want := []string{"transformer.wte.weight[11 8]", "transformer.wpe.weight[6 8]"}
	for l := range 2 {
		h := fmt.Sprintf("transformer.h.%d.", l)
		want = append(want, h+"ln_1.weight[8]", h+"ln_1.bias[8]", h+"attn.c_attn.weight[8 24]",
			h+"attn.c_attn.bias[24]",
			h+"attn.c_proj.weight[8 8]", h+"attn.c_proj.bias[8]", h+"ln_2.weight[8]", h+"ln_2.bias[8]",
			h+"mlp.c_fc.weight[8 32]", h+"mlp.c_fc.bias[32]", h+"mlp.c_proj.weight[32 8]", h+"mlp.c_proj.bias[8]")
	}
	want = append(want, "transformer.ln_f.weight[8]", "transformer.ln_f.bias[8]", "score.weight[1 8]", "score.bias[1]")
	if !slices.Equal(lines, want) {
		t.Errorf("names\n%v\nwant\n%v", lines, want)
	}
	at := 0
	for _, p := range m.NamedParameters() {
		if &p.Data[0] != &m.Slab[at] {
			t.Fatalf("%s is not at %d", p.Name, at)
		}
		at += len(p.Data)
	}
	if at != len(m.Slab) || at != small.Parameters()+9 {
		t.Errorf("%d parameters in arrays, %d in the slab, %d by Parameters", at, len(m.Slab), small.Parameters())
	}
	for _, p := range m.NamedViews(make([]float32, len(m.Slab)), "ema.") {
		if !strings.HasPrefix(p.Name, "ema.transformer.") && !strings.HasPrefix(p.Name, "ema.score.") {
			t.Errorf("name %s has no prefix", p.Name)
		}
	}
}

func TestParameters(t *testing.T) {
	for want, c := range map[int]model.Config{
		940800:    {Layers: 4, Width: 128, Heads: 4, Context: 128, Vocab: 1024},
		124439808: {Layers: 12, Width: 768, Heads: 12, Context: 1024, Vocab: 50257}, // GPT-2
	} {
		if got := c.Parameters(); got != want {
			t.Errorf("%+v has %d parameters, want %d", c, got, want)
		}
	}
}

// Decay covers the arrays of two dimensions and nothing else.
func TestDecay(t *testing.T) {
	m := model.New(small, true)
	in := make([]bool, len(m.Slab))
	for _, r := range m.DecayRanges() {
		for i := r[0]; i < r[1]; i++ {
			in[i] = true
		}
	}
	at := 0
	for _, p := range m.NamedParameters() {
		for range p.Data {
			if in[at] != (len(p.Shape) == 2) {
				t.Fatalf("%s %v: decay %t", p.Name, p.Shape, in[at])
			}
			at++
		}
	}
}

func deviation(x []float32) float64 {
	sum := 0.
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(len(x)))
}

func TestInit(t *testing.T) {
	c := model.Config{Layers: 2, Width: 64, Heads: 2, Context: 60, Vocab: 200}
	m := model.New(c, true)
	m.Init(draw.New(1, "test", "init"))
	for _, p := range m.NamedParameters() {
		want, tolerance := .02, .05
		switch {
		case strings.HasSuffix(p.Name, "bias"):
			want = 0
		case strings.Contains(p.Name, "ln_"):
			want, tolerance = 1, 0
		case strings.HasSuffix(p.Name, "c_proj.weight"):
			want = .02 / 2
		case p.Name == "score.weight":
			want, tolerance = 1/math.Sqrt(65), .3
		}
		if got := deviation(p.Data); math.Abs(got-want) > want*tolerance {
			t.Errorf("%s: deviation %v, want %v", p.Name, got, want)
		}
	}
	again := model.New(c, true)
	again.Init(draw.New(1, "test", "init"))
	mustSameBits(t, "the same seed", again.Slab, m.Slab)
}

func TestCloneAndToScalar(t *testing.T) {
	m := loud(small, false, 1)
	c := m.Clone()
	mustSameBits(t, "clone", c.Slab, m.Slab)
	c.Slab[0]++
	if c.Slab[0] == m.Slab[0] {
		t.Error("a clone shares memory")
	}
	s := m.ToScalar(draw.New(1, "test", "head"))
	mustSameBits(t, "body", s.Slab[:len(m.Slab)], m.Slab)
	weight, bias := s.ScoreHead()
	if !s.Scalar || len(weight) != 8 || len(bias) != 1 || deviation(weight) < .1 || bias[0] != 0 {
		t.Errorf("head %v, bias %v", weight, bias)
	}
	weight[0] = 42
	if s.Slab[len(m.Slab)] != 42 {
		t.Error("Score is not a view of the slab")
	}
}

// The plain slab and the folded gradient differ by rounding only.
func TestFold(t *testing.T) {
	m := loud(small, false, 2)
	b := model.NewBatch([]int32{1, 2, 3, 1, 1}, []int32{4, 1})
	ps := model.NewPass(nil)
	g, plain := m.NewGradient(), make([]float32, len(m.Slab))
	languageLoss(ps, m, g, b, 1)
	languageLoss(ps, m, plain, b, 1)
	if len(g) != len(m.Slab)+small.Vocab*small.Width {
		t.Fatalf("gradient of %d", len(g))
	}
	folded := m.FoldGradient(nil, g)
	for i := range plain {
		if math.Abs(float64(folded[i]-plain[i])) > 1e-5 {
			t.Fatalf("element %d: %v folded, %v plain", i, folded[i], plain[i])
		}
	}
	if deviation(g[len(m.Slab):]) != 0 {
		t.Error("Fold leaves the embedding's share behind")
	}
}

func TestBatch(t *testing.T) {
	b := model.NewBatch([]int32{1, 2}, nil, []int32{3})
	if b.Rows() != 3 || b.Sequences() != 3 || !slices.Equal(b.Starts, []int{0, 2, 2, 3}) {
		t.Errorf("%+v", b)
	}
	m := loud(small, false, 3)
	with := slices.Clone(model.NewPass(nil).Forward(m, b))
	mustSameBits(t, "empty sequence", with, model.NewPass(nil).Forward(m, model.NewBatch([]int32{1, 2}, []int32{3})))
	b.Reset()
	b.Add([]int32{5})
	if b.Rows() != 1 || b.Sequences() != 1 {
		t.Errorf("after Reset: %+v", b)
	}
	if out := model.NewPass(nil).Forward(m, model.Batch{Starts: []int{0}}); len(out) != 0 {
		t.Errorf("%d rows from nothing", len(out))
	}
}

// Misuse is a fault of the program and panics, saying what to do.
func TestPanics(t *testing.T) {
	m := loud(small, false, 4)
	b := model.NewBatch([]int32{1, 2})
	ps := model.NewPass(nil)
	for want, f := range map[string]func(){
		"has 7 tokens, outside 0 to the context of 6": func() { ps.Forward(m, model.NewBatch(make([]int32, 7))) },
		"token 11 at row 1 is outside":                func() { ps.Forward(m, model.NewBatch([]int32{0, 11})) },
		"make batches with NewBatch":                  func() { ps.Forward(m, model.Batch{Tokens: []int32{1}}) },
		"needs a Forward of the same model":           func() { ps.Infer(m, b); ps.BackwardBody(m, m.NewGradient()) },
		"a head needs a Forward or Infer": func() {
			ps.Forward(m, b)
			model.EachLogProb(ps, m.Clone(), nil, nil, 1, nil)
		},
		"no scalar head": func() { ps.Forward(m, b); ps.ScalarHead(m, []int{0}) },
		"make it with Model.NewGradient": func() {
			ps.Forward(m, b)
			ps.BackwardBody(m, make([]float32, len(m.Slab)+1))
		},
		"hidden_size: 7 is not a multiple": func() {
			model.New(model.Config{Layers: 1, Width: 7, Heads: 2, Context: 1, Vocab: 2}, false)
		},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("panic %q, want %q", got, want)
				}
			}()
			f()
		}()
	}
}
