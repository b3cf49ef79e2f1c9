package activities_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/workflows"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

var (
	cost       = flag.Bool("cost", false, "run TestCostOfDurability; give -v and -timeout 2h")
	costSize   = flag.String("cost.size", "", "size of the recipe; empty is the default")
	costSets   = flag.String("cost.set", "", "overrides of the recipe, path=value, with spaces between")
	costRounds = flag.Int("cost.rounds", 3, "how often each side is run; medians count")
	costMost   = flag.Float64("cost.most", 0, "fail if durability costs more than so many percent of the bare loop; 0 is never")
)

// The cost of durability: the shipped recipe's run by the product, with its
// servers and their fsync, against the same stages in a bare loop of this
// process, in turns. The bare loop reads the same database and the same files,
// and has to end in the same outputs; it has no workflow, no heartbeat, no
// report and no checkpoint. A stage of the run lasts from the end of the one
// before it, so that starting its workflow, loading its inputs and closing it
// are part of it.
func TestCostOfDurability(t *testing.T) {
	if !*cost {
		t.Skip("-cost runs a recipe several times")
	}
	p := newProduct(t)
	var durable []durableRun
	var bare []bareRun
	for round := range *costRounds {
		if round%2 == 0 {
			durable = append(durable, p.run(t))
			bare = append(bare, p.bare(t, durable[round]))
		} else {
			bare = append(bare, p.bare(t, durable[round-1]))
			durable = append(durable, p.run(t))
		}
		t.Logf("round %d: bare %.2f s, durable %.2f s, %+.1f %%", round+1, bare[round].seconds(), durable[round].seconds, percent(durable[round].seconds, bare[round].seconds()))
	}
	compare(t, durable, bare, p.writing(t, durable[0], bare[len(bare)-1].stages))
	if all := middle(*costRounds, func(i int) float64 { return percent(durable[i].seconds, bare[i].seconds()) }); *costMost > 0 && all > *costMost {
		t.Errorf("durability costs %.1f %%, more than %g %%", all, *costMost)
	}
}

// product is a data folder with its stack, and what the bare loop needs of it.
type product struct {
	program, data string
	store         *storage.Store
	files         *checkpoint.Store
	temporal      client.Client
	acts          *activities.Activities
}

func newProduct(t *testing.T) *product {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o711); err != nil { // Postgres may run as another user
			t.Fatal(err)
		}
	}
	p := &product{program: filepath.Join(dir, "trimtab"), data: filepath.Join(dir, "data")}
	if out, err := exec.Command("go", "build", "-o", p.program, "github.com/trimtab/trimtab/cmd/trimtab").CombinedOutput(); err != nil {
		t.Fatalf("build trimtab: %v\n%s", err, out)
	}
	t.Cleanup(func() { p.command(t, "dev", "stop") })
	first := p.launch(t, "--size", "smallest") // so that the stack is up
	info, ok := devstack.Running(p.data)
	if !ok {
		t.Fatal("no dev process runs")
	}
	var err error
	if p.store, err = storage.Open(t.Context(), info.Endpoints.AppURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.store.Close)
	if p.files, err = checkpoint.Open(filepath.Join(p.data, "store")); err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	if p.temporal, err = client.DialContext(t.Context(), client.Options{HostPort: info.Endpoints.Temporal, Namespace: info.Endpoints.Namespace, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.temporal.Close)
	pool := tensor.NewPool(0)
	t.Cleanup(pool.Close)
	p.acts = activities.New(quiet, p.store, p.files, pool, "bare")
	r, err := p.store.Run(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	p.bare(t, p.read(t, r, used(p.data))) // both sides have now done everything once
	return p
}

// command runs a command of the program, deaf to the settings of whoever runs the test.
func (p *product) command(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(p.program, append(args, "--data-folder", p.data)...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TRIMTAB_") || strings.HasPrefix(kv, "TRIMTAB_TEMPORAL_PROGRAM=") || strings.HasPrefix(kv, "TRIMTAB_POSTGRES_BIN=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, costMark+p.data) // inherited by all that it starts
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("trimtab %s: %v\n%s", strings.Join(args, " "), err, said.Bytes())
	}
	return out
}

