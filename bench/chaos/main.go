// Command chaos proves that whatever dies, and whenever, costs time and nothing
// else. It runs the program as its users do, lets faults happen to it at random
// instants, and compares what the run made with what the same spec makes
// undisturbed: the digests of all models, rankings and reports, and every metric
// of every step.
//
//	go run ./bench/chaos                          100 faults, about 25 minutes on two cores
//	go run ./bench/chaos -faults 12 -dice 7       fewer, at other instants
//	go run ./bench/chaos -only damaged,frozen     some kinds alone
//	go run ./bench/chaos -size default -faults 6 -only "SIGKILL of the worker"
//	go test -v ./bench/chaos                      ten faults of ten kinds, about two minutes
//	go test -v -run FirstStart -timeout 1h ./bench/chaos -kills 100 -dice 7
//
// Everything is on this machine's loopback, in a folder under the temporary
// folder that is removed at the end. Only `trimtab dev` is started again from
// outside, by the next command that somebody gives, as an operating system would
// start it; everything else comes back by itself.
//
// The program under test is built with its failpoints, so that it can be killed
// between two instructions that matter, and be told that the disk is full.
//
// The last test kills whatever is there while a stack is being made.
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
	faults := flag.Int("faults", 100, "how many faults")
	dice := flag.Uint64("dice", 1, "seed of the instants and of the order of the faults")
	limit := flag.Duration("time", 45*time.Minute, "give up after so long")
	size := flag.String("size", "smallest", "of the run: smallest, with stages of some seconds, or default")
	only := flag.String("only", "", "kinds of fault, by words of their names, divided by commas; all if empty")
	flag.Parse()
	os.Exit(chaos(*faults, *dice, *limit, *only, *size))
}

// chaos is the program; it returns the exit code.
func chaos(faults int, dice uint64, limit time.Duration, only, size string) int {
	kinds := selectFaults(only)
	if len(kinds) == 0 || flag.NArg() > 0 {
		var names []string
		for _, k := range allFaults {
			names = append(names, k.name)
		}
		fmt.Fprintf(os.Stderr, "no fault is called %q; there are: %s\n", only, strings.Join(names, "; "))
		return 2
	}
	if specs[size] == nil {
		fmt.Fprintf(os.Stderr, "there is no size %q\n", size)
		return 2
	}
	sweep()
	defer removeBuild()
	c := &console{started: time.Now()}
	defer c.cleanup()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		c.cleanup()
		removeBuild()
		os.Exit(130)
	}()
	var t results
	ok := c.try(func() { t = experiment(c, specs[size], kinds, faults, dice, limit) })
	t.print(os.Stdout, time.Since(c.started))
	if !ok || c.Failed() {
		return 1
	}
	return 0
}

// console is the reporter of the program.
type console struct {
	started  time.Time
	failed   bool
	cleanups []func()
}

// abort is what ends an experiment.
type abort struct{}

// try runs an experiment; false if it was ended by Fatal.
func (c *console) try(f func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, is := p.(abort); !is {
				panic(p)
			}
		}
	}()
	f()
	return true
}

// cleanup does what Cleanup was given, last first.
func (c *console) cleanup() {
	for len(c.cleanups) > 0 {
		last := c.cleanups[len(c.cleanups)-1]
		c.cleanups = c.cleanups[:len(c.cleanups)-1]
		c.try(last)
	}
}

// Helper and what follows is what a reporter has; see testing.T.
func (c *console) Helper()          {}
func (c *console) Failed() bool     { return c.failed }
func (c *console) Cleanup(f func()) { c.cleanups = append(c.cleanups, f) }

func (c *console) Log(args ...any) {
	fmt.Printf("%6.1f s  %s\n", time.Since(c.started).Seconds(), strings.TrimSuffix(fmt.Sprintln(args...), "\n"))
}

func (c *console) Logf(format string, args ...any) { c.Log(fmt.Sprintf(format, args...)) }

func (c *console) Error(args ...any) {
	c.failed = true
	c.Log(append([]any{"FAILED:"}, args...)...)
}

func (c *console) Errorf(format string, args ...any) { c.Error(fmt.Sprintf(format, args...)) }

func (c *console) Fatal(args ...any) {
	c.Error(args...)
	panic(abort{})
}

func (c *console) Fatalf(format string, args ...any) { c.Fatal(fmt.Sprintf(format, args...)) }
