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

// Limits on the delivery of OpenLineage events by a worker.
const (
	// lineageQueue is the number of notices, and of events, that may wait;
	// beyond it they are dropped.
	lineageQueue = 256
	// lineageTimeout limits the delivery of one event.
	lineageTimeout = 3 * time.Second
	// lineagePause is the pause after a failed delivery; it doubles with each
	// failure, up to lineageMaxPause.
	lineagePause    = 500 * time.Millisecond
	lineageMaxPause = 5 * time.Minute
	// lineageCloseTimeout limits the delivery of what is left when the worker
	// stops.
	lineageCloseTimeout = 5 * time.Second
)

// lineagePublisher sends OpenLineage events in a goroutine of its own. A run
// never waits for it, nor fails because of it: what cannot be delivered is
// retried, and dropped with a warning if too much is waiting or the receiver
// rejects it. Nothing is lost by that, since "trimtab history --openlineage"
// derives the same events from the record.
//
// All methods accept a nil receiver where a worker calls them, and do
// nothing.
type lineagePublisher struct {
	log   *slog.Logger
	store *storage.Store
	// events derives the events of a run from its record, and send delivers
	// one.
	events func(ctx context.Context, run string) ([]openlineage.RunEvent, error)
	send   func(ctx context.Context, line []byte) error

	// notices is written by the worker and read by loop; stop ends loop,
	// which closes done.
	notices    chan lineageNotice
	stop, done chan struct{}

	// queued holds the events that were queued before, by run id and event
	// type, and lines those still to be sent, oldest first. Only loop touches
	// them.
	queued map[string]bool
	lines  [][]byte
}

// lineageNotice says that the state of an attempt may have changed, or with
// attempt 0 that of the run.
type lineageNotice struct {
	// run is the run's id.
	run string
	// attempt is the attempt's id in the database, or 0.
	attempt int64
}

// newLineagePublisher starts a publisher that sends to openlineage_url. It
// returns nil, which publishes nothing, if the setting is empty.
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

// notify reports that an attempt may have changed. It never blocks; workers
// call it from their activities.
func (l *lineagePublisher) notify(run string, attempt int64) {
	if l == nil {
		return
	}
	select {
	case l.notices <- lineageNotice{run, attempt}:
	default:
		l.log.Warn("OpenLineage: queue full, events dropped; `trimtab history --openlineage` has them", "run", run)
	}
}

// close sends what is left, for a few seconds at most.
func (l *lineagePublisher) close() {
	if l == nil {
		return
	}
	close(l.stop)
	select {
	case <-l.done:
	case <-time.After(lineageCloseTimeout):
		l.log.Warn("OpenLineage: stopped with unsent events; `trimtab history --openlineage` has them")
	}
}

// loop collects events for notices and sends them, one at a time and in
// order, until close. While a delivery is being retried, notices are still
// collected.
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

// flush sends events until one cannot be delivered, and reports whether all
// were. A rejected event is dropped: it would be rejected again.
func (l *lineagePublisher) flush() (all bool) {
	for len(l.lines) > 0 {
		ctx, stop := context.WithTimeout(context.Background(), lineageTimeout)
		err := l.send(ctx, l.lines[0])
		stop()
		var refused rejectedError
		switch {
		case errors.As(err, &refused):
			l.log.Warn("OpenLineage: the receiver rejected an event, which is dropped", "error", err)
		case err != nil:
			l.log.Warn("OpenLineage: delivery failed and will be retried", "error", err, "waiting",
				len(l.lines))
			return false
		}
		l.lines = l.lines[1:]
	}
	return true
}

// collect queues the events of a notice that were not queued before: those of
// the attempt, and those of the attempt before it, which the beginning of a
// new one may have closed.
func (l *lineagePublisher) collect(n lineageNotice) {
	ctx, stop := context.WithTimeout(context.Background(), lineageTimeout)
	defer stop()
	var of openlineage.Subject
	if n.attempt != 0 {
		row, err := l.store.Attempt(ctx, n.attempt)
		if err != nil {
			l.log.Warn("OpenLineage: cannot read the record", "run", n.run, "error", err)
			return
		}
		of = openlineage.Subject{Stage: row.Stage, Attempt: row.Number}
	}
	events, err := l.events(ctx, n.run)
	if err != nil {
		l.log.Warn("OpenLineage: cannot read the record", "run", n.run, "error", err)
		return
	}
	for _, e := range events {
		if e.Subject.Stage == of.Stage && (e.Subject.Attempt == of.Attempt || e.Subject.Attempt == of.Attempt-1) {
			l.enqueue(e)
		}
	}
}

// maxRememberedEvents bounds the memory of a worker that runs for years.
// After that many, an event may be sent a second time, which receivers treat
// as the same event.
const maxRememberedEvents = 100_000

// enqueue queues an event, unless one of the same run and type was queued
// before. If the queue is full the oldest event is dropped.
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
		l.log.Warn("OpenLineage: cannot encode an event", "error", err)
		return
	}
	if len(l.lines) >= lineageQueue {
		l.log.Warn("OpenLineage: queue full, the oldest event is dropped")
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, line)
}

// checkLineageURL rejects a value of openlineage_url that is neither an
// address nor the absolute path of a file.
func checkLineageURL(target string) error {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return errors.New("it is not a valid URL")
	case target == "" || (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		return nil
	case u.Scheme != "" && u.Scheme != "file" || !filepath.IsAbs(u.Path):
		return errors.New("it has neither a host nor an absolute path")
	}
	return nil
}

// lineageSender returns a function that sends an event, a JSON line, to an
// address or appends it to a file. The path of an address defaults to
// /api/v1/lineage, where receivers such as Marquez listen.
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
		u.Path = "/api/v1/lineage"
	}
	return func(ctx context.Context, line []byte) error { return postLineage(ctx, u.String(), line) }
}

// rejectedError is a response that would be the same after a retry.
type rejectedError struct{ status string }

// Error implements error.
func (r rejectedError) Error() string { return "the response is " + r.status }

// postLineage posts an event. A 4xx response is a rejectedError, except 408
// and 429, which, like 5xx, are worth a retry.
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
		return fmt.Errorf("the response is %s", res.Status)
	}
	return rejectedError{res.Status}
}
