package devstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// DevOptions configure a dev process. The functions keep this package free of
// trimtab's own schema and commands.
type DevOptions struct {
	// Dir is the data folder.
	Dir string
	// Migrate brings trimtab's own schema up to date and creates the roles; nil:
	// nothing is migrated.
	Migrate func(ctx context.Context, e Endpoints) error
	// Worker returns the command of a worker process, not started; it is stopped
	// with SIGTERM. Nil: no worker.
	Worker func(e Endpoints) *exec.Cmd
	// OpenRuns counts the runs that have not ended; nil: none are assumed.
	OpenRuns func(ctx context.Context, e Endpoints) (int, error)
	// Idle is after how long without an open run or a client the dev process
	// ends; 0: 15 minutes.
	Idle time.Duration
	// Log receives lines for people; it may be nil.
	Log io.Writer

	// Downloads configure fetching Postgres where none is installed; nil: nothing
	// is fetched.
	Downloads *Downloads
}

// Info is the file dev.json: the dev process that serves the data folder. The
// file is written once everything is ready.
type Info struct {
	processIdentity
	// BuildID is as of buildID, of the dev process's executable.
	BuildID string `json:"build_id"`
	// Started is when the dev process started, in UTC and whole seconds.
	Started time.Time `json:"started"`
	// Endpoints are those of its servers.
	Endpoints Endpoints `json:"endpoints"`
}

// workerState is the file worker.json.
type workerState struct {
	processIdentity
	BuildID string `json:"build_id"`
	// Endpoints is a digest of the endpoints that the worker was started with.
	Endpoints string `json:"endpoints"`
}

// defaultIdle is the default of DevOptions.Idle.
const defaultIdle = 15 * time.Minute

// dev is the dev process of one data folder. One goroutine supervises each
// process of the stack, one watches the folder, and the main one waits for
// idleness; mu guards what they share.
type dev struct {
	opts DevOptions
	dir  string
	// build is as of buildID, of this process.
	build string
	// lock is dev.lock, which this process holds: the folder is still ours as
	// long as the path leads to this very file.
	lock fs.FileInfo
	// hadMarker: the folder had a marker when this process started.
	hadMarker bool
	// folderGone is set once the folder has been removed or replaced: nothing is
	// written any more.
	folderGone atomic.Bool

	// mu guards the fields below.
	mu sync.Mutex
	// info is what dev.json holds.
	info Info
	// endpoints are the current ones; publishEndpoints writes them to dev.json.
	endpoints Endpoints
	// postgres, temporal and worker are the running processes; worker is nil
	// without one.
	postgres *Postgres
	temporal *Temporal
	worker   *process
}

// path is the path of a file in the data folder.
func (d *dev) path(name string) string { return filepath.Join(d.dir, name) }

// RunDev runs the servers and the worker of a data folder until ctx ends,
// SIGTERM, SIGINT or SIGHUP arrives, or nobody has needed them for o.Idle. A
// process that dies is started again; what a killed dev process left running is
// adopted. Errors: dev_running, a Conflict, for a second dev process on the same
// folder; data_folder_gone if the folder is removed meanwhile; those of
// StartPostgres and StartTemporal.
func RunDev(ctx context.Context, o DevOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	dir, err := absolute(o.Dir)
	if err != nil {
		return err
	}
	if err := claimForServers(dir, FolderMarker{}); err != nil {
		return err
	}
	if err := checkStackLimits(); err != nil {
		return err
	}
	raiseOpenFileLimit()
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	d := &dev{opts: o, dir: dir}
	unlock, err := lockWithin(ctx, d.path("dev.lock"), time.Second)
	if err != nil {
		return err
	}
	if unlock == nil {
		return trimtab.NewError(trimtab.Conflict, "dev_running", "use it, or end it with trimtab dev stop",
			"start a dev process on %s: one is already running", dir)
	}
	defer unlock()
	if err := remove(d.path("dev.json")); err != nil { // first: clients must not take a stale one for ours
		return err
	}
	IgnoreEnvironment()
	// RunDev owns this process: changing its environment for good harms nobody.
	o.Downloads.setGoOffline()
	return d.run(ctx)
}

