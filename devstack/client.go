package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// EnsureOptions configure how a client finds, and if need be starts, the dev
// process.
type EnsureOptions struct {
	// Dir is the data folder.
	Dir string
	// Marker is what the folder must have been marked with; the zero one if it
	// was not claimed before.
	Marker FolderMarker
	// Executable is the program to start; empty: the running one.
	Executable string
	// Args are its arguments; nil: dev --data-folder DIR.
	Args []string
	// OpenRuns counts the open runs. A dev process of another build is replaced
	// only if there are none; with nil it never is.
	OpenRuns func(ctx context.Context, e Endpoints) (int, error)
	// Log receives lines for people; it may be nil.
	Log io.Writer

	// Downloads configure fetching Postgres where none is installed; nil: the dev
	// process does it.
	Downloads *Downloads
	// Env is added to the environment of the dev process.
	Env []string
}

// Running returns the dev process that serves a data folder; false if none is
// ready.
func Running(dir string) (Info, bool) {
	var info Info
	err := readJSON(filepath.Join(dir, "dev.json"), &info)
	return info, err == nil && info.liveProcess(dir) != nil
}

// liveProcess is the dev process itself; nil if it has ended, or if dir is a copy
// of the folder that it serves.
func (i Info) liveProcess(dir string) *process {
	p := adopt(i.Pid, i.Birth)
	if p == nil || i.Folder == folderKey(dir) {
		return p
	}
	if i.Folder == "" && isLocked(filepath.Join(dir, "dev.lock")) { // of an older version, which recorded no folder
		return p
	}
	return nil
}

