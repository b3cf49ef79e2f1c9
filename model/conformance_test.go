package model_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// The fixtures of testdata/families are what Hugging Face's transformers computes: see make.py there.

// fixture is an array of a fixture's file.
type fixture struct {
	DType   string `json:"dtype"`
	Shape   []int  `json:"shape"`
	Offsets [2]int `json:"data_offsets"`
	raw     []byte
}

// readFixture reads a safetensors file.
func readFixture(t *testing.T, path string) map[string]fixture {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(raw)
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw[8:8+n], &fields); err != nil {
		t.Fatal(err)
	}
	all := map[string]fixture{}
	for name, field := range fields {
		var f fixture
		if name == "__metadata__" {
			continue
		}
		if err := json.Unmarshal(field, &f); err != nil {
			t.Fatal(err)
		}
		f.raw = raw[8+n:][f.Offsets[0]:f.Offsets[1]]
		all[name] = f
	}
	return all
}

// floats decodes float32, ints decodes int32.
func (f fixture) floats() []float32 {
	x := make([]float32, len(f.raw)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(f.raw[4*i:]))
	}
	return x
}

func (f fixture) ints() []int32 {
	x := make([]int32, len(f.raw)/4)
	for i := range x {
		x[i] = int32(binary.LittleEndian.Uint32(f.raw[4*i:]))
	}
	return x
}

// fixtureModel returns the model of a fixture's folder.
func fixtureModel(t *testing.T, dir string) *model.Model {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := model.ReadConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	m := model.New(config.Config, false)
	arrays := readFixture(t, filepath.Join(dir, "model.safetensors"))
	for _, p := range m.NamedParameters() {
		a, ok := arrays[p.Name]
		if !ok {
			t.Fatalf("%s is not in the folder", p.Name)
		}
		copy(p.Data, withoutOffset(config.Config, p.Name, a.floats(), len(p.Data)))
		delete(arrays, p.Name)
	}
	for name := range arrays {
		t.Errorf("%s is not in the model", name)
	}
	return m
}

// withoutOffset leaves out the two rows before the first position that OPT stores.
func withoutOffset(c model.Config, name string, x []float32, n int) []float32 {
	if c.Family == "opt" && strings.Contains(name, "embed_positions") {
		return x[2*c.Width:]
	}
	if len(x) != n {
		panic(fmt.Sprintf("%s has %d elements, want %d", name, len(x), n))
	}
	return x
}

// apart returns the largest difference of got and want, relative to the largest of want.
func apart(got, want []float32) float64 {
	top, worst := 0., 0.
	for i := range want {
		top = max(top, math.Abs(float64(want[i])))
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	if len(got) != len(want) || math.IsNaN(worst) {
		return math.Inf(1)
	}
	return worst / max(top, 1e-3)
}

// TestFamilies compares every family with transformers: logits, the gradient of a loss in every parameter, and a greedy
// answer.
func TestFamilies(t *testing.T) {
	dirs, err := filepath.Glob("testdata/families/*/config.json")
	if err != nil || len(dirs) < 17 {
		t.Fatal(len(dirs), err)
	}
	everyKernel(t, func(t *testing.T) {
		for _, config := range dirs {
			dir := filepath.Dir(config)
			t.Run(filepath.Base(dir), func(t *testing.T) { checkFamily(t, dir) })
		}
	})
}

// checkFamily compares one fixture.
func checkFamily(t *testing.T, dir string) {
	m := fixtureModel(t, dir)
	want := readFixture(t, filepath.Join(dir, "expected.safetensors"))
	ps := model.NewPass(nil)
	var logits float64
	var seqs [][]int32
	for i := range 2 {
		seqs = append(seqs, want[fmt.Sprintf("tokens.%d", i)].ints())
		logits = max(logits, apart(allLogits(ps, m, seqs[i]), want[fmt.Sprintf("logits.%d", i)].floats()))
	}
	if !(logits < 1e-5) {
		t.Errorf("logits differ by %.1e", logits)
	}
	loss, grads := fixtureLoss(ps, m, seqs, want)
	if exact := float64(want["loss"].floats()[0]); math.Abs(loss-exact) > 1e-5*math.Abs(exact) {
		t.Errorf("the loss is %g, want %g", loss, exact)
	}
	top := 0. // of all gradients: that of a key's bias is zero, and rounding noise there
	for _, p := range m.NamedViews(grads, "") {
		for _, x := range p.Data {
			top = max(top, math.Abs(float64(x)))
		}
	}
	worst := 0.
	for _, p := range m.NamedViews(grads, "") {
		w := withoutOffset(m.Config, p.Name, want["grad."+p.Name].floats(), len(p.Data))
		d := apart(p.Data, w)
		for i := range w {
			if math.Abs(float64(w[i])) > 1e-4*top {
				worst = max(worst, d)
				break
			}
		}
		if !(d < 1e-4) && !(differ(p.Data, w) < 1e-5*top) {
			t.Errorf("the gradient of %s differs by %.1e", p.Name, d)
		}
	}
	prompt, answer := want["prompt"].ints(), want["greedy"].ints()
	got := model.Generate(ps, m, [][]int32{prompt}, model.SampleOptions{MaxNewTokens: len(answer)}, draw.New(1, "greedy"), 0)
	if !slices.Equal(got[0].Tokens, answer) {
		t.Errorf("the greedy answer is\n%v, want\n%v", got[0].Tokens, answer)
	}
	checkSample(t, m, prompt, got[0], model.SampleOptions{MaxNewTokens: len(answer)})
	t.Logf("logits %.1e, gradients %.1e, %d parameters", logits, worst, len(m.Slab))
}

// differ returns the largest difference of got and want.
func differ(got, want []float32) (worst float64) {
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	return worst
}

// allLogits returns the logits (N, V) after every token of a sequence.
func allLogits(ps *model.Pass, m *model.Model, seq []int32) []float32 {
	ps.Infer(m, model.NewBatch(seq))
	return ps.Logits(m)
}

// fixtureLoss returns the loss of a fixture and its gradient: the weighted sum of -log-probabilities of next tokens.
func fixtureLoss(ps *model.Pass, m *model.Model, seqs [][]int32, want map[string]fixture) (loss float64, g []float32) {
	b, rows := model.NextTokens(seqs, nil)
	dlogp := slices.Concat(want["weights.0"].floats(), want["weights.1"].floats())
	for i := range dlogp {
		dlogp[i] = -dlogp[i]
	}
	g = m.NewGradient()
	ps.Forward(m, b)
	for i, logp := range ps.WeightedLogProbs(m, g, rows, 1, dlogp).LogP {
		loss += float64(dlogp[i]) * float64(logp)
	}
	ps.BackwardBody(m, g)
	return loss, m.FoldGradient(nil, g)
}
