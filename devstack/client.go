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

// EnsureOptions say how to start a dev process where none runs.
type EnsureOptions struct {
	Dir string // the data folder
	// that it must have; the zero one if it was not claimed before
	Marker     FolderMarker
	Executable string   // empty: the program that runs
	Args       []string // nil: dev --data-folder DIR
	// decides whether a dev process of another build is replaced; nil: never
	OpenRuns func(ctx context.Context, e Endpoints) (int, error)
	Log      io.Writer // lines for people

	// whether to fetch the programs of Postgres where none are installed; nil: leave it to the dev process
	Downloads *Downloads
	Env       []string // for the dev process, beside this one's own
}

// Running reads who serves a data folder; false if no dev process is ready there.
func Running(dir string) (Info, bool) {
	var info Info
	err := readJSON(filepath.Join(dir, "dev.json"), &info)
	return info, err == nil && info.liveProcess(dir) != nil
}

// liveProcess is the dev process itself; nil if it does not live, or serves another
// folder, of which dir is a copy.
func (i Info) liveProcess(dir string) *process {
	p := adopt(i.Pid, i.Birth)
	if p == nil || i.Folder == folderKey(dir) {
		return p
	}
	if i.Folder == "" && isLocked(filepath.Join(dir, "dev.lock")) { // written before folders were told apart
		return p
	}
	return nil
}

// Touch tells the dev process of a data folder that a client is there. A client
// that stays for long repeats it every minute or so.
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

// Ensure gives the endpoints of the stack of a data folder, starting a detached
// dev process if there is none. A dev process of another build of trimtab is
// replaced unless a run is open.
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
	unlock, err := lock(ctx, filepath.Join(dir, "start.lock")) // one client starts, the others wait
	if err != nil {
		return Endpoints{}, err
	}
	defer unlock()
	return o.ensure(ctx, build)
}