// run starts everything, supervises it, and stops it again in any case.
func (d *dev) run(ctx context.Context) (err error) {
	if d.build, err = buildID(""); err != nil {
		return fmt.Errorf("read the running program: %w", err)
	}
	born, _ := startID(os.Getpid())
	d.info = Info{processIdentity: processIdentity{os.Getpid(), born, folderKey(d.dir)}, BuildID: d.build,
		Started: time.Now().UTC().Truncate(time.Second)}
	if d.lock, err = os.Stat(d.path("dev.lock")); err != nil {
		return err
	}
	_, none := os.Stat(d.path(markerFile))
	d.hadMarker = none == nil
	if err := errors.Join(Touch(d.dir), writeJSON(d.path("dev.pid"), d.info)); err != nil {
		return err
	}
	defer d.remove("dev.pid")
	defer func() { err = errors.Join(err, d.stopAll()) }()
	// The folder is watched from here on, also while the servers start: a build of Temporal takes minutes.
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go d.watchFolder(ctx, end)
	started := time.Now()
	if err = d.startAll(ctx); err == nil {
		err = d.publishEndpoints()
	}
	if err == nil {
		logf(d.opts.Log, "ready after %.1f s", time.Since(started).Seconds())
		err = d.superviseAll(ctx)
	}
	switch {
	case d.folderGone.Load():
		return context.Cause(ctx)
	case ctx.Err() != nil: // asked to end, perhaps before all was ready
		return nil
	}
	return err
}

// folderPoll is the interval at which watchFolder looks.
const folderPoll = 500 * time.Millisecond

// watchFolder ends the dev process within a second of the data folder being
// removed or replaced. If only dev.pid or dev.json is gone, it writes that file
// again, since clients find the process by them.
func (d *dev) watchFolder(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(folderPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if d.isFolderLost() {
			d.folderGone.Store(true)
			logf(d.opts.Log, "the data folder %s was removed or replaced: stopping", d.dir)
			end(trimtab.NewError(trimtab.Unavailable, FolderGone,
				"the next command starts the servers again in a new or restored data folder",
				"run servers for %s: the folder was removed or replaced while they ran; they were stopped", d.dir))
			return
		}
		d.restoreStateFiles()
	}
}

// isFolderLost reports whether the path no longer leads to the folder in which
// this process holds the lock. Other errors, such as a disk that does not answer
// for a moment, do not count.
func (d *dev) isFolderLost() bool {
	st, err := os.Stat(d.path("dev.lock"))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	}
	if !os.SameFile(st, d.lock) {
		return true
	}
	_, err = os.Stat(d.path(markerFile))
	return d.hadMarker && errors.Is(err, fs.ErrNotExist)
}

// restoreStateFiles writes dev.pid and dev.json again if they are gone.
func (d *dev) restoreStateFiles() {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := []string{"dev.pid"}
	if d.info.Endpoints != (Endpoints{}) {
		names = append(names, "dev.json")
	}
	for _, name := range names {
		if _, err := os.Lstat(d.path(name)); errors.Is(err, fs.ErrNotExist) {
			_ = createJSON(d.path(name), d.info) // if it fails, the next poll tries again
		}
	}
}

// remove removes a file of this dev process, unless the folder is gone: one in
// its place belongs to somebody else.
func (d *dev) remove(name string) {
	if !d.folderGone.Load() {
		_ = remove(d.path(name))
	}
}

// startAll starts or adopts everything, in the order of dependence: Postgres, the
// schema, Temporal, the worker.
func (d *dev) startAll(ctx context.Context) error {
	logf(d.opts.Log, "starting Postgres")
	if err := d.startPostgres(ctx); err != nil {
		return err
	}
	if d.opts.Migrate != nil {
		if err := d.opts.Migrate(ctx, d.endpoints); err != nil {
			return fmt.Errorf("bring the database up to date: %w", err)
		}
	}
	logf(d.opts.Log, "starting Temporal")
	if err := d.startTemporal(ctx); err != nil {
		return err
	}
	return d.startWorker(ctx)
}

// startPostgres starts or adopts Postgres and updates the endpoints.
func (d *dev) startPostgres(ctx context.Context) error {
	p, err := StartPostgres(ctx, PostgresOptions{Dir: d.path("postgres"), Downloads: d.opts.Downloads, Log: d.opts.Log})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.postgres = p
	d.endpoints, err = EndpointsOf(d.dir, p, d.temporal)
	return err
}

