package main

import (
	"errors"
	"os/exec"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// specs are the runs by size, as arguments of align. The stages of the smallest
// are lengthened to some seconds, with several checkpoints a second.
var specs = map[string][]string{
	"default": {"--size", "default"},
	"llama": append([]string{
		"--size", "smallest", "--set", "model.model_type=llama", "--set", "model.num_key_value_heads=1",
		"--set", "model.intermediate_size=48",
	}, longerStages...),
	"smallest": append([]string{"--size", "smallest"}, longerStages...),
}

// longerStages are the settings that lengthen the stages of the smallest run.
var longerStages = setFlags(
	"starter.prompts=600", "starter.tests=800",
	"pretrain.tokens=98304", "pretrain.checkpoint_steps=8", "pretrain.segment_steps=4096",
	"sft.num_train_epochs=48", "sft.checkpoint_steps=4",
	"collect.prompts=400", "collect.batch_size=2", "collect.checkpoint_steps=4",
	"reward.checkpoint_steps=2",
	"ppo.total_episodes=1024", "ppo.checkpoint_steps=1",
)

// fewCheckpoints are settings that give every second run so few checkpoints
// that most faults cost steps. They change neither the models nor the metrics.
var fewCheckpoints = setFlags("pretrain.checkpoint_steps=96", "sft.checkpoint_steps=40", "collect.checkpoint_steps=60",
	"reward.checkpoint_steps=24", "ppo.checkpoint_steps=8")

// setFlags returns settings as --set arguments.
func setFlags(settings ...string) (args []string) {
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	return args
}

// position is how far a run has come: the index of a stage and its steps done.
type position struct{ stage, step int }

// after reports whether p is further than q.
func (p position) after(q position) bool {
	return p.stage > q.stage || p.stage == q.stage && p.step > q.step
}

// positionOf returns the position of a run: the last stage that has started.
func positionOf(d runs.View) (at position) {
	for i, st := range d.Stages {
		if st.Attempt > 0 {
			at = position{i, st.Step}
		}
	}
	return at
}

// waitLimit is how long anything is waited for. It is long, because the machine may
// be busy.
const waitLimit = 3 * time.Minute

// await polls a run until it is as wanted, and fails if that takes longer than
// waitLimit, or if the run ends or is blocked first. what completes the
// sentence "waiting until …".
func (f *folder) await(run, what string, wanted func(runs.View) bool) runs.View {
	f.t.Helper()
	var d runs.View
	var err error
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var next runs.View
		// The database may be the victim of the fault.
		if next, err = f.loadRun(run); err != nil {
			continue
		}
		if d = next; wanted(d) {
			return d
		}
		if !d.Status.Open() || d.Status == trimtab.RunBlocked {
			f.t.Fatalf("waiting until %s: the run is %s: %v (%s)", what, d.Status, d.Error, d.Next)
		}
	}
	f.t.Fatalf("waiting until %s: not within %v: the run is %s at %+v (%s), last error %v", what, waitLimit, d.Status,
		positionOf(d), d.Next, err)
	return d
}

// checkCompleted fails unless the run is completed, each stage in its first
// attempt: a fault must not need a person.
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

// watch follows a run to its end, as a user does who comes back later.
func (f *folder) watch(run string) runs.View {
	f.t.Helper()
	return f.checkCompleted(parseView(f.t, f.run("watch", run, "-o", "json")))
}

// show returns the run as the show command prints it. The command may fail for
// a while because the database is unavailable.
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

// stderrOf returns what a failed command wrote to standard error.
func stderrOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(exit.Stderr)
	}
	return ""
}
