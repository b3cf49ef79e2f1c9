package devstack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trimtab/trimtab"
)

const (
	// buildingTemporal begins each progress line.
	buildingTemporal = "building the embedded Temporal server (needed once)"
	// reportInterval is the time between two progress lines.
	reportInterval = 10 * time.Second
	// linkShare is the share of a build's time that the linker takes, as measured; the compiler takes the rest.
	linkShare = 0.06
)

// goBuild is one build of trimtab-temporal from its sources. A goroutine reads
// what the go command prints while another reports progress, so the counters are
// guarded by mu.
//
// Progress is measured in bytes of source, since packages differ in size by four
// orders of magnitude. `go build -v` prints a package when its compilation
// begins, not when it ends.
type goBuild struct {
	// source is the folder of the server's module.
	source string
	// log receives the progress lines; it may be nil.
	log io.Writer

	// mu guards the fields below.
	mu sync.Mutex
	// downloaded counts the modules that Go has begun to download.
	downloaded int
	// sizes maps the import path of each package that has to be compiled to its
	// bytes of source.
	sizes map[string]int64
	// totalBytes is the sum of sizes.
	totalBytes int64
	// startedBytes is the part of totalBytes whose compilation has begun.
	startedBytes int64
	// startedPackages counts the packages whose compilation has begun.
	startedPackages int
	// compileStart is when the list of packages was complete: the time that is
	// left is estimated from here.
	compileStart time.Time
	// tail holds the last lines of output that were neither progress nor
	// packages, for an error message.
	tail []string
}

// buildTemporal builds the program from the module in source and installs it as
// target, with its SHA-256 beside it in target.sha256. A file lock lets one
// process build while others wait for the result; the program is renamed into
// place only when it is complete. A progress line is printed every
// reportInterval. Errors: unsafe_folder, temporal_build.
func buildTemporal(ctx context.Context, source, target string, log io.Writer) error {
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := checkTrust(dir, selfOnly); err != nil {
		return trimtab.NewError(trimtab.Unavailable, "unsafe_folder",
			"remove that write permission (chmod go-w), or set XDG_CACHE_HOME to a folder of your own",
			"install the embedded Temporal server in %s: %w", dir, err)
	}
	b := &goBuild{source: source, log: log}
	logf(log, "%s: this takes a few minutes, mostly compiling", buildingTemporal)
	stop := b.reportProgress(ctx)
	defer stop()
	unlock, err := lock(ctx, filepath.Join(dir, "build.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if checkCached(target) == nil { // another process built it while this one waited
		return nil
	}
	// The draft is in the target's folder, so that the rename below stays within one file system.
	draft := fmt.Sprintf("%s.%d", target, os.Getpid())
	defer os.Remove(draft)
	if err := b.run(ctx, draft); err != nil {
		return trimtab.NewError(trimtab.Unavailable, "temporal_build",
			"check that Go can reach its module proxy and that 2 GB of disk are free; or run docker compose up, or "+
				"give the address of a running server (--temporal-address)",
			"build the embedded Temporal server in %s: %w\n%s\n", source, err, strings.Join(b.tail, "\n"))
	}
	sum, err := fileDigest(draft)
	if err != nil {
		return err
	}
	// The digest is written first: a program without one is never run, but built again.
	if err := writeFile(target+".sha256", []byte(sum+"\n")); err != nil {
		return err
	}
	return os.Rename(draft, target)
}

// run lists what has to be compiled, then compiles and links it into the file
// draft.
func (b *goBuild) run(ctx context.Context, draft string) error {
	if err := b.listStale(ctx); err != nil {
		return err
	}
	return b.runGo(ctx, b.noteCompiling, "build", "-v", "-buildvcs=false", "-ldflags", "-s -w", "-o", draft, ".")
}

// listStale fills in sizes and totalBytes with the packages that Go's build cache
// does not hold yet. It downloads the modules that are missing from the module
// cache.
func (b *goBuild) listStale(ctx context.Context) error {
	// One line a package: import path, folder, source files.
	format := `{{if .Stale}}{{.ImportPath}}{{"\t"}}{{.Dir}}{{range .GoFiles}}{{"\t"}}{{.}}{{end}}{{end}}`
	sizes := map[string]int64{}
	err := b.runGo(ctx, func(line string) bool {
		fields := strings.Split(line, "\t")
		if len(fields) < 3 {
			return false
		}
		for _, file := range fields[2:] {
			if st, err := os.Stat(filepath.Join(fields[1], file)); err == nil {
				sizes[fields[0]] += st.Size()
			}
		}
		return true
	}, "list", "-deps", "-f", format, ".")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes, b.compileStart = sizes, time.Now()
	for _, n := range sizes {
		b.totalBytes += n
	}
	return err
}

// noteCompiling counts a package whose compilation has begun. It returns false if
// the line is not the import path of one.
func (b *goBuild) noteCompiling(line string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.sizes[line]
	if ok {
		b.startedPackages++
		b.startedBytes += n
	}
	return ok
}

// runGo runs the go command in the module's folder and passes each line of its
// output to take; lines that take refuses are kept for an error message. Flags
// and environment are those of a plain `go run`, so that packages already
// compiled for trimtab itself come from the build cache.
func (b *goBuild) runGo(ctx context.Context, take func(line string) bool, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=", "GOARCH=", "PWD="+b.source)
	cmd.Env = append(cmd.Env, compilerMemory(freeMemory(), runtime.NumCPU())...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // not SIGKILL: go then ends its compilers
	cmd.WaitDelay = 10 * time.Second
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if text := lines.Text(); !b.noteDownload(text) && !take(text) {
				b.keepTail(text)
			}
		}
		_, _ = io.Copy(io.Discard, r) // a line beyond the scanner's limit ends it; go must not block on the pipe
	}()
	err := cmd.Run()
	_ = w.Close() // of a pipe: the reader sees its end
	<-read
	return err
}

