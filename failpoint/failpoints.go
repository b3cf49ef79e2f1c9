//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// EnvVar names the folder of orders.
const EnvVar = "TRIMTAB_FAILPOINTS"

var (
	mu   sync.Mutex
	hits = map[string]int{} // since the order of that point was given
	last = map[string]string{}
)

// At follows the order for a point, if there is one.
func At(point string) error {
	dir := os.Getenv(EnvVar)
	if dir == "" {
		return nil
	}
	file := filepath.Join(dir, point)
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var at int
	var what string
	if _, err := fmt.Sscan(string(raw), &at, &what); err != nil {
		return fmt.Errorf("failpoint %s: %q is no order: %w", point, raw, err)
	}
	if hit(point, string(raw)) < at {
		return nil
	}
	if what == "full" {
		return &os.PathError{Op: "write", Path: point, Err: syscall.ENOSPC}
	}
	if os.Remove(file) != nil { // another thread or process was faster
		return nil
	}
	signal := map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP}[what]
	if signal == 0 {
		return fmt.Errorf("failpoint %s: nobody knows how to %q", point, what)
	}
	if err := syscall.Kill(os.Getpid(), signal); err != nil {
		return err
	}
	if signal == syscall.SIGKILL {
		select {} // the signal is on its way
	}
	return nil
}

// hit counts how often a point was passed under an order.
func hit(point, order string) int {
	mu.Lock()
	defer mu.Unlock()
	if last[point] != order {
		last[point], hits[point] = order, 0
	}
	hits[point]++
	return hits[point]
}
