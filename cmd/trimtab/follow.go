package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/runs"
)

// How often a followed run is looked at, and how often a plain line is printed of a stage.
const (
	pollEvery = 400 * time.Millisecond
	lineEvery = 10 * time.Second
	// A service may be away for this long before the embedded stack is looked after again.
	outagePatience = 15 * time.Second
	// The embedded stack ends by itself when no client is there.
	keepAliveEvery = time.Minute
)

// exitInterrupted is the exit code of a follower that was told to stop: 128 + SIGINT.
const exitInterrupted = 130

// progressView shows the progress of a run: drawn on a terminal, plain lines elsewhere.
type progressView interface {
	update(doc runs.View)
	note(line string)
	close()
}

// follow shows a run's progress until it ends or waits for a person, prints
// its outcome, and returns its status as an exit code. Ctrl-C stops following only.
func (a *app) follow(ctx context.Context, s *session, ref string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	f := a.newProgressView()
	doc, err := a.followTo(ctx, s, ref, f)
	f.close()
	switch {
	case ctx.Err() != nil:
		return a.printDetached(s, doc, ref)
	case err != nil:
		return err
	}
	if err := a.printFinalRun(doc); err != nil {
		return err
	}
	return runStatus(doc)
}

// followTo polls until the run has ended, is blocked, or ctx is done.
func (a *app) followTo(ctx context.Context, s *session, ref string, f progressView) (runs.View, error) {
	var doc runs.View
	var awaySince, touched time.Time
	told := map[string]bool{}
	for {
		if time.Since(touched) > keepAliveEvery {
			touched = time.Now()
			s.keepAlive()
		}
		next, err := s.runs.Show(ctx, ref)
		switch {
		case ctx.Err() != nil:
			return doc, ctx.Err()
		case err != nil && trimtab.AsError(err).Class == trimtab.Unavailable:
			if awaySince, err = a.handleOutage(ctx, s, f, awaySince, err); err != nil {
				return doc, err
			}
		case err != nil:
			return doc, err
		default:
			if !awaySince.IsZero() {
				f.note("the database is back")
				awaySince = time.Time{}
			}
			doc, ref = next, next.ID
			noteDataFits(f, doc, told)
			f.update(doc)
			if !doc.Status.Open() || doc.Status == trimtab.RunBlocked {
				return doc, nil
			}
		}
		if !sleep(ctx, pollEvery) {
			return doc, ctx.Err()
		}
	}
}

// noteDataFits says once for each attempt what of its data is cut or left out.
func noteDataFits(f progressView, doc runs.View, told map[string]bool) {
	for _, st := range doc.Stages {
		for _, line := range fitLines(st) {
			if key := fmt.Sprint(line, st.Attempt); !told[key] {
				told[key] = true
				f.note(line)
			}
		}
	}
}

// handleOutage says once that a service is away, and looks after the embedded stack
// when that lasts. It is an error that the data folder is gone, and the run with it.
func (a *app) handleOutage(ctx context.Context, s *session, f progressView, since time.Time,
	err error) (time.Time, error) {
	if since.IsZero() {
		f.note(fmt.Sprintf("%v; the run goes on, waiting for it", trimtab.AsError(err).Message))
		return time.Now(), nil
	}
	if time.Since(since) <= outagePatience {
		return since, nil
	}
	if err := s.restart(ctx); err != nil && ctx.Err() == nil {
		if trimtab.AsError(err).Type == devstack.FolderGone {
			return since, err
		}
		f.note(fmt.Sprintf("start the embedded stack again: %v", err))
	}
	return time.Now(), nil
}

// printDetached says that the run goes on without the follower.
func (a *app) printDetached(s *session, doc runs.View, ref string) error {
	if doc.ID == "" { // interrupted before the first look
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		var err error
		if doc, err = s.runs.Show(ctx, ref); err != nil {
			return exitStatus(exitInterrupted)
		}
	}
	if a.wantsJSON() {
		if err := a.printDocument(doc); err != nil {
			return err
		}
	}
	a.note("")
	a.note("detached: run %s (%s) goes on", shortID(doc.ID), doc.Name)
	a.printFollowHints(doc.ID)
	return exitStatus(exitInterrupted)
}

// runStatus is nil for a completed run, else exit code 1; what went wrong has been printed.
func runStatus(doc runs.View) error {
	if doc.Status == trimtab.RunCompleted {
		return nil
	}
	return exitStatus(1)
}

// printFinalRun ends a followed run: the whole document, or the part that progress has not shown.
func (a *app) printFinalRun(doc runs.View) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	if a.format == formatCSV {
		return a.printRun(doc)
	}
	if doc.Status != trimtab.RunCompleted {
		fmt.Fprintln(a.out)
		a.printFailure(doc)
	}
	for _, w := range warningsOf(doc) {
		a.printText("warning: "+escapeLine(w), "  ")
	}
	return a.printOutcome(doc)
}

// printFailure says why a run did not complete and what a person has to do.
func (a *app) printFailure(doc runs.View) {
	say := func(label, what string) { a.printText(label+escapeLine(what), strings.Repeat(" ", 8)) }
	say("", fmt.Sprintf("run %s (%s) is %s", shortID(doc.ID), doc.Name, doc.Status))
	for _, e := range runErrors(doc) {
		say("  why:  ", e.Message)
		if e.Remedy != "" && e.Remedy != doc.Next {
			say("  hint: ", e.Remedy)
		}
	}
	if doc.Reason != "" {
		say("  reason: ", doc.Reason)
	}
	if doc.Next != "" {
		say("  next: ", doc.Next)
	}
}