// noteDownload counts a module that Go begins to download, and returns false if
// the line does not announce one.
func (b *goBuild) noteDownload(line string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	announced := strings.HasPrefix(line, "go: downloading ")
	if announced {
		b.downloaded++
	}
	return announced
}

// keepTail keeps the last 20 lines that Go printed.
func (b *goBuild) keepTail(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tail = append(b.tail, line); len(b.tail) > 20 {
		b.tail = b.tail[1:]
	}
}

// reportProgress prints a progress line every reportInterval until stop is called
// or ctx ends.
func (b *goBuild) reportProgress(ctx context.Context) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	go func() {
		tick := time.NewTicker(reportInterval)
		defer tick.Stop()
		for started := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				logf(b.log, "%s: %s", buildingTemporal, b.progress(started, now))
			}
		}
	}()
	return stop
}

// progress describes what the build is doing at the moment now, and estimates the
// time left from the bytes of source compiled so far.
func (b *goBuild) progress(started, now time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	elapsed := minutes(now.Sub(started))
	switch {
	case b.totalBytes == 0 && b.downloaded > 0:
		return fmt.Sprintf("modules downloaded: %d (%s)", b.downloaded, elapsed)
	case b.totalBytes == 0:
		return fmt.Sprintf("another process is building it, or Go is listing the packages (%s)", elapsed)
	case b.startedPackages >= len(b.sizes):
		return fmt.Sprintf("all %d packages compiled, linking (%s)", len(b.sizes), elapsed)
	}
	share := (1 - linkShare) * float64(b.startedBytes) / float64(b.totalBytes)
	done := fmt.Sprintf("%d of %d packages, %.0f %% (%s", b.startedPackages, len(b.sizes), 100*share, elapsed)
	if share < 0.03 { // too little for an estimate
		return done + ")"
	}
	left := time.Duration(float64(now.Sub(b.compileStart)) * (1 - share) / share)
	return done + ", about " + minutes(left) + " left)"
}

// minutes formats a duration as minutes and seconds: 2:05.
func minutes(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// compilerMemory is the environment that lets Go's compilers put off garbage
// collection until they reach their share of the free memory, which saves a third
// of the work (docs/log.md has the figures). It is nil where the share would be
// below 1 GB or the free memory is unknown.
func compilerMemory(free int64, compilers int) []string {
	const least = 1 << 30
	share := free / int64(2*max(compilers, 1))
	if share < least {
		return nil
	}
	return []string{"GOGC=off", "GOMEMLIMIT=" + strconv.FormatInt(share, 10)}
}

// freeMemory is how many bytes of memory may still be allocated, under the limits
// of both the machine and this process's control group; 0 if that is unknown.
func freeMemory() int64 {
	free := readMeminfo("/proc/meminfo", "MemAvailable:") << 10
	limit, err := readCount("/sys/fs/cgroup/memory.max")
	if err != nil { // no limit, or no such group
		return free
	}
	used, err := readCount("/sys/fs/cgroup/memory.current")
	if err != nil {
		return 0
	}
	return min(free, int64(limit)-int64(used))
}

// readMeminfo returns the number that follows a name in a file of lines such as
// "NAME 123 kB"; 0 if it is not there.
func readMeminfo(file, name string) int64 {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}
