// Package traintest checks that a trainer's State is all that one step hands to
// the next: that a run which is interrupted and taken up again loses nothing.
//
// A test gives a table from the paths of the trainer's fields to their class,
//
//	state    its memory is an array of State(), by address
//	input    given when the trainer is made, the same in every trainer that is
//	         made from the same inputs, and never changed
//	scratch  worth nothing between steps
//
// and how to make the trainer. Run then walks every field by reflection,
// unexported ones too, and fails for one that no line of the table speaks of.
// Every line is proved:
//
//   - state lies in the arrays of State(), and they in fields that are state;
//   - input is hashed before and after the steps, and in a second trainer;
//   - scratch is overwritten between steps, floats with not-a-number, integers
//     with odd ones, and a twin that was left alone sees no other bit;
//   - at every step, a fresh trainer that is given the arrays of State() goes
//     on as the old one does, bit for bit: so whatever the table cannot speak
//     of, as what a function value has caught, is seen too.
//
// A path names fields with dots between them, "policy.adam.m", and elements of
// a slice with [], "samples[].tokens". A line speaks of a field and of all
// below it, but for what longer lines speak of. Pointers and interfaces have no
// name of their own. Functions, channels, the pool and the types that a case
// lists are shared by all trainers: they are inputs without a line, of which
// only the identity is looked at.
package traintest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/train"
)

// Class says what a field is.
type Class string

// The classes of fields.
const (
	State   Class = "state"
	Input   Class = "input"
	Scratch Class = "scratch"
)

// Fields is a table from paths to classes.
type Fields map[string]Class

// With is f and the lines of g under a path.
func (f Fields) With(path string, g Fields) Fields {
	all := maps.Clone(f)
	for p, class := range g {
		all[join(path, p)] = class
	}
	return all
}

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// Case is a trainer to check.
type Case[T train.Trainer] struct {
	// New makes the trainer, each time from the same inputs.
	New    func(t *testing.T) T
	Fields Fields
	// Steps is how many steps are done, at least 2; 0 is all that the trainer has.
	Steps int
	// Result is what is made of the state; it may be nil.
	Result func(t *testing.T, trainer T) any
	// Shared are types whose values all trainers share and none changes.
	Shared []reflect.Type
}

// Run checks the trainer.
func (c Case[T]) Run(t *testing.T) {
	t.Helper()
	if c.Steps == 0 {
		c.Steps = c.New(t).Steps()
	}
	if c.Steps < 2 {
		t.Fatalf("%d steps: nothing lies between fewer than two", c.Steps)
	}
	for _, part := range []struct {
		name     string
		problems func(*testing.T) []string
	}{{"fields", c.checkFields}, {"scratch", c.checkScratch}, {"restored", c.checkRestored}} {
		t.Run(part.name, func(t *testing.T) {
			for _, p := range part.problems(t) {
				t.Error(p)
			}
		})
	}
}

// checkFields checks that the table speaks of every field, and what it says of state and input.
func (c Case[T]) checkFields(t *testing.T) []string {
	tr, other := c.New(t), c.New(t)
	before, state := c.walkFields(t, tr), stateRegions(tr.State())
	problems := before.stateMismatches(tr.State())
	for step := range c.Steps {
		c.step(t, tr, step)
	}
	after := c.walkFields(t, tr)
	problems = slices.Concat(problems, before.unclassified(), after.unclassified(), before.unusedLines(after),
		after.stateMismatches(tr.State()),
		changedInputs(before.identityDigests, after.identityDigests, "after the steps"),
		changedInputs(before.inputDigests, c.walkFields(t, other).inputDigests,
			"in a second trainer that is made from the same inputs"))
	if !slices.Equal(state, stateRegions(tr.State())) {
		problems = append(problems,
			"State() lists other arrays after the steps than before: it has to give views of the same memory in the "+
				"same order")
	}
	slices.Sort(problems)
	return slices.Compact(problems)
}