// startTemporal starts or adopts Temporal and updates the endpoints.
func (d *dev) startTemporal(ctx context.Context) error {
	t, err := StartTemporal(ctx, TemporalOptions{
		Dir:         d.path("temporal"),
		PostgresURL: d.currentEndpoints().PostgresURL,
		Log:         d.opts.Log,
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.temporal = t
	d.endpoints, err = EndpointsOf(d.dir, d.postgres, t)
	return err
}

// currentEndpoints are the endpoints at this moment.
func (d *dev) currentEndpoints() Endpoints {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endpoints
}

// startWorker adopts the running worker if it has the same build and the same
// endpoints; otherwise it stops that one and starts another.
func (d *dev) startWorker(context.Context) error {
	e := d.currentEndpoints()
	var state workerState
	if err := readJSON(d.path("worker.json"), &state); err != nil {
		return err
	}
	// The endpoints hold passwords, so the state file gets only a digest of them.
	want := workerState{BuildID: d.build, Endpoints: urlDigest(fmt.Sprint(e))}
	p := state.find(d.dir, processTag(d.dir, "worker"))
	if p != nil && (state.BuildID != want.BuildID || state.Endpoints != want.Endpoints) {
		if err := stopWorker(p); err != nil {
			return err
		}
		p = nil
	}
	if p == nil && d.opts.Worker != nil {
		err := d.stopStrayWorkers()
		if err != nil {
			return err
		}
		if p, err = d.launchWorker(e); err != nil {
			return fmt.Errorf("start the worker: %w", err)
		}
		want.processIdentity = identityOf(p, d.dir)
		if err := writeJSON(d.path("worker.json"), want); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.worker = p
	return nil
}

// launchWorker starts a worker process with the folder's tag in its environment,
// and with worker.log as its output unless the command sets one.
func (d *dev) launchWorker(e Endpoints) (*process, error) {
	log, err := openLog(d.path("worker.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := d.opts.Worker(e)
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = log
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, processTag(d.dir, "worker"))
	return startProcess(cmd, false)
}

// stopStrayWorkers stops workers of this folder that no state file names: their
// parent was killed between starting and recording them.
func (d *dev) stopStrayWorkers() error {
	var errs []error
	for _, p := range findTagged(processTag(d.dir, "worker")) {
		errs = append(errs, stopWorker(p))
	}
	return errors.Join(errs...)
}

// stopFast stops a process whose data is gone: it has nothing left to save.
func stopFast(p *process, first syscall.Signal) error {
	return p.stop(stopStep{first, 5 * time.Second}, stopStep{syscall.SIGQUIT, 3 * time.Second},
		stopStep{syscall.SIGKILL, 5 * time.Second})
}

// stopWorker stops a worker and gives it a minute to write a checkpoint and hand
// over.
func stopWorker(p *process) error {
	return p.stop(stopStep{syscall.SIGTERM, 60 * time.Second}, stopStep{syscall.SIGKILL, 5 * time.Second})
}

// superviseAll keeps everything running until ctx ends or nobody needs it.
func (d *dev) superviseAll(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var supervisors sync.WaitGroup
	defer supervisors.Wait()
	defer stop()
	supervise := func(name string, current func() *process, start func(context.Context) error) {
		supervisors.Go(func() { d.supervise(ctx, name, current, start) })
	}
	supervise("Postgres", func() *process { return d.postgres.proc }, d.startPostgres)
	supervise("Temporal", func() *process { return d.temporal.proc }, d.startTemporal)
	if d.worker != nil {
		supervise("the worker", func() *process { return d.worker }, d.startWorker)
	}
	return d.waitUntilIdle(ctx)
}

const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 10 * time.Second
	// stableAfter is how long a process has to run for its next restart to come after minBackoff again.
	stableAfter = time.Minute
)

// supervise restarts a process whenever it ends, after a pause that doubles up to
// maxBackoff until a process has run for stableAfter. current returns the process
// as it is now, since others may replace it too.
func (d *dev) supervise(
	ctx context.Context, name string, current func() *process, start func(context.Context) error,
) {
	pause := minBackoff
	for {
		d.mu.Lock()
		p := current()
		d.mu.Unlock()
		began := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-p.ended():
		}
		if time.Since(began) > stableAfter {
			pause = minBackoff
		}
		logf(d.opts.Log, "%s %s exited (%v): restarting it", time.Now().Format(time.TimeOnly), name, p.err)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, maxBackoff)
			err := start(ctx)
			if err == nil {
				err = d.publishEndpoints()
			}
			if err == nil {
				break
			}
			logf(d.opts.Log, "%s %v; next attempt in %v", time.Now().Format(time.TimeOnly), err, pause)
		}
	}
}

