package runs_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/workflows"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
)

// second is another worker for the bench: a store, models and cores of its own.
func (b *bench) second() (stop func()) {
	b.t.Helper()
	pool := tensor.NewPool(1)
	b.t.Cleanup(pool.Close)
	files, err := checkpoint.Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	acts := activities.New(slog.New(slog.DiscardHandler), b.Store(), files, pool, "test")
	return serve(b.t, b.temporal, acts, worker.Options{Identity: "second", MaxConcurrentActivityExecutionSize: 1})
}

// learned is all that the record keeps of what a ppo stage did.
type learned struct {
	Metrics  []storage.MetricRow
	Rollouts [][]trimtab.Rollout
}

func (b *bench) learned(d runs.View) (l learned) {
	b.t.Helper()
	st := stageOf(b.t, d, "ppo")
	attempts, err := b.Store().Attempts(b.ctx, d.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, a := range attempts {
		if a.Stage != "ppo" || a.Number != st.Attempt {
			continue
		}
		if l.Metrics, err = b.Store().Metrics(b.ctx, a.ID); err != nil {
			b.t.Fatal(err)
		}
		for i := range st.Steps {
			episodes, err := b.Store().Rollouts(b.ctx, a.ID, i)
			if err != nil || len(episodes) == 0 {
				b.t.Fatalf("%d rollouts in step %d: %v", len(episodes), i, err)
			}
			l.Rollouts = append(l.Rollouts, episodes)
		}
	}
	return l
}

// wantSame compares all that two runs made and wrote down.
func (b *bench) wantSame(what string, got, want runs.View) {
	b.t.Helper()
	if !maps.Equal(digests(got), digests(want)) {
		b.t.Errorf("%s: the run made\n%v\nwant\n%v", what, digests(got), digests(want))
	}
	if g, w := b.learned(got), b.learned(want); !reflect.DeepEqual(g, w) {
		b.t.Errorf("%s: other metrics or rollouts: %d and %d steps", what, len(g.Rollouts), len(w.Rollouts))
	}
	left, err := filepath.Glob(filepath.Join(b.dir, "rollouts", "*", "*"))
	if err != nil || len(left) != 0 {
		b.t.Errorf("%s: rollouts are left: %v, %v", what, left, err)
	}
}

// makers counts the shards that each worker made for the run's first ppo attempt.
func (b *bench) makers(run string) map[string]int {
	b.t.Helper()
	shards, by := map[int64]bool{}, map[string]int{}
	started := map[int64]string{}
	for _, e := range b.history(workflows.StageID(run, "ppo", 1)).Events {
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && a.ActivityType.Name == "Rollouts" {
			shards[e.EventId] = true
		}
		if a := e.GetActivityTaskStartedEventAttributes(); a != nil {
			started[a.ScheduledEventId] = a.Identity
		}
		if a := e.GetActivityTaskCompletedEventAttributes(); a != nil && shards[a.ScheduledEventId] {
			by[started[a.ScheduledEventId]]++
		}
	}
	return by
}

// The smallest run with its rollouts shared out, on one worker and on two, is
// the smallest run.
func TestSharedRollouts(t *testing.T) {
	b := newBench(t, 0)
	want := b.await(b.launch(), trimtab.RunCompleted)
	one := b.await(b.launch("ppo.rollout_shards=3"), trimtab.RunCompleted)
	b.wantSame("one worker", one, want)
	if by := b.makers(one.ID); !maps.Equal(by, map[string]int{"bench": 12}) {
		t.Errorf("shards were made by %v, want 3 in each of 4 iterations", by)
	}
	record(t, b, "shared", one.ID)

	stop := b.second()
	defer stop()
	two := b.await(b.launch("ppo.rollout_shards=3", "name=two"), trimtab.RunCompleted)
	b.wantSame("two workers", two, want)
	if by := b.makers(two.ID); by["bench"]+by["second"] != 12 || by["bench"] == 0 || by["second"] == 0 {
		t.Errorf("shards were made by %v, want both", by)
	}
	l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: b.spec("ppo.rollout_shards=5"), Actor: "tester", New: true,
		Reuse: true})
	if err != nil {
		t.Fatal(err)
	}
	if st := stageOf(t, b.await(l.Run.ID, trimtab.RunCompleted), "ppo"); st.Status != trimtab.AttemptReused {
		t.Errorf("by how many workers rollouts are made is part of the key: ppo is %s", st.Status)
	}
}

