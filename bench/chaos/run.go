package main

import (
	"errors"
	"os/exec"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// specs are the runs by their size: arguments of align. The stages of the
// smallest are made to last some seconds, with a checkpoint several times a
// second.
var specs = map[string][]string{
	"default":  {"--size", "default"},
	"smallest": append([]string{"--size", "smallest"}, longerStages...),
}

var longerStages = setFlags(
	"starter.prompts=600", "starter.tests=800",
	"pretrain.tokens=98304", "pretrain.checkpoint_steps=8", "pretrain.segment_steps=4096",
	"sft.epochs=48", "sft.checkpoint_steps=4",
	"collect.prompts=400", "collect.batch=2", "collect.checkpoint_steps=4",
	"reward.checkpoint_steps=2",
	"ppo.episodes=1024", "ppo.checkpoint_steps=1",
)

// fewCheckpoints makes every second run have so few checkpoints that most faults cost
// steps: the models and the metrics are the same.
var fewCheckpoints = setFlags("pretrain.checkpoint_steps=96", "sft.checkpoint_steps=40", "collect.checkpoint_steps=60",
	"reward.checkpoint_steps=24", "ppo.checkpoint_steps=8")

func setFlags(settings ...string) (args []string) {
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	return args
}

// position is how far a run has come.
type position struct{ stage, step int }

func (p position) after(q position) bool {
	return p.stage > q.stage || p.stage == q.stage && p.step > q.step
}

// positionOf is the last stage that has begun and its steps that are done.
func positionOf(d runs.View) (at position) {
	for i, st := range d.Stages {
		if st.Attempt > 0 {
			at = position{i, st.Step}
		}
	}
	return at
}

const waitLimit = 3 * time.Minute // for anything; a machine may be busy

// await looks at a run until it is as wanted.
func (f *folder) await(run, what string, wanted func(runs.View) bool) runs.View {
	f.t.Helper()
	var d runs.View
	var err error
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var next runs.View
		if next, err = f.loadRun(run); err != nil {
			continue
		}
		if d = next; wanted(d) {
			return d
		}
		if !d.Status.Open() || d.Status == trimtab.RunBlocked {
			f.t.Fatalf("the run is %s before %s: %v (%s)", d.Status, what, d.Error, d.Next)
		}
	}
	f.t.Fatalf("%v passed without %s: the run is %s at %+v (%s), last error %v", waitLimit, what, d.Status,
		positionOf(d), d.Next, err)
	return d
}

// checkCompleted fails unless every stage was completed in its first attempt.
func (f *folder) checkCompleted(d runs.View) runs.View {
	f.t.Helper()
	if d.Status != trimtab.RunCompleted || d.Error != nil {
		f.t.Fatalf("the run is %s: %v", d.Status, d.Error)
	}
	for _, st := range d.Stages {
		if st.Status != trimtab.AttemptCompleted || st.Attempt != 1 {
			f.t.Errorf("%s is %s in attempt %d", st.Name, st.Status, st.Attempt)
		}
	}
	return d
}

// watch follows a run to its end, as somebody does who comes back later.
func (f *folder) watch(run string) runs.View {
	f.t.Helper()
	return f.checkCompleted(parseView(f.t, f.run("watch", run, "-o", "json")))
}

// show is what the command shows; it may be told for a while that the database is away.
func (f *folder) show(run string) runs.View {
	f.t.Helper()
	for end := time.Now().Add(waitLimit); ; time.Sleep(100 * time.Millisecond) {
		cmd := f.command("show", run, "-o", "json")
		out, err := cmd.Output()
		if err == nil {
			return parseView(f.t, out)
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitUnavailable ||
			time.Now().After(end) {
			f.t.Fatalf("trimtab show: %v\n%s", err, stderrOf(err))
		}
	}
}

// exitUnavailable is the exit code of a command that could not reach a server.
const exitUnavailable = 6

func stderrOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(exit.Stderr)
	}
	return ""
}
