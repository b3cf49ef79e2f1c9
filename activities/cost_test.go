package activities_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
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
	"go.temporal.io/sdk/client"
)

var (
	cost       = flag.Bool("cost", false, "run TestCostOfDurability; give -v and -timeout 2h")
	costSize   = flag.String("cost.size", "", "size of the recipe; empty is the default")
	costSets   = flag.String("cost.set", "", "overrides of the recipe, path=value, with spaces between")
	costRounds = flag.Int("cost.rounds", 3, "how often each side is run; medians count")
	costBare   = flag.Bool("cost.bare", false, "for TestBareLoop: its stages are on the standard input")
	costSlice  = flag.Duration("cost.slice", 0,
		"let both sides run in turns of so long, the other one frozen; 0 is one after the other")
	costMost = flag.Float64("cost.most", 0,
		"fail if durability costs more than so many percent of the bare loop; 0 is never")
)

// The cost of durability: the shipped recipe's run by the product, with its
// servers and their fsync, against the same stages in a bare loop, in turns. The bare loop reads the same database and
// the same files,
// and has to end in the same outputs; it has no workflow, no heartbeat, no
// report and no checkpoint, and while it runs there is an idle Postgres and
// nothing else. A stage of the run lasts from the end of the one
// before it, so that starting its workflow, loading its inputs and closing it
// are part of it.
func TestCostOfDurability(t *testing.T) {
	if !*cost {
		t.Skip("-cost runs a recipe several times")
	}
	p := newProduct(t)
	if *costSlice > 0 {
		p.slices(t)
		return
	}
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
		t.Logf("round %d: bare %.2f s, durable %.2f s, %+.1f %%", round+1, bare[round].seconds(),
			durable[round].seconds, percent(durable[round].seconds, bare[round].seconds()))
	}
	compare(t, durable, bare)
	if all := middle(*costRounds, func(i int) float64 {
		return percent(durable[i].seconds,
			bare[i].seconds())
	}); *costMost > 0 && all > *costMost {
		t.Errorf("durability costs %.1f %%, more than %g %%", all, *costMost)
	}
}

// product is a data folder with the program.
type product struct {
	program, data string
	last          durableRun // for slices: a run whose stages the bare loop takes
}

func newProduct(t *testing.T) *product {
	t.Helper()
	sweep()
	dir, err := os.MkdirTemp("", costPrefix+strconv.Itoa(os.Getpid())+"-")
	if err := errors.Join(err, os.Chmod(dir, 0o711)); err != nil { // Postgres may run as another user
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p := &product{program: filepath.Join(dir, "trimtab"), data: filepath.Join(dir, "data")}
	if out, err := exec.Command("go", "build", "-o", p.program,
		"github.com/trimtab/trimtab/cmd/trimtab").CombinedOutput(); err != nil {
		t.Fatalf("build trimtab: %v\n%s", err, out)
	}
	t.Cleanup(func() { p.command(t, "dev", "stop") })
	return p
}

const costPrefix = "trimtab-cost-" // and the id of the test process

// sweep ends what test processes that were killed have left.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), costPrefix+"[0-9]*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), costPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			_ = devstack.Stop(ctx, filepath.Join(dir, "data"))
			cancel()
			_ = os.RemoveAll(dir)
		}
	}
}

