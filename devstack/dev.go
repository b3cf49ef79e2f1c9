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
	Dir      string                                              // the data folder
	Migrate  func(ctx context.Context, e Endpoints) error        // brings trimtab's own schema up to date, and makes the roles
	Worker   func(e Endpoints) *exec.Cmd                         // a worker process, not started; ended by SIGTERM
	OpenRuns func(ctx context.Context, e Endpoints) (int, error) // how many runs have not ended
	Idle     time.Duration                                       // end after so long without open run or client; 0: 15 minutes
	Log      io.Writer                                           // lines for people

	Downloads *Downloads // whether to fetch the programs of Postgres where none are installed; nil: no
}

// Info is the file dev.json: the dev process that runs, once all is ready.
type Info struct {
	life
	BuildID   string    `json:"build_id"` // of its executable
	Started   time.Time `json:"started"`
	Endpoints Endpoints `json:"endpoints"`
}

// workerState is the file worker.json.
type workerState struct {
	life
	BuildID   string `json:"build_id"`
	Endpoints string `json:"endpoints"` // digest of those it was started with
}

const defaultIdle = 15 * time.Minute

// dev owns one stack.
type dev struct {
	o      DevOptions
	dir    string
	build  string
	lock   fs.FileInfo // dev.lock, which this process holds
	marked bool        // the folder has a marker
	gone   atomic.Bool // the folder has been removed or replaced

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
	if err := takeFolder(dir, DataFolder{}); err != nil {
		return err
	}
	if err := checkStackLimits(); err != nil {
		return err
	}
	raiseFiles()
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	d := &dev{o: o, dir: dir}
	unlock, err := lockWithin(ctx, d.path("dev.lock"), time.Second)
	if err != nil {
		return err
	}
	if unlock == nil {
		return trimtab.NewError(trimtab.Conflict, "dev_running", "use it, or end it with trimtab dev stop", "start a dev process on %s: one runs already", dir)
	}
	defer unlock()
	if err := remove(d.path("dev.json")); err != nil { // first, so that nobody takes an old one for ours
		return err
	}
	IgnoreEnvironment()
	o.Downloads.keepGoOffline()
	return d.run(ctx)
}

func (d *dev) run(ctx context.Context) (err error) {
	if d.build, err = buildID(""); err != nil {
		return fmt.Errorf("read the program that runs: %w", err)
	}
	born, _ := birth(os.Getpid())
	d.info = Info{life: life{os.Getpid(), born, folderKey(d.dir)}, BuildID: d.build, Started: time.Now().UTC().Truncate(time.Second)}
	if d.lock, err = os.Stat(d.path("dev.lock")); err != nil {
		return err
	}
	_, none := os.Stat(d.path(markerFile))
	d.marked = none == nil
	if err := errors.Join(Touch(d.dir), writeJSON(d.path("dev.pid"), d.info)); err != nil {
		return err
	}
	defer d.remove("dev.pid")
	defer func() { err = errors.Join(err, d.down()) }()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go d.look(ctx, end)
	begin := time.Now()
	if err = d.up(ctx); err == nil {
		err = d.announce()
	}
	if err == nil {
		say(d.o.Log, "ready after %.1f s", time.Since(begin).Seconds())
		err = d.watch(ctx)
	}
	switch {
	case d.gone.Load():
		return context.Cause(ctx)
	case ctx.Err() != nil: // asked to end, perhaps before all was ready
		return nil
	}
	return err
}

const lookEvery = 500 * time.Millisecond

// look sees within a second when the folder has been removed or replaced, and
// ends the dev process then. Its two files that others know it by are written
// again when they alone are gone.
func (d *dev) look(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if d.lost() {
			d.gone.Store(true)
			say(d.o.Log, "the data folder %s was removed or replaced: ending", d.dir)
			end(trimtab.NewError(trimtab.Unavailable, FolderGone, "any command starts another where there is a data folder",
				"keep servers for %s: the folder was removed or replaced while they ran; they have been ended", d.dir))
			return
		}
		d.restore()
	}
}

// lost tells that the path leads to the folder no more in which this process
// holds the lock. What cannot be seen at the moment is not lost.
func (d *dev) lost() bool {
	st, err := os.Stat(d.path("dev.lock"))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	}
	if !os.SameFile(st, d.lock) {
		return true
	}
	_, err = os.Stat(d.path(markerFile))
	return d.marked && errors.Is(err, fs.ErrNotExist)
}

func (d *dev) restore() {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := []string{"dev.pid"}
	if d.info.Endpoints != (Endpoints{}) {
		names = append(names, "dev.json")
	}
	for _, name := range names {
		if _, err := os.Lstat(d.path(name)); errors.Is(err, fs.ErrNotExist) {
			_ = newJSON(d.path(name), d.info) // else the next look does
		}
	}
}

// remove removes a file of this dev process from its folder, if that is there still.
func (d *dev) remove(name string) {
	if !d.gone.Load() {
		_ = remove(d.path(name))
	}
}

// up starts or adopts everything, in order.
func (d *dev) up(ctx context.Context) error {
	say(d.o.Log, "starting Postgres")
	if err := d.startPostgres(ctx); err != nil {
		return err
	}
	if d.o.Migrate != nil {
		if err := d.o.Migrate(ctx, d.endpoints); err != nil {
			return fmt.Errorf("bring the database up to date: %w", err)
		}
	}
	say(d.o.Log, "starting Temporal")
	if err := d.startTemporal(ctx); err != nil {
		return err
	}
	return d.startWorker(ctx)
}

