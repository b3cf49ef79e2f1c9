package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/openlineage"
	"github.com/trimtab/trimtab/openlineage/openlineagetest"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// receiver accepts events. Its first responses are bad ones, in a cycle, until it recovers.
type receiver struct {
	*httptest.Server
	mu        sync.Mutex
	asked     int
	lines     []string
	bad       []string      // what happens to requests: 500, hang, close, 400
	recovered chan struct{} // closed when it is
}

func newReceiver(t *testing.T, bad ...string) *receiver {
	r := &receiver{bad: bad, recovered: make(chan struct{})}
	r.Server = httptest.NewServer(r)
	t.Cleanup(func() {
		r.recover()
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

func (r *receiver) recover() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bad != nil {
		r.bad = nil
		close(r.recovered)
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	how := ""
	if len(r.bad) > 0 {
		how = r.bad[r.asked%len(r.bad)]
	}
	r.asked++
	if how == "" && req.URL.Path == "/api/v1/lineage" && req.Header.Get("Content-Type") == "application/json" {
		r.lines = append(r.lines, string(body))
	}
	r.mu.Unlock()
	switch how {
	case "":
		w.WriteHeader(http.StatusCreated)
	case "500":
		w.WriteHeader(http.StatusInternalServerError)
	case "400":
		w.WriteHeader(http.StatusBadRequest)
	case "hang":
		<-r.recovered
		panic(http.ErrAbortHandler) // no answer
	case "close":
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
}

func (r *receiver) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// atWork is `trimtab worker` in this process.
func atWork(t *testing.T) (stop func() (stderr string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var errs screen
	done := make(chan error, 1)
	a := &app{in: strings.NewReader(""), out: io.Discard, err: &errs, format: formatTable}
	root := a.root()
	root.SetArgs([]string{"worker"})
	go func() { done <- root.ExecuteContext(ctx) }()
	return func() string {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the worker ended with %v", err)
		}
		return errs.String()
	}
}

// A run ends as always while the receiver of its lineage fails, hangs and
// hangs up; when that is over everything is sent, once and in the form of the schema.
func TestLineageNeverHoldsARun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postgres and Temporal")
	}
	e := devstacktest.Start(t)
	dir := quiet(t)
	r := newReceiver(t, "500", "close", "hang")
	for key, value := range map[string]string{"DATA": filepath.Join(dir, "data"),
		"POSTGRES_URL":     storagetest.URLsOn(t, e.PostgresURL).App,
		"TEMPORAL_ADDRESS": e.Temporal, "TEMPORAL_NAMESPACE": e.Namespace,
		"TEMPORAL_TLS_CA": e.TemporalTLS.CA, "TEMPORAL_TLS_CERT": e.TemporalTLS.Cert,
		"TEMPORAL_TLS_KEY": e.TemporalTLS.Key,
		"ACTOR":            "tester", "OPENLINEAGE_URL": r.URL} {
		t.Setenv("TRIMTAB_"+key, value)
	}
	stop := atWork(t)
	code, out, errs := command(t, "", "align", "--size", "smallest", "--name", "traced", "-o", "json")
	if code != 0 || len(r.received()) > 0 {
		t.Errorf("exit %d with %d events sent: %s%s", code, len(r.received()), errs, out)
	}
	failures := 0
	for end := time.Now().Add(30 * time.Second); failures < 3 &&
		time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		failures = r.requests()
	}
	r.recover()
	code, printed, errs := command(t, "", "history", "traced", "--openlineage")
	want := strings.Split(strings.TrimSpace(printed), "\n")
	if code != 0 || len(want) != 14 {
		t.Fatalf("exit %d, %d events, want a START and an end of the run and its six stages: %s", code, len(want), errs)
	}
	for end := time.Now().Add(30 * time.Second); len(r.received()) < len(want) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	log := stop()
	got := r.received()
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("not sent: %s", line)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d events sent, want %d", len(got), len(want))
	}
	if n := strings.Count(log, "will be retried"); n < 2 { // the third may have been recovered while it hung
		t.Errorf("%d warnings of 3 failures:\n%s", n, log)
	}
	soundLineage(t, printed)

	code, sft, _ := command(t, "", "history", "traced", "sft", "--openlineage")
	if code != 0 || strings.Count(sft, "\n") != 2 || !strings.Contains(sft, `"name":"instructgpt/sft/model"`) {
		t.Errorf("exit %d: %s", code, sft)
	}
}

