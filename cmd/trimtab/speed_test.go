package main

import (
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// lookPatience is twice what a look may take: the least of several times is held against it, since other tests run at
// the same time, and they may run on a slower machine than the ones that are promised a tenth of a second.
const lookPatience = 200 * time.Millisecond

// With 10,000 runs and a million metrics in the database, looking at runs is quick: in the service, and as a whole
// command, from the start of its process to its end.
func TestLookingIsFast(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a database")
	}
	quiet(t)
	urls := storagetest.URLs(t)
	began := time.Now()
	storagetest.FillRuns(t, urls.Owner, 10_000, 1_000_000)
	t.Logf("filled in %.1f s", time.Since(began).Seconds())
	t.Setenv("TRIMTAB_POSTGRES_URL", urls.App)

	files, err := checkpoint.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := runs.New(slog.New(slog.DiscardHandler), storagetest.Open(t, urls.App), files, nil)
	ctx := t.Context()
	show := func(ref string) func() error {
		return func() error {
			d, err := s.Show(ctx, ref)
			if err == nil && (len(d.Stages) != 6 || len(d.Models) != 4 || d.Evaluation.Prompts != 64) {
				t.Errorf("show %s: %+v", ref, d)
			}
			return err
		}
	}
	whole := func(want string, args ...string) func() error {
		return func() error {
			out, err := process(args...).CombinedOutput()
			if !strings.Contains(string(out), want) {
				t.Errorf("trimtab %v has no %q: %s", args, want, out)
			}
			return err
		}
	}
	for _, look := range []struct {
		what string
		do   func() error
	}{
		{"list 50 runs", func() error {
			list, err := s.List(ctx, 50)
			if err == nil && (len(list) != 50 || list[0].ID != "run-10000" || list[0].Stage != "evaluate") {
				t.Errorf("listed %d runs: %+v", len(list), list)
			}
			return err
		}},
		{"show by id", show("run-04711")},
		{"show by the beginning of an id", show("run-1000")},
		{"show by name", show("name-4711")},
		{"show a run of 500,000 metrics", show(storagetest.LongRunID)},
		{"history", func() error { _, err := s.History(ctx, "run-04711", ""); return err }},
		{"trimtab runs", whole("run-10000", "runs")},
		{"trimtab show RUN", whole("completed after", "show", "name-4711")},
		{"trimtab show, of 500,000 metrics", whole("completed after", "show", storagetest.LongRunID)},
	} {
		times := timed(t, 15, look.do)
		t.Logf("%-34s median %6.1f ms, least %6.1f ms", look.what, times[7].Seconds()*1000, times[0].Seconds()*1000)
		if times[0] > lookPatience {
			t.Errorf("%s took %s at the least, may take %s", look.what, times[0], lookPatience)
		}
	}
}

// process is this program in a process of its own.
func process(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return &exec.Cmd{Path: self, Args: append([]string{"trimtab"}, args...)} // see TestMain
}

// timed is how long f takes, n times, in ascending order.
func timed(t *testing.T, n int, f func() error) []time.Duration {
	t.Helper()
	times := make([]time.Duration, n)
	for i := range times {
		began := time.Now()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times
}
