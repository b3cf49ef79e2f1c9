// Package traintest checks that a trainer's State is everything that one step
// hands to the next, so that a run which is interrupted and resumed ends in the
// same bytes. Only tests import it.
//
// A test gives a table from the paths of the trainer's fields to their class,
//
//	state    its memory is that of an array of State()
//	input    set when the trainer is made, equal in every trainer that is made
//	         from the same inputs, and never changed
//	scratch  has no meaning between steps
//
// and a function that makes the trainer. Case.Run walks all fields by
// reflection, unexported ones included, and fails for a field that the table
// does not classify. It also checks every classification:
//
//   - the fields of state and the arrays of State() cover the same memory;
//   - inputs have the same digests before and after the steps, and in a second
//     trainer;
//   - scratch is overwritten between steps, floats with NaN and integers with
//     large negative numbers, and the trainer must still agree, bit for bit,
//     with one whose scratch was left alone;
//   - before every step, the arrays of State() are copied into a fresh trainer,
//     which must continue bit for bit as the old one does. This also finds what
//     a table cannot classify, such as a variable captured by a function value.
//
// A path names fields with dots between them, "policy.adam.m", and elements of
// a slice with [], "samples[].tokens". A line of the table classifies a field
// and all fields below it, except those that have longer lines of their own.
// Pointers and interfaces add nothing to a path. Functions, channels, the pool
// and the types that a Case lists as shared need no line: all trainers share
// them, and only their identity is compared.
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

// Class is the role of a field between two steps.
type Class string

// The classes of fields; the package comment defines them.
const (
	State   Class = "state"
	Input   Class = "input"
	Scratch Class = "scratch"
)

// Fields is a table from the paths of fields to their classes.
type Fields map[string]Class

// With returns a copy of f with the lines of g added below a path.
func (f Fields) With(path string, g Fields) Fields {
	all := maps.Clone(f)
	for p, class := range g {
		all[join(path, p)] = class
	}
	return all
}

// join appends a name to a path; either may be empty.
func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// Case describes how to check a type of trainer, a pointer to a struct.
type Case[T train.Trainer] struct {
	// New makes the trainer, each time from the same inputs.
	New func(t *testing.T) T
	// Fields classifies the trainer's fields.
	Fields Fields
	// Steps is how many steps to take, at least 2; 0 takes all the trainer has.
	Steps int
	// Result returns what is made of the final state, such as the weights of a
	// model, to be compared as well. It may be nil.
	Result func(t *testing.T, trainer T) any
	// Shared lists types whose values are shared by all trainers and never change.
	Shared []reflect.Type
}