// large makes shards take long enough to be caught at work.
var large = []string{"ppo.total_episodes=1024", "ppo.batch_size=256", "ppo.max_new_tokens=40"}

// process is a worker that can be killed.
type process struct {
	*exec.Cmd
	name string
}

// process starts a worker process, on one core, and waits until it serves.
func (b *bench) process(name string) process {
	b.t.Helper()
	cmd := exec.CommandContext(b.ctx, os.Args[0], "-test.run=^TestWorkerProcess$")
	cmd.Env = append(append(os.Environ(), b.env...), "TEST_IDENTITY="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		b.t.Fatal(err)
	}
	p := process{cmd, name}
	b.t.Cleanup(p.kill)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "serving" {
			go io.Copy(io.Discard, out)
			return p
		}
	}
	b.t.Fatalf("worker process %s did not come up", name)
	return p
}

func (p process) kill() {
	p.Process.Kill() // it may be dead already
	p.Wait()
}

// TestWorkerProcess is the other end of process: it works until it is killed.
func TestWorkerProcess(t *testing.T) {
	url := os.Getenv("TEST_POSTGRES")
	if url == "" {
		t.Skip("it is what other tests start")
	}
	files, err := checkpoint.Open(os.Getenv("TEST_FILES"))
	if err != nil {
		t.Fatal(err)
	}
	lg := slog.New(slog.DiscardHandler)
	var where devstack.Endpoints
	if err := json.Unmarshal([]byte(os.Getenv("TEST_TEMPORAL")), &where); err != nil {
		t.Fatal(err)
	}
	o, err := where.TemporalOptions()
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = lg
	c, err := client.Dial(o)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, c, activities.New(lg, storagetest.Open(t, url), files, tensor.NewPool(1), "test"),
		worker.Options{Identity: os.Getenv("TEST_IDENTITY"), MaxConcurrentActivityExecutionSize: 1})
	fmt.Println("serving")
	select {}
}

// workflowRunning are the rollouts of a run's first ppo attempt that a worker makes just now, by its name.
func (b *bench) atWork(run string) (makers map[string]*workflow.PendingActivityInfo, pending int) {
	b.t.Helper()
	makers = map[string]*workflow.PendingActivityInfo{}
	d, err := b.temporal.DescribeWorkflowExecution(b.ctx, workflows.StageID(run, "ppo", 1), "")
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return makers, 0
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for _, p := range d.PendingActivities {
		if p.ActivityType.Name == "Rollouts" && p.State == enums.PENDING_ACTIVITY_STATE_STARTED {
			makers[p.LastWorkerIdentity] = p
		}
	}
	return makers, len(d.PendingActivities)
}

