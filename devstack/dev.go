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

// DevOptions say what a dev process runs beside the servers.
type DevOptions struct {
	Dir string // the data folder
	// brings trimtab's own schema up to date, and makes the roles
	Migrate  func(ctx context.Context, e Endpoints) error
	Worker   func(e Endpoints) *exec.Cmd                         // a worker process, not started; ended by SIGTERM
	OpenRuns func(ctx context.Context, e Endpoints) (int, error) // how many runs have not ended
	// end after so long without open run or client; 0: 15 minutes
	Idle time.Duration
	Log  io.Writer // lines for people

	Downloads *Downloads // whether to fetch the programs of Postgres where none are installed; nil: no
}

// Info is the file dev.json: the dev process that runs, once all is ready.
type Info struct {
	processIdentity
	BuildID   string    `json:"build_id"` // of its executable
	Started   time.Time `json:"started"`
	Endpoints Endpoints `json:"endpoints"`
}

// workerState is the file worker.json.
type workerState struct {
	processIdentity
	BuildID   string `json:"build_id"`
	Endpoints string `json:"endpoints"` // digest of those it was started with
}

const defaultIdle = 15 * time.Minute

// dev owns one stack.
type dev struct {
	opts       DevOptions
	dir        string
	build      string
	lock       fs.FileInfo // dev.lock, which this process holds
	hadMarker  bool        // the folder has a marker
	folderGone atomic.Bool // the folder has been removed or replaced

	mu        sync.Mutex // guards what follows
	info      Info       // as in dev.json
	endpoints Endpoints  // as they are now
	postgres  *Postgres
	temporal  *Temporal
	worker    *process
}

func (d *dev) path(name string) string { return filepath.Join(d.dir, name) }

// RunDev runs the servers and the worker of a data folder until ctx ends, a
// signal asks it to end, or nobody has needed it for o.Idle. Whichever of them
// dies is started again; what a killed dev process left running is adopted.
// A second dev process on the same folder is refused with a Conflict.
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
			"start a dev process on %s: one runs already", dir)
	}
	defer unlock()
	if err := remove(d.path("dev.json")); err != nil { // first, so that nobody takes an old one for ours
		return err
	}
	IgnoreEnvironment()
	o.Downloads.setGoOffline()
	return d.run(ctx)
}

func (d *dev) run(ctx context.Context) (err error) {
	if d.build, err = buildID(""); err != nil {
		return fmt.Errorf("read the program that runs: %w", err)
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
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go d.watchFolder(ctx, end)
	begin := time.Now()
	if err = d.startAll(ctx); err == nil {
		err = d.publishEndpoints()
	}
	if err == nil {
		logf(d.opts.Log, "ready after %.1f s", time.Since(begin).Seconds())
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

const folderPoll = 500 * time.Millisecond

// watchFolder sees within a second when the folder has been removed or replaced, and
// ends the dev process then. Its two files that others know it by are written
// again when they alone are gone.
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
			logf(d.opts.Log, "the data folder %s was removed or replaced: ending", d.dir)
			end(trimtab.NewError(trimtab.Unavailable, FolderGone,
				"any command starts another where there is a data folder",
				"keep servers for %s: the folder was removed or replaced while they ran; they have been ended", d.dir))
			return
		}
		d.restoreStateFiles()
	}
}

// isFolderLost tells that the path leads to the folder no more in which this process
// holds the lock. What cannot be seen at the moment is not lost.
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

func (d *dev) restoreStateFiles() {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := []string{"dev.pid"}
	if d.info.Endpoints != (Endpoints{}) {
		names = append(names, "dev.json")
	}
	for _, name := range names {
		if _, err := os.Lstat(d.path(name)); errors.Is(err, fs.ErrNotExist) {
			_ = createJSON(d.path(name), d.info) // else the next look does
		}
	}
}

// remove removes a file of this dev process from its folder, if that is there still.
func (d *dev) remove(name string) {
	if !d.folderGone.Load() {
		_ = remove(d.path(name))
	}
}

// startAll starts or adopts everything, in order.
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

func (d *dev) startTemporal(ctx context.Context) error {
	t, err := StartTemporal(ctx, TemporalOptions{Dir: d.path("temporal"), PostgresURL: d.currentEndpoints().PostgresURL,
		Log: d.opts.Log})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.temporal = t
	d.endpoints, err = EndpointsOf(d.dir, d.postgres, t)
	return err
}

// currentEndpoints is where the servers answer now.
func (d *dev) currentEndpoints() Endpoints {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endpoints
}

