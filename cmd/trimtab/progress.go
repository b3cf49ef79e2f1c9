package main

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// progressBars shows a bar for each attempt that has begun, redrawn in place.
// A goroutine of the library draws five times a second; update only changes
// what it draws.
type progressBars struct {
	// w is the library's writer, which owns the terminal until close.
	w progress.Writer
	// trackers are the bars by "stage/attempt".
	trackers map[string]*progress.Tracker
	// status is the run's status at the last update.
	status trimtab.RunStatus
	// width is the space for the text in front of a bar, in cells.
	width    int
	warnings shownWarnings
}

// newProgressBars starts drawing on out, a terminal of the given width. A
// narrow one gets no bars, only text and percentages.
func newProgressBars(out io.Writer, width int) *progressBars {
	const rest = 12 // the percentage and the spaces around it
	bar := 16
	if width < 70 { // the text matters more than the bar
		bar = 0
	}
	d := &progressBars{w: progress.NewWriter(), trackers: map[string]*progress.Tracker{},
		width: max(width-bar-rest, minValueWidth)}
	style := progress.StyleBlocks
	style.Options.Separator = ""
	style.Options.DoneString, style.Options.ErrorString = "", ""
	style.Options.PercentFormat = "%3.0f%%"
	style.Visibility = progress.StyleVisibility{Percentage: true, Tracker: bar > 0}
	d.w.SetStyle(style)
	d.w.SetOutputWriter(out)
	d.w.SetTerminalWidth(width)
	d.w.SetTrackerPosition(progress.PositionRight)
	d.w.SetTrackerLength(bar)
	d.w.SetMessageLength(d.width)
	d.w.SetUpdateFrequency(200 * time.Millisecond)
	d.w.SetSortBy(progress.SortByIndex)
	go d.w.Render()
	return d
}

// update implements progressView.
func (d *progressBars) update(doc runs.View) {
	if line := statusChange(d.status, doc); line != "" {
		d.note(line)
	}
	d.status = doc.Status
	for _, line := range d.warnings.unseen(doc) {
		d.note(line)
	}
	// Queued stages have no bar: it would show 0 % for hours.
	for i, st := range doc.Stages {
		if st.Status == trimtab.AttemptQueued || st.Status == "" {
			continue
		}
		d.updateStage(i, st)
	}
}

// updateStage updates the bar of a stage's attempt, the i-th stage of the
// run. Each attempt has a bar of its own, below those before it; a finished
// bar does not change any more.
func (d *progressBars) updateStage(i int, st runs.StageView) {
	// A new attempt gets a new bar; the bar of the old one stays as it ended.
	key := fmt.Sprintf("%s/%d", st.Name, st.Attempt)
	t := d.trackers[key]
	if t == nil {
		// Bars are sorted by stage and, within a stage, by attempt. They do
		// not stop at 100 %, since a stage works on after its last step.
		t = &progress.Tracker{Total: 1, Index: uint64(i)*1000 + uint64(st.Attempt), AutoStopDisabled: true}
		d.trackers[key] = t
		d.w.AppendTracker(t)
	}
	if t.IsDone() {
		return
	}
	step, steps := st.Step, st.Steps
	if st.Progress != nil {
		step, steps = st.Progress.Step, st.Progress.Steps
	}
	t.UpdateTotal(int64(max(steps, 1)))
	t.UpdateMessage(truncate(escapeLine(fmt.Sprintf("%-9s %s", st.Name, stageProgress(st))), d.width))
	switch st.Status {
	case trimtab.AttemptCompleted, trimtab.AttemptReused, trimtab.AttemptSkipped, trimtab.AttemptStale:
		t.MarkAsDone()
	case trimtab.AttemptFailed, trimtab.AttemptCancelled:
		t.MarkAsErrored()
	default:
		t.SetValue(int64(min(step, steps)))
	}
}

// note implements progressView; the line scrolls above the bars.
func (d *progressBars) note(line string) { d.w.Log("%s", escapeLine(line)) }

// close implements progressView: it waits for a last frame to be drawn and
// for the library to give the terminal back.
func (d *progressBars) close() {
	time.Sleep(250 * time.Millisecond) // longer than the interval of updates: one more frame is drawn
	d.w.Stop()
	// The library stops drawing asynchronously: half a second is plenty.
	for range 50 {
		if !d.w.IsRenderInProgress() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stepProgress returns a function that shows how far a recomputed stage is,
// on standard error: a line redrawn every second on a terminal, and otherwise
// a new line every lineEvery.
func (a *app) stepProgress() func(stage string, step, steps int) {
	shown := time.Now()
	width, drawn := terminal(a.err)
	every := lineEvery
	if drawn {
		every = time.Second
	}
	return func(stage string, step, steps int) {
		switch line := fmt.Sprintf("%-10s step %d of %d", escapeLine(stage), step, steps); {
		// The line is erased when the stage is done: its row in the table
		// says the rest.
		case drawn && step == steps:
			fmt.Fprint(a.err, "\r\x1b[K")
		case time.Since(shown) < every:
		case drawn:
			shown = time.Now()
			fmt.Fprintf(a.err, "\r\x1b[K%s", truncate(line, width-1))
		default:
			shown = time.Now()
			a.note("%s", line)
		}
	}
}

// verifyProgress returns a function that shows how far a verification is, in
// the same way. done counts what is being verified, and of is the total, or 0
// where that is not known.
func (a *app) verifyProgress() func(doing string, done, of int64) {
	shown := time.Now()
	width, drawn := terminal(a.err)
	return func(doing string, done, of int64) {
		every := lineEvery
		if drawn {
			every = time.Second
		}
		if time.Since(shown) < every {
			return
		}
		shown = time.Now()
		line := fmt.Sprintf("verifying: %d %s", done, doing)
		if of > 0 {
			line = fmt.Sprintf("verifying: %d of %d %s", done, of, doing)
		}
		if drawn {
			fmt.Fprintf(a.err, "\r\x1b[K%s\r", truncate(line, width-1))
		} else {
			a.note("%s", line)
		}
	}
}

// progressLine returns a function that shows a download in a line that is
// redrawn at most once per interval, and cleared at the end. It is for
// terminals only.
func (a *app) progressLine(every time.Duration) func(done, total int64) {
	var last time.Time
	return func(done, total int64) {
		switch {
		case done == total:
			fmt.Fprint(a.err, "\r\x1b[K")
		case time.Since(last) >= every:
			last = time.Now()
			fmt.Fprintf(a.err, "\r\x1b[K  %s of %s (%d %%)", formatBytes(done), formatBytes(total), 100*done/total)
		}
	}
}