// soundLineage checks lines of events of the smallest run.
func soundLineage(t *testing.T, lines string) {
	t.Helper()
	var events []openlineagetest.RunEvent
	for line := range strings.Lines(lines) {
		e, err := openlineagetest.Parse([]byte(line))
		if err != nil {
			t.Error(err)
		}
		events = append(events, e)
		if e.Job.Name == "instructgpt.reward" && e.EventType == openlineage.Complete {
			if in := e.Inputs[0].String(); len(e.Inputs) != 3 ||
				!strings.HasPrefix(in, "instructgpt/sft/model@sha256:") ||
				e.Inputs[2].Name != "starter/1/demonstrations" || len(e.Outputs) != 1 {
				t.Errorf("reward reads %v and makes %v", e.Inputs, e.Outputs)
			}
		}
		if !strings.HasPrefix(e.Job.Namespace, "trimtab://") {
			t.Errorf("namespace %q", e.Job.Namespace)
		}
	}
	if err := openlineagetest.CheckComplete(events); err != nil {
		t.Error(err)
	}
}

// publisherTo publishes made-up events of runs.
func publisherTo(target string, log io.Writer) *lineagePublisher {
	l := &lineagePublisher{log: slog.New(slog.NewTextHandler(log, nil)), send: lineageSender(target),
		notices: make(chan lineageNotice, lineageQueue),
		stop:    make(chan struct{}), done: make(chan struct{}), queued: map[string]bool{},
		events: func(_ context.Context, run string) ([]openlineage.RunEvent, error) {
			if run == "away" {
				return nil, errors.New("no record")
			}
			return []openlineage.RunEvent{{EventType: openlineage.Start, Run: openlineage.EventRun{RunID: run}},
				{EventType: openlineage.Complete, Run: openlineage.EventRun{RunID: run}}}, nil
		}}
	go l.loop()
	return l
}

func TestLineageToAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lineage.jsonl")
	for _, target := range []string{path, "file://" + path} {
		l := publisherTo(target, t.Output())
		for _, run := range []string{"a", "b", "a"} { // a is sent once
			l.notify(run, 0)
		}
		l.close()
	}
	body, err := os.ReadFile(path)
	if err != nil || bytes.Count(body, []byte("\n")) != 8 {
		t.Fatalf("%s, %v", body, err)
	}
	for line := range bytes.Lines(body) {
		if !json.Valid(line) {
			t.Errorf("%s is no JSON", line)
		}
	}
}

// Events that the receiver rejects are dropped, unreadable records are skipped, and nothing blocks when the queue is full.
func TestLineageGivesUp(t *testing.T) {
	var log screen
	r := newReceiver(t, "400")
	l := publisherTo(r.URL, &log)
	l.notify("away", 0)
	l.notify("a", 0)
	l.close()
	if n := r.requests(); n != 2 {
		t.Errorf("%d requests, want one for each event", n)
	}
	for _, want := range []string{"rejected", "no record"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in %s", want, log.String())
		}
	}

	r = newReceiver(t, "hang")
	l = publisherTo(r.URL, &log)
	began := time.Now()
	for range 10 * lineageQueue {
		l.notify("b", 0)
	}
	if took := time.Since(began); took > time.Second || !strings.Contains(log.String(), "queue full") {
		t.Errorf("%d notices took %s", 10*lineageQueue, took)
	}
	r.recover()
	l.close()
	(*lineagePublisher)(nil).notify("c", 0)
	(*lineagePublisher)(nil).close()
}

func TestLineageSetting(t *testing.T) {
	for target, ok := range map[string]bool{"": true, "http://marquez:5000": true, "https://u:p@host/x": true,
		"/var/lineage.jsonl": true, "file:///var/lineage.jsonl": true,
		"lineage.jsonl": false, "localhost:5000": false, "ftp://host/x": false, "http://": false, "file:x": false,
		"http://[::1": false} {
		if err := checkLineageURL(target); (err == nil) != ok {
			t.Errorf("%q: %v", target, err)
		}
	}
}
