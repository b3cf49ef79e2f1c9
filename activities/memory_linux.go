package activities

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// freeMemory returns how many bytes this process can still allocate: the least of
// what the machine has available, what the control group leaves, and what the
// process's own limit leaves.
func freeMemory() (free int64, known bool) {
	// Whichever of them are known: a container without limits still has a machine.
	for _, f := range []func() (int64, bool){machineAvailable, cgroupAvailable, rlimitAvailable} {
		if n, ok := f(); ok && (!known || n < free) {
			free, known = n, true
		}
	}
	return max(0, free), known
}

// Memory returns how many bytes this process can have at most, and how many of
// them are free. The total is the least of the machine's memory with its swap,
// the control group's limit, and the process's own limit.
func Memory() (total, free int64, known bool) {
	total, known = machineTotal()
	for _, f := range []func() (int64, bool){cgroupTotal, rlimitTotal} {
		if n, ok := f(); ok && (!known || n < total) {
			total, known = n, true
		}
	}
	free, ok := freeMemory()
	return total, free, known && ok
}

// machineTotal is the machine's memory and swap.
func machineTotal() (int64, bool) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	kb, ok := fieldValue(raw, "MemTotal:")
	swap, _ := fieldValue(raw, "SwapTotal:")
	return (kb + swap) << 10, ok
}

// cgroupTotal is the limit of the control group.
func cgroupTotal() (int64, bool) {
	dir, ok := cgroupDir()
	if !ok {
		return 0, false
	}
	return readInt(filepath.Join(dir, "memory.max"))
}

// rlimitTotal is RLIMIT_AS; values above 2^62 are "unlimited".
func rlimitTotal() (int64, bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit)
	return int64(min(limit.Cur, 1<<62)), err == nil && limit.Cur <= 1<<62
}

// cgroupDir is the folder of this process's control group (version 2). Version 1
// is not looked for.
func cgroupDir() (string, bool) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", false
	}
	// The line of version 2 is "0::/path".
	_, path, ok := bytes.Cut(bytes.TrimSpace(raw), []byte("0::"))
	return filepath.Join("/sys/fs/cgroup", string(path)), ok
}

// machineAvailable is MemAvailable: free memory and caches that can be dropped.
func machineAvailable() (int64, bool) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	kb, ok := fieldValue(raw, "MemAvailable:")
	return kb << 10, ok
}

// cgroupAvailable is what the control group's limit leaves. Inactive file pages
// count as free, because the kernel reclaims them first. It is unknown without a
// limit.
func cgroupAvailable() (int64, bool) {
	dir, ok := cgroupDir()
	if !ok {
		return 0, false
	}
	most, ok := readInt(filepath.Join(dir, "memory.max"))
	if !ok {
		return 0, false
	}
	used, ok := readInt(filepath.Join(dir, "memory.current"))
	if !ok {
		return 0, false
	}
	stat, _ := os.ReadFile(filepath.Join(dir, "memory.stat"))
	cached, _ := fieldValue(stat, "inactive_file")
	return most - used + cached, true // may be negative; freeMemory clamps it
}

// rlimitAvailable is what RLIMIT_AS leaves of the address space. The address space
// of a Go process is larger than its memory, so this is a low estimate.
func rlimitAvailable() (int64, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit); err != nil || limit.Cur > 1<<62 {
		return 0, false
	}
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	// The first number of statm is the size of the address space, in pages.
	pages, err := strconv.ParseInt(strings.Fields(string(raw) + " ?")[0], 10, 64)
	return int64(limit.Cur) - pages*int64(os.Getpagesize()), err == nil
}

// readInt reads a file that holds one number. "max" of a control group is none.
func readInt(file string) (int64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil
}

// fieldValue finds the line "key number …" and returns the number, in the unit of
// the file: kB in /proc/meminfo, bytes in memory.stat.
func fieldValue(raw []byte, key string) (int64, bool) {
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