// command runs a command of the program, with none of the settings of the user who runs the test.
func (p *product) command(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(p.program, append(args, "--data-folder", p.data)...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TRIMTAB_") || strings.HasPrefix(kv, "TRIMTAB_TEMPORAL_PROGRAM=") ||
			strings.HasPrefix(kv, "TRIMTAB_POSTGRES_BIN=") {
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
func (p *product) launch(t *testing.T, args ...string) runs.View {
	t.Helper()
	var d runs.View
	if err := json.Unmarshal(p.command(t, append([]string{"align", "--new", "-o", "json"}, args...)...),
		&d); err != nil {
		t.Fatal(err)
	}
	return d
}

// durableRun is a run of the product; times are seconds.
type durableRun struct {
	stages  []durableStage
	seconds float64            // from when the run was made to its end
	used    map[string]float64 // processor time, by program
	warm    []durableStage     // of the smallest run before it
}

// durableStage is a stage from the end of the one before it.
type durableStage struct {
	storage.Attempt
	input       activities.SegmentInput
	begun       float64 // until the attempt has its row: the workflow is started
	loaded      float64 // until the first step can be taken
	stepped     float64 // in steps, as the worker timed them
	worked      float64 // from the first step to the recorded end
	checkpoints int
	segments    int
	between     float64 // from the end of a segment to the start of the next
}

func (s durableStage) seconds() float64 { return s.begun + s.loaded + s.worked }

// run starts the stack, and runs the recipe once after a smallest run, so that
// everything has been done before.
func (p *product) run(t *testing.T) durableRun {
	t.Helper()
	warm := p.launch(t, "--size", "smallest")
	w := p.watch(t)
	defer w.close()
	id := p.detach(t)
	before := p.used()
	d := w.read(t, w.await(t, id))
	d.used = p.used()
	for name := range d.used {
		d.used[name] -= before[name]
	}
	d.warm = w.read(t, w.await(t, warm.ID)).stages
	return d
}

// detach launches the recipe that is asked for; freezing its data is no part of the run.
func (p *product) detach(t *testing.T) (id string) {
	t.Helper()
	args := []string{"--detach"}
	if *costSize != "" {
		args = append(args, "--size", *costSize)
	}
	for _, s := range strings.Fields(*costSets) {
		args = append(args, "--set", s)
	}
	return p.launch(t, args...).ID
}

// watch connects to the servers, which run.
func (p *product) watch(t *testing.T) watcher {
	t.Helper()
	info, ok := devstack.Running(p.data)
	if !ok {
		t.Fatal("no dev process runs")
	}
	w := watcher{product: p, url: info.Endpoints.AppURL}
	var err error
	if w.store, err = storage.Open(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	if w.temporal, err = client.DialContext(t.Context(),
		client.Options{HostPort: info.Endpoints.Temporal, Namespace: info.Endpoints.Namespace,
			Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w watcher) close() {
	w.store.Close()
	w.temporal.Close()
}

var quiet = slog.New(slog.DiscardHandler)

// watcher reads what the product has recorded.
type watcher struct {
	*product
	url      string
	store    *storage.Store
	temporal client.Client
}

// await waits for the end of a run.
func (w watcher) await(t *testing.T, id string) storage.Run {
	t.Helper()
	for {
		r, err := w.store.Run(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status == trimtab.RunCompleted {
			return r
		}
		if !r.Status.Open() || r.Status == trimtab.RunBlocked {
			t.Fatalf("the run is %s: %s %v", r.Status, r.Next, r.Error)
		}
		time.Sleep(time.Second)
	}
}

// read takes the times of a run from its record and from Temporal.
func (w watcher) read(t *testing.T, r storage.Run) durableRun {
	t.Helper()
	d := durableRun{seconds: r.EndedAt.Sub(r.CreatedAt).Seconds()}
	attempts, err := w.store.Attempts(t.Context(), r.ID)
	if err != nil || len(attempts) != len(r.Plan.Stages) {
		t.Fatalf("%d attempts of %d stages: %v", len(attempts), len(r.Plan.Stages), err)
	}
	end := r.CreatedAt
	for i, a := range attempts {
		s := durableStage{Attempt: a, begun: a.CreatedAt.Sub(end).Seconds(),
			loaded: a.StartedAt.Sub(a.CreatedAt).Seconds(), worked: a.EndedAt.Sub(*a.StartedAt).Seconds()}
		s.input = activities.SegmentInput{Run: r.ID, Attempt: a.ID, Stage: r.Plan.Stages[i], Seed: r.Seed,
			Numerics: r.Plan.Numerics, Inputs: a.Inputs}
		end = *a.EndedAt
		checks, err := w.store.Checkpoints(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		s.checkpoints = len(checks)
		for _, row := range storagetest.Timings(t, w.url, a.ID) {
			s.stepped += row.Seconds
		}
		w.segments(t, &s)
		d.stages = append(d.stages, s)
	}
	return d
}

// segments reads the stage's history in Temporal.
func (w watcher) segments(t *testing.T, s *durableStage) {
	t.Helper()
	var ended time.Time
	segment := map[int64]bool{}
	history := w.temporal.GetWorkflowHistory(t.Context(), workflows.StageID(s.Run, s.Stage, s.Number), "", false,
		enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
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

// bareTask is what TestBareLoop has to do.
type bareTask struct {
	Files, URL   string
	Warm, Stages []activities.SegmentInput
}

// bareRun is the same stages in the bare loop.
type bareRun struct {
	Stages []activities.Bare
	Used   float64 // processor time
}

func (r bareRun) seconds() (sum float64) {
	for _, b := range r.Stages {
		sum += b.Seconds()
	}
	return sum
}

// bare ends the stack but for Postgres, and takes the stages of a run through
// the bare loop, after those of the smallest run; they make what the run has
// made. The loop has a process and a session of its own, as the product's
// worker has: where other work runs, Linux shares the processors out by
// sessions.
func (p *product) bare(t *testing.T, d durableRun) (r bareRun) {
	t.Helper()
	p.command(t, "dev", "stop")
	postgres, err := devstack.StartPostgres(t.Context(),
		devstack.PostgresOptions{Dir: filepath.Join(p.data, "postgres"), DieWithParent: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := postgres.Stop(); err != nil {
			t.Error(err)
		}
	}()
	e, err := devstack.EndpointsOf(p.data, postgres, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.loop(t, e.AppURL, d).Output()
	_, out, _ = bytes.Cut(out, []byte("\n")) // the word that it is warm
	line, _, _ := bytes.Cut(out, []byte("\n"))
	if err := errors.Join(err, json.Unmarshal(line, &r)); err != nil {
		t.Fatalf("the bare loop: %v\n%s", err, out)
	}
	d.same(t, r)
	return r
}

// loop is the bare loop over a run's stages, to be started.
func (p *product) loop(t *testing.T, url string, d durableRun) *exec.Cmd {
	t.Helper()
	task, err := json.Marshal(bareTask{Files: filepath.Join(p.data, "store"), URL: url, Warm: inputsOf(d.warm),
		Stages: inputsOf(d.stages)})
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestBareLoop$", "-cost.bare", "-test.timeout=0")
	cmd.Stdin, cmd.SysProcAttr = bytes.NewReader(task), &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// same holds the outputs of the bare loop against those of the run.
func (d durableRun) same(t *testing.T, r bareRun) {
	t.Helper()
	for i, s := range d.stages {
		if !slices.Equal(r.Stages[i].Outputs, s.Outputs) {
			t.Errorf("the bare loop of %s makes %v, the run made %v", s.Stage, r.Stages[i].Outputs, s.Outputs)
		}
	}
}

func inputsOf(stages []durableStage) (inputs []activities.SegmentInput) {
	for _, s := range stages {
		inputs = append(inputs, s.input)
	}
	return inputs
}

// TestBareLoop is the other side of bare.
func TestBareLoop(t *testing.T) {
	if !*costBare {
		t.Skip("TestCostOfDurability starts it")
	}
	var task bareTask
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(t.Context(), task.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	files, err := checkpoint.Open(task.Files)
	if err != nil {
		t.Fatal(err)
	}
	pool := tensor.NewPool(0)
	defer pool.Close()
	acts := activities.New(quiet, store, files, pool, "bare")
	loop := func(inputs []activities.SegmentInput) (list []activities.Bare) {
		for _, in := range inputs {
			b, err := acts.RunBare(t.Context(), in)
			if err != nil {
				t.Fatalf("%s: %v", in.Stage.Name, err)
			}
			list = append(list, b)
		}
		return list
	}
	loop(task.Warm)
	fmt.Println("warm")
	before := processorSeconds("/proc/self")
	r := bareRun{Stages: loop(task.Stages)}
	r.Used = processorSeconds("/proc/self") - before
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		t.Fatal(err)
	}
}

// compare shows the medians of the rounds, and where the run spends what the bare loop does not.
func compare(t *testing.T, durable []durableRun, bare []bareRun) {
	t.Helper()
	n := len(durable)
	of := func(f func(durableStage) float64, i int) float64 {
		return middle(n, func(round int) float64 { return f(durable[round].stages[i]) })
	}
	t.Logf("kernels %s, %d cores; medians of %d rounds; seconds", tensor.Implementation(), runtime.GOMAXPROCS(0), n)
	t.Logf("%-9s %6s %5s %4s | %9s %9s %8s | %7s %7s %9s %9s %9s %9s", "stage", "steps", "ckpts", "segs", "bare",
		"durable", "",
		"start", "load", "steps", "segments", "ckpts", "rest")
	for i, s := range durable[0].stages {
		b := middle(n, func(round int) float64 { return bare[round].Stages[i].Seconds() })
		made := middle(n, func(round int) float64 { return bare[round].Stages[i].Made })
		stepped := middle(n, func(round int) float64 { return bare[round].Stages[i].Stepped })
		finished := middle(n, func(round int) float64 { return bare[round].Stages[i].Finished })
		written := float64(s.checkpoints) * middle(n, func(round int) float64 { return bare[round].Stages[i].Written })
		rest := of(func(s durableStage) float64 { return s.worked - s.stepped - s.between }, i) - finished - written
		t.Logf("%-9s %6d %5d %4d | %9.3f %9.3f %+7.1f%% | %7.3f %+7.3f %+9.3f %9.3f %9.3f %9.3f", s.Stage, s.Steps,
			s.checkpoints, s.segments,
			b, of(durableStage.seconds, i), percent(of(durableStage.seconds, i), b),
			of(func(s durableStage) float64 { return s.begun }, i),
			of(func(s durableStage) float64 { return s.loaded }, i)-made,
			of(func(s durableStage) float64 { return s.stepped }, i)-stepped,
			of(func(s durableStage) float64 { return s.between }, i), written, rest)
	}
	b, d := middle(n, func(i int) float64 { return bare[i].seconds() }), middle(n,
		func(i int) float64 { return durable[i].seconds })
	t.Logf("%-9s %6s %5s %4s | %9.3f %9.3f %+7.1f%% | median of the rounds' own %+.1f%%", "all", "", "", "", b, d,
		percent(d, b),
		middle(n, func(i int) float64 { return percent(durable[i].seconds, bare[i].seconds()) }))
	t.Log("start: from the end of the stage before to the attempt's row. load, steps: what they take longer than in " +
		"the bare loop.")
	t.Log("segments: from the end of one to the start of the next. ckpts: their number times the least time to write one.")
	t.Log("rest: commits of reports and rollouts, shown progress, closing the attempt; less what is written beside " +
		"the steps.")
	t.Logf("processor seconds: bare loop %.1f", middle(n, func(i int) float64 { return bare[i].Used }))
	for _, name := range slices.Sorted(maps.Keys(durable[0].used)) {
		t.Logf("processor seconds: %s %.1f", name, middle(n, func(i int) float64 { return durable[i].used[name] }))
	}
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

// used is the processor time, in seconds, of the product's programs: worker, dev, trimtab-temporal and postgres.
func (p *product) used() map[string]float64 {
	sums := map[string]float64{}
	for _, proc := range p.processes() {
		line, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		words := append(strings.Split(string(line), "\x00"), "")
		name := strings.TrimSuffix(filepath.Base(words[0]), ":")
		switch {
		case name == "trimtab":
			name += " " + words[1]
		case strings.HasPrefix(words[0], "postgres"): // a process of a connection
			name = "postgres"
		}
		sums[name] += processorSeconds(proc)
	}
	return sums
}

// processes are the folders in /proc of all processes of the product.
func (p *product) processes() (list []string) {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range entries {
		environ, _ := os.ReadFile(filepath.Join(proc, "environ"))
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd")) // of Postgres, which writes over its environment
		if bytes.Contains(environ, []byte(costMark+p.data)) || strings.HasPrefix(cwd, p.data) {
			list = append(list, proc)
		}
	}
	return list
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