// Run checks the trainer in three subtests: fields, scratch and restored.
func (c Case[T]) Run(t *testing.T) {
	t.Helper()
	if c.Steps == 0 {
		c.Steps = c.New(t).Steps()
	}
	if c.Steps < 2 {
		t.Fatalf("the trainer takes %d steps: want at least 2, since the check is of what lies between two", c.Steps)
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

// checkFields compares the table with the trainer: every field has a class,
// state is in State(), and inputs do not change.
func (c Case[T]) checkFields(t *testing.T) []string {
	trainer, second := c.New(t), c.New(t)
	before := c.walkFields(t, trainer)
	stateBefore := stateRegions(trainer.State())
	problems := before.stateMismatches(trainer.State())
	for step := range c.Steps {
		c.step(t, trainer, step)
	}
	after := c.walkFields(t, trainer)
	problems = slices.Concat(problems,
		before.unclassified(),
		after.unclassified(),
		before.unusedLines(after),
		after.stateMismatches(trainer.State()),
		changedInputs(before.identityDigests, after.identityDigests, "after the steps"),
		changedInputs(before.inputDigests, c.walkFields(t, second).inputDigests,
			"in a second trainer that is made from the same inputs"))
	if !slices.Equal(stateBefore, stateRegions(trainer.State())) {
		problems = append(problems, "State() lists other arrays after the steps than before: "+
			"it has to return views of the same memory in the same order")
	}
	slices.Sort(problems) // maps give them in random order, and both walks find the same
	return slices.Compact(problems)
}

// checkScratch overwrites the scratch of one of two trainers after each step.
// Both must agree: a difference means that a field classed scratch carries
// something from step to step.
func (c Case[T]) checkScratch(t *testing.T) (problems []string) {
	scrambled, untouched := c.New(t), c.New(t)
	for step := range c.Steps {
		problems = append(problems,
			c.compareStep(t, step, "whose scratch was overwritten after each step", scrambled, untouched)...)
		c.walkFields(t, scrambled).scramble(scrambled.State())
	}
	return append(problems, c.compareResults(t, "whose scratch was overwritten", scrambled, untouched)...)
}

// checkRestored copies the arrays of State() into fresh trainers: into one after
// the first step, and into a new one before every step. All must agree with a
// trainer that was never interrupted.
func (c Case[T]) checkRestored(t *testing.T) (problems []string) {
	uninterrupted, restoredOnce, restoredOften := c.New(t), c.New(t), c.New(t)
	c.step(t, uninterrupted, 0)
	copyState(t, restoredOnce, uninterrupted)
	copyState(t, restoredOften, uninterrupted)
	for step := 1; step < c.Steps; step++ {
		problems = append(problems,
			c.compareStep(t, step, "that was restored from State() after step 0", restoredOnce, uninterrupted)...)
		c.step(t, restoredOften, step)
		fresh := c.New(t)
		copyState(t, fresh, restoredOften)
		restoredOften = fresh
	}
	if len(problems) > 0 { // the comparison at the end would only repeat them
		return problems
	}
	problems = compareStates(c.Steps-1, "that was restored from State() after every step", restoredOften, uninterrupted)
	return append(problems,
		c.compareResults(t, "that was restored from State() after the last step", restoredOften, uninterrupted)...)
}

// copyState restores a trainer from the state of another, as a checkpoint would.
func copyState[T train.Trainer](t *testing.T, to, from T) {
	t.Helper()
	have, want := to.State(), from.State()
	if len(have) != len(want) {
		t.Fatalf("a fresh trainer has %d arrays of state, the old one %d", len(have), len(want))
	}
	for i, a := range want {
		if have[i].Name != a.Name || len(have[i].Data) != len(a.Data) {
			t.Fatalf("array %d of the state is %s of %d in a fresh trainer, %s of %d in the old one",
				i, have[i].Name, len(have[i].Data), a.Name, len(a.Data))
		}
		copy(have[i].Data, a.Data)
	}
}

// compareStep has both trainers take a step and compares their reports and
// their states. which describes trainer a.
func (c Case[T]) compareStep(t *testing.T, step int, which string, a, b T) (problems []string) {
	t.Helper()
	if c.step(t, a, step) != c.step(t, b, step) {
		problems = append(problems, fmt.Sprintf("step %d: a trainer %s reports something else: "+
			"a field that is not in State() carries something from step to step", step, which))
	}
	return append(problems, compareStates(step, which, a, b)...)
}

// compareStates reports the first array of the states that differs.
func compareStates[T train.Trainer](step int, which string, a, b T) []string {
	got := a.State()
	for i, want := range b.State() {
		if digest(got[i].Data) != digest(want.Data) {
			return []string{fmt.Sprintf("step %d: a trainer %s ends with another %s: "+
				"a field that is not in State() carries something from step to step", step, which, want.Name)}
		}
	}
	return nil
}

// compareResults compares what Result makes of two trainers.
func (c Case[T]) compareResults(t *testing.T, which string, a, b T) []string {
	t.Helper()
	if c.Result == nil || digest(c.Result(t, a)) == digest(c.Result(t, b)) {
		return nil
	}
	return []string{fmt.Sprintf("a trainer %s has another result", which)}
}

// step takes a step and returns a digest of its report.
func (c Case[T]) step(t *testing.T, trainer T, step int) string {
	t.Helper()
	report, err := trainer.Step(t.Context(), step)
	if err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
	return digest(report)
}

// walkFields walks the trainer's fields as they are now.
func (c Case[T]) walkFields(t *testing.T, trainer T) *fieldWalk {
	t.Helper()
	v := reflect.ValueOf(trainer)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		t.Fatalf("%T is not a pointer to a struct", trainer)
	}
	w := &fieldWalk{
		fields: c.Fields,
		shared: append([]reflect.Type{reflect.TypeFor[*tensor.Pool]()}, c.Shared...),
		used:   map[string]bool{},
		seen:   map[visit]bool{},
	}
	w.walk("", v, "")
	w.identityDigests = w.digests(true)
	w.inputDigests = w.digests(false)
	return w
}

// unclassified reports the fields that no line of the table covers.
func (w *fieldWalk) unclassified() (problems []string) {
	for _, l := range w.leaves {
		if l.class == "" && !l.shared {
			problems = append(problems, fmt.Sprintf("%s (%s) is in no line of the table: if a later step depends on "+
				"it, add it to State() and class it state; otherwise class it input (set by New, never changed) or "+
				"scratch (without meaning between steps)", l.path, l.value.Type()))
		}
	}
	return problems
}

// unusedLines reports the lines of the table that matched no field, before or
// after the steps.
func (w *fieldWalk) unusedLines(after *fieldWalk) (problems []string) {
	for path := range w.fields {
		if !w.used[path] && !after.used[path] {
			problems = append(problems, fmt.Sprintf("the table's line %q names no field: rename or remove the line "+
				"if the field was renamed or removed", path))
		}
	}
	return problems
}

// stateMismatches reports fields classed state that are in no array of State(),
// and arrays of State() that are in no field classed state.
func (w *fieldWalk) stateMismatches(state []tensor.NamedArray) (problems []string) {
	arrays := stateRegions(state)
	held := make([]bool, len(arrays)) // by a field classed state
	for _, l := range w.leaves {
		if l.class != State || l.shared || l.empty() {
			continue
		}
		if l.value.Kind() != reflect.Slice || l.value.Type().Elem().Kind() != reflect.Float32 {
			problems = append(problems, fmt.Sprintf("%s (%s) is classed state but is not a slice of float32: "+
				"State() cannot hold it", l.path, l.value.Type()))
			continue
		}
		// A field may be a part of an array, as a weight is of a slab, or be made
		// up of several arrays that lie next to each other.
		m, inside := l.region(), false
		for i, a := range arrays {
			inside = inside || a.from <= m.from && m.to <= a.to || m.from <= a.from && a.to <= m.to
			held[i] = held[i] || a.from < m.to && m.from < a.to
		}
		if !inside || !covered(m, arrays) {
			problems = append(problems, fmt.Sprintf(
				"%s is classed state, but its memory is in no array of State(): add it there", l.path))
		}
	}
	for i, a := range state {
		if !held[i] && len(a.Data) > 0 {
			problems = append(problems, fmt.Sprintf(
				"State() lists %s, which no field classed state holds: is it a copy?", a.Name))
		}
	}
	return problems
}

// changedInputs reports the paths whose digests differ between two walks. where
// describes the second walk.
func changedInputs(was, is map[string]string, where string) (problems []string) {
	paths := slices.Collect(maps.Keys(was))
	for path := range is {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if was[path] != is[path] {
			problems = append(problems, fmt.Sprintf("%s is another %s: a field that changes is state or scratch, "+
				"not input", path, where))
		}
	}
	return problems
}

// digests returns the digests of the inputs by path. With identities it also
// has the addresses of shared values and of the pointers that lead to fields;
// these can be compared between walks of the same trainer only.
func (w *fieldWalk) digests(identities bool) map[string]string {
	all := map[string]string{}
	for _, l := range w.leaves {
		switch {
		case l.shared && identities && l.class != Scratch:
			all[l.path] += l.identity() + " "
		case l.class == Input && !l.shared:
			all[l.path] += digestOf(l.value)
		}
	}
	for _, link := range w.links {
		if identities {
			all[link.path] += fmt.Sprintf("%x:%d ", link.address, link.length)
		}
	}
	return all
}

// scramble overwrites all scratch, except memory that also belongs to state or
// to an input.
func (w *fieldWalk) scramble(state []tensor.NamedArray) {
	keep := stateRegions(state)
	for _, l := range w.leaves {
		if l.class == Input && !l.shared {
			keep = append(keep, l.region())
		}
	}
	keep = mergeRegions(keep)
	for _, l := range w.leaves {
		if l.class == Scratch && !l.shared {
			scramble(l.value, keep)
		}
	}
}