// runErrors are the errors of a run and of its stages, each once.
func runErrors(doc runs.View) []*trimtab.Error {
	var all []*trimtab.Error
	seen := map[string]bool{}
	add := func(e *trimtab.Error) {
		if e != nil && !seen[e.Message] {
			seen[e.Message] = true
			all = append(all, e)
		}
	}
	add(doc.Error)
	for _, st := range doc.Stages {
		if st.Status != trimtab.AttemptStale {
			add(st.Error)
		}
	}
	return all
}

// newProgressView draws when progress goes to a terminal. Progress is part of what
// align prints as a table; with other forms it goes to standard error.
func (a *app) newProgressView() progressView {
	w := a.out
	if a.format != formatTable {
		w = a.err
	}
	if width, ok := terminal(w); ok {
		return newProgressBars(w, width)
	}
	return &progressLines{w: w, seen: map[string]shownStage{}}
}

// progressLines prints a line when a stage changes its state, and now and then while it runs.
type progressLines struct {
	w        io.Writer
	status   trimtab.RunStatus
	seen     map[string]shownStage
	warnings shownWarnings
}

// warnings are the stages, with their attempts, whose warnings have been told.
type shownWarnings map[string]bool

// unseen are warnings of attempts that none was told of yet: what they say changes with every look.
func (w *shownWarnings) unseen(doc runs.View) (lines []string) {
	if *w == nil {
		*w = shownWarnings{}
	}
	for _, st := range doc.Stages {
		key := fmt.Sprintf("%s/%d", st.Name, st.Attempt)
		if len(st.Warnings) > 0 && !(*w)[key] {
			(*w)[key] = true
			for _, text := range st.Warnings {
				lines = append(lines, "warning: "+text)
			}
		}
	}
	return lines
}

type shownStage struct {
	status  trimtab.AttemptStatus
	attempt int
	at      time.Time
}

func (p *progressLines) update(doc runs.View) {
	if line := statusChange(p.status, doc); line != "" {
		p.note(line)
	}
	p.status = doc.Status
	for _, line := range p.warnings.unseen(doc) {
		p.note(line)
	}
	for _, st := range doc.Stages {
		last, known := p.seen[st.Name]
		changed := !known || last.status != st.Status || last.attempt != st.Attempt
		if !known && (st.Status == trimtab.AttemptQueued || st.Status == "") {
			continue // it has not begun
		}
		if changed || st.Status == trimtab.AttemptRunning && time.Since(last.at) >= lineEvery {
			p.seen[st.Name] = shownStage{st.Status, st.Attempt, time.Now()}
			p.note(stageLine(st))
		}
	}
}

// statusChange says that a run has begun to wait, was paused, or goes on; the rest is told by its stages and its end.
func statusChange(before trimtab.RunStatus, doc runs.View) string {
	switch {
	case doc.Status == before:
	case doc.Status == trimtab.RunWaiting || doc.Status == trimtab.RunPaused:
		return fmt.Sprintf("run is %s: %s", doc.Status, doc.Next)
	case before == trimtab.RunWaiting || before == trimtab.RunPaused || before == trimtab.RunBlocked:
		return fmt.Sprintf("run is %s", doc.Status)
	}
	return ""
}

func (p *progressLines) note(line string) { fmt.Fprintln(p.w, escapeLine(line)) }
func (p *progressLines) close()           {}

// stageLine is one stage in one line: state, step, loss or reward, KL, speed, time left.
func stageLine(st runs.StageView) string {
	return fmt.Sprintf("%-10s %-9s %s", st.Name, st.Status, stageProgress(st))
}

// stageProgress is what stageLine says after the state.
func stageProgress(st runs.StageView) string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	switch p := st.Progress; {
	case st.Error != nil:
		add(st.Error.Message)
	case p != nil && st.Status == trimtab.AttemptRunning:
		add(fmt.Sprintf("%d/%d", p.Step, p.Steps))
		if p.Phase != st.Kind {
			add(p.Phase)
		}
		add(formatMetrics(metricsByName(p.Metrics), 3))
		if p.TokensPerSecond > 0 {
			add(formatCount(p.TokensPerSecond) + " tokens/s")
		}
		add(timeLeft(st))
	default:
		add(stepOf(st))
		if st.Seconds > 0 {
			add(formatSeconds(st.Seconds))
		}
		add(stageNote(st))
	}
	return joinParts(parts)
}

func joinParts(parts []string) string {
	line := ""
	for i, p := range parts {
		if i > 0 {
			line += "  "
		}
		line += p
	}
	return line
}

func metricsByName(ms []trimtab.Metric) map[string]float64 {
	out := make(map[string]float64, len(ms))
	for _, m := range ms {
		out[m.Name] = m.Value
	}
	return out
}

// timeLeft assumes that the steps to come take as long as those done.
func timeLeft(st runs.StageView) string {
	p := st.Progress
	if 50*p.Step < p.Steps || p.Steps <= p.Step || st.Seconds <= 0 { // the first steps have the reading of data in them
		return ""
	}
	return formatSeconds(st.Seconds/float64(p.Step)*float64(p.Steps-p.Step)) + " left"
}
