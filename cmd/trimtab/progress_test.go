package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// screen is a terminal that several goroutines write to.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestDrawing(t *testing.T) {
	t.Parallel()
	var out screen
	d := newProgressBars(&out, 80)
	sft := runs.StageView{Name: "sft", Kind: "sft", Status: trimtab.AttemptRunning, Attempt: 1, Seconds: 4,
		Progress: &storage.Progress{Step: 50, Steps: 100, Metrics: []trimtab.Metric{{Name: "loss", Value: 1.5}}}}
	ppo := runs.StageView{Name: "ppo", Kind: "ppo", Status: trimtab.AttemptQueued}
	d.update(at(trimtab.RunRunning, sft, ppo))
	time.Sleep(300 * time.Millisecond)
	sft.Status, sft.Progress, sft.Step, sft.Steps = trimtab.AttemptCompleted, nil, 100, 100
	ppo.Status, ppo.Attempt, ppo.Error = trimtab.AttemptFailed, 1, trimtab.NewError(trimtab.Invalid, "x", "",
		"it went \x1b[31mwrong")
	d.update(at(trimtab.RunWaiting, sft, ppo))
	d.update(at(trimtab.RunWaiting, sft, ppo)) // nothing new
	d.close()
	for _, want := range []string{"sft       50/100  loss 1.5  4.0s left", " 50% ", "run is waiting: something to do",
		`it went \x1b[31mwrong`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b[31m") {
		t.Error("an escape sequence of an error reached the terminal")
	}
}

// A frame fits the terminal, and the number that matters first is in it.
func TestDrawingFitsEveryTerminal(t *testing.T) {
	t.Parallel()
	for _, width := range []int{40, 60, 80, 120, 200} {
		var out screen
		d := newProgressBars(&out, width)
		d.update(at(trimtab.RunRunning, runs.StageView{Name: "reward", Kind: "reward", Status: trimtab.AttemptRunning,
			Attempt: 1, Seconds: 400,
			Progress: &storage.Progress{Step: 50, Steps: 100, TokensPerSecond: 12345,
				Metrics: []trimtab.Metric{{Name: "loss", Value: .5}, {Name: "eval_loss", Value: .625},
					{Name: "accuracy", Value: .75}}}}))
		d.close()
		for line := range strings.SplitSeq(out.String(), "\n") {
			if w := text.StringWidthWithoutEscSequences(strings.Trim(line, "\r")); w > width {
				t.Errorf("%d columns: a line of %d: %q", width, w, line)
			}
		}
		if !strings.Contains(out.String(), "reward    50/100  held") {
			t.Errorf("%d columns: the held-out loss is not first: %q", width, out.String())
		}
	}
}
