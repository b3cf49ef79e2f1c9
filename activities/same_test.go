package activities

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tensor"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

var everything = flag.Bool("portable", false,
	"in TestStagesAreTheSame: all three steps of every stage, by the portable reference too at the default size; "+
		"takes ten minutes under v1 and longer under v1-bf16, so give -timeout 2h")

var onlyStage = flag.String("stage", "",
	"in TestStagesAreTheSame: the one stage to compare; the others are made by the fastest implementation alone")

// firstSteps are what of each stage is compared.
const firstSteps = 3

// The stages of the shipped recipe give the same bytes under every
// implementation of the products, for their first three steps: every array of
// the state, and all that a step reports. The stages are made as a worker makes
// them, from the starter world's data in a real store. Each is given what the
// stages before it have made of three steps: sft, collect, reward and ppo begin
// with models that have hardly learned.
//
// Without -portable the reference takes part at the smallest size only, ppo
// takes two steps (the first trains the value model alone, the second both),
// and at the default size collect and evaluate, which only sample, take one.
func TestStagesAreTheSame(t *testing.T) {
	names := slices.Clone(tensor.Implementations())
	if slices.Reverse(names); len(names) == 1 {
		t.Skip("this build has the portable reference only")
	}
	fast := names[:len(names)-1]
	if *everything {
		fast = names
	}
	t.Run("default", func(t *testing.T) { compareStages(t, "", fast) })
	t.Run("smallest", func(t *testing.T) { compareStages(t, "smallest", names) })
}

// compareStages compares the implementations at a size of the recipe, the first with each of the others.
func compareStages(t *testing.T, size string, names []string) {
	w := newSmallWorker(t, size)
	for _, numerics := range []tensor.Numerics{tensor.V1, tensor.V1BF16} {
		t.Run(string(numerics), func(t *testing.T) {
			c := w.chain(t, numerics)
			for _, st := range c.plan.Stages {
				if *onlyStage == "" || *onlyStage == st.Name {
					c.compare(t, st, names)
				} else {
					c.compare(t, st, names[:1])
				}
			}
		})
	}
}

// smallWorker is what activities need but for Temporal.
type smallWorker struct {
	*Activities
	folder string // of the files
	size   string
	data   recipes.Data
	spec   recipes.Spec
}

// newSmallWorker has the data of the recipe's run in its store.
func newSmallWorker(t *testing.T, size string) *smallWorker {
	t.Helper()
	folder := t.TempDir()
	files, err := checkpoint.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	pool := tensor.NewPool(0)
	t.Cleanup(pool.Close)
	w := &smallWorker{folder: folder, size: size, Activities: New(slog.New(slog.DiscardHandler), storagetest.New(t),
		files, pool, "test")}
	w.artifacts = unfenced(w.store, w.files)
	if w.spec, err = recipes.Load("instructgpt", size, nil); err != nil {
		t.Fatal(err)
	}
	s := w.spec.Starter
	world := starter.New(s.World)
	freeze(t, w, asItems(world.Documents(s.Words)))
	freeze(t, w, asItems(world.Demonstrations(s.Demonstrations)))
	freeze(t, w, asItems(append(world.Prompts(s.Prompts), world.TestPrompts(s.Tests)...)))
	w.spec.Data = w.data
	return w
}

func asItems[T trimtab.Item](list []T) []trimtab.Item {
	items := make([]trimtab.Item, len(list))
	for i, v := range list {
		items[i] = v
	}
	return items
}

// freeze stores items of one kind and names them in the worker's data.
func freeze(t *testing.T, w *smallWorker, items []trimtab.Item) {
	t.Helper()
	kind := items[0].Kind()
	v, err := w.store.FreezeItems(t.Context(), string(kind), kind, items, "test")
	if err != nil {
		t.Fatal(err)
	}
	*w.data.Ref(kind) = string(v.Digest)
}

// smallChain is a run of the recipe as far as it has come.
type smallChain struct {
	*smallWorker
	plan trimtab.Plan
	made map[string][]trimtab.Named // outputs by stage
}

