package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/trimtab/trimtab/openlineage"
	"github.com/trimtab/trimtab/plainfile"
	"github.com/trimtab/trimtab/storage"
)

// Bounds of what a worker does to tell OpenLineage events.
const (
	lineageQueue        = 256             // notices and lines that wait at the most
	lineageTimeout      = 3 * time.Second // of one event
	lineagePause        = 500 * time.Millisecond
	lineageMaxPause     = 5 * time.Minute
	lineageCloseTimeout = 5 * time.Second // for what is left when the worker ends
)

// lineagePublisher tells events beside the work of a worker. Nothing waits for it: what
// does not get through is tried again, and dropped with a warning when too
// much waits, or when the receiver refuses it.
type lineagePublisher struct {
	log    *slog.Logger
	store  *storage.Store
	events func(ctx context.Context, run string) ([]openlineage.RunEvent, error)
	send   func(ctx context.Context, line []byte) error

	notices    chan lineageNotice
	stop, done chan struct{}

	queued map[string]bool // events that were taken up, by run id and type
	lines  [][]byte        // that are to be sent, in this order
}

// lineageNotice says that something may have become of an attempt, or of the run itself (0).
type lineageNotice struct {
	run     string
	attempt int64
}

// newLineagePublisher starts to tell events to where the setting says. An empty one is nil, which tells nothing.
func (a *app) newLineagePublisher(lg *slog.Logger, s *session) *lineagePublisher {
	target := a.settings.value("openlineage_url")
	if target == "" {
		return nil
	}
	l := &lineagePublisher{log: lg, store: s.store, send: lineageSender(target),
		notices: make(chan lineageNotice, lineageQueue), stop: make(chan struct{}), done: make(chan struct{}),
		queued: map[string]bool{},
		events: func(ctx context.Context, run string) ([]openlineage.RunEvent, error) {
			return s.runs.OpenLineage(ctx, run, a.settings.value("openlineage_namespace"))
		}}
	go l.loop()
	return l
}

// lineageNotice takes note without waiting.
func (l *lineagePublisher) notify(run string, attempt int64) {
	if l == nil {
		return
	}
	select {
	case l.notices <- lineageNotice{run, attempt}:
	default:
		l.log.Warn("OpenLineage: too much waits to be told; `trimtab history --openlineage` has it", "run", run)
	}
}

// close tells what is left, for a few seconds.
func (l *lineagePublisher) close() {
	if l == nil {
		return
	}
	close(l.stop)
	select {
	case <-l.done:
	case <-time.After(lineageCloseTimeout):
		l.log.Warn("OpenLineage: not all was told; `trimtab history --openlineage` has it")
	}
}

// costSum takes up notices and sends what follows from them, one event at a time, until end.
func (l *lineagePublisher) loop() {
	defer close(l.done)
	pause := lineagePause
	var retry <-chan time.Time
	for {
		select {
		case n := <-l.notices:
			l.collect(n)
			if retry != nil {
				continue
			}
		case <-retry:
		case <-l.stop:
			for len(l.notices) > 0 {
				l.collect(<-l.notices)
			}
			l.flush()
			return
		}
		if retry = nil; l.flush() {
			pause = lineagePause
			continue
		}
		retry, pause = time.After(pause), min(2*pause, lineageMaxPause)
	}
}

// flush sends lines until one does not get through.
func (l *lineagePublisher) flush() (all bool) {
	for len(l.lines) > 0 {
		ctx, stop := context.WithTimeout(context.Background(), lineageTimeout)
		err := l.send(ctx, l.lines[0])
		stop()
		var refused rejectedError
		switch {
		case errors.As(err, &refused):
			l.log.Warn("OpenLineage: an event was refused and is left out", "error", err)
		case err != nil:
			l.log.Warn("OpenLineage: an event was not told and will be tried again", "error", err, "waiting",
				len(l.lines))
			return false
		}
		l.lines = l.lines[1:]
	}
	return true
}

// collect adds the events of a notice that were not taken up before: those of the
// attempt and, since its beginning may have closed the one before, of that.
func (l *lineagePublisher) collect(n lineageNotice) {
	ctx, stop := context.WithTimeout(context.Background(), lineageTimeout)
	defer stop()
	var of openlineage.Subject
	if n.attempt != 0 {
		row, err := l.store.Attempt(ctx, n.attempt)
		if err != nil {
			l.log.Warn("OpenLineage: the record could not be read", "run", n.run, "error", err)
			return
		}
		of = openlineage.Subject{Stage: row.Stage, Attempt: row.Number}
	}
	events, err := l.events(ctx, n.run)
	if err != nil {
		l.log.Warn("OpenLineage: the record could not be read", "run", n.run, "error", err)
		return
	}
	for _, e := range events {
		if e.Subject.Stage == of.Stage && (e.Subject.Attempt == of.Attempt || e.Subject.Attempt == of.Attempt-1) {
			l.enqueue(e)
		}
	}
}

// maxRememberedEvents bounds the memory of a worker that runs for years; what it forgets it may tell twice, which says
// the same.
const maxRememberedEvents = 100_000

func (l *lineagePublisher) enqueue(e openlineage.RunEvent) {
	key := e.Run.RunID + " " + e.EventType
	if l.queued[key] {
		return
	}
	if len(l.queued) >= maxRememberedEvents {
		clear(l.queued)
	}
	l.queued[key] = true
	line, err := marshal(e, "")
	if err != nil {
		l.log.Warn("OpenLineage: an event has no JSON", "error", err)
		return
	}
	if len(l.lines) >= lineageQueue {
		l.log.Warn("OpenLineage: too much waits to be told: the oldest event is left out")
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, line)
}

// checkLineageURL refuses what is neither an address nor the full path of a file.
func checkLineageURL(target string) error {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return errors.New("it is no address")
	case target == "" || (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		return nil
	case u.Scheme != "" && u.Scheme != "file" || !filepath.IsAbs(u.Path):
		return errors.New("it names no host and no full path")
	}
	return nil
}

// lineageSender sends a line to an address or a file.
func lineageSender(target string) func(ctx context.Context, line []byte) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme == "" || u.Scheme == "file" { // checkLineageURL has seen it
		path := target
		if err == nil && u.Scheme == "file" {
			path = u.Path
		}
		return func(_ context.Context, line []byte) error { return plainfile.AppendLine(path, 0o644, line) }
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/api/v1/lineage" // where receivers listen
	}
	return func(ctx context.Context, line []byte) error { return postLineage(ctx, u.String(), line) }
}

// rejectedError is an answer that would be the same the next time.
type rejectedError struct{ status string }

func (r rejectedError) Error() string { return "the answer is " + r.status }

func postLineage(ctx context.Context, address string, line []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(line))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 1<<16) // so that the connection can be used again
	switch {
	case res.StatusCode < 300:
		return nil
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests ||
		res.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("the answer is %s", res.Status)
	}
	return rejectedError{res.Status}
}
