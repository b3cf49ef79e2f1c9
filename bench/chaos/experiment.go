package main

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// stages are those of the run, in order.
var stages = []string{"pretrain", "sft", "collect", "reward", "ppo", "evaluate"}

// injection is one fault that happened.
type injection struct {
	fault, stage string
	seconds      float64 // from the fault to the first step that had not been done before it
	repeated     int     // steps
	recovered    bool    // a step was made after it, and the run came to its end
}

// results is all that happened.
type results struct {
	injections []injection
	runs       int
	differing  int // names under which a run made other bytes
}

// experiment lets faults happen, one in each stage of one run after another,
// and compares what the runs made with what one undisturbed made.
func experiment(t reporter, spec []string, kinds []fault, faults int, dice uint64, limit time.Duration) (all results) {
	r := rand.New(rand.NewPCG(dice, 0))
	whole := baselineOutputs(t, spec)
	f := newFolder(t)
	defer f.end()
	if needsDisk := func(k fault) bool { return k.needsDisk }; slices.ContainsFunc(kinds, needsDisk) && !f.mountDisk() {
		kinds = slices.DeleteFunc(slices.Clone(kinds), needsDisk)
	}
	var deck []fault
	for started := time.Now(); len(all.injections) < faults; {
		more := []string{"--detach", "--new"}
		if all.runs%2 == 1 {
			more = append(more, fewCheckpoints...)
		}
		run := f.align(spec, more...).ID
		begin := len(all.injections)
		for _, stage := range stages {
			if len(all.injections) == faults {
				break
			}
			if time.Since(started) > limit {
				t.Fatalf("%v are over, after %d of %d faults", limit, len(all.injections), faults)
			}
			if len(deck) == 0 {
				deck = shuffled(r, kinds)
			}
			if s, ok := f.injectFault(run, stage, deck[0], r); ok {
				all.injections, deck = append(all.injections, s), deck[1:]
			}
		}
		d := f.watch(run)
		f.doctor(run)
		for i := range all.injections[begin:] {
			all.injections[begin+i].recovered = true
		}
		all.runs++
		all.differing += differences(t, f.outputs(d), whole)
	}
	return all
}

func shuffled(r *rand.Rand, kinds []fault) []fault {
	deck := slices.Clone(kinds)
	r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// injectFault lets a fault happen at a random instant of a stage, and waits until
// the run has made a step that it had not made before.
func (f *folder) injectFault(run, stage string, x fault, r *rand.Rand) (injection, bool) {
	f.t.Helper()
	if !f.awaitShare(run, stage, r.Float64()*.7) {
		return injection{}, false
	}
	// what was seen was seen when something was told: not at any instant
	time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
	seen := len(f.log(run))
	f.faultPosition = f.position(run)
	if !x.inject(f, r, run) {
		return injection{}, false
	}
	at := f.faultPosition
	f.await(run, "a step after "+x.name, func(d runs.View) bool { return positionOf(d).after(at) || !d.Status.Open() })
	s := injection{fault: x.name, stage: stages[at.stage], seconds: time.Since(f.faultTime).Seconds(),
		repeated: f.repeatedSteps(run, seen, at)}
	f.t.Logf("%s, in %s at step %d: %.1f s, %d steps repeated", x.name, s.stage, at.step, s.seconds, s.repeated)
	if s.seconds > x.maxSeconds {
		f.t.Errorf("that took more than %g s", x.maxSeconds)
	}
	if x.noLostSteps && s.repeated > 0 {
		f.t.Errorf("no step may be lost by it")
	}
	return s, true
}

// awaitShare waits until a stage has done a share of its steps; false if it was over before it was seen there.
func (f *folder) awaitShare(run, stage string, share float64) bool {
	f.t.Helper()
	i := slices.Index(stages, stage)
	d := f.await(run, "the middle of "+stage, func(d runs.View) bool {
		st := d.Stages[i]
		return !d.Status.Open() || positionOf(d).stage > i || st.Status == trimtab.AttemptRunning && st.Steps > 0 &&
			float64(st.Step) >= share*float64(st.Steps)
	})
	return d.Status.Open() && positionOf(d).stage == i && d.Stages[i].Step < d.Stages[i].Steps
}

// position is where a run is.
func (f *folder) position(run string) (at position) {
	f.t.Helper()
	f.await(run, "a look at it", func(d runs.View) bool { at = positionOf(d); return true })
	return at
}

// repeatedSteps counts the steps that were shown as done before a fault and were
// done again: the stage says from where it goes on. What is shown is up to a
// second old.
func (f *folder) repeatedSteps(run string, seen int, at position) (steps int) {
	f.t.Helper()
	for _, l := range f.log(run)[seen:] {
		var from int
		if _, err := fmt.Sscanf(l.Message, "goes on from step %d", &from); err == nil && l.Stage == stages[at.stage] {
			steps = max(steps, at.step-from)
		}
	}
	return steps
}

// differences counts the names under which two runs differ, and reports them.
func differences(t reporter, got, want map[string]string) (n int) {
	t.Helper()
	if len(want) < 4+6+6 { // models, outputs and metrics of the six stages
		t.Errorf("the undisturbed run made only %v", slices.Sorted(maps.Keys(want)))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			n++
			t.Errorf("%s is %s, undisturbed %s", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		n++
		t.Errorf("made %v, undisturbed %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	return n
}

// baselineOutputs is what the spec makes when nothing happens to it, in a data folder of its own.
func baselineOutputs(t reporter, spec []string) (made map[string]string) {
	t.Helper()
	f := newFolder(t)
	d := f.align(spec)
	made = f.outputs(d)
	t.Logf("undisturbed: %.1f s", d.Seconds)
	f.end()
	return made
}

// print writes the tables: by kind of fault, and by stage.
func (t results) print(out io.Writer, took time.Duration) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	by := func(head string, key func(injection) string) {
		groups := map[string][]injection{}
		for _, s := range t.injections {
			groups[key(s)] = append(groups[key(s)], s)
		}
		fmt.Fprintf(table,
			"\n%s\ttimes\trecovered\tsteps repeated: median\tmost\tseconds lost: median\tmost\tbytes differing\n", head)
		for _, name := range slices.Sorted(maps.Keys(groups)) {
			fmt.Fprintln(table, name+"\t"+summaryRow(groups[name], t.differing))
		}
	}
	by("fault", func(s injection) string { return s.fault })
	by("in stage", func(s injection) string { return s.stage })
	fmt.Fprintln(table, "\nall\t"+summaryRow(t.injections, t.differing))
	table.Flush()
	fmt.Fprintf(out, "\n%d runs, compared with one undisturbed: %d outputs or series of metrics differ; %.0f s\n",
		t.runs, t.differing, took.Seconds())
}

// summaryRow is a line of a table without its name.
func summaryRow(of []injection, differing int) string {
	var steps, seconds []float64
	recovered := 0
	for _, s := range of {
		steps, seconds = append(steps, float64(s.repeated)), append(seconds, s.seconds)
		if s.recovered {
			recovered++
		}
	}
	slices.Sort(steps)
	slices.Sort(seconds)
	cells := []string{fmt.Sprint(len(of)), fmt.Sprint(recovered)}
	if n := len(of); n > 0 {
		cells = append(cells, fmt.Sprint(steps[n/2]), fmt.Sprint(steps[n-1]), fmt.Sprintf("%.1f", seconds[n/2]),
			fmt.Sprintf("%.1f", seconds[n-1]))
	}
	return strings.Join(append(cells, fmt.Sprint(differing)), "\t")
}
