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

// stages are the stages of the run, in order.
var stages = []string{"pretrain", "sft", "collect", "reward", "ppo", "evaluate"}

// injection is one fault that was injected, with what it cost.
type injection struct {
	fault, stage string
	// From the fault to the first step that had not been done before it.
	seconds float64
	// Steps that were done again.
	repeated int
	// A new step was done after it, and the run was completed.
	recovered bool
}

// results are all injections of an experiment.
type results struct {
	injections []injection
	// Completed runs.
	runs int
	// Outputs and series of metrics that differ from the undisturbed run's.
	differing int
}

// experiment injects faults, one in each stage of one run after another, until
// there were so many, and compares the outputs of each run with those of an
// undisturbed one. dice seeds the choice of faults and instants; the instants
// themselves also depend on the machine, so that the same seed does not repeat
// a failure exactly. After limit the experiment is aborted.
func experiment(t reporter, spec []string, kinds []fault, faults int, dice uint64, limit time.Duration) (all results) {
	r := rand.New(rand.NewPCG(dice, 0))
	want := baselineOutputs(t, spec)
	f := newFolder(t)
	defer f.end()
	if needsDisk := func(k fault) bool { return k.needsDisk }; slices.ContainsFunc(kinds, needsDisk) && !f.mountDisk() {
		kinds = slices.DeleteFunc(slices.Clone(kinds), needsDisk)
	}
	// Every kind is injected once before any is injected again.
	var deck []fault
	for started := time.Now(); len(all.injections) < faults; {
		// Every run is of the same spec, which would otherwise attach to an open one.
		more := []string{"--detach", "--new"}
		if all.runs%2 == 1 {
			more = append(more, fewCheckpoints...)
		}
		run := f.align(spec, more...).ID
		first := len(all.injections) // of this run
		for _, stage := range stages {
			if len(all.injections) == faults {
				break
			}
			if time.Since(started) > limit {
				t.Fatalf("the limit of %v has passed after %d of %d faults", limit, len(all.injections), faults)
			}
			if len(deck) == 0 {
				deck = shuffled(r, kinds)
			}
			// A fault that the stage had no time for stays on the deck.
			if done, ok := f.injectFault(run, stage, deck[0], r); ok {
				all.injections, deck = append(all.injections, done), deck[1:]
			}
		}
		d := f.watch(run)
		f.doctor(run)
		for i := range all.injections[first:] {
			all.injections[first+i].recovered = true
		}
		all.runs++
		all.differing += differences(t, f.outputs(d), want)
	}
	return all
}

// shuffled returns the kinds of fault in random order.
func shuffled(r *rand.Rand, kinds []fault) []fault {
	deck := slices.Clone(kinds)
	r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// injectFault injects a fault at a random instant of a stage and waits until
// the run has done a step that it had not done before. It returns false if the
// stage ended before the fault could be injected. A fault that costs more than
// it may is reported as an error.
func (f *folder) injectFault(run, stage string, kind fault, r *rand.Rand) (injection, bool) {
	f.t.Helper()
	if !f.awaitShare(run, stage, r.Float64()*.7) {
		return injection{}, false
	}
	// A run is seen to have done a step just after the worker has reported it. The
	// random wait makes all instants between two reports equally likely.
	time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
	seen := len(f.log(run))
	f.faultPosition = f.position(run)
	if !kind.inject(f, r, run) {
		return injection{}, false
	}
	at := f.faultPosition
	f.await(run, "a step is done after "+kind.name, func(d runs.View) bool {
		return positionOf(d).after(at) || !d.Status.Open()
	})
	done := injection{
		fault:    kind.name,
		stage:    stages[at.stage],
		seconds:  time.Since(f.faultTime).Seconds(),
		repeated: f.repeatedSteps(run, seen, at),
	}
	f.t.Logf("%s, in %s at step %d: %.1f s, %d steps repeated", kind.name, done.stage, at.step, done.seconds,
		done.repeated)
	if done.seconds > kind.maxSeconds {
		f.t.Errorf("recovery took more than %g s", kind.maxSeconds)
	}
	if kind.noLostSteps && done.repeated > 0 {
		f.t.Errorf("this fault must not cost any steps")
	}
	return done, true
}

// awaitShare waits until a stage has done a share of its steps. It returns
// false if the stage had ended by the time it was seen.
func (f *folder) awaitShare(run, stage string, share float64) bool {
	f.t.Helper()
	// A run that ends, or is past the stage, ends the wait as well.
	i := slices.Index(stages, stage)
	d := f.await(run, stage+" has done a share of its steps", func(d runs.View) bool {
		st := d.Stages[i]
		return !d.Status.Open() || positionOf(d).stage > i || st.Status == trimtab.AttemptRunning && st.Steps > 0 &&
			float64(st.Step) >= share*float64(st.Steps)
	})
	return d.Status.Open() && positionOf(d).stage == i && d.Stages[i].Step < d.Stages[i].Steps
}

// position returns how far a run has come now.
func (f *folder) position(run string) (at position) {
	f.t.Helper()
	f.await(run, "its record can be read", func(d runs.View) bool { at = positionOf(d); return true })
	return at
}

// repeatedSteps returns the number of steps that were shown as done before a
// fault at position at and were done again. The stage logs from which step it
// resumes; seen is the number of log lines before the fault. What is shown may
// be a second old, so the count can be too low by the steps of a second.
func (f *folder) repeatedSteps(run string, seen int, at position) (steps int) {
	f.t.Helper()
	for _, l := range f.log(run)[seen:] {
		var from int
		if _, err := fmt.Sscanf(l.Message, "resumes from step %d", &from); err == nil && l.Stage == stages[at.stage] {
			steps = max(steps, at.step-from)
		}
	}
	return steps
}

// differences reports the names under which two runs differ, and returns how
// many there are. The least number of outputs guards against comparing nothing.
func differences(t reporter, got, want map[string]string) (n int) {
	t.Helper()
	if len(want) < 4+6+6 { // models, outputs and metrics of the six stages
		t.Errorf("the undisturbed run has only %v", slices.Sorted(maps.Keys(want)))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			n++
			t.Errorf("%s is %s, and %s in the undisturbed run", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		n++
		t.Errorf("outputs %v, and %v in the undisturbed run", slices.Sorted(maps.Keys(got)),
			slices.Sorted(maps.Keys(want)))
	}
	return n
}

// baselineOutputs returns the outputs of the spec when nothing disturbs the
// run, in a data folder of its own.
func baselineOutputs(t reporter, spec []string) (outputs map[string]string) {
	t.Helper()
	f := newFolder(t)
	d := f.align(spec)
	outputs = f.outputs(d)
	t.Logf("undisturbed: %.1f s", d.Seconds)
	f.end()
	return outputs
}

// print writes the tables, by kind of fault and by stage. took is the duration
// of the whole experiment.
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
	fmt.Fprintf(out, "\n%d runs compared with an undisturbed one: %d outputs or series of metrics differ; %.0f s\n",
		t.runs, t.differing, took.Seconds())
}

// summaryRow returns the cells of a table's row behind its name. The medians
// are upper medians.
func summaryRow(of []injection, differing int) string {
	var steps, seconds []float64
	recovered := 0
	for _, in := range of {
		steps = append(steps, float64(in.repeated))
		seconds = append(seconds, in.seconds)
		if in.recovered {
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
