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

// limitRequirement is what the embedded stack needs of one resource limit
// (ulimit) of its processes.
type limitRequirement struct {
	// resource is the number of the limit, for getrlimit.
	resource int
	name     string
	// option is that of the shell's ulimit.
	option string
	// unit is the unit in which the shell's ulimit counts.
	unit uint64
	// minimum is the smallest sufficient value, in the kernel's unit.
	minimum uint64
}

// limitRequirements rest on measurements of a default run: the Temporal server
// has 83 files open and 2.1 GB of address space, a worker 3.2 GB. Postgres
// refuses to start with fewer than 58 files or 612 KB of stack, and writes files
// of 16 MB.
var limitRequirements = []limitRequirement{
	{unix.RLIMIT_NOFILE, "open files", "-n", 1, 256},
	{unix.RLIMIT_FSIZE, "file size", "-f", 1 << 10, 1 << 30},
	{unix.RLIMIT_STACK, "stack size", "-s", 1 << 10, 1 << 20},
	{unix.RLIMIT_AS, "address space", "-v", 1 << 10, 4 << 30},
	{unix.RLIMIT_DATA, "data segment", "-d", 1 << 10, 2 << 30},
	{unix.RLIMIT_CPU, "CPU time", "-t", 1, 3600},
}

const (
	// stackProcesses is how many processes, threads included, the embedded stack may need besides this one.
	stackProcesses = 200
	// workerProcesses is how many a worker alone may need.
	workerProcesses = 50
)

// CheckWorkerLimits returns an error, low_limits, if this process's resource
// limits (ulimit) are so low that a worker would crash or hang in the middle of
// its work.
func CheckWorkerLimits() error {
	return limitsError(lowLimits(workerProcesses, uint32(os.Geteuid())))
}

// checkStackLimits is CheckWorkerLimits for the servers, which inherit the
// limits. Limits on the number of processes do not bind root, but they bind
// Postgres, which then runs as another user.
func checkStackLimits() error {
	uid := uint32(os.Geteuid())
	if cred, err := credential(); err == nil && cred != nil {
		uid = cred.Uid
	}
	return limitsError(lowLimits(stackProcesses, uid))
}

// limitsError is the error for limits that are too low; nil if there are none.
func limitsError(low []string) error {
	if len(low) == 0 {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "low_limits",
		"raise them in the shell before the command, as shown in parentheses; if the shell refuses, raise the hard "+
			"limits of this user or container",
		"start servers: this session's resource limits are too low: %s", strings.Join(low, "; "))
}

// lowLimits describes the limits that are too low for that many more processes of
// a user.
func lowLimits(processes uint64, uid uint32) (low []string) {
	for _, n := range limitRequirements {
		var limit unix.Rlimit
		if err := unix.Getrlimit(n.resource, &limit); err == nil && uint64(limit.Cur) < n.minimum {
			low = append(low, fmt.Sprintf("%s %d, at least %d needed (ulimit %s %d)", n.name, uint64(limit.Cur)/n.unit,
				n.minimum/n.unit, n.option, n.minimum/n.unit))
		}
	}
	var limit unix.Rlimit
	// Root is not bound, and a limit of a million or more is as good as none.
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err == nil && uid != 0 && uint64(limit.Cur) < 1<<20 {
		if used := countThreads(uid); uint64(limit.Cur) < used+processes {
			low = append(low, fmt.Sprintf("processes %d, of which this user has %d, %d more needed (ulimit -u %d)",
				limit.Cur, used, processes, used+processes))
		}
	}
	if most, used, ok := cgroupPids(); ok && most < used+processes {
		low = append(low, fmt.Sprintf(
			"processes of the control group %d, of which %d exist, %d more needed (docker run --pids-limit %d)",
			most, used, processes, used+processes))
	}
	return low
}

// countThreads counts what the kernel counts against a user's limit: processes
// and their threads (Linux).
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

// cgroupPids returns the limit on the number of processes of this process's
// control group, or of the ancestor with the least room, and how many there are;
// false where no such limit exists. Only control groups version 2 are read.
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

// readCount reads a file that holds one number. A control group without a limit
// has the word max there, which is an error.
func readCount(path string) (uint64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
}

// maxOpenFiles is the most that raiseOpenFileLimit asks for.
const maxOpenFiles = 1 << 16

// raiseOpenFileLimit raises the soft limit on open files, which child processes
// inherit, as far as the hard limit and maxOpenFiles allow. The Go runtime raises
// it too, but restores the old one for children.
func raiseOpenFileLimit() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		limit.Cur = min(limit.Max, maxOpenFiles)
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // if it fails, the limit stays as it was
	}
}
