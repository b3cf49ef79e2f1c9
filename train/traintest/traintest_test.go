package traintest

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// toy descends on the distance from its goals, with momentum. It holds a field
// of each class, and faults that a test switches on.
type toy struct {
	steps int
	goals []float32
	shift func(step int) float32
	inner *inner

	slope []float32
	order []int
	epoch int

	faults faults
	carry  float32
}

type inner struct {
	w, m  []float32
	views [][]float32
}

type faults struct{ copies, forgets, moves, carries, keeps, drifts bool }

var toyFields = Fields{
	"steps": Input, "goals": Input, "slope": Scratch, "order": Scratch, "epoch": Scratch, "faults": Input,
	"carry":   Scratch,
	"inner.w": State, "inner.m": State, "inner.views": State,
}

func newToy(f faults) *toy {
	var caught float32
	t := &toy{steps: 4, goals: []float32{1, 2, 3}, slope: make([]float32, 3), faults: f, epoch: -1,
		inner: &inner{w: make([]float32, 3), m: make([]float32, 3)}}
	t.inner.views = [][]float32{t.inner.w[:1], t.inner.w[1:]}
	t.shift = func(step int) float32 {
		if f.keeps {
			caught += .25
		}
		return caught
	}
	return t
}

func (t *toy) Steps() int { return t.steps }

func (t *toy) Step(_ context.Context, step int) (trimtab.Report, error) {
	if e := step / 2; e != t.epoch {
		t.epoch, t.order = e, []int{e % 3, (e + 1) % 3, (e + 2) % 3}
	}
	shift := t.shift(step)
	if t.faults.carries {
		shift, t.carry = t.carry, t.carry+1
	}
	for i, k := range t.order {
		t.slope[i] = t.inner.w[i] - t.goals[k] + shift
		t.inner.m[i] = float32(.5*t.inner.m[i]) + t.slope[i]
		t.inner.w[i] -= float32(.25 * t.inner.m[i])
	}
	if t.faults.drifts {
		t.goals[0]++
	}
	if t.faults.moves {
		t.inner.m = slices.Clone(t.inner.m)
	}
	return trimtab.Report{Metrics: []trimtab.Metric{{Name: "w", Value: float64(t.inner.w[0])}}}, nil
}

func (t *toy) State() []tensor.NamedArray {
	state := []tensor.NamedArray{{Name: "w", Data: t.inner.w}, {Name: "m", Data: t.inner.m}}
	switch {
	case t.faults.copies:
		state[1].Data = slices.Clone(t.inner.m)
	case t.faults.forgets:
		state = state[:1]
	}
	return state
}