func (o EnsureOptions) ensure(ctx context.Context, build string) (Endpoints, error) {
	log := followLog(filepath.Join(o.Dir, "dev.log"), o.Log)
	heard, told := time.Now(), false
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
			// of one that was killed, or of the folder that this is a copy of
			err := remove(filepath.Join(o.Dir, "dev.json"))
			unlock()
			if err != nil {
				return Endpoints{}, err
			}
			return o.launch(ctx, build, log)
		}
		if log.copy() { // one starts or ends at this moment
			heard = time.Now()
		}
		silent := time.Since(heard)
		if silent > noticeAfter && !told {
			logf(o.Log, "waiting for another dev process of %s, which starts or ends", o.Dir)
			told = true
		}
		if silent > silenceLimit {
			return Endpoints{}, trimtab.NewError(trimtab.Unavailable, "dev_silent",
				"try again, or end it with trimtab dev stop",
				"wait for the dev process that holds %s: it goes on, and has said nothing for %v", o.Dir, silenceLimit)
		}
		select {
		case <-ctx.Done():
			return Endpoints{}, fmt.Errorf("wait for the dev process of %s: %w", o.Dir, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// noticeAfter is when a client says for what it waits, and silenceLimit is how
// long a dev process that is not ready may say nothing. A build of Temporal says
// how far it is much more often; recovery after a crash may take so long.
const (
	noticeAfter  = 3 * time.Second
	silenceLimit = 3 * time.Minute
)

// shouldReplace decides whether the dev process of another build has to go.
func (o EnsureOptions) shouldReplace(ctx context.Context, info Info) bool {
	if o.OpenRuns != nil {
		if n, err := o.OpenRuns(ctx, info.Endpoints); err == nil && n == 0 {
			logf(o.Log, "the stack was started by another build of trimtab and no run is open: it is started anew")
			return true
		}
	}
	logf(o.Log,
		"note: the stack was started by another build of trimtab (%s); it is used as it is. trimtab dev stop ends it",
		info.BuildID)
	if info.Endpoints.TemporalTLS == (TLS{}) {
		logf(o.Log,
			"note: that build's Temporal server asks nobody who he is: any user of this machine can steer its runs")
	}
	return false
}

// launch starts a dev process that outlives this one and waits until it is ready.
func (o EnsureOptions) launch(ctx context.Context, build string, log *logFollower) (Endpoints, error) {
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
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
			return Endpoints{}, trimtab.NewError(trimtab.Unavailable, "dev_start", "see "+
				filepath.Join(o.Dir, "dev.log")+", or run trimtab doctor",
				"start the dev process: it ended (%v)\n%s\n", p.err, tail(out.Name(), from))
		case <-ctx.Done():
			return Endpoints{}, fmt.Errorf("wait for the dev process of %s, which goes on: %w", o.Dir, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// fetchPostgres fetches the programs of Postgres, should there be none, while
// the person who waits can see it and the error can reach him whole. A data
// folder whose server may be running is left to the dev process.
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

// environment names the trimtab-temporal beside this program, since the copy
// that runs as dev has nothing beside it.
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

// copyProgram copies the executable to bin/BUILD/trimtab and removes the copies
// of other builds: go run deletes its program when it ends, and a rebuilt one
// must not change under a process that starts workers from it.
func (o EnsureOptions) copyProgram(build string) (string, error) {
	bin := filepath.Join(o.Dir, "bin")
	target := filepath.Join(bin, build, "trimtab")
	removeOldCopies(bin, build)
	switch is, err := buildID(target); {
	case err == nil && is == build:
		return target, checkFolderTrust(target)
	case err == nil:
		return "", trimtab.NewError(trimtab.Unavailable, "program_copy", "look who changed it, then remove it",
			"run %s: it is not the program that was copied there", target)
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
	// A process that is started meanwhile would hold the file open for writing
	// for an instant, and a program that is being written cannot be run.
	syscall.ForkLock.RLock()
	err = plainfile.WriteNewFrom(target, 0o755, func(w io.Writer) error { _, err := io.Copy(w, src); return err })
	syscall.ForkLock.RUnlock()
	if errors.Is(err, fs.ErrExist) { // another client was faster
		err = nil
	}
	return target, err
}

var buildName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// removeOldCopies removes the copies of other builds that copyProgram made. One is
// known by its place and its bytes: bin/BUILD/trimtab, a plain file of that
// build. What is anything else stays, and so does a folder that holds more.
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
		if is, err := buildID(copied); err == nil && is == e.Name() && os.Remove(copied) == nil {
			_ = syscall.Rmdir(dir) // it stays if there is more in it
		}
	}
}

// Stop asks the dev process of a data folder to end and waits until it has. If
// there is none, the servers that a killed one left are ended. The data stays.
func Stop(ctx context.Context, dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	if is, err := inspectFolder(dir); err != nil || is.marker.ID == "" && !is.legacy {
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

// stopDev ends the dev process and takes its lock; nil if another process has
// started since and holds it.
func stopDev(ctx context.Context, dir string) (unlock func(), err error) {
	path := filepath.Join(dir, "dev.lock")
	var asked *process
	for end := time.Now().Add(10 * time.Second); ; {
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
		case p != nil && p.pid != asked.pid: // another has started since
			return nil, nil
		case time.Now().After(end):
			return nil, trimtab.NewError(trimtab.Unavailable, "dev_unknown",
				"end the process that holds the file (fuser "+path+" finds it), and try again",
				"end the dev process of %s: one holds dev.lock, and dev.pid does not say which", dir)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("wait for the dev process of %s to end: %w", dir, ctx.Err())
		}
	}
}

// lockHolder is the dev process of a folder, ready or not; nil if it is not known.
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

func endDev(ctx context.Context, p *process) error {
	if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ask dev process %d to end: %w", p.pid, err)
	}
	select {
	case <-p.ended():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for dev process %d to end: %w", p.pid, ctx.Err())
	}
}

// stopStrays ends what a killed dev process left running.
func stopStrays(ctx context.Context, dir string) error {
	d := &dev{dir: dir}
	var worker workerState
	var temporal temporalState
	err := errors.Join(readJSON(d.path("worker.json"), &worker), readJSON(d.path("temporal/temporal.json"), &temporal))
	if p := worker.find(d.dir, processTag(d.dir, "worker")); p != nil {
		err = errors.Join(err, stopWorker(p), remove(d.path("worker.json")))
	}
	err = errors.Join(err, d.stopStrayWorkers())
	mark := processTag(d.path("temporal"), "temporal")
	if p := temporal.find(d.path("temporal"), mark); p != nil {
		err = errors.Join(err, stopTemporal(p))
	}
	for _, p := range findTagged(mark) {
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

// logFollower copies what a log gains to people, whole lines at a time.
type logFollower struct {
	path string
	at   int64
	to   io.Writer
}

func followLog(path string, to io.Writer) *logFollower {
	f := &logFollower{path: path, to: to}
	if st, err := os.Stat(path); err == nil && st.Size() <= logLimit {
		f.at = st.Size()
	}
	return f
}

// copy is true if the log has gained something.
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