func (d *dev) startPostgres(ctx context.Context) error {
	p, err := StartPostgres(ctx, PostgresOptions{Dir: d.path("postgres"), Downloads: d.o.Downloads, Log: d.o.Log})
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
	t, err := StartTemporal(ctx, TemporalOptions{Dir: d.path("temporal"), PostgresURL: d.reach().PostgresURL, Log: d.o.Log})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.temporal = t
	d.endpoints, err = EndpointsOf(d.dir, d.postgres, t)
	return err
}

// reach is where the servers answer now.
func (d *dev) reach() Endpoints {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endpoints
}

// startWorker adopts the worker that runs, if it is of the same build and talks
// to the same servers; else it ends that one and starts another.
func (d *dev) startWorker(context.Context) error {
	e := d.reach()
	var state workerState
	if err := readJSON(d.path("worker.json"), &state); err != nil {
		return err
	}
	want := workerState{BuildID: d.build, Endpoints: urlDigest(fmt.Sprint(e))}
	p := state.process(d.dir, marker(d.dir, "worker"))
	if p != nil && (state.BuildID != want.BuildID || state.Endpoints != want.Endpoints) {
		if err := stopWorker(p); err != nil {
			return err
		}
		p = nil
	}
	if p == nil && d.o.Worker != nil {
		err := d.stopStrayWorkers()
		if err != nil {
			return err
		}
		if p, err = d.newWorker(e); err != nil {
			return fmt.Errorf("start the worker: %w", err)
		}
		want.life = lifeOf(p, d.dir)
		if err := writeJSON(d.path("worker.json"), want); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.worker = p
	return nil
}

func (d *dev) newWorker(e Endpoints) (*process, error) {
	log, err := openLog(d.path("worker.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := d.o.Worker(e)
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = log
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, marker(d.dir, "worker"))
	return start(cmd, false)
}

func (d *dev) stopStrayWorkers() error {
	var errs []error
	for _, p := range strays(marker(d.dir, "worker")) {
		errs = append(errs, stopWorker(p))
	}
	return errors.Join(errs...)
}

// abandon ends a process whose data is gone: it has nothing to write down any more.
func abandon(p *process, first syscall.Signal) error {
	return p.stop(farewell{first, 5 * time.Second}, farewell{syscall.SIGQUIT, 3 * time.Second}, farewell{syscall.SIGKILL, 5 * time.Second})
}

func stopWorker(p *process) error {
	return p.stop(farewell{syscall.SIGTERM, 60 * time.Second}, farewell{syscall.SIGKILL, 5 * time.Second})
}

// watch keeps all alive until ctx ends or nobody needs them.
func (d *dev) watch(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var keepers sync.WaitGroup
	defer keepers.Wait()
	defer stop()
	keep := func(name string, now func() *process, start func(context.Context) error) {
		keepers.Go(func() { d.keep(ctx, name, now, start) })
	}
	keep("Postgres", func() *process { return d.postgres.proc }, d.startPostgres)
	keep("Temporal", func() *process { return d.temporal.proc }, d.startTemporal)
	if d.worker != nil {
		keep("the worker", func() *process { return d.worker }, d.startWorker)
	}
	return d.untilIdle(ctx)
}

const (
	firstPause = 200 * time.Millisecond
	longPause  = 10 * time.Second
	settled    = time.Minute // a process that has lived so long is started again without delay
)

// keep starts a process again whenever it has ended, after a pause that doubles
// while it does not live for a minute.
func (d *dev) keep(ctx context.Context, name string, now func() *process, start func(context.Context) error) {
	pause := firstPause
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
		if time.Since(begin) > settled {
			pause = firstPause
		}
		say(d.o.Log, "%s %s ended (%v): starting it again", time.Now().Format(time.TimeOnly), name, p.err)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, longPause)
			err := start(ctx)
			if err == nil {
				err = d.announce()
			}
			if err == nil {
				break
			}
			say(d.o.Log, "%s %v; next try in %v", time.Now().Format(time.TimeOnly), err, pause)
		}
	}
}

// announce writes dev.json if the endpoints are not those in it. Should a
// server have had to move to another port since, those that still use the old
// one are ended, so that they are started again with the new.
func (d *dev) announce() error {
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

// untilIdle returns when ctx ends, or when for d.o.Idle no client has been
// there and no run was open.
func (d *dev) untilIdle(ctx context.Context) error {
	tick := time.NewTicker(min(5*time.Second, d.o.Idle/4+time.Millisecond))
	defer tick.Stop()
	needed := time.Now()
	for {
		select {
		case <-ctx.Done():
			say(d.o.Log, "asked to end")
			return nil
		case <-tick.C:
		}
		if st, err := os.Stat(d.path("client")); err == nil && st.ModTime().After(needed) {
			needed = st.ModTime()
		}
		if time.Since(needed) < d.o.Idle {
			continue
		}
		if d.busy(ctx) {
			needed = time.Now()
			continue
		}
		say(d.o.Log, "no open run and no client for %v: ending", d.o.Idle)
		return nil
	}
}

// busy is true where it cannot be known: Postgres may be starting again.
func (d *dev) busy(ctx context.Context) bool {
	if d.o.OpenRuns == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n, err := d.o.OpenRuns(ctx, d.reach())
	return n > 0 || err != nil
}

// down ends all, those first that need the others.
func (d *dev) down() error {
	d.remove("dev.json") // clients shall not come any more
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if d.gone.Load() {
		return d.abandon()
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

// abandon ends all when the folder is gone.
func (d *dev) abandon() error {
	var errs []error
	if d.worker != nil {
		errs = append(errs, abandon(d.worker, syscall.SIGTERM))
	}
	if d.temporal != nil {
		errs = append(errs, abandon(d.temporal.proc, syscall.SIGTERM))
	}
	if d.postgres != nil {
		errs = append(errs, abandon(d.postgres.proc, syscall.SIGINT))
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
