// Command chaos checks that whatever process dies, and whenever, costs time and
// nothing else. It runs the program as users do, injects faults at random
// instants, and compares what each run produced with what the same spec
// produces undisturbed: the digests of all models, rankings and reports, and
// every metric of every step.
//
//	go run ./bench/chaos                          100 faults, about 25 minutes on two cores
//	go run ./bench/chaos -faults 12 -dice 7       fewer, at other instants
//	go run ./bench/chaos -only damaged,frozen     some kinds only
//	go run ./bench/chaos -size default -faults 6 -only "SIGKILL of the worker"
//	go test -v ./bench/chaos                      ten faults of ten kinds, about two minutes
//	go test -v -run FirstStart -timeout 1h ./bench/chaos -kills 100 -dice 7
//
// Everything uses this machine's loopback interface and a folder under the
// temporary folder that is removed at the end. Only `trimtab dev` is started
// again from outside, by the next command, as an operating system's service
// manager would do; everything else recovers by itself.
//
// The program under test is built with its failpoints, so that it can be killed
// between two particular instructions and made to see a full disk.
//
// The last test kills random processes while a stack is being set up.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	faults := flag.Int("faults", 100, "number of faults to inject")
	dice := flag.Uint64("dice", 1, "seed for the instants and the order of the faults")
	limit := flag.Duration("time", 45*time.Minute, "give up after this time")
	size := flag.String("size", "smallest",
		"size of the run: smallest, with stages of some seconds, llama, the same with a Llama's shape, or default")
	only := flag.String("only", "", "comma-separated words; only faults whose names contain one of them (default all)")
	flag.Parse()
	os.Exit(chaos(*faults, *dice, *limit, *only, *size))
}

// chaos runs the experiment and prints the tables. It returns the exit code: 0
// if every run recovered with the same bytes, 1 if not, 2 for wrong arguments.
func chaos(faults int, dice uint64, limit time.Duration, only, size string) int {
	kinds := selectFaults(only)
	if len(kinds) == 0 || flag.NArg() > 0 {
		var names []string
		for _, k := range allFaults {
			names = append(names, k.name)
		}
		fmt.Fprintf(os.Stderr, "no fault has a name with %q; the names are: %s\n", only, strings.Join(names, "; "))
		return 2
	}
	if specs[size] == nil {
		fmt.Fprintf(os.Stderr, "there is no size %q: use smallest, llama or default\n", size)
		return 2
	}
	sweep()
	defer removeBuild()
	c := &console{started: time.Now()}
	defer c.cleanup()
	// An interrupted program leaves no servers behind either.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		c.cleanup()
		removeBuild()
		os.Exit(130)
	}()
	var all results
	ok := c.try(func() { all = experiment(c, specs[size], kinds, faults, dice, limit) })
	all.print(os.Stdout, time.Since(c.started))
	if !ok || c.Failed() {
		return 1
	}
	return 0
}

// console is the reporter of the program; it prints to standard output.
type console struct {
	started time.Time
	failed  bool
	// Called by cleanup in reverse order.
	cleanups []func()
}

// abort is the value that Fatal panics with.
type abort struct{}

// try calls f. It returns false if f was ended by Fatal; other panics go
// through.
func (c *console) try(f func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, aborted := p.(abort); !aborted {
				panic(p)
			}
		}
	}()
	f()
	return true
}

// cleanup calls the functions that Cleanup registered, last first. One that
// calls Fatal does not keep the others from running.
func (c *console) cleanup() {
	for len(c.cleanups) > 0 {
		last := c.cleanups[len(c.cleanups)-1]
		c.cleanups = c.cleanups[:len(c.cleanups)-1]
		c.try(last)
	}
}

// Helper does nothing: console shows no source lines.
func (c *console) Helper() {}

// Failed reports whether Error, Errorf, Fatal or Fatalf was called.
func (c *console) Failed() bool { return c.failed }

// Cleanup registers a function for the end of the program.
func (c *console) Cleanup(f func()) { c.cleanups = append(c.cleanups, f) }

// Log prints a line with the seconds since the start.
func (c *console) Log(args ...any) {
	fmt.Printf("%6.1f s  %s\n", time.Since(c.started).Seconds(), strings.TrimSuffix(fmt.Sprintln(args...), "\n"))
}

// Logf is Log with a format.
func (c *console) Logf(format string, args ...any) { c.Log(fmt.Sprintf(format, args...)) }

// Error marks the experiment as failed, logs why, and continues.
func (c *console) Error(args ...any) {
	c.failed = true
	c.Log(append([]any{"FAILED:"}, args...)...)
}

// Errorf is Error with a format.
func (c *console) Errorf(format string, args ...any) { c.Error(fmt.Sprintf(format, args...)) }

// Fatal is Error, but ends the experiment: it panics with abort, which try recovers.
func (c *console) Fatal(args ...any) {
	c.Error(args...)
	panic(abort{})
}

// Fatalf is Fatal with a format.
func (c *console) Fatalf(format string, args ...any) { c.Fatal(fmt.Sprintf(format, args...)) }
