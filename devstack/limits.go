package devstack

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/trimtab/trimtab"
)

// limitRequirement is what the embedded stack wants of one limit of its processes (ulimit).
type limitRequirement struct {
	resource int
	name     string
	option   string // of ulimit
	unit     uint64 // in which ulimit counts
	minimum  uint64
}

// limitRequirements were measured with a default run: the server of Temporal has 83 files
// open and 2.1 GB of addresses, a worker 3.2 GB. Postgres refuses to start with
// fewer than 58 files or 612 KB of stack, and writes files of 16 MB.
var limitRequirements = []limitRequirement{
	{unix.RLIMIT_NOFILE, "open files", "-n", 1, 256},
	{unix.RLIMIT_FSIZE, "the size of a file", "-f", 1 << 10, 1 << 30},
	{unix.RLIMIT_STACK, "the stack", "-s", 1 << 10, 1 << 20},
	{unix.RLIMIT_AS, "addresses", "-v", 1 << 10, 4 << 30},
	{unix.RLIMIT_DATA, "data", "-d", 1 << 10, 2 << 30},
	{unix.RLIMIT_CPU, "processor time", "-t", 1, 3600},
}

// How many processes, threads among them, the embedded stack may have beside
// the one that asks, and a worker alone.
const (
	stackProcesses  = 200
	workerProcesses = 50
)

// CheckWorkerLimits refuses limits of this process (ulimit) under which a worker
// would end in the midst of things or stand still.
func CheckWorkerLimits() error {
	return limitsError(lowLimits(workerProcesses, uint32(os.Geteuid())))
}

// checkStackLimits does so for the servers, which inherit the limits. Those of
// root do not bind his processes, but they do Postgres, which runs as another user.
func checkStackLimits() error {
	uid := uint32(os.Geteuid())
	if cred, err := credential(); err == nil && cred != nil {
		uid = cred.Uid
	}
	return limitsError(lowLimits(stackProcesses, uid))
}

func limitsError(low []string) error {
	if len(low) == 0 {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "low_limits",
		"raise them in the shell before the command, as in the brackets; what the shell refuses, the administrator "+
			"of this machine raises, or the settings of the container",
		"start servers: limits of this session are too low for them: %s", strings.Join(low, "; "))
}

// lowLimits names the limits that are too low for so many more processes of a user.
func lowLimits(processes uint64, uid uint32) (low []string) {
	for _, n := range limitRequirements {
		var is unix.Rlimit
		if err := unix.Getrlimit(n.resource, &is); err == nil && uint64(is.Cur) < n.minimum {
			low = append(low, fmt.Sprintf("%s %d, needed %d (ulimit %s %d)", n.name, uint64(is.Cur)/n.unit,
				n.minimum/n.unit, n.option, n.minimum/n.unit))
		}
	}
	var is unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &is); err == nil && uid != 0 && uint64(is.Cur) < 1<<20 {
		if used := countThreads(uid); uint64(is.Cur) < used+processes {
			low = append(low, fmt.Sprintf("processes %d, of which this user has %d, needed %d more (ulimit -u %d)",
				is.Cur, used, processes, used+processes))
		}
	}
	if most, used, ok := cgroupPids(); ok && most < used+processes {
		low = append(low,
			fmt.Sprintf("processes of the control group %d, of which %d are there, needed %d more (docker run "+
				"--pids-limit %d)", most, used, processes, used+processes))
	}
	return low
}

// countThreads counts what the kernel counts for a user: processes and their threads (Linux).
func countThreads(uid uint32) (n uint64) {
	tasks, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range tasks {
		st, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Uid != uid {
			continue
		}
		threads, _ := os.ReadDir(filepath.Join(dir, "task"))
		n += uint64(len(threads))
	}
	return n
}

// cgroupPids reads how many processes the control group of this process may
// have, and has; false where there is no such limit.
func cgroupPids() (most, used uint64, ok bool) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	_, path, v2 := strings.Cut(string(raw), "0::")
	if err != nil || !v2 {
		return 0, 0, false
	}
	path, _, _ = strings.Cut(path, "\n")
	for dir := filepath.Join("/sys/fs/cgroup", path); strings.HasPrefix(dir,
		"/sys/fs/cgroup"); dir = filepath.Dir(dir) {
		limit, err1 := readCount(filepath.Join(dir, "pids.max"))
		now, err2 := readCount(filepath.Join(dir, "pids.current"))
		if err1 == nil && err2 == nil && (!ok || limit-min(limit, now) < most-min(most, used)) {
			most, used, ok = limit, now, true
		}
	}
	return most, used, ok
}

// readCount reads a number from a file; max is none.
func readCount(path string) (uint64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
}

// maxOpenFiles is to how many open files the limit is raised for servers.
const maxOpenFiles = 1 << 16

// raiseOpenFileLimit lets the servers that are started have as many open files as this
// process may have. The Go runtime raises the limit for itself alone.
func raiseOpenFileLimit() {
	var is syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &is); err == nil {
		is.Cur = min(is.Max, maxOpenFiles)
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &is) // else they have what they had
	}
}
