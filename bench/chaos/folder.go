package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// reporter is what an experiment reports to: a *testing.T in a test, and
// console in the program. The methods mean the same as those of testing.T.
type reporter interface {
	Helper()
	Failed() bool
	Cleanup(func())
	Log(...any)
	Logf(string, ...any)
	Error(...any)
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
}

// testBuild is the program under test, built once in a process.
var testBuild struct {
	sync.Once
	dir, program string
	err          error
}

// removeBuild removes the program under test.
func removeBuild() {
	if testBuild.dir != "" {
		_ = os.RemoveAll(testBuild.dir)
	}
}

// buildProgram builds the program under test with its failpoints compiled in, at
// the first call, and returns its path.
func buildProgram(t reporter) string {
	t.Helper()
	testBuild.Do(func() {
		pattern := folderPrefix + strconv.Itoa(os.Getpid()) + "-bin-"
		if testBuild.dir, testBuild.err = os.MkdirTemp("", pattern); testBuild.err != nil {
			return
		}
		testBuild.program = filepath.Join(testBuild.dir, "trimtab")
		if out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", testBuild.program,
			"github.com/trimtab/trimtab/cmd/trimtab").CombinedOutput(); err != nil {
			testBuild.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if testBuild.err != nil {
		t.Fatalf("build trimtab: %v", testBuild.err)
	}
	return testBuild.program
}

// folder is a data folder with the stack that commands start in it.
type folder struct {
	t reporter
	// The parent of the data folder, where commands run.
	dir string
	// The data folder.
	data string
	// Path of the program under test.
	program string
	// For reading runs without starting anything; opened at first use.
	store *storage.Store
	// Whether end was called.
	ended bool

	// When the fault in progress began.
	faultTime time.Time
	// How far the run had come when the fault took effect.
	faultPosition position
}

// markFault records that a fault begins now.
func (f *folder) markFault() { f.faultTime = time.Now() }

// checkAfterFault records how far the run has come when a fault has taken
// effect, and checks at this very moment that the record is consistent.
func (f *folder) checkAfterFault(run string) {
	f.t.Helper()
	time.Sleep(200 * time.Millisecond) // let transactions end that were sent before the fault
	f.faultPosition = f.position(run)
	f.doctor(run)
}

// folderPrefix begins the names of all temporary folders; the ID of the process
// that made one follows, by which sweep recognizes what is abandoned.
const folderPrefix = "trimtab-chaos-"

// newFolder makes a data folder. At the end of the test its stack is stopped, a
// process that is still left is an error, and the folder is removed.
func newFolder(t reporter) *folder {
	t.Helper()
	dir, err := os.MkdirTemp("", folderPrefix+strconv.Itoa(os.Getpid())+"-")
	// Postgres may run as another user, who has to get through the parent.
	if err := errors.Join(err, os.Chmod(dir, 0o711), os.Mkdir(filepath.Join(dir, "failpoints"), 0o700)); err != nil {
		t.Fatal(err)
	}
	f := &folder{t: t, dir: dir, data: filepath.Join(dir, "data"), program: buildProgram(t)}
	t.Cleanup(f.end)
	return f
}

// end stops the stack, checks that no process is left, and removes the folder. After
// a failure it logs the state of the processes and the ends of the logs first.
func (f *folder) end() {
	if f.ended {
		return
	}
	f.ended = true
	if f.store != nil {
		f.store.Close()
		f.store = nil
	}
	if f.t.Failed() {
		for pid, name := range processes(f.dir) { // a stopped process would explain a timeout
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil &&
				!strings.HasPrefix(name, "postgres:") {
				_, state, _ := strings.Cut(string(state), ") ")
				f.t.Logf("process %d is in state %.1s: %s", pid, state, name)
			}
		}
		f.t.Logf("dev.log:\n%s\nworker.log:\n%s", f.tail("dev.log"), f.tail("worker.log"))
	}
	if out, err := f.command("dev", "stop").CombinedOutput(); err != nil {
		f.t.Errorf("dev stop: %v\n%s", err, out)
	}
	for pid, name := range processes(f.dir) {
		f.t.Errorf("process %d is still running after dev stop: %s", pid, name)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := removeFolder(f.dir); err != nil {
		f.t.Error(err)
	}
}

// tail returns the last 4,000 bytes of a file of the data folder.
func (f *folder) tail(name string) string {
	b, _ := os.ReadFile(filepath.Join(f.data, name))
	return string(b[max(0, len(b)-4000):])
}

// sweep stops and removes what test processes left behind that were killed.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"[0-9]*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), folderPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			_ = devstack.Stop(ctx, filepath.Join(dir, "data"))
			cancel()
			_ = removeFolder(dir)
		}
	}
}

