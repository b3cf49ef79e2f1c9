package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/runs"
)

// How often a followed run is looked at, and how often a plain line is printed of a stage.
const (
	// pollEvery is how often the state of a followed run is read.
	pollEvery = 400 * time.Millisecond
	// lineEvery is how often a running stage prints a line where progress is
	// not drawn.
	lineEvery = 10 * time.Second
	// outagePatience is how long a service may be unavailable before the
	// embedded stack is checked and restarted. Its supervisor needs less to
	// restart a server.
	outagePatience = 15 * time.Second
	// keepAliveEvery is how often the embedded stack is kept from stopping,
	// which it does without a client.
	keepAliveEvery = time.Minute
)

// exitInterrupted is the exit code of a command that was interrupted while
// following a run: 128 + SIGINT, the convention of shells.
const exitInterrupted = 130

// progressView shows the progress of a run: as bars on a terminal, as lines
// elsewhere. It is used from one goroutine.
type progressView interface {
	// update shows a new state of the run; called at every poll.
	update(doc runs.View)
	// note shows a line between the updates.
	note(line string)
	// close draws the last state and gives the terminal back.
	close()
}

// follow shows a run's progress until it ends or waits for a person, prints
// its outcome, and returns its status as an exit code. Ctrl-C stops
// following; the run continues.
func (a *app) follow(ctx context.Context, s *session, ref string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	f := a.newProgressView()
	doc, err := a.followTo(ctx, s, ref, f)
	// Give the terminal back before anything else is printed on it.
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

// followTo polls until the run has ended, is blocked, or ctx is done, and
// returns the last state that it saw. A database or embedded server that is
// unavailable does not end it.
func (a *app) followTo(ctx context.Context, s *session, ref string, f progressView) (runs.View, error) {
	var doc runs.View
	var awaySince, touched time.Time
	noted := map[string]bool{}
	for {
		// An open run keeps the embedded stack running by itself; the
		// follower does so for the time around its end.
		if time.Since(touched) > keepAliveEvery {
			touched = time.Now()
			s.keepAlive()
		}
		next, err := s.runs.Show(ctx, ref)
		switch {
		case ctx.Err() != nil:
			return doc, ctx.Err()
		// The run itself waits for the same service, or does not need it.
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
			noteDataFits(f, doc, noted)
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

// noteDataFits notes, once for each attempt, which of its data was truncated
// or left out. A rerun can read other data, so a new attempt is noted again.
func noteDataFits(f progressView, doc runs.View, noted map[string]bool) {
	for _, st := range doc.Stages {
		for _, line := range fitLines(st) {
			if key := fmt.Sprint(line, st.Attempt); !noted[key] {
				noted[key] = true
				f.note(line)
			}
		}
	}
}

// handleOutage notes once that a service is unavailable, and restarts the
// embedded stack if that lasts. It returns the time since when the service
// has been unavailable, counted anew after each restart. A data folder that
// is gone is an error: the run is gone with it.
func (a *app) handleOutage(
	ctx context.Context, s *session, f progressView, since time.Time, err error,
) (time.Time, error) {
	if since.IsZero() {
		f.note(fmt.Sprintf("%v; the run continues when it is back", trimtab.AsError(err).Message))
		return time.Now(), nil
	}
	if time.Since(since) <= outagePatience {
		return since, nil
	}
	if err := s.restart(ctx); err != nil && ctx.Err() == nil {
		if trimtab.AsError(err).Type == devstack.FolderGone {
			return since, err
		}
		f.note(fmt.Sprintf("restart the embedded stack: %v", err))
	}
	return time.Now(), nil
}

// printDetached says that the run continues without this process, and how to
// follow it again.
func (a *app) printDetached(s *session, doc runs.View, ref string) error {
	if doc.ID == "" { // interrupted before the first poll
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
	a.note("detached: run %s (%s) continues", shortID(doc.ID), doc.Name)
	a.printFollowHints(doc.ID)
	return exitStatus(exitInterrupted)
}

// runStatus is nil for a completed run, and otherwise exit code 1; what went
// wrong has been printed by then.
func runStatus(doc runs.View) error {
	if doc.Status == trimtab.RunCompleted {
		return nil
	}
	return exitStatus(1)
}

// printFinalRun ends a followed run: with the whole document, or for people
// with what the progress has not shown: errors, warnings and the evaluation.
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

// printFailure says why a run did not complete, and what a person has to do.
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

// runErrors are the errors of a run and of its current attempts, each message
// once: a stage's error is usually the run's as well.
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

// newProgressView shows bars if progress goes to a terminal, and lines if
// not. Progress is part of the answer when the output is a table, and so goes
// to standard output; otherwise it goes to standard error.
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

// progressLines prints a line when a stage changes its status, and every
// lineEvery while it runs. It suits logs and pipes: nothing is redrawn.
type progressLines struct {
	w io.Writer
	// status is the run's status at the last update.
	status trimtab.RunStatus
	// seen is the last line printed of each stage, by name.
	seen     map[string]shownStage
	warnings shownWarnings
}

// shownWarnings holds the attempts whose warnings have been shown, as
// "stage/attempt".
type shownWarnings map[string]bool

// unseen returns the warnings of attempts that have not been shown any. The
// text of a warning changes at every poll, since it has the current numbers,
// so one attempt's warnings are shown only once.
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

// shownStage is the last line that was printed of a stage.
type shownStage struct {
	status  trimtab.AttemptStatus
	attempt int
	// at is when the line was printed.
	at time.Time
}

// update implements progressView. Stages that have not begun are not
// mentioned.
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

// statusChange is a line for a run that begins to wait, is paused, or
// continues afterwards. Other changes of status show in the stages' own
// lines.
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

// note implements progressView.
func (p *progressLines) note(line string) { fmt.Fprintln(p.w, escapeLine(line)) }

// close implements progressView; there is nothing to restore.
func (p *progressLines) close() {}

// stageLine is a stage on one line: name, status, progress.
func stageLine(st runs.StageView) string {
	return fmt.Sprintf("%-10s %-9s %s", st.Name, st.Status, stageProgress(st))
}

// stageProgress describes how far a stage is: while it runs the step, the
// main metrics, the speed and the time left; afterwards the outcome.
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

// joinParts joins the parts of a progress line with two spaces.
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

// timeLeft estimates the time left, assuming that the remaining steps take as
// long on average as those done. It is empty during the first 2 % of the
// steps, which include reading the data.
func timeLeft(st runs.StageView) string {
	p := st.Progress
	if 50*p.Step < p.Steps || p.Steps <= p.Step || st.Seconds <= 0 {
		return ""
	}
	return formatSeconds(st.Seconds/float64(p.Step)*float64(p.Steps-p.Step)) + " left"
}

// watchCmd is "trimtab watch".
func (a *app) watchCmd() *cobra.Command {
	return &cobra.Command{
		Use: "watch RUN", Short: "follow a run to its end, and exit with its status", Args: argCount(1, 1),
		Example: "  trimtab watch my-assistant",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.follow(ctx, s, args[0])
			})
		},
	}
}

// sleep waits for d, and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
