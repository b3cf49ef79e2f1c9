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
	Dir        string                                              // the data folder
	Executable string                                              // empty: the program that runs
	Args       []string                                            // nil: dev --data-folder DIR
	OpenRuns   func(ctx context.Context, e Endpoints) (int, error) // decides whether a dev process of another build is replaced; nil: never
	Log        io.Writer                                           // lines for people
}

// Running reads who serves a data folder; false if no dev process is ready there.
func Running(dir string) (Info, bool) {
	var info Info
	err := readJSON(filepath.Join(dir, "dev.json"), &info)
	return info, err == nil && adopt(info.Pid, info.Birth) != nil
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
	if err := takeFolder(dir); err != nil {
		return Endpoints{}, err
	}
	if err := Touch(dir); err != nil {
		return Endpoints{}, folderError(dir, err)
	}
	build, err := knownBuildID(dir, o.Executable)
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
	log := follow(filepath.Join(o.Dir, "dev.log"), o.Log)
	for {
		if info, ok := Running(o.Dir); ok {
			if info.BuildID == build || !o.replace(ctx, info) {
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
			unlock()
			return o.launch(ctx, build, log)
		}
		log.copy() // one starts or ends at this moment
		select {
		case <-ctx.Done():
			return Endpoints{}, fmt.Errorf("wait for the dev process of %s: %w", o.Dir, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// replace decides whether the dev process of another build has to go.
func (o EnsureOptions) replace(ctx context.Context, info Info) bool {
	if o.OpenRuns != nil {
		if n, err := o.OpenRuns(ctx, info.Endpoints); err == nil && n == 0 {
			say(o.Log, "the stack was started by another build of trimtab and no run is open: it is started anew")
			return true
		}
	}
	say(o.Log, "note: the stack was started by another build of trimtab (%s); it is used as it is. trimtab dev stop ends it", info.BuildID)
	if info.Endpoints.TemporalTLS == (TLS{}) {
		say(o.Log, "note: that build's Temporal server asks nobody who he is: any user of this machine can steer its runs")
	}
	return false
}

// launch starts a dev process that outlives this one and waits until it is ready.
func (o EnsureOptions) launch(ctx context.Context, build string, log *follower) (Endpoints, error) {
	program, err := o.keepProgram(build)
	if err != nil {
		return Endpoints{}, fmt.Errorf("copy the program into the data folder: %w", err)
	}
	out, err := openLog(filepath.Join(o.Dir, "dev.log"))
	if err != nil {
		return Endpoints{}, err
	}
	defer out.Close()
	from := size(out)
	args := o.Args
	if args == nil {
		args = []string{"dev", "--data-folder", o.Dir}
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = o.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p, err := start(cmd, false)
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
			return Endpoints{}, trimtab.NewError(trimtab.Unavailable, "dev_start", "see "+filepath.Join(o.Dir, "dev.log")+", or run trimtab doctor",
				"start the dev process: it ended (%v)\n%s\n", p.err, tail(out.Name(), from))
		case <-ctx.Done():
			return Endpoints{}, fmt.Errorf("wait for the dev process of %s, which goes on: %w", o.Dir, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// environment names the trimtab-temporal beside this program, since the copy
// that runs as dev has nothing beside it.
func (o EnsureOptions) environment() []string {
	self := o.Executable
	if self == "" {
		self, _ = os.Executable()
	}
	beside := filepath.Join(filepath.Dir(self), temporalProgram)
	if os.Getenv("TRIMTAB_TEMPORAL_PROGRAM") != "" || runnable(beside) != nil || checkProgram(beside) != nil {
		return os.Environ()
	}
	return append(os.Environ(), "TRIMTAB_TEMPORAL_PROGRAM="+beside)
}

// keepProgram copies the executable to bin/BUILD/trimtab and removes the copies
// of other builds: go run deletes its program when it ends, and a rebuilt one
// must not change under a process that starts workers from it.
func (o EnsureOptions) keepProgram(build string) (string, error) {
	bin := filepath.Join(o.Dir, "bin")
	target := filepath.Join(bin, build, "trimtab")
	removeCopies(bin, build)
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
		if err := subfolder(dir); err != nil {
			return "", err
		}
	}
	src, err := openProgram(o.Executable)
	if err != nil {
		return "", err
	}
	defer src.Close()
	err = plainfile.NewFrom(target, 0o755, func(w io.Writer) error { _, err := io.Copy(w, src); return err })
	if errors.Is(err, fs.ErrExist) { // another client was faster
		err = nil
	}
	return target, err
}

var buildName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// removeCopies removes the copies of other builds that keepProgram made. One is
// known by its place and its bytes: bin/BUILD/trimtab, a plain file of that
// build. What is anything else stays, and so does a folder that holds more.
func removeCopies(bin, build string) {
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
	if is, err := lookFolder(dir); err != nil || is.marker.ID == "" && !is.old {
		return err // nothing was ever started here
	}
	var info Info
	if err := readJSON(filepath.Join(dir, "dev.pid"), &info); err != nil {
		return err
	}
	if p := adopt(info.Pid, info.Birth); p != nil {
		if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ask dev process %d to end: %w", p.pid, err)
		}
		select {
		case <-p.ended():
		case <-ctx.Done():
			return fmt.Errorf("wait for dev process %d to end: %w", p.pid, ctx.Err())
		}
	}
	unlock, err := lockWithin(ctx, filepath.Join(dir, "dev.lock"), 5*time.Second)
	if err != nil || unlock == nil { // another has started since
		return err
	}
	defer unlock()
	return stopStrays(ctx, dir)
}

// stopStrays ends what a killed dev process left running.
func stopStrays(ctx context.Context, dir string) error {
	d := &dev{dir: dir}
	var worker workerState
	var temporal temporalState
	err := errors.Join(readJSON(d.path("worker.json"), &worker), readJSON(d.path("temporal/temporal.json"), &temporal))
	if p := adopt(worker.Pid, worker.Birth); p != nil {
		err = errors.Join(err, stopWorker(p), os.Remove(d.path("worker.json")))
	}
	err = errors.Join(err, d.stopStrayWorkers())
	if p := adopt(temporal.Pid, temporal.Birth); p != nil {
		err = errors.Join(err, stopTemporal(p))
	}
	for _, p := range strays(marker(d.path("temporal"), "temporal")) {
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

// follower copies what a log gains to people, whole lines at a time.
type follower struct {
	path string
	at   int64
	to   io.Writer
}

func follow(path string, to io.Writer) *follower {
	f := &follower{path: path, to: to}
	if st, err := os.Stat(path); err == nil && st.Size() <= logLimit {
		f.at = st.Size()
	}
	return f
}

func (f *follower) copy() {
	file, err := plainfile.Open(f.path)
	if err != nil || f.to == nil {
		return
	}
	defer file.Close()
	b, err := io.ReadAll(io.NewSectionReader(file, f.at, 1<<20))
	if i := bytes.LastIndexByte(b, '\n'); err == nil && i >= 0 {
		_, _ = f.to.Write(b[:i+1])
		f.at += int64(i + 1)
	}
}
