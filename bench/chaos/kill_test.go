package chaos_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// spec makes every stage of the smallest run last some seconds, with a
// checkpoint several times a second.
var spec = []string{
	"starter.prompts=600", "starter.tests=800",
	"pretrain.tokens=98304", "pretrain.checkpoint_steps=8", "pretrain.segment_steps=4096",
	"sft.epochs=48", "sft.checkpoint_steps=4",
	"collect.prompts=400", "collect.batch=2", "collect.checkpoint_steps=4",
	"reward.checkpoint_steps=2",
	"ppo.episodes=1024", "ppo.checkpoint_steps=1",
}

// short is spec for one kill in pretrain.
var short = []string{"pretrain.tokens=98304", "pretrain.checkpoint_steps=8", "pretrain.segment_steps=4096"}

// place is how far a run has come.
type place struct{ stage, step int }

func (p place) after(q place) bool { return p.stage > q.stage || p.stage == q.stage && p.step > q.step }

// placeOf is the last stage that has begun and its steps that are done.
func placeOf(d runs.Document) (at place) {
	for i, st := range d.Stages {
		if st.Attempt > 0 {
			at = place{i, st.Step}
		}
	}
	return at
}

const patience = 2 * time.Minute // for anything; a machine may be busy

// await looks at a run until it is as wanted.
func (f *folder) await(run, what string, wanted func(runs.Document) bool) runs.Document {
	f.t.Helper()
	var d runs.Document
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var next runs.Document
		if next, err = f.look(run); err != nil {
			continue
		}
		if d = next; wanted(d) {
			return d
		}
		if !d.Status.Open() || d.Status == trimtab.RunBlocked {
			f.t.Fatalf("the run is %s before %s: %v (%s)", d.Status, what, d.Error, d.Next)
		}
	}
	f.t.Fatalf("%v passed without %s: the run is %s at %+v (%s), last error %v", patience, what, d.Status, placeOf(d), d.Next, err)
	return d
}

// middle waits until a stage has done a third of its steps and has some to do.
func (f *folder) middle(run, stage string) place {
	f.t.Helper()
	d := f.await(run, "the middle of "+stage, func(d runs.Document) bool {
		at := d.Stages[placeOf(d).stage]
		return at.Name == stage && at.Status == trimtab.AttemptRunning && at.Steps > 0 && 3*at.Step >= at.Steps
	})
	if at := d.Stages[placeOf(d).stage]; at.Step >= at.Steps {
		f.t.Fatalf("%s was over before it was seen in its middle: give it more steps", stage)
	}
	return placeOf(d)
}

// kill sends SIGKILL to the victims in the middle of a stage, and waits for the
// next step. A command given at once starts dev again, or waits for Postgres.
func (f *folder) kill(run, stage string, victims ...string) {
	f.t.Helper()
	at := f.middle(run, stage)
	before := f.pids()
	killed := time.Now()
	f.signal(syscall.SIGKILL, before.of(victims)...)
	if d, err := f.look(run); err == nil && placeOf(d).after(at) { // steps done between the look and the kill
		at = placeOf(d)
	}
	note := ""
	if slices.Contains(victims, "dev") || slices.Contains(victims, "postgres") {
		if d := document(f.t, f.run("show", run, "-o", "json")); d.ID != run {
			f.t.Errorf("show prints run %s in place of %s", d.ID, run)
		}
		note = fmt.Sprintf("; the next command answered after %.1f s", time.Since(killed).Seconds())
	}
	f.await(run, "a step after the kill", func(d runs.Document) bool { return placeOf(d).after(at) || !d.Status.Open() })
	f.t.Logf("SIGKILL of %s in %s: %.1f s lost%s", strings.Join(victims, ", "), stage, time.Since(killed).Seconds(), note)
	for name, pid := range f.pids() {
		if killed := slices.Contains(victims, name); killed == (pid == before[name]) {
			f.t.Errorf("%s was process %d before the kill of %v and is %d after it", name, before[name], victims, pid)
		}
	}
}