// processes returns every living process that belongs to a folder, with its
// command line: one that has the folder in its command line or environment, or
// works in it. It finds none on systems without /proc.
func processes(dir string) map[int]string {
	found := map[int]string{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range entries {
		pid, _ := strconv.Atoi(filepath.Base(proc))
		if pid == os.Getpid() {
			continue
		}
		// A process may end, or belong to another user, while it is looked at; then the
		// reads fail, and it is not counted.
		cmdline, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(proc, "environ"))
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		if bytes.Contains(cmdline, []byte(dir)) || bytes.Contains(environ, []byte(dir)) || strings.HasPrefix(cwd, dir) {
			found[pid] = strings.ReplaceAll(string(cmdline), "\x00", " ")
		}
	}
	return found
}

// command returns a command of the program on this data folder. It ignores the
// settings of the person who runs the test, but for the paths of the servers.
func (f *folder) command(args ...string) *exec.Cmd {
	cmd := exec.Command(f.program, append(args, "--data-folder", f.data)...)
	cmd.Dir = f.dir
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TRIMTAB_") || strings.HasPrefix(kv, "TRIMTAB_TEMPORAL_PROGRAM=") ||
			strings.HasPrefix(kv, "TRIMTAB_POSTGRES_BIN=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	// Every process that the command starts inherits these two.
	cmd.Env = append(cmd.Env, "TRIMTAB_CHAOS="+f.dir, "TRIMTAB_FAILPOINTS="+f.failpoint(""))
	return cmd
}

// failpoint returns the path of the file that orders what happens at a
// failpoint.
func (f *folder) failpoint(point string) string { return filepath.Join(f.dir, "failpoints", point) }

// run runs a command, which must succeed, and returns its standard output.
func (f *folder) run(args ...string) []byte {
	f.t.Helper()
	cmd := f.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		f.t.Fatalf("trimtab %s: %v\n%s%s", strings.Join(args, " "), err, stderr.Bytes(), stdout.Bytes())
	}
	return stdout.Bytes()
}

// parseView decodes the document of a run.
func parseView(t reporter, body []byte) runs.View {
	t.Helper()
	var d runs.View
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	return d
}

// align launches the spec with further arguments and returns the run as the
// command prints it.
func (f *folder) align(spec []string, more ...string) runs.View {
	f.t.Helper()
	return parseView(f.t, f.run(slices.Concat([]string{"align", "-o", "json"}, spec, more)...))
}

// loadRun reads a run without starting anything. It is an error while the
// database is unavailable.
func (f *folder) loadRun(run string) (runs.View, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// The pool is kept: it reconnects by itself after the database was killed.
	if f.store == nil {
		info, ok := devstack.Running(f.data)
		if !ok {
			return runs.View{}, errors.New("no dev process runs")
		}
		store, err := storage.Open(ctx, info.Endpoints.AppURL)
		if err != nil {
			return runs.View{}, err
		}
		f.store = store
	}
	return runs.New(slog.New(slog.DiscardHandler), f.store, nil, nil).Show(ctx, run)
}

// outputs returns the digests of everything that a run produced, by name, and
// for each stage the digest of its metrics of every step, as `trimtab metrics`
// prints them.
func (f *folder) outputs(d runs.View) map[string]string {
	f.t.Helper()
	all := map[string]string{}
	for _, m := range d.Models {
		all["model "+m.Name] = string(m.Digest)
	}
	for _, st := range d.Stages {
		for name, digest := range st.Outputs {
			all[st.Name+"/"+name] = string(digest)
		}
		all[st.Name+" metrics"] = string(trimtab.DigestOf(f.run("metrics", d.ID, st.Name, "-o", "csv")))
	}
	return all
}

