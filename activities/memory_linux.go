package activities

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// freeMemory is how many bytes this process may still take: of the machine, of
// its control group, and of its own limit.
func freeMemory() (free int64, known bool) {
	for _, f := range []func() (int64, bool){machineAvailable, cgroupAvailable, rlimitAvailable} {
		if n, ok := f(); ok && (!known || n < free) {
			free, known = n, true
		}
	}
	return max(0, free), known
}

// Memory is how many bytes this process may take at the most, and how many of
// them are free: of the machine with its swap, of its control group, and of its
// own limit.
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

func machineTotal() (int64, bool) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	kb, ok := fieldValue(raw, "MemTotal:")
	swap, _ := fieldValue(raw, "SwapTotal:")
	return (kb + swap) << 10, ok
}

func cgroupTotal() (int64, bool) {
	dir, ok := cgroupDir()
	if !ok {
		return 0, false
	}
	return readInt(filepath.Join(dir, "memory.max"))
}

func rlimitTotal() (int64, bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit)
	return int64(min(limit.Cur, 1<<62)), err == nil && limit.Cur <= 1<<62
}

// cgroupDir is where the control group of this process (version 2) says what it has.
func cgroupDir() (string, bool) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", false
	}
	_, path, ok := bytes.Cut(bytes.TrimSpace(raw), []byte("0::"))
	return filepath.Join("/sys/fs/cgroup", string(path)), ok
}

// machineAvailable is MemAvailable.
func machineAvailable() (int64, bool) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	kb, ok := fieldValue(raw, "MemAvailable:")
	return kb << 10, ok
}

// cgroupAvailable is what the control group (version 2) leaves; its file pages can be taken back.
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
	return most - used + cached, true
}

// rlimitAvailable is what RLIMIT_AS leaves of the address space.
func rlimitAvailable() (int64, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit); err != nil || limit.Cur > 1<<62 {
		return 0, false
	}
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	pages, err := strconv.ParseInt(strings.Fields(string(raw) + " ?")[0], 10, 64)
	return int64(limit.Cur) - pages*int64(os.Getpagesize()), err == nil
}

// readInt reads a file that holds one number.
func readInt(file string) (int64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil
}

// fieldValue finds "key number" at the beginning of a line.
func fieldValue(raw []byte, key string) (int64, bool) {
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