// Every fault is found, by the part that should find it, and a trainer without one has none.
func TestFaultsAreFound(t *testing.T) {
	none := faults{}
	for name, c := range map[string]struct {
		faults faults
		fields Fields
		part   string
		want   string // "" is no problem
	}{
		"nothing wrong": {none, toyFields, "fields scratch restored", ""},
		"a field without a line": {none, without("carry"), "fields",
			"carry (float32) is in no line of the table"},
		"a field below has no line": {none, without("inner.views"), "fields",
			"inner.views[] ([]float32) is in no line"},
		"a line without a field": {none, toyFields.With("", Fields{"inner.v": State}), "fields",
			`line "inner.v" names no field`},
		"state that is not listed": {faults{forgets: true}, toyFields, "fields",
			"inner.m is classed state, but its memory is in no array"},
		"state that is not restored": {faults{forgets: true}, toyFields, "restored", "ends with another w"},
		"state that is a copy": {faults{copies: true}, toyFields, "fields",
			"State() lists m, which no field classed state holds"},
		"state that moves": {faults{moves: true}, toyFields, "fields",
			"State() lists other arrays after the steps"},
		"state that no array can hold": {none, toyFields.With("", Fields{"epoch": State}), "fields",
			"epoch (int) is classed state but is not a slice of float32"},
		"state that is called scratch": {none, toyFields.With("inner", Fields{"m": Scratch}), "fields",
			"State() lists m, which no field classed state holds"},
		"an input that drifts": {faults{drifts: true}, toyFields, "fields", "goals is another after the steps"},
		"an input that follows the step": {none, toyFields.With("", Fields{"epoch": Input}), "fields",
			"epoch is another after the steps"},
		"scratch that carries":     {faults{carries: true}, toyFields, "scratch", "ends with another w"},
		"carried and not restored": {faults{carries: true}, toyFields, "restored", "reports something else"},
		"carried and called input": {faults{carries: true}, toyFields.With("", Fields{"carry": Input}), "fields",
			"carry is another after the steps"},
		"a function that has caught": {faults{keeps: true}, toyFields, "restored", "ends with another w"},
		"an input called scratch": {none, toyFields.With("", Fields{"goals": Scratch}), "scratch",
			"ends with another w"},
	} {
		t.Run(name, func(t *testing.T) {
			k := Case[*toy]{New: func(*testing.T) *toy { return newToy(c.faults) }, Fields: c.fields, Steps: 4,
				Result: func(_ *testing.T, t *toy) any { return t.inner.w }}
			var problems []string
			for name, part := range map[string]func(*testing.T) []string{"fields": k.checkFields,
				"scratch": k.checkScratch, "restored": k.checkRestored} {
				if strings.Contains(c.part, name) {
					problems = append(problems, part(t)...)
				}
			}
			found := slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) })
			if c.want == "" && len(problems) > 0 || c.want != "" && !found {
				t.Errorf("problems %q, want %q", problems, c.want)
			}
		})
	}
}

func without(line string) Fields {
	f := toyFields.With("", nil)
	delete(f, line)
	return f
}

// What is overwritten is all that is scratch, to the end of its memory, and nothing that is kept.
func TestScramble(t *testing.T) {
	tr := newToy(faults{})
	whole := []float32{1, 2, 3, 4}
	tr.slope, tr.order = whole[:2], []int{7}
	s := Case[*toy]{Fields: toyFields}.walkFields(t, tr)
	tr.inner.views = nil
	s.scramble(append(tr.State(), tensor.NamedArray{Data: whole[3:]}))
	for i, v := range whole[:3] {
		if v == v {
			t.Errorf("float %d is %g still", i, v)
		}
	}
	if whole[3] != 4 || tr.order[0] == 7 || tr.epoch == -1 || tr.carry == tr.carry {
		t.Errorf("%v, order %v, epoch %d, carry %g", whole, tr.order, tr.epoch, tr.carry)
	}
	for _, v := range slices.Concat(tr.inner.w, tr.inner.m, tr.goals) {
		if v != v {
			t.Error("state or input was overwritten")
		}
	}
}

func TestDigestComparesBits(t *testing.T) {
	odd := math.Float32frombits(0x7fc00002)
	for _, c := range []struct {
		a, b any
		same bool
	}{
		{[]float32{0}, []float32{float32(math.Copysign(0, -1))}, false},
		{[]float32{odd}, []float32{float32(math.NaN())}, false},
		{float64(odd), float64(odd), true},
		{map[string]int{"a": 1, "b": 2}, map[string]int{"b": 2, "a": 1}, true},
		{map[string]int{"a": 1}, map[string]int{"a": 2}, false},
		{&inner{w: []float32{1}}, &inner{w: []float32{1}}, true},
		{&inner{w: []float32{1}}, &inner{m: []float32{1}}, false},
		{[]bool{true}, []bool{false}, false},
		{[]any{nil}, []any{0}, false},
		{"ab", "ba", false},
	} {
		if (digest(c.a) == digest(c.b)) != c.same {
			t.Errorf("%v and %v: the same is %v, want %v", c.a, c.b, !c.same, c.same)
		}
	}
}
