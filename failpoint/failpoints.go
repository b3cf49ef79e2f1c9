//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// EnvVar is the environment variable that names the folder of orders.
const EnvVar = "TRIMTAB_FAILPOINTS"

var (
	mu   sync.Mutex
	hits = map[string]int{}    // passes by point, since its order was first seen
	last = map[string]string{} // the order that was seen last, by point
)

// At carries out the order for a point, if there is one. It returns an error for
// the order "full", and for one that it does not understand.
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
	var n int
	var action string
	if _, err := fmt.Sscan(string(raw), &n, &action); err != nil {
		return fmt.Errorf("failpoint %s: %q is not an order: %w", point, raw, err)
	}
	if hit(point, string(raw)) < n {
		return nil
	}
	if action == "full" {
		return &os.PathError{Op: "write", Path: point, Err: syscall.ENOSPC}
	}
	if os.Remove(file) != nil { // another goroutine or process took the order
		return nil
	}
	signal := map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP}[action]
	if signal == 0 {
		return fmt.Errorf("failpoint %s: %q is not an action: want kill, stop or full", point, action)
	}
	if err := syscall.Kill(os.Getpid(), signal); err != nil {
		return err
	}
	if signal == syscall.SIGKILL {
		select {} // the signal arrives at any moment; nothing may happen before
	}
	return nil
}

// hit counts a pass of a point and returns the number of passes under its order.
func hit(point, order string) int {
	mu.Lock()
	defer mu.Unlock()
	if last[point] != order {
		last[point], hits[point] = order, 0
	}
	hits[point]++
	return hits[point]
}