// checkScratch overwrites scratch between the steps of one of two trainers.
func (c Case[T]) checkScratch(t *testing.T) (problems []string) {
	garbled, left := c.New(t), c.New(t)
	for step := range c.Steps {
		problems = append(problems, c.compareStep(t, step, "whose scratch was overwritten after each step", garbled,
			left)...)
		c.walkFields(t, garbled).scramble(garbled.State())
	}
	return append(problems, c.compareResults(t, "whose scratch was overwritten", garbled, left)...)
}

// checkRestored takes the arrays of State() to fresh trainers: to one after step 0,
// and to another one before every step.
func (c Case[T]) checkRestored(t *testing.T) (problems []string) {
	whole, once, often := c.New(t), c.New(t), c.New(t)
	c.step(t, whole, 0)
	copyState(t, once, whole)
	copyState(t, often, whole)
	for step := 1; step < c.Steps; step++ {
		problems = append(problems, c.compareStep(t, step, "that was made anew after step 0 and given State()", once,
			whole)...)
		c.step(t, often, step)
		fresh := c.New(t)
		copyState(t, fresh, often)
		often = fresh
	}
	if len(problems) > 0 {
		return problems
	}
	problems = compareStates(c.Steps-1, "that was made anew after every step and given State()", often, whole)
	return append(problems, c.compareResults(t, "that was made anew after the last step and given State()", often,
		whole)...)
}

// copyState restores a trainer as a checkpoint would.
func copyState[T train.Trainer](t *testing.T, to, from T) {
	t.Helper()
	have, want := to.State(), from.State()
	if len(have) != len(want) {
		t.Fatalf("a fresh trainer has %d arrays of state, the old one %d", len(have), len(want))
	}
	for i, a := range want {
		if have[i].Name != a.Name || len(have[i].Data) != len(a.Data) {
			t.Fatalf("array %d of the state is %s of %d in a fresh trainer, %s of %d in the old one", i, have[i].Name,
				len(have[i].Data), a.Name, len(a.Data))
		}
		copy(have[i].Data, a.Data)
	}
}

// compareStep lets both trainers do a step and compares what they report and where they stand.
func (c Case[T]) compareStep(t *testing.T, step int, which string, a, b T) (problems []string) {
	t.Helper()
	if c.step(t, a, step) != c.step(t, b, step) {
		problems = append(problems,
			fmt.Sprintf("step %d: a trainer %s reports something else: a field that is not in State() carries "+
				"something from step to step", step, which))
	}
	return append(problems, compareStates(step, which, a, b)...)
}

// compareStates names the first array that differs.
func compareStates[T train.Trainer](step int, which string, a, b T) []string {
	got := a.State()
	for i, want := range b.State() {
		if digest(got[i].Data) != digest(want.Data) {
			return []string{fmt.Sprintf("step %d: a trainer %s comes to another %s: a field that is not in State() "+
				"carries something from step to step", step, which, want.Name)}
		}
	}
	return nil
}

func (c Case[T]) compareResults(t *testing.T, which string, a, b T) []string {
	t.Helper()
	if c.Result == nil || digest(c.Result(t, a)) == digest(c.Result(t, b)) {
		return nil
	}
	return []string{fmt.Sprintf("a trainer %s has another result", which)}
}

// step does a step and gives a hash of its report.
func (c Case[T]) step(t *testing.T, tr T, step int) string {
	t.Helper()
	report, err := tr.Step(t.Context(), step)
	if err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
	return digest(report)
}

// walkFields walks the trainer's fields.
func (c Case[T]) walkFields(t *testing.T, tr T) *fieldWalk {
	t.Helper()
	v := reflect.ValueOf(tr)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		t.Fatalf("%T is not a pointer to a struct", tr)
	}
	s := &fieldWalk{fields: c.Fields, shared: append([]reflect.Type{reflect.TypeFor[*tensor.Pool]()}, c.Shared...),
		used: map[string]bool{}, seen: map[visit]bool{}}
	s.walk("", v, "")
	s.identityDigests, s.inputDigests = s.digests(true), s.digests(false)
	return s
}