// processNames are the processes of a running data folder.
var processNames = []string{"worker", "dev", "postgres", "trimtab-temporal"}

// pids are process IDs by name.
type pids map[string]int

// of returns the process IDs of the named processes.
func (p pids) of(names []string) (ids []int) {
	for _, name := range names {
		ids = append(ids, p[name])
	}
	return ids
}

// pids returns the IDs of all processes, and waits until each is running.
func (f *folder) pids() pids {
	f.t.Helper()
	p := pids{}
	for _, name := range processNames {
		p[name] = f.pid(name)
	}
	return p
}

// pid returns the ID of a process. It waits for one that is being started.
func (f *folder) pid(victim string) (pid int) {
	f.t.Helper()
	var err error
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if pid, err = f.recordedPid(victim); err == nil && pid > 1 && alive(pid) {
			return pid
		}
	}
	f.t.Fatalf("%s does not run (process id %d, %v)", victim, pid, err)
	return 0
}

// recordedPid returns the process ID in the files of the data folder. The
// process may be dead. For Postgres it is that of the postmaster.
func (f *folder) recordedPid(victim string) (int, error) {
	file := map[string]string{"worker": "worker.json", "dev": "dev.json", "trimtab-temporal": "temporal/temporal.json",
		"postgres": "postgres/postgres.json"}[victim]
	b, err := os.ReadFile(filepath.Join(f.data, file))
	if err != nil {
		return 0, err
	}
	// Only the parts of the state files that are needed here.
	var state struct {
		Pid   int    `json:"pid"`
		Place string `json:"place"` // where Postgres keeps its data, if not beside the file
	}
	if err := json.Unmarshal(b, &state); err != nil || victim != "postgres" {
		return state.Pid, err
	}
	b, err = os.ReadFile(filepath.Join(cmp.Or(state.Place, filepath.Join(f.data, "postgres")), "data",
		"postmaster.pid"))
	line, _, _ := strings.Cut(string(b), "\n")
	if err != nil || line == "" {
		return 0, err
	}
	return strconv.Atoi(line)
}

// alive reports whether a process is running. It is false for a zombie, which
// is dead and only waits for its parent.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The state follows the name in parentheses, which may itself contain some.
	afterName := string(stat[bytes.LastIndexByte(stat, ')')+1:])
	return !strings.HasPrefix(strings.TrimSpace(afterName), "Z")
}

// signal sends a signal to processes. After SIGKILL it waits until they are
// dead.
func (f *folder) signal(sig syscall.Signal, pids ...int) {
	f.t.Helper()
	for _, pid := range pids {
		// A worker whose database was killed may have ended by itself.
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			f.t.Fatalf("send %v to process %d: %v", sig, pid, err)
		}
	}
	for sig == syscall.SIGKILL && slices.ContainsFunc(pids, alive) {
		time.Sleep(time.Millisecond)
	}
}

// log returns the run's log from the database. It waits while that is
// unavailable.
func (f *folder) log(run string) []storage.LogLine {
	f.t.Helper()
	for end := time.Now().Add(waitLimit); ; time.Sleep(20 * time.Millisecond) {
		if _, err := f.loadRun(run); err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			lines, _, err := f.store.Logs(ctx, run, 0, 0)
			cancel()
			if err == nil {
				return lines
			}
		}
		if time.Now().After(end) {
			f.t.Fatal("the log cannot be read")
		}
	}
}

// startSecondWorker starts a worker beside the one of dev. The returned
// function ends it.
func (f *folder) startSecondWorker() (stop func()) {
	f.t.Helper()
	cmd := f.command("worker")
	log, err := os.Create(filepath.Join(f.dir, "second.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close()
	// The command has its own descriptors of the file, which is closed here.
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			f.t.Errorf("the second worker: %v", err)
		}
	}
}

// doctor checks the record of a run with the doctor command, which must find
// nothing wrong.
func (f *folder) doctor(run string) {
	f.t.Helper()
	f.run("doctor", "--run", run)
}