// Touch records the presence of a client, which keeps the dev process of a data
// folder from ending. A client that stays repeats it every minute or so.
func Touch(dir string) error {
	path := filepath.Join(dir, "client")
	now := time.Now()
	if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() && os.Chtimes(path, now, now) == nil {
		return nil
	}
	f, err := plainfile.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Ensure returns the endpoints of a data folder's stack, starting a detached dev
// process if none runs. A dev process of another build of trimtab is replaced
// unless a run is open. Of several clients one starts the process and the others
// wait. Errors: dev_start, dev_silent, dev_unknown, low_limits, program_copy,
// unsafe_folder, and those of ReclaimFolder and findOrFetch.
func Ensure(ctx context.Context, o EnsureOptions) (Endpoints, error) {
	dir, err := absolute(o.Dir)
	if err != nil {
		return Endpoints{}, err
	}
	o.Dir = dir
	IgnoreEnvironment()
	if err := claimForServers(dir, o.Marker); err != nil {
		return Endpoints{}, err
	}
	// A dev process that is about to end for idleness must see this client before it is found running.
	if err := Touch(dir); err != nil {
		return Endpoints{}, folderError(dir, err)
	}
	build, err := cachedBuildID(dir, o.Executable)
	if err != nil {
		return Endpoints{}, fmt.Errorf("read the program to start: %w", err)
	}
	if info, ok := Running(dir); ok && info.BuildID == build {
		return info.Endpoints, nil
	}
	unlock, err := lock(ctx, filepath.Join(dir, "start.lock"))
	if err != nil {
		return Endpoints{}, err
	}
	defer unlock()
	return o.ensure(ctx, build)
}

// ensure is Ensure under start.lock. While another process holds dev.lock, it is
// starting or stopping: ensure then copies its log and waits.
func (o EnsureOptions) ensure(ctx context.Context, build string) (Endpoints, error) {
	log := followLog(filepath.Join(o.Dir, "dev.log"), o.Log)
	lastOutput, noticed := time.Now(), false
	for {
		if info, ok := Running(o.Dir); ok {
			if info.BuildID == build || !o.shouldReplace(ctx, info) {
				return info.Endpoints, nil
			}
			if err := Stop(ctx, o.Dir); err != nil {
				return Endpoints{}, err
			}
		}
		unlock, err := tryLock(filepath.Join(o.Dir, "dev.lock"))
		if err != nil {
			return Endpoints{}, err
		}
		if unlock != nil {
			// The file belongs to a process that was killed, or to the folder of which this is a copy.
			err := remove(filepath.Join(o.Dir, "dev.json"))
			unlock()
			if err != nil {
				return Endpoints{}, err
			}
			return o.launch(ctx, build, log)
		}
		if log.copy() {
			lastOutput = time.Now()
		}
		silent := time.Since(lastOutput)
		if silent > noticeAfter && !noticed {
			logf(o.Log, "waiting for another dev process of %s, which is starting or stopping", o.Dir)
			noticed = true
		}
		if silent > silenceLimit {
			return Endpoints{}, trimtab.NewError(trimtab.Unavailable, "dev_silent",
				"try again, or stop it with trimtab dev stop",
				"wait for the dev process that holds %s: it is still running, but has logged nothing for %v", o.Dir,
				silenceLimit)
		}
		select {
		case <-ctx.Done():
			return Endpoints{}, fmt.Errorf("wait for the dev process of %s: %w", o.Dir, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

const (
	// noticeAfter is after how long a client says what it is waiting for.
	noticeAfter = 3 * time.Second
	// silenceLimit is how long a dev process that is not ready may log nothing. A
	// build of Temporal reports progress far more often; Postgres's recovery after a
	// crash may take so long.
	silenceLimit = 3 * time.Minute
)

// shouldReplace reports whether to stop the dev process of another build: only if
// it is certain that no run is open. Otherwise it warns.
func (o EnsureOptions) shouldReplace(ctx context.Context, info Info) bool {
	if o.OpenRuns != nil {
		if n, err := o.OpenRuns(ctx, info.Endpoints); err == nil && n == 0 {
			logf(o.Log, "the stack was started by another build of trimtab and no run is open: restarting it")
			return true
		}
	}
	logf(o.Log,
		"note: using a stack that another build of trimtab started (%s); stop it with trimtab dev stop", info.BuildID)
	if info.Endpoints.TemporalTLS == (TLS{}) {
		logf(o.Log,
			"note: that build's Temporal server does not authenticate clients; any user of this machine can control "+
				"its runs")
	}
	return false
}

// launch starts a dev process that outlives this one, and waits until it is
// ready.
func (o EnsureOptions) launch(ctx context.Context, build string, log *logFollower) (Endpoints, error) {
	// What can be found wrong here is reported from here: the error of a detached process reaches the user only as the
	// last lines of its log.
	if err := o.fetchPostgres(ctx); err != nil {
		return Endpoints{}, err
	}
	if err := checkStackLimits(); err != nil {
		return Endpoints{}, err
	}
	program, err := o.copyProgram(build)
	if err != nil {
		return Endpoints{}, fmt.Errorf("copy the program into the data folder: %w", err)
	}
	out, err := openLog(filepath.Join(o.Dir, "dev.log"))
	if err != nil {
		return Endpoints{}, err
	}
	defer out.Close()
	from := fileSize(out)
	args := o.Args
	if args == nil {
		args = []string{"dev", "--data-folder", o.Dir}
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = o.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // detached: it survives the terminal
	p, err := startProcess(cmd, false)
	if err != nil {
		return Endpoints{}, fmt.Errorf("start the dev process: %w", err)
	}
	for {
		log.copy()
		if info, ok := Running(o.Dir); ok {
			return info.Endpoints, nil
		}
		select {
		case <-p.ended():
			remedy := "see " + filepath.Join(o.Dir, "dev.log") + ", or run trimtab doctor"
			return Endpoints{}, trimtab.NewError(trimtab.Unavailable, "dev_start", remedy,
				"start the dev process: it exited (%v)\n%s\n", p.err, tail(out.Name(), from))
		case <-ctx.Done():
			return Endpoints{}, fmt.Errorf("wait for the dev process of %s, which keeps running: %w", o.Dir, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// fetchPostgres fetches the programs of Postgres, if none are installed, in this
// process: here the progress display and a complete error can reach the user. If
// a server may be running on the data folder, it leaves everything to the dev
// process.
func (o EnsureOptions) fetchPostgres(ctx context.Context) error {
	if o.Downloads == nil {
		return nil
	}
	c, err := inspectCluster(o.Dir)
	if err != nil {
		return err
	}
	if pid, _ := c.readLockFile(); pid != 0 {
		return nil
	}
	_, err = findOrFetch(ctx, c.data(), "", o.Downloads, c.cred, o.Log)
	return err
}

// environment is that of the dev process. It names the trimtab-temporal next to
// this program, because the copy that runs as dev has none next to it.
func (o EnsureOptions) environment() []string {
	self := o.Executable
	if self == "" {
		self, _ = os.Executable()
	}
	beside := filepath.Join(filepath.Dir(self), temporalProgram)
	env := append(environment(), o.Env...)
	if os.Getenv("TRIMTAB_TEMPORAL_PROGRAM") != "" || checkExecutable(beside) != nil || checkProgram(beside) != nil {
		return env
	}
	return append(env, "TRIMTAB_TEMPORAL_PROGRAM="+beside)
}

// copyProgram copies the executable to bin/BUILD/trimtab, removes the copies of
// other builds, and returns the path: go run deletes its program when it ends,
// and a rebuilt program must not change under a dev process that starts workers
// from it.
func (o EnsureOptions) copyProgram(build string) (string, error) {
	bin := filepath.Join(o.Dir, "bin")
	target := filepath.Join(bin, build, "trimtab")
	removeOldCopies(bin, build)
	switch existing, err := buildID(target); {
	case err == nil && existing == build:
		return target, checkFolderTrust(target)
	case err == nil:
		return "", trimtab.NewError(trimtab.Unavailable, "program_copy", "find out what changed it, then remove it",
			"run %s: the file has changed since it was copied there", target)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	for _, dir := range []string{bin, filepath.Dir(target)} {
		if err := makeSubfolder(dir); err != nil {
			return "", err
		}
	}
	src, err := openProgram(o.Executable)
	if err != nil {
		return "", err
	}
	defer src.Close()
	// A process forked meanwhile would hold the file open for writing for an instant, and a program that is open for
	// writing cannot be run (ETXTBSY).
	syscall.ForkLock.RLock()
	err = plainfile.WriteNewFrom(target, 0o755, func(w io.Writer) error { _, err := io.Copy(w, src); return err })
	syscall.ForkLock.RUnlock()
	if errors.Is(err, fs.ErrExist) { // another client was faster
		err = nil
	}
	return target, err
}

// buildName matches a build id, the name of a folder below bin.
var buildName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// removeOldCopies removes the copies that copyProgram made for other builds. A
// copy is recognised by its place and its bytes: bin/BUILD/trimtab, a regular
// file with that build id. Everything else stays, and so does a folder that holds
// more.
func removeOldCopies(bin, build string) {
	if st, err := os.Lstat(bin); err != nil || !st.IsDir() {
		return
	}
	entries, _ := os.ReadDir(bin)
	for _, e := range entries {
		dir := filepath.Join(bin, e.Name())
		copied := filepath.Join(dir, "trimtab")
		if !e.IsDir() || e.Name() == build || !buildName.MatchString(e.Name()) {
			continue
		}
		if st, err := os.Lstat(copied); err != nil || !st.Mode().IsRegular() {
			continue
		}
		if id, err := buildID(copied); err == nil && id == e.Name() && os.Remove(copied) == nil {
			_ = syscall.Rmdir(dir) // only if empty
		}
	}
}

// Stop asks the dev process of a data folder to stop and waits until it has. If
// none runs, it stops the servers that a killed one left running. The data stays.
// Error: dev_unknown.
func Stop(ctx context.Context, dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	if found, err := inspectFolder(dir); err != nil || found.marker.ID == "" && !found.legacy {
		return err // nothing was ever started here
	}
	IgnoreEnvironment()
	unlock, err := stopDev(ctx, dir)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	return stopStrays(ctx, dir)
}

// stopDev stops the dev process and takes its lock. It returns nil, and no error,
// if another dev process was started meanwhile and holds the lock.
func stopDev(ctx context.Context, dir string) (unlock func(), err error) {
	path := filepath.Join(dir, "dev.lock")
	var asked *process
	// A process that is starting holds the lock before dev.pid identifies it: an unknown holder is given ten seconds.
	for deadline := time.Now().Add(10 * time.Second); ; {
		unlock, err := lockWithin(ctx, path, time.Second)
		if err != nil || unlock != nil {
			return unlock, err
		}
		p, err := lockHolder(dir)
		switch {
		case err != nil:
			return nil, err
		case p != nil && asked == nil:
			if err := endDev(ctx, p); err != nil {
				return nil, err
			}
			asked = p
		case p != nil && p.pid != asked.pid: // another was started since
			return nil, nil
		case time.Now().After(deadline):
			return nil, trimtab.NewError(trimtab.Unavailable, "dev_unknown",
				"stop the process that holds the file (fuser "+path+" finds it), and try again",
				"stop the dev process of %s: a process holds dev.lock, but dev.pid does not identify it", dir)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("wait for the dev process of %s to stop: %w", dir, ctx.Err())
		}
	}
}

// lockHolder is the dev process of a folder, ready or not; nil if the state files
// name none that runs.
func lockHolder(dir string) (*process, error) {
	for _, name := range []string{"dev.pid", "dev.json"} {
		var info Info
		if err := readJSON(filepath.Join(dir, name), &info); err != nil {
			return nil, err
		}
		if p := info.liveProcess(dir); p != nil {
			return p, nil
		}
	}
	return nil, nil
}

// endDev sends SIGTERM to a dev process and waits until it has ended.
func endDev(ctx context.Context, p *process) error {
	if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ask dev process %d to stop: %w", p.pid, err)
	}
	select {
	case <-p.ended():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for dev process %d to stop: %w", p.pid, ctx.Err())
	}
}

// stopStrays stops what a killed dev process left running, in the reverse order
// of dependence: workers, Temporal, Postgres.
func stopStrays(ctx context.Context, dir string) error {
	d := &dev{dir: dir}
	var worker workerState
	var temporal temporalState
	err := errors.Join(readJSON(d.path("worker.json"), &worker), readJSON(d.path("temporal/temporal.json"), &temporal))
	if p := worker.find(d.dir, processTag(d.dir, "worker")); p != nil {
		err = errors.Join(err, stopWorker(p), remove(d.path("worker.json")))
	}
	err = errors.Join(err, d.stopStrayWorkers())
	tag := processTag(d.path("temporal"), "temporal")
	if p := temporal.find(d.path("temporal"), tag); p != nil {
		err = errors.Join(err, stopTemporal(p))
	}
	for _, p := range findTagged(tag) {
		err = errors.Join(err, stopTemporal(p))
	}
	if _, none := os.Stat(d.path("postgres/postgres.json")); none != nil {
		return err
	}
	p, adoptErr := runningPostgres(ctx, d.path("postgres"))
	if p != nil {
		err = errors.Join(err, p.Stop())
	}
	return errors.Join(err, adoptErr)
}

// logFollower copies what is appended to a log to another writer, in whole lines.
type logFollower struct {
	path string
	// at is the offset of the first byte that was not copied yet.
	at int64
	// to may be nil: output is then only noticed.
	to io.Writer
}

// followLog follows a log from its present end on. A log beyond logLimit is
// renamed when its writer starts, so the new file is followed from its beginning.
func followLog(path string, to io.Writer) *logFollower {
	f := &logFollower{path: path, to: to}
	if st, err := os.Stat(path); err == nil && st.Size() <= logLimit {
		f.at = st.Size()
	}
	return f
}

// copy copies what was appended since the last call, and reports whether there
// was anything.
func (f *logFollower) copy() bool {
	file, err := plainfile.Open(f.path)
	if err != nil {
		return false
	}
	defer file.Close()
	b, err := io.ReadAll(io.NewSectionReader(file, f.at, 1<<20))
	i := bytes.LastIndexByte(b, '\n')
	if err != nil || i < 0 {
		return false
	}
	if f.to != nil {
		_, _ = f.to.Write(b[:i+1])
	}
	f.at += int64(i + 1)
	return true
}