// unclassified are the fields that no line speaks of.
func (s *fieldWalk) unclassified() (problems []string) {
	for _, l := range s.leaves {
		if l.class == "" && !l.shared {
			problems = append(problems,
				fmt.Sprintf("%s (%s) is in no line of the table: if a later step depends on it, put it into State() "+
					"and class it state; "+
					"else class it input (given at New, never changed) or scratch (worth nothing between steps)",
					l.path,
					l.value.Type()))
		}
	}
	return problems
}

// unusedLines are the lines that speak of no field, before or after the steps.
func (s *fieldWalk) unusedLines(after *fieldWalk) (problems []string) {
	for path := range s.fields {
		if !s.used[path] && !after.used[path] {
			problems = append(problems,
				fmt.Sprintf("the table's line %q names no field: the field has another name or is gone, so take the "+
					"line out", path))
		}
	}
	return problems
}

// stateMismatches is state that is in no array of State(), and arrays that are in no field of state.
func (s *fieldWalk) stateMismatches(state []tensor.NamedArray) (problems []string) {
	arrays := stateRegions(state)
	held := make([]bool, len(arrays))
	for _, l := range s.leaves {
		if l.class != State || l.shared || l.empty() {
			continue
		}
		if l.value.Kind() != reflect.Slice || l.value.Type().Elem().Kind() != reflect.Float32 {
			problems = append(problems,
				fmt.Sprintf("%s (%s) is classed state and is no array of float32: State() cannot hold it", l.path,
					l.value.Type()))
			continue
		}
		m, inside := l.region(), false
		for i, a := range arrays {
			inside = inside || a.from <= m.from && m.to <= a.to || m.from <= a.from && a.to <= m.to
			held[i] = held[i] || a.from < m.to && m.from < a.to
		}
		if !inside || !covered(m, arrays) {
			problems = append(problems,
				fmt.Sprintf("%s is classed state, but its memory is in no array of State(): add it there", l.path))
		}
	}
	for i, a := range state {
		if !held[i] && len(a.Data) > 0 {
			problems = append(problems,
				fmt.Sprintf("State() lists %s, which no field classed state holds: is it a copy?", a.Name))
		}
	}
	return problems
}

// changedInputs are the inputs of two looks, at the same trainer or at two of them, that differ.
func changedInputs(was, is map[string]string, where string) (problems []string) {
	paths := slices.Collect(maps.Keys(was))
	for path := range is {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if was[path] != is[path] {
			problems = append(problems, fmt.Sprintf("%s is another %s: if it changes it is state or scratch, not input",
				path, where))
		}
	}
	return problems
}

// digests of the inputs by path. Of what lies between the trainer and its
// fields, and of what is shared, it is the identity, which says something of
// the same trainer only.
func (s *fieldWalk) digests(identities bool) map[string]string {
	all := map[string]string{}
	for _, l := range s.leaves {
		switch {
		case l.shared && identities && l.class != Scratch:
			all[l.path] += l.identity() + " "
		case l.class == Input && !l.shared:
			all[l.path] += digestOf(l.value)
		}
	}
	for _, b := range s.links {
		if identities {
			all[b.path] += fmt.Sprintf("%x:%d ", b.at, b.length)
		}
	}
	return all
}

// scramble overwrites all scratch that is not state or input as well.
func (s *fieldWalk) scramble(state []tensor.NamedArray) {
	keep := stateRegions(state)
	for _, l := range s.leaves {
		if l.class == Input && !l.shared {
			keep = append(keep, l.region())
		}
	}
	keep = mergeRegions(keep)
	for _, l := range s.leaves {
		if l.class == Scratch && !l.shared {
			scramble(l.value, keep)
		}
	}
}