// startWorker adopts the worker that runs, if it is of the same build and talks
// to the same servers; else it ends that one and starts another.
func (d *dev) startWorker(context.Context) error {
	e := d.currentEndpoints()
	var state workerState
	if err := readJSON(d.path("worker.json"), &state); err != nil {
		return err
	}
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

func (d *dev) stopStrayWorkers() error {
	var errs []error
	for _, p := range findTagged(processTag(d.dir, "worker")) {
		errs = append(errs, stopWorker(p))
	}
	return errors.Join(errs...)
}

// stopFast ends a process whose data is gone: it has nothing to write down any more.
func stopFast(p *process, first syscall.Signal) error {
	return p.stop(stopStep{first, 5 * time.Second}, stopStep{syscall.SIGQUIT, 3 * time.Second},
		stopStep{syscall.SIGKILL, 5 * time.Second})
}

func stopWorker(p *process) error {
	return p.stop(stopStep{syscall.SIGTERM, 60 * time.Second}, stopStep{syscall.SIGKILL, 5 * time.Second})
}

// superviseAll keeps all alive until ctx ends or nobody needs them.
func (d *dev) superviseAll(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var keepers sync.WaitGroup
	defer keepers.Wait()
	defer stop()
	keep := func(name string, now func() *process, start func(context.Context) error) {
		keepers.Go(func() { d.supervise(ctx, name, now, start) })
	}
	keep("Postgres", func() *process { return d.postgres.proc }, d.startPostgres)
	keep("Temporal", func() *process { return d.temporal.proc }, d.startTemporal)
	if d.worker != nil {
		keep("the worker", func() *process { return d.worker }, d.startWorker)
	}
	return d.waitUntilIdle(ctx)
}

const (
	minBackoff  = 200 * time.Millisecond
	maxBackoff  = 10 * time.Second
	stableAfter = time.Minute // a process that has lived so long is started again without delay
)

// supervise starts a process again whenever it has ended, after a pause that doubles
// while it does not live for a minute.
func (d *dev) supervise(ctx context.Context, name string, now func() *process, start func(context.Context) error) {
	pause := minBackoff
	for {
		d.mu.Lock()
		p := now()
		d.mu.Unlock()
		begin := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-p.ended():
		}
		if time.Since(begin) > stableAfter {
			pause = minBackoff
		}
		logf(d.opts.Log, "%s %s ended (%v): starting it again", time.Now().Format(time.TimeOnly), name, p.err)
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
			logf(d.opts.Log, "%s %v; next try in %v", time.Now().Format(time.TimeOnly), err, pause)
		}
	}
}

// publishEndpoints writes dev.json if the endpoints are not those in it. Should a
// server have had to move to another port since, those that still use the old
// one are ended, so that they are started again with the new.
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
	if old.PostgresURL != d.endpoints.PostgresURL {
		errs = append(errs, stopTemporal(d.temporal.proc))
	}
	if d.worker != nil {
		errs = append(errs, stopWorker(d.worker))
	}
	return errors.Join(errs...)
}

// waitUntilIdle returns when ctx ends, or when for d.o.Idle no client has been
// there and no run was open.
func (d *dev) waitUntilIdle(ctx context.Context) error {
	tick := time.NewTicker(min(5*time.Second, d.opts.Idle/4+time.Millisecond))
	defer tick.Stop()
	needed := time.Now()
	for {
		select {
		case <-ctx.Done():
			logf(d.opts.Log, "asked to end")
			return nil
		case <-tick.C:
		}
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
		logf(d.opts.Log, "no open run and no client for %v: ending", d.opts.Idle)
		return nil
	}
}

// busy is true where it cannot be known: Postgres may be starting again.
func (d *dev) busy(ctx context.Context) bool {
	if d.opts.OpenRuns == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n, err := d.opts.OpenRuns(ctx, d.currentEndpoints())
	return n > 0 || err != nil
}

// stopAll ends all, those first that need the others.
func (d *dev) stopAll() error {
	d.remove("dev.json") // clients shall not come any more
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

// stopFast ends all when the folder is gone.
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

// buildID names the bytes of an executable: 16 hexadecimal digits of its
// SHA-256. The empty path is the program that runs, even if its file is gone.
func buildID(path string) (string, error) {
	sum, err := fileDigest(path)
	if err != nil {
		return "", err
	}
	return sum[:16], nil
}

// fileDigest is the SHA-256 of an executable, in hexadecimal digits.
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
