package main

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// progressBars shows a bar for each stage that has begun.
type progressBars struct {
	w        progress.Writer
	trackers map[string]*progress.Tracker
	status   trimtab.RunStatus
	width    int // of a message
	warnings shownWarnings
}

func newProgressBars(out io.Writer, width int) *progressBars {
	const rest = 12 // the percentage with its spaces
	bar := 16
	if width < 70 { // what is said matters more
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

func (d *progressBars) update(doc runs.View) {
	if line := statusChange(d.status, doc); line != "" {
		d.note(line)
	}
	d.status = doc.Status
	for _, line := range d.warnings.unseen(doc) {
		d.note(line)
	}
	for i, st := range doc.Stages {
		if st.Status == trimtab.AttemptQueued || st.Status == "" {
			continue
		}
		d.updateStage(i, st)
	}
}

func (d *progressBars) updateStage(i int, st runs.StageView) {
	key := fmt.Sprintf("%s/%d", st.Name, st.Attempt)
	t := d.trackers[key]
	if t == nil {
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

func (d *progressBars) note(line string) { d.w.Log("%s", escapeLine(line)) }

// closers draws the last state and gives the terminal back.
func (d *progressBars) close() {
	time.Sleep(250 * time.Millisecond) // one more frame, with the last update
	d.w.Stop()
	for range 50 {
		if !d.w.IsRenderInProgress() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