// completed fails unless every stage was completed in its first attempt.
func (f *folder) completed(d runs.Document) runs.Document {
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
func (f *folder) watch(run string) runs.Document {
	f.t.Helper()
	return f.completed(document(f.t, f.run("watch", run, "-o", "json")))
}

// undisturbed is what the spec makes when nothing happens to it, in a data folder of its own.
func undisturbed(t *testing.T, sets []string) (made map[string]string) {
	t.Helper()
	ok := t.Run("undisturbed", func(t *testing.T) {
		f := newFolder(t)
		d := f.align(sets)
		made = f.made(d)
		t.Logf("undisturbed: %.1f s", d.Seconds)
	})
	if !ok {
		t.FailNow()
	}
	return made
}

// A run whose processes are killed goes on by itself and makes the same bytes.
func TestKill(t *testing.T) {
	if testing.Short() {
		whole := undisturbed(t, short)
		f := newFolder(t)
		run := f.align(short, "--detach").ID
		f.kill(run, "pretrain", "worker")
		same(t, f.made(f.watch(run)), whole)
		return
	}
	whole := undisturbed(t, spec)
	t.Run("killed", func(t *testing.T) {
		f := newFolder(t)
		run := f.align(spec, "--detach").ID
		follower := f.follow(run)
		f.kill(run, "pretrain", "worker")
		f.kill(run, "sft", "postgres")
		f.kill(run, "collect", "trimtab-temporal")
		f.kill(run, "reward", "dev")
		f.kill(run, "ppo", "worker", "dev", "postgres", "trimtab-temporal")
		f.kill(run, "evaluate", "worker")
		same(t, f.made(f.completed(follower())), whole)
	})
	t.Run("frozen", func(t *testing.T) { frozen(t, whole) })
}

// frozen stops a worker for longer than it may be silent: first alone, then
// with another worker to take its place, so that it thaws as one that thinks
// it still holds the attempt.
func frozen(t *testing.T, whole map[string]string) {
	f := newFolder(t)
	run := f.align(spec, "--detach").ID

	at := f.middle(run, "pretrain")
	worker := f.pid("worker")
	begin := time.Now()
	f.signal(syscall.SIGSTOP, worker)
	time.Sleep(silence)
	f.signal(syscall.SIGCONT, worker)
	f.await(run, "a step after the thaw", func(d runs.Document) bool { return placeOf(d).after(at) })
	t.Logf("SIGSTOP of the only worker in pretrain for %v: %.1f s lost", silence, time.Since(begin).Seconds())

	f.middle(run, "ppo")
	worker = f.pid("worker")
	begin = time.Now()
	f.signal(syscall.SIGSTOP, worker)
	at = f.settled(run) // a step may have been under way in the database
	f.second()
	f.await(run, "a step of the second worker", func(d runs.Document) bool { return placeOf(d).after(at) })
	t.Logf("SIGSTOP of a worker in ppo, with a second one: %.1f s lost", time.Since(begin).Seconds())
	f.signal(syscall.SIGCONT, worker)
	d := f.watch(run)
	f.refused()
	same(t, f.made(d), whole)
}

// settled is where a run is when nothing of a stopped worker is under way any more.
func (f *folder) settled(run string) place {
	f.t.Helper()
	time.Sleep(200 * time.Millisecond)
	d, err := f.look(run)
	if err != nil {
		f.t.Fatal(err)
	}
	return placeOf(d)
}

// refused waits until a thawed worker has been told that its attempt is another's: by
// the database when it writes, or by Temporal at its next heartbeat.
func (f *folder) refused() {
	f.t.Helper()
	for end := time.Now().Add(silence); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		log := f.tail("worker.log")
		if _, since, _ := strings.Cut(log, "stage=ppo"); strings.Contains(since, "belongs to token") || strings.Contains(since, "already timed out") {
			return
		}
	}
	f.t.Error("the thawed worker was not refused")
}

// silence is longer than a worker may be without a heartbeat: 10 s.
const silence = 13 * time.Second