// catch freezes a worker process in the middle of a shard.
func (b *bench) catch(run string, p process) {
	b.t.Helper()
	for b.ctx.Err() == nil {
		if made, _ := b.atWork(run); made[p.name] != nil {
			if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
				b.t.Fatal(err)
			}
			if now, _ := b.atWork(run); now[p.name] != nil && now[p.name].ActivityId == made[p.name].ActivityId {
				return
			}
			if err := p.Process.Signal(syscall.SIGCONT); err != nil { // it was done
				b.t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	b.t.Fatalf("%s was not caught at a shard", p.name)
}

// A worker process that is killed in the middle of a shard, twice, changes
// nothing: the shard is made again, and no other one is.
func TestWorkerKilledAtShards(t *testing.T) {
	b := newBench(t, 1)
	want := b.await(b.launch(large...), trimtab.RunCompleted)
	id := b.launch(append(large, "ppo.rollout_shards=6", "name=killed")...)
	for _, name := range []string{"one", "two"} {
		p := b.process(name)
		b.catch(id, p)
		p.kill()
	}
	got := b.await(id, trimtab.RunCompleted)
	b.wantSame("killed", got, want)
	timeouts, scheduled, made := 0, 0, 0
	for _, e := range b.history(workflows.StageID(id, "ppo", 1)).Events {
		if e.GetActivityTaskTimedOutEventAttributes() != nil {
			timeouts++
		}
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && a.ActivityType.Name == "Rollouts" {
			scheduled++
		}
	}
	for _, n := range b.makers(id) {
		made += n
	}
	if timeouts != 2 || made != 4*6 || scheduled != made+timeouts {
		t.Errorf("%d timeouts; %d shards were asked for and %d made, want 24 of 26", timeouts, scheduled, made)
	}
	record(t, b, "shared-killed", id)
}

// wantHeld fails where a worker was given something in the one pause of the
// run's first ppo attempt. What was scheduled and taken back at once is nothing.
func (b *bench) wantHeld(run string) {
	b.t.Helper()
	signals, begun := 0, map[int64]string{}
	for _, e := range b.history(workflows.StageID(run, "ppo", 1)).Events {
		if e.EventType == enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED { // to pause, then to go on
			signals++
		}
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && signals == 1 {
			begun[e.EventId] = a.ActivityType.Name
		}
		if a := e.GetActivityTaskCanceledEventAttributes(); a != nil {
			delete(begun, a.ScheduledEventId)
		}
	}
	if signals != 2 || len(begun) != 0 {
		b.t.Errorf("%d signals; %v began in the pause", signals, begun)
	}
}

// A pause in the middle of an iteration's shards stops them, and a cancel too;
// a run that is resumed continues with those that are made.
func TestPauseAndCancelAtShards(t *testing.T) {
	b := newBench(t, 1)
	want := b.await(b.launch(large...), trimtab.RunCompleted)
	shared := append(large, "ppo.rollout_shards=8")
	atShards := func(id string) {
		t.Helper()
		for {
			if made, _ := b.atWork(id); made["bench"] != nil {
				return
			}
			if b.ctx.Err() != nil {
				t.Fatal("no shard was made")
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	atRest := func(id string) {
		t.Helper()
		for pending := 1; pending > 0; _, pending = b.atWork(id) {
			if b.ctx.Err() != nil {
				t.Fatal("the shards go on")
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	cancelled := func(id string) (n int) {
		for _, e := range b.history(workflows.StageID(id, "ppo", 1)).Events {
			if e.GetActivityTaskCanceledEventAttributes() != nil {
				n++
			}
		}
		return n
	}

	id := b.launch(append(shared, "name=paused")...)
	made := func() []string {
		files, err := filepath.Glob(filepath.Join(b.dir, "rollouts", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	for len(made()) < 2 {
		atShards(id)
	}
	if err := b.Pause(b.ctx, id, "a look", "tester"); err != nil {
		t.Fatal(err)
	}
	atRest(id)
	time.Sleep(300 * time.Millisecond)
	if _, pending := b.atWork(id); pending != 0 || cancelled(id) == 0 {
		t.Errorf("%d activities go on in a paused run, %d were cancelled", pending, cancelled(id))
	}
	if st := stageOf(t, b.await(id, trimtab.RunPaused), "ppo"); st.Status != trimtab.AttemptRunning {
		t.Errorf("ppo is %s in the middle of its first rollouts", st.Status)
	}
	harm := errors.Join(os.Remove(made()[0]), os.WriteFile(made()[1], []byte("odd"), 0o600))
	if err := errors.Join(harm, b.Resume(b.ctx, id, "go on", "tester")); err != nil {
		t.Fatal(err)
	}
	b.wantSame("paused, with a shard lost and one damaged", b.await(id, trimtab.RunCompleted), want)
	b.wantHeld(id)
	record(t, b, "shared-paused", id)

	id = b.launch(append(large, "ppo.rollout_shards=2", "name=paused at the last")...)
	for made, pending := b.atWork(id); made["bench"] == nil || pending != 1; made, pending = b.atWork(id) {
		if b.ctx.Err() != nil {
			t.Fatal("no second shard was made")
		}
	}
	if err := b.Pause(b.ctx, id, "a look", "tester"); err != nil {
		t.Fatal(err)
	}
	atRest(id)
	if err := b.Resume(b.ctx, id, "go on", "tester"); err != nil {
		t.Fatal(err)
	}
	b.wantSame("paused at the last shard", b.await(id, trimtab.RunCompleted), want)
	b.wantHeld(id)

	id = b.launch(append(shared, "seed=5")...)
	atShards(id)
	if err := b.Cancel(b.ctx, id, "enough", "tester"); err != nil {
		t.Fatal(err)
	}
	if st := stageOf(t, b.await(id, trimtab.RunCancelled), "ppo"); st.Status != trimtab.AttemptCancelled ||
		cancelled(id) == 0 {
		t.Errorf("ppo is %s, %d activities were cancelled", st.Status, cancelled(id))
	}
	record(t, b, "shared-cancelled", id)
}

// An attempt that continues from an earlier one's checkpoint shares its iterations from there.
func TestSharedRolloutsFromACheckpoint(t *testing.T) {
	b := newBench(t, 0)
	var got []runs.View
	for _, shards := range []string{"0", "3"} {
		id := b.launch(append(constant, "ppo.rollout_shards="+shards, "ppo.total_episodes=32",
			"ppo.gates=[{metric: objective/kl, min: 1000}]", "name="+shards)...)
		b.await(id, trimtab.RunBlocked)
		b.rerun(runs.RerunRequest{Run: id, Stage: "ppo", Sets: []string{"ppo.total_episodes=64", "ppo.gates=[]"},
			FromCheckpoint: "latest"})
		got = append(got, b.await(id, trimtab.RunCompleted))
	}
	if !maps.Equal(digests(got[0]), digests(got[1])) {
		t.Errorf("shared\n%v\nalone\n%v", digests(got[1]), digests(got[0]))
	}
}

// Where the checkpoint to sample from is damaged, the stage goes back to the one
// before and on from there, and nothing of what was made is another.
func TestDamagedCheckpointAtShards(t *testing.T) {
	b := newBench(t, 1)
	want := b.await(b.launch(large...), trimtab.RunCompleted)
	id := b.launch(append(large, "ppo.rollout_shards=4", "name=damaged")...)
	b.awaitStep(id, "ppo", 2)
	if err := b.Pause(b.ctx, id, "a look", "tester"); err != nil {
		t.Fatal(err)
	}
	for _, pending := b.atWork(id); pending > 0; _, pending = b.atWork(id) {
		time.Sleep(10 * time.Millisecond)
	}
	st := stageOf(t, b.await(id, trimtab.RunPaused), "ppo")
	files, err := filepath.Glob(filepath.Join(b.dir, "states", "*", st.Checkpoint.Hex()))
	if err != nil || len(files) != 1 || st.Step >= st.Steps {
		t.Fatalf("step %d of %d, files %v, %v", st.Step, st.Steps, files, err)
	}
	b.anew() // a worker that has not got the stage in memory
	if err := errors.Join(os.Truncate(files[0], 1000), b.Resume(b.ctx, id, "go on", "tester")); err != nil {
		t.Fatal(err)
	}
	b.wantSame("damaged", b.await(id, trimtab.RunCompleted), want)
	if events := b.events(id, trimtab.EventCheckpointDamaged); len(events) != 1 {
		t.Errorf("the damage is recorded as %v", events)
	}
}