// publishEndpoints writes dev.json if the endpoints have changed. If a server had
// to move to another port, the processes that still use the old one are stopped,
// so that they are started again with the new.
func (d *dev) publishEndpoints() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.info.Endpoints
	if old == d.endpoints {
		return nil
	}
	d.info.Endpoints = d.endpoints
	if err := writeJSON(d.path("dev.json"), d.info); err != nil || old == (Endpoints{}) {
		return err
	}
	var errs []error
	// Their supervisors start what is stopped here again, with the new endpoints.
	if old.PostgresURL != d.endpoints.PostgresURL {
		errs = append(errs, stopTemporal(d.temporal.proc))
	}
	if d.worker != nil {
		errs = append(errs, stopWorker(d.worker))
	}
	return errors.Join(errs...)
}

// waitUntilIdle returns when ctx ends, or when there was neither a client nor an
// open run for opts.Idle.
func (d *dev) waitUntilIdle(ctx context.Context) error {
	tick := time.NewTicker(min(5*time.Second, d.opts.Idle/4+time.Millisecond))
	defer tick.Stop()
	needed := time.Now()
	for {
		select {
		case <-ctx.Done():
			logf(d.opts.Log, "asked to stop")
			return nil
		case <-tick.C:
		}
		// Asking for open runs costs a query, so it is asked only when no client was here for the whole time.
		if st, err := os.Stat(d.path("client")); err == nil && st.ModTime().After(needed) {
			needed = st.ModTime()
		}
		if time.Since(needed) < d.opts.Idle {
			continue
		}
		if d.busy(ctx) {
			needed = time.Now()
			continue
		}
		logf(d.opts.Log, "no open run and no client for %v: stopping", d.opts.Idle)
		return nil
	}
}

// busy reports whether a run is open. It is true where that cannot be determined,
// for example while Postgres restarts.
func (d *dev) busy(ctx context.Context) bool {
	if d.opts.OpenRuns == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n, err := d.opts.OpenRuns(ctx, d.currentEndpoints())
	return n > 0 || err != nil
}

// stopAll stops everything, in the reverse order of dependence.
func (d *dev) stopAll() error {
	d.remove("dev.json") // first: no new client must connect
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if d.folderGone.Load() {
		return d.stopAllFast()
	}
	if d.worker != nil {
		errs = append(errs, stopWorker(d.worker), remove(d.path("worker.json")))
	}
	if d.temporal != nil {
		errs = append(errs, d.temporal.Stop())
	}
	if d.postgres != nil {
		errs = append(errs, d.postgres.Stop())
	}
	return errors.Join(errs...)
}

// stopAllFast stops everything when the folder is gone.
func (d *dev) stopAllFast() error {
	var errs []error
	if d.worker != nil {
		errs = append(errs, stopFast(d.worker, syscall.SIGTERM))
	}
	if d.temporal != nil {
		errs = append(errs, stopFast(d.temporal.proc, syscall.SIGTERM))
	}
	if d.postgres != nil {
		errs = append(errs, stopFast(d.postgres.proc, syscall.SIGINT))
		_ = syscall.Rmdir(d.postgres.socket)
	}
	return errors.Join(errs...)
}

// buildID identifies an executable by its bytes: 16 hexadecimal digits of its
// SHA-256. The empty path stands for the running program, even if its file has
// been deleted.
func buildID(path string) (string, error) {
	sum, err := fileDigest(path)
	if err != nil {
		return "", err
	}
	return sum[:16], nil
}

// fileDigest is the SHA-256 of an executable, in hexadecimal digits; the empty
// path is as for buildID.
func fileDigest(path string) (string, error) {
	f, err := openProgram(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// openProgram opens an executable; the empty path stands for the running program.
// On Linux /proc/self/exe leads to it even if its file was deleted or replaced,
// as go run does.
func openProgram(path string) (*os.File, error) {
	if path == "" && runtime.GOOS == "linux" {
		return os.Open("/proc/self/exe")
	}
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	return plainfile.Open(path)
}