// launch runs the recipe to its end.
func (p *product) launch(t *testing.T, args ...string) runs.Document {
	t.Helper()
	var d runs.Document
	if err := json.Unmarshal(p.command(t, append([]string{"align", "--new", "-o", "json"}, args...)...), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// durableRun is a run of the product; times are seconds.
type durableRun struct {
	run     storage.Run
	stages  []durableStage
	seconds float64 // from when the run was made to its end
	used    map[string]float64
}

// durableStage is a stage from the end of the one before it.
type durableStage struct {
	storage.Attempt
	begun       float64 // until the attempt has its row: the workflow is started
	loaded      float64 // until the first step can be taken
	stepped     float64 // in steps, as the worker timed them
	worked      float64 // from the first step to the recorded end
	checkpoints int
	segments    int
	between     float64 // from the end of a segment to the start of the next
}

func (s durableStage) seconds() float64 { return s.begun + s.loaded + s.worked }

// run runs the recipe once.
func (p *product) run(t *testing.T) durableRun {
	t.Helper()
	args := []string{"--detach"}
	if *costSize != "" {
		args = append(args, "--size", *costSize)
	}
	for _, s := range strings.Fields(*costSets) {
		args = append(args, "--set", s)
	}
	before := used(p.data)
	id := p.launch(t, args...).ID
	for {
		r, err := p.store.Run(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status == trimtab.RunCompleted {
			return p.read(t, r, before)
		}
		if !r.Status.Open() || r.Status == trimtab.RunBlocked {
			t.Fatalf("the run is %s: %s %v", r.Status, r.Next, r.Error)
		}
		time.Sleep(time.Second)
	}
}

// read takes the times of a run from its record and from Temporal.
func (p *product) read(t *testing.T, r storage.Run, before map[string]float64) durableRun {
	t.Helper()
	d := durableRun{run: r, seconds: r.EndedAt.Sub(r.CreatedAt).Seconds(), used: used(p.data)}
	for name := range d.used {
		d.used[name] -= before[name]
	}
	attempts, err := p.store.Attempts(t.Context(), r.ID)
	if err != nil || len(attempts) != len(r.Plan.Stages) {
		t.Fatalf("%d attempts of %d stages: %v", len(attempts), len(r.Plan.Stages), err)
	}
	end := r.CreatedAt
	for _, a := range attempts {
		s := durableStage{Attempt: a, begun: a.CreatedAt.Sub(end).Seconds(), loaded: a.StartedAt.Sub(a.CreatedAt).Seconds(), worked: a.EndedAt.Sub(*a.StartedAt).Seconds()}
		end = *a.EndedAt
		checks, err := p.store.Checkpoints(t.Context(), a.ID)
		timings, err2 := p.store.Timings(t.Context(), a.ID)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		s.checkpoints = len(checks)
		for _, row := range timings {
			s.stepped += row.Seconds
		}
		p.segments(t, &s)
		d.stages = append(d.stages, s)
	}
	return d
}

// segments reads the stage's history in Temporal.
func (p *product) segments(t *testing.T, s *durableStage) {
	t.Helper()
	var ended time.Time
	segment := map[int64]bool{}
	history := p.temporal.GetWorkflowHistory(t.Context(), workflows.StageID(s.Run, s.Stage, s.Number), "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		e, err := history.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch e.EventType {
		case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			segment[e.EventId] = e.GetActivityTaskScheduledEventAttributes().ActivityType.Name == "Segment"
		case enums.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			if segment[e.GetActivityTaskStartedEventAttributes().ScheduledEventId] {
				if s.segments++; s.segments > 1 {
					s.between += e.EventTime.AsTime().Sub(ended).Seconds()
				}
			}
		case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			if segment[e.GetActivityTaskCompletedEventAttributes().ScheduledEventId] {
				ended = e.EventTime.AsTime()
			}
		}
	}
}

// bareRun is the same stages in the bare loop.
type bareRun struct {
	stages []activities.Bare
	used   float64 // processor time
}

func (r bareRun) seconds() (sum float64) {
	for _, b := range r.stages {
		sum += b.Seconds()
	}
	return sum
}

// bare takes the stages of a run through the bare loop; they make what the run has made.
func (p *product) bare(t *testing.T, d durableRun) (r bareRun) {
	t.Helper()
	before := processorSeconds("/proc/self")
	for i, s := range d.stages {
		if err := devstack.Touch(p.data); err != nil { // or the stack ends when it has been idle for long
			t.Fatal(err)
		}
		b, err := p.acts.RunBare(t.Context(), activities.SegmentInput{Run: s.Run, Attempt: s.ID, Stage: d.run.Plan.Stages[i],
			Seed: d.run.Seed, Numerics: d.run.Plan.Numerics, Inputs: s.Inputs})
		if err != nil {
			t.Fatalf("%s: %v", s.Stage, err)
		}
		if !slices.Equal(b.Outputs, s.Outputs) {
			t.Errorf("the bare loop of %s makes %v, the run made %v", s.Stage, b.Outputs, s.Outputs)
		}
		r.stages = append(r.stages, b)
	}
	r.used = processorSeconds("/proc/self") - before
	return r
}

// writing measures how long a checkpoint of each stage takes to be written, the median of three.
func (p *product) writing(t *testing.T, d durableRun, bare []activities.Bare) (seconds []float64) {
	t.Helper()
	for i, b := range bare {
		seconds = append(seconds, middle(3, func(try int) float64 {
			start := time.Now()
			key, state := fmt.Sprint("cost-", i), b.State
			digest, err := p.files.SaveState(key, try, state)
			took := time.Since(start).Seconds()
			if err := errors.Join(err, p.files.RemoveState(key, digest)); err != nil {
				t.Fatalf("a checkpoint of %s: %v", d.stages[i].Stage, err)
			}
			return took
		}))
	}
	return seconds
}

// compare shows the medians of the rounds, and where the run spends what the bare loop does not.
func compare(t *testing.T, durable []durableRun, bare []bareRun, writing []float64) {
	t.Helper()
	n := len(durable)
	of := func(f func(durableStage) float64, i int) float64 {
		return middle(n, func(round int) float64 { return f(durable[round].stages[i]) })
	}
	t.Logf("kernels %s, %d cores; medians of %d rounds; seconds", tensor.Implementation(), runtime.GOMAXPROCS(0), n)
	t.Logf("%-9s %6s %5s %4s | %9s %9s %8s | %7s %7s %9s %9s %9s %9s", "stage", "steps", "ckpts", "segs", "bare", "durable", "",
		"start", "load", "steps", "segments", "ckpts", "rest")
	for i, s := range durable[0].stages {
		b := middle(n, func(round int) float64 { return bare[round].stages[i].Seconds() })
		made := middle(n, func(round int) float64 { return bare[round].stages[i].Made })
		stepped := middle(n, func(round int) float64 { return bare[round].stages[i].Stepped })
		finished := middle(n, func(round int) float64 { return bare[round].stages[i].Finished })
		written := float64(s.checkpoints) * writing[i]
		rest := of(func(s durableStage) float64 { return s.worked - s.stepped - s.between }, i) - finished - written
		t.Logf("%-9s %6d %5d %4d | %9.3f %9.3f %+7.1f%% | %7.3f %+7.3f %+9.3f %9.3f %9.3f %9.3f", s.Stage, s.Steps, s.checkpoints, s.segments,
			b, of(durableStage.seconds, i), percent(of(durableStage.seconds, i), b),
			of(func(s durableStage) float64 { return s.begun }, i), of(func(s durableStage) float64 { return s.loaded }, i)-made,
			of(func(s durableStage) float64 { return s.stepped }, i)-stepped, of(func(s durableStage) float64 { return s.between }, i), written, rest)
	}
	b, d := middle(n, func(i int) float64 { return bare[i].seconds() }), middle(n, func(i int) float64 { return durable[i].seconds })
	t.Logf("%-9s %6s %5s %4s | %9.3f %9.3f %+7.1f%% | median of the rounds' own %+.1f%%", "all", "", "", "", b, d, percent(d, b),
		middle(n, func(i int) float64 { return percent(durable[i].seconds, bare[i].seconds()) }))
	t.Log("start: from the end of the stage before to the attempt's row. load, steps: what they take longer than in the bare loop.")
	t.Log("segments: from the end of one to the start of the next. ckpts: their number times the median time to write one.")
	t.Log("rest: commits of reports and rollouts, shown progress, closing the attempt; less what is written beside the steps.")
	t.Logf("processor seconds: bare loop %.1f; worker %.1f, servers %.1f", middle(n, func(i int) float64 { return bare[i].used }),
		middle(n, func(i int) float64 { return durable[i].used["worker"] }), middle(n, func(i int) float64 { return durable[i].used["servers"] }))
}

// percent is how much longer d is than b.
func percent(d, b float64) float64 { return 100 * (d/b - 1) }

// middle is the median of f(0) … f(n-1).
func middle(n int, f func(i int) float64) float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = f(i)
	}
	slices.Sort(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// costMark is in the environment of every process of the product.
const costMark = "TRIMTAB_COST="

// used is the processor time, in seconds, of the product's worker and of its other processes.
func used(data string) map[string]float64 {
	var worker struct {
		Pid int `json:"pid"`
	}
	if b, err := os.ReadFile(filepath.Join(data, "worker.json")); err == nil {
		_ = json.Unmarshal(b, &worker) // then it counts among the others
	}
	sums := map[string]float64{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range entries {
		environ, _ := os.ReadFile(filepath.Join(proc, "environ"))
		cmdline, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd")) // of Postgres, which writes over its environment
		if !bytes.Contains(environ, []byte(costMark+data)) && !bytes.Contains(cmdline, []byte(data)) && !strings.HasPrefix(cwd, data) {
			continue
		}
		name := "servers"
		if filepath.Base(proc) == strconv.Itoa(worker.Pid) {
			name = "worker"
		}
		sums[name] += processorSeconds(proc)
	}
	return sums
}

// processorSeconds is what a process and the children that it has waited for have used.
func processorSeconds(proc string) (sum float64) {
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, f := range fields[11:15] {
		ticks, _ := strconv.ParseFloat(f, 64)
		sum += ticks / 100
	}
	return sum
}
