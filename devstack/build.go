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
	buildingTemporal = "building the embedded Temporal server, once"
	reportInterval   = 10 * time.Second // between two lines about progress
	linkShare        = 0.06             // of the time of a build is the linker's
)

// goBuild is one build of trimtab-temporal from its sources, with its progress.
type goBuild struct {
	source string // folder of its module
	log    io.Writer

	mu              sync.Mutex // guards what follows
	downloaded      int        // modules
	sizes           map[string]int64
	totalBytes      int64 // bytes of source in all packages that have to be compiled
	startedBytes    int64 // bytes of source in those whose compilation has begun
	startedPackages int   // how many have begun
	compileStart    time.Time
	tail            []string // of what go said
}

// buildTemporal builds the program once, whoever asks: under a file lock, and
// renamed into place whole. Every ten seconds it says how far it is.
func buildTemporal(ctx context.Context, source, target string, log io.Writer) error {
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := checkTrust(dir, selfOnly); err != nil {
		return trimtab.NewError(trimtab.Unavailable, "unsafe_folder",
			"take that right away (chmod go-w), or set XDG_CACHE_HOME to a folder of your own",
			"keep the embedded Temporal server in %s: %w", dir, err)
	}
	b := &goBuild{source: source, log: log}
	logf(log, "%s: %s", buildingTemporal, "some minutes, most of them the compiler's")
	stop := b.reportProgress(ctx)
	defer stop()
	unlock, err := lock(ctx, filepath.Join(dir, "build.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if checkCached(target) == nil { // who held the lock has built it
		return nil
	}
	draft := fmt.Sprintf("%s.%d", target, os.Getpid())
	defer os.Remove(draft)
	if err := b.run(ctx, draft); err != nil {
		return trimtab.NewError(trimtab.Unavailable, "temporal_build",
			"see that Go can reach its module proxy and that there are 2 GB of disk; or docker compose up, or give "+
				"the address of a server (--temporal-address)",
			"build the embedded Temporal server in %s: %w\n%s\n", source, err, strings.Join(b.tail, "\n"))
	}
	sum, err := fileDigest(draft)
	if err != nil {
		return err
	}
	if err := writeFile(target+".sha256", []byte(sum+"\n")); err != nil { // first: a program without it is built again
		return err
	}
	return os.Rename(draft, target)
}

// run lists what has to be compiled, and compiles and links it to the file draft.
func (b *goBuild) run(ctx context.Context, draft string) error {
	if err := b.listStale(ctx); err != nil {
		return err
	}
	return b.runGo(ctx, b.noteCompiling, "build", "-v", "-buildvcs=false", "-ldflags", "-s -w", "-o", draft, ".")
}

// listStale fills in the packages that have to be compiled and their sizes. It
// downloads the modules that are not in Go's cache yet.
func (b *goBuild) listStale(ctx context.Context) error {
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

// noteCompiling notes that the compilation of a package has begun; false if the
// line is the name of none.
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

// runGo runs go in the module's folder and gives each line of its output to
// take; those that it does not take are kept for an error. Flags and environment
// leave packages as go run compiles them, so that what has been compiled for
// trimtab itself is not compiled again.
func (b *goBuild) runGo(ctx context.Context, take func(line string) bool, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=", "GOARCH=", "PWD="+b.source)
	cmd.Env = append(cmd.Env, compilerMemory(freeMemory(), runtime.NumCPU())...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it ends its compilers
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
		_, _ = io.Copy(io.Discard, r) // a line that was too long ended the scanner
	}()
	err := cmd.Run()
	w.Close()
	<-read
	return err
}

// noteDownload notes that Go downloads a module, if the line says so.
func (b *goBuild) noteDownload(line string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	is := strings.HasPrefix(line, "go: downloading ")
	if is {
		b.downloaded++
	}
	return is
}

// supervise keeps the last lines that Go said.
func (b *goBuild) keepTail(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tail = append(b.tail, line); len(b.tail) > 20 {
		b.tail = b.tail[1:]
	}
}

// reportProgress says every ten seconds how far the build is, until it is stopped.
func (b *goBuild) reportProgress(ctx context.Context) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	go func() {
		tick := time.NewTicker(reportInterval)
		defer tick.Stop()
		for begin := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				logf(b.log, "%s: %s", buildingTemporal, b.progress(begin, now))
			}
		}
	}()
	return stop
}

// progress says what is being done at a moment, and how long it may still take.
func (b *goBuild) progress(begin, now time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	took := minutes(now.Sub(begin))
	switch {
	case b.totalBytes == 0 && b.downloaded > 0:
		return fmt.Sprintf("modules downloaded: %d (%s)", b.downloaded, took)
	case b.totalBytes == 0:
		return fmt.Sprintf("another process builds it, or Go looks for what there is to do (%s)", took)
	case b.startedPackages >= len(b.sizes):
		return fmt.Sprintf("all %d packages compiled, linking (%s)", len(b.sizes), took)
	}
	share := (1 - linkShare) * float64(b.startedBytes) / float64(b.totalBytes)
	doing := fmt.Sprintf("%d of %d packages, %.0f %% (%s", b.startedPackages, len(b.sizes), 100*share, took)
	if share < 0.03 { // too little to judge by
		return doing + ")"
	}
	left := time.Duration(float64(now.Sub(b.compileStart)) * (1 - share) / share)
	return doing + ", about " + minutes(left) + " left)"
}

// minutes writes a duration as minutes and seconds: 2:05.
func minutes(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// compilerMemory is the environment under which Go's compilers collect no
// garbage before they need their share of the memory that is free: a third less
// work (docs/log.md has the figures). It is empty where too little is free, or
// where that is not known.
func compilerMemory(free int64, compilers int) []string {
	const least = 1 << 30
	share := free / int64(2*max(compilers, 1))
	if share < least {
		return nil
	}
	return []string{"GOGC=off", "GOMEMLIMIT=" + strconv.FormatInt(share, 10)}
}

// freeMemory is how many bytes of memory may still be used, of the machine and
// of the control group that this process is in; 0 if that is not known.
func freeMemory() int64 {
	free := readMeminfo("/proc/meminfo", "MemAvailable:") << 10
	limit, err := readNumber("/sys/fs/cgroup/memory.max")
	if err != nil { // no limit, or no such group
		return free
	}
	used, err := readNumber("/sys/fs/cgroup/memory.current")
	if err != nil {
		return 0
	}
	return min(free, limit-used)
}

// readMeminfo reads the number behind a name in a file of lines such as "NAME 123 kB".
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

// readNumber reads a file that holds one number.
func readNumber(file string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