// chain plans a run under numerics.
func (w *smallWorker) chain(t *testing.T, numerics tensor.Numerics) *smallChain {
	t.Helper()
	spec := w.spec
	spec.Numerics = numerics
	plan, docs, err := spec.Plan("run", recipes.Resolved{Data: func(ref string) (trimtab.Digest,
		error) {
		return trimtab.ParseDigest(ref)
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if _, err := w.store.PutDocument(t.Context(), d.Body); err != nil {
			t.Fatal(err)
		}
	}
	return &smallChain{smallWorker: w, plan: plan, made: map[string][]trimtab.Named{}}
}

// compare runs a stage's first steps under each of the implementations, and
// makes its outputs under the first of them.
func (c *smallChain) compare(t *testing.T, st trimtab.PlannedStage, names []string) {
	t.Helper()
	var want [][]trimtab.Named
	for i, name := range names {
		begin := time.Now()
		got := c.run(t, st, name, i == 0)
		if i == 0 {
			want = got
		} else if step, what := firstDifference(want, got); what != "" {
			t.Errorf("step %d of %s: %s differs between %s and %s", step, st.Name, what, names[0], name)
		}
		t.Logf("%s: %d steps under %s: %.1f s", st.Name, len(got), name, time.Since(begin).Seconds())
	}
}

// trainSteps is how many steps of a stage are compared.
func (c *smallChain) steps(kind string) int {
	switch {
	case *everything:
		return firstSteps
	case kind == recipes.KindPPO:
		return 2
	case c.size == "" && (kind == recipes.KindCollect || kind == recipes.KindEvaluate):
		return 1
	}
	return firstSteps
}

// run makes a stage and gives a digest of all that each of its first steps made.
func (c *smallChain) run(t *testing.T, st trimtab.PlannedStage, name string, finish bool) (steps [][]trimtab.Named) {
	t.Helper()
	restore, err := tensor.Use(name)
	if err != nil {
		t.Fatal(err)
	}
	defer restore()
	j := c.job(t, st)
	for step := range min(c.steps(st.Kind), j.Steps()) {
		report, err := j.Step(t.Context(), step)
		if err != nil {
			t.Fatalf("%s under %s: %v", st.Name, name, err)
		}
		steps = append(steps, digestsOf(t, j.State(), report))
	}
	if finish {
		c.made[st.Name] = c.outputs(t, st, j)
	}
	return steps
}

// job is the stage as a segment makes it.
func (c *smallChain) job(t *testing.T, st trimtab.PlannedStage) job {
	t.Helper()
	j, err := c.newJob(t.Context(), c.segment(st))
	if err != nil {
		t.Fatalf("%s: %v", st.Name, err)
	}
	return j
}

// segment is the first of a stage.
func (c *smallChain) segment(st trimtab.PlannedStage) SegmentInput {
	in := SegmentInput{Run: c.plan.Run, Stage: st, Seed: c.plan.Seed, Numerics: c.plan.Numerics}
	for _, from := range st.Inputs {
		digest := from.Dataset
		for _, made := range c.made[from.Stage] {
			if made.Name == from.Output {
				digest = made.Digest
			}
		}
		in.Inputs = append(in.Inputs, trimtab.Named{Name: from.Name, Digest: digest})
	}
	return in
}

// outputs are what the later stages read of an unfinished one.
func (c *smallChain) outputs(t *testing.T, st trimtab.PlannedStage, j job) []trimtab.Named {
	t.Helper()
	var out []trimtab.Named
	var err error
	switch j := j.(type) {
	case *modelJob:
		var d trimtab.Digest
		d, err = checkpoint.SaveModel(c.files, j.result(), j.tok)
		out = []trimtab.Named{{Name: "model", Digest: d}}
	case *collectJob: // of prompts that nobody has answered there is no ranking
		out, _, err = j.finish(t.Context(), c.segment(st))
	}
	if err != nil {
		t.Fatalf("the output of %s: %v", st.Name, err)
	}
	return out
}

// digestsOf names all that a step made with its digest.
func digestsOf(t *testing.T, state []tensor.NamedArray, r trimtab.Report) []trimtab.Named {
	t.Helper()
	var list []trimtab.Named
	for _, a := range state {
		list = append(list, trimtab.Named{Name: a.Name, Digest: trimtab.DigestOf(bytesOf(a.Data))})
	}
	for _, m := range r.Metrics {
		list = append(list, trimtab.Named{Name: "metric " + m.Name, Digest: trimtab.DigestOf(fmt.Append(nil, m.Value))})
	}
	for _, o := range r.Rollouts {
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, trimtab.Named{Name: fmt.Sprint("rollout ", o.Index), Digest: trimtab.DigestOf(b)})
	}
	return list
}

// bytesOf is the memory of x.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// firstDifference compares the steps that both have done.
func firstDifference(want, got [][]trimtab.Named) (step int, what string) {
	for step, list := range got {
		if len(list) != len(want[step]) {
			return step, "the number of arrays, metrics and rollouts"
		}
		for i, n := range list {
			if n != want[step][i] {
				return step, n.Name
			}
		}
	}
	return 0, ""
}
