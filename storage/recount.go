package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
)

// RecountedEvent is an event that seals rows: what it recorded of them, and
// the same computed from the rows as they are now. Verification compares the
// two.
type RecountedEvent struct {
	Stream   string
	Sequence int64
	Type     trimtab.EventType
	Stage    string
	Attempt  int
	// Facts are the lines that the event recorded; audit.ParseSeals reads them.
	Facts []byte
	// Recounts are the lines computed now, in the order of the event's type.
	Recounts []Recount
	// State is set for the last event about a row of a state table. Recounts
	// is then that row alone, and Recorded what the event recorded of it.
	State    bool
	Recorded audit.Seal
	// Err is set if the event's body cannot be read.
	Err error
}

// Recount is a line of facts, computed from the rows as they are now.
type Recount struct {
	audit.Seal
	// Fresh counts the rows that no earlier event recorded.
	Fresh int64
	// Deferred is set for rows of a state table, which are not compared here
	// but with the last event about them.
	Deferred bool
}

// eventsAtOnce is the number of events that are in memory, and whose rows are
// requested, together.
const eventsAtOnce = 500

// RecountFacts calls f with every event that seals rows, in order of stream
// and sequence.
//
// Rows of state tables (run_state, attempt_state) change after an event
// recorded them. They are compared with the last event about them only: after
// the last event of a stream, f gets one RecountedEvent with State set for
// each such row.
//
// coverage, if not nil, collects which rows are recorded.
func (r Snapshot) RecountFacts(ctx context.Context, cover *Coverage, f func(t RecountedEvent) error) error {
	c := recounter{r: r, cover: cover, f: f, global: map[string]bool{}, at: newStream(""), last: map[string]*stepScan{}}
	sql := fmt.Sprintf(`declare facts no scroll cursor for
		select stream, sequence, type, stage, attempt, body, facts from only public.event where facts <> ''
			or type = any('{%s}') order by stream, sequence`, joinTypes(audit.SealingTypes))
	if _, err := r.tx.Exec(ctx, sql); err != nil {
		return err
	}
	for {
		events, err := queryRows(ctx, r.tx, scanFact, "fetch "+strconv.Itoa(eventsAtOnce)+" from facts")
		if err != nil {
			return err
		}
		if len(events) == 0 {
			break
		}
		if err := c.events(ctx, events); err != nil {
			return err
		}
	}
	c.finishStream()
	if err := c.flush(ctx); err != nil {
		return err
	}
	_, err := r.tx.Exec(ctx, "close facts")
	return err
}

// joinTypes writes event types as the elements of an SQL array.
func joinTypes(types []trimtab.EventType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, ",")
}

// scanFact reads the columns of an event that recounting needs.
func scanFact(row pgx.CollectableRow) (e audit.Event, err error) {
	err = row.Scan(&e.Stream, &e.Sequence, &e.Type, &e.Stage, &e.Attempt, &e.Body, &e.Facts)
	return e, err
}

// recounter goes through the events in order, requests the rows that they
// seal, and hands each event on when its rows have arrived. Requests are sent
// in batches, because a round trip for each of a million events would take
// most of the time.
type recounter struct {
	rowHasher
	r     Snapshot
	f     func(t RecountedEvent) error
	cover *Coverage

	// requests are those of the events in waiting that were not sent yet.
	requests []*rowRequest
	// waiting are handed to f, in order, when the requests are answered.
	waiting []*RecountedEvent

	at *streamState
	// attempts maps, for the runs at hand, stage and number to an attempt's id.
	attempts map[string]map[string]int64
	// kinds maps the datasets at hand to the kind of their items.
	kinds map[string]string
	// global are the recorded rows that events of any stream may record.
	global map[string]bool
	// last maps a table to the request that the next steps may extend.
	last map[string]*stepScan
}

// streamState is what is known of the stream whose events are being read.
type streamState struct {
	name string
	// freezes counts the dataset_frozen events so far: the n-th of them records
	// the n-th row of dataset_freeze.
	freezes int64
	// states are the last events about each row of a state table, in the order
	// in which the rows were first recorded.
	states []*stateClaim
	// seen are the rows that were recorded, by rowKey.
	seen map[string]bool
	// spans are the steps of attempts that were recorded, by table and attempt.
	spans map[string]*stepRanges
}

// newStream is the state before a stream's first event.
func newStream(name string) *streamState {
	return &streamState{name: name, seen: map[string]bool{}, spans: map[string]*stepRanges{}}
}

// events requests the rows of the next events and hands them on.
func (c *recounter) events(ctx context.Context, events []audit.Event) error {
	if err := c.loadStreams(ctx, events); err != nil {
		return err
	}
	for i := range events {
		e := &events[i]
		if e.Stream != c.at.name {
			c.finishStream()
			c.at = newStream(e.Stream)
			clear(c.last)
		}
		t := &RecountedEvent{Stream: e.Stream, Sequence: e.Sequence, Type: e.Type, Stage: e.Stage, Attempt: e.Attempt,
			Facts: e.Facts}
		// An event whose body cannot be read is handed on without rows.
		rows, err := e.Seals()
		t.Err = err
		c.waiting = append(c.waiting, t)
		for _, one := range rows {
			if err := c.recountTable(ctx, t, one); err != nil {
				return err
			}
		}
		// Its row of dataset_freeze has no number of its own: the order of
		// the events is that of the rows.
		if e.Type == trimtab.EventDatasetFrozen {
			c.at.freezes++
		}
	}
	return c.flush(ctx)
}

// flush sends the requests and hands on the events that waited for them.
func (c *recounter) flush(ctx context.Context) error {
	if err := c.r.sendRequests(ctx, c.requests); err != nil {
		return err
	}
	c.requests = c.requests[:0]
	clear(c.last)
	for _, t := range c.waiting {
		if err := c.f(*t); err != nil {
			return err
		}
	}
	c.waiting = c.waiting[:0]
	return nil
}

// loadStreams reads the attempts of the runs and the kinds of the datasets
// that the events are about.
func (c *recounter) loadStreams(ctx context.Context, events []audit.Event) error {
	var runs, datasets []string
	for _, e := range events {
		if n := len(runs); n == 0 || runs[n-1] != e.Stream {
			runs = append(runs, e.Stream)
			datasets = append(datasets, audit.DatasetOf(e.Stream))
		}
	}
	c.attempts, c.kinds = map[string]map[string]int64{}, map[string]string{}
	rows, err := c.r.tx.Query(ctx,
		"select run, stage, number, id from only public.attempt where run = any($1) order by id desc", runs)
	if err != nil {
		return err
	}
	var run, stage, name, kind string
	var number int
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&run, &stage, &number, &id}, func() error {
		if c.attempts[run] == nil {
			c.attempts[run] = map[string]int64{}
		}
		c.attempts[run][attemptKey(stage, number)] = id // the first, if there are several
		return nil
	})
	if err != nil {
		return err
	}
	if rows, err = c.r.tx.Query(ctx, "select name, kind from only public.dataset where name = any($1)",
		datasets); err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&name, &kind}, func() error { c.kinds[name] = kind; return nil })
	return err
}

// attemptKey identifies an attempt within its run.
func attemptKey(stage string, number int) string { return strconv.Itoa(number) + " " + stage }

// recountTable requests the rows of one line of an event's facts.
func (c *recounter) recountTable(ctx context.Context, t *RecountedEvent, rows audit.RowSelector) error {
	if rows.Table == nil {
		return c.recountItems(ctx, t)
	}
	t.Recounts = append(t.Recounts, Recount{Seal: audit.Seal{Table: rows.Table.Name}, Deferred: rows.Table.Mutable})
	p := &tableRecount{event: t, of: c.at, line: len(t.Recounts) - 1, rows: rows}
	args, ok := c.args(t, rows)
	switch {
	case rows.Table.Mutable:
		c.trackState(p, args, ok)
		return nil
	case !ok || rows.None:
		p.done()
		return nil
	}
	if rows.Table.ColumnIndex("step") >= 0 {
		c.requestSteps(p, args[0])
		return nil
	}
	c.requestRows(p, args)
	return nil
}

// requestRows requests the rows of a part with its statement of rowQueries.
func (c *recounter) requestRows(p *tableRecount, args []string) {
	c.requests = append(c.requests, &rowRequest{sql: rowQueries[p.rows.Table.Name], args: args, done: p.done,
		row: func(values [][]byte) error { return c.addRow(p, values) }})
}

// args are the parameters of the statement that finds rows. It is not ok if
// there can be no rows: the attempt is unknown, or a text has a NUL, which no
// row can hold.
func (c *recounter) args(t *RecountedEvent, rows audit.RowSelector) (args []string, ok bool) {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	switch rows.Table.Name {
	case "attempt", "attempt_state", "attempt_input", "attempt_output", "attempt_metric",
		"step", "metric", "timing", "rollout", "checkpoint":
		id, ok := c.attempts[t.Stream][attemptKey(t.Stage, t.Attempt)]
		return []string{number(id)}, ok
	case "run", "run_state":
		args = []string{t.Stream}
	case "run_plan":
		args = []string{t.Stream, number(rows.Revision)}
	case "document", "dataset_version", "dataset_version_item":
		args = []string{rows.Digest}
	case "dataset":
		args = []string{audit.DatasetOf(t.Stream)}
	case "dataset_freeze":
		args = []string{audit.DatasetOf(t.Stream), number(c.at.freezes)}
	case "erasure", "dataset_item":
		args = []string{audit.DatasetOf(t.Stream), number(t.Sequence)}
	case "artifact":
		run := t.Stream
		if strings.HasPrefix(run, "artifact/") {
			run = ""
		}
		args = []string{rows.Digest, rows.Name, t.Stage, run, strconv.Itoa(t.Attempt)}
	case "evaluation":
		args = []string{t.Stream, rows.Digest, strconv.Itoa(t.Attempt), t.Stage,
			number(recordedRows(t.Facts, "evaluation"))}
	}
	// A NUL in a parameter would be an error of the whole batch.
	for _, a := range args { // what no row can hold
		if strings.ContainsRune(a, 0) {
			return nil, false
		}
	}
	return args, true
}

// recordedRows is the number of rows of a table that the facts of an event
// record, and 1 if they record none.
func recordedRows(facts []byte, table string) int64 {
	seals, _ := audit.ParseSeals(facts)
	for _, s := range seals {
		if s.Table == table {
			return s.Rows
		}
	}
	return 1
}

// tableRecount accumulates the rows of one line of an event's facts.
type tableRecount struct {
	event *RecountedEvent
	of    *streamState
	line  int // index in event.Recounts
	rows  audit.RowSelector
	sum   audit.Sum
	fresh int64
}

// done stores the result in the event.
func (p *tableRecount) done() {
	line := &p.event.Recounts[p.line]
	line.Seal, line.Fresh = p.sum.Seal(line.Table), p.fresh
}

// addRow adds a row to a part.
func (c *recounter) addRow(p *tableRecount, values [][]byte) error {
	digest, err := c.digest(p.rows.Table, values)
	p.sum.Add(digest[:])
	if c.isFresh(p, values) {
		p.fresh++
	}
	return err
}

// isFresh reports whether no earlier event recorded a row, and marks it as
// recorded. Counting fresh rows makes the sum over all events comparable with
// the number of rows of the table. Rows of a dataset count in the dataset's
// own stream alone, so that an event in another stream cannot account for
// them.
func (c *recounter) isFresh(p *tableRecount, values [][]byte) bool {
	t := p.rows.Table
	if t.Shared {
		return false
	}
	seen := p.of.seen
	switch t.Name {
	case "document":
		seen = c.global
	case "artifact":
		if strings.HasPrefix(p.of.name, "artifact/") {
			seen = c.global
		}
	case "dataset", "dataset_freeze", "dataset_item", "erasure":
		if !strings.HasPrefix(p.of.name, "dataset/") {
			return false
		}
		if t.Name == "dataset_item" || t.Name == "erasure" { // each is of one event
			c.cover.add(t, values)
			return true
		}
	}
	key := rowKey(t, values)
	if seen[key] {
		return false
	}
	seen[key] = true
	c.cover.add(t, values)
	return true
}

// stateClaim is the last event about a row of a state table.
type stateClaim struct {
	part *tableRecount
	args []string // of the statement that finds the row
	ok   bool     // the row can exist
}

// trackState remembers that an event recorded a row of a state table, in
// place of an earlier event about the same row.
func (c *recounter) trackState(p *tableRecount, args []string, ok bool) {
	t := p.event
	was, _ := audit.ParseSeals(t.Facts)
	last := &RecountedEvent{Stream: t.Stream, Sequence: t.Sequence, Type: t.Type, Stage: t.Stage, Attempt: t.Attempt,
		State: true}
	last.Recounts = []Recount{{Seal: audit.Seal{Table: p.rows.Table.Name}}}
	for _, s := range was {
		if s.Table == p.rows.Table.Name {
			last.Recorded = s
		}
	}
	p = &tableRecount{event: last, of: c.at, rows: p.rows}
	for i, have := range c.at.states {
		of := have.part.event
		if have.part.rows.Table == p.rows.Table && slices.Equal(have.args, args) && of.Stage == t.Stage &&
			of.Attempt == t.Attempt {
			c.at.states[i] = &stateClaim{p, args, ok}
			return
		}
	}
	c.at.states = append(c.at.states, &stateClaim{p, args, ok})
}

// finishStream requests the rows of state tables that the stream recorded,
// and queues the last events about them.
func (c *recounter) finishStream() {
	for _, s := range c.at.states {
		c.waiting = append(c.waiting, s.part.event)
		if s.ok {
			c.requestRows(s.part, s.args)
		} else {
			s.part.done()
		}
	}
	c.at.states = nil
}

// stepScan is one request for the rows of consecutive steps that several
// events record. A run of a thousand commits takes one statement instead of a
// thousand.
type stepScan struct {
	c        *recounter
	attempt  string // its id, as the statement takes it
	request  *rowRequest
	parts    []*tableRecount // one for each event, in order of step
	at       int             // index in parts of the step at hand
	recorded *stepRanges     // steps that earlier events recorded
}

// requestSteps requests the rows of steps of an attempt, by extending the
// previous request of the table if the steps follow directly.
func (c *recounter) requestSteps(p *tableRecount, attempt string) {
	name := p.rows.Table.Name
	until := strconv.FormatInt(p.rows.Until, 10)
	// The previous request was not sent yet, so its upper bound can still
	// move.
	if s := c.last[name]; s != nil && s.attempt == attempt && s.parts[len(s.parts)-1].rows.Until == p.rows.From {
		s.parts = append(s.parts, p)
		s.request.args[2] = until
		return
	}
	s := &stepScan{c: c, attempt: attempt, parts: []*tableRecount{p}, recorded: p.of.spansOf(name, attempt)}
	args := []string{attempt, strconv.FormatInt(p.rows.From, 10), until}
	s.request = &rowRequest{sql: rowQueries[name], args: args, row: s.take, done: s.done}
	c.last[name] = s
	c.requests = append(c.requests, s.request)
}

// take adds a row to the part of its step. Rows arrive in order of step.
func (s *stepScan) take(values [][]byte) error {
	t := s.parts[0].rows.Table
	i := t.ColumnIndex("step")
	step, err := strconv.ParseInt(valueText(t.Columns[i].Type, values[i]), 10, 64)
	if err != nil {
		return fmt.Errorf("the step of a row of %s: %w", t.Name, err)
	}
	// Steps in between that have no rows belong to parts that stay empty.
	for s.at < len(s.parts)-1 && step >= s.parts[s.at].rows.Until {
		s.at++
	}
	digest, err := s.c.digest(t, values)
	s.parts[s.at].sum.Add(digest[:])
	if !s.recorded.has(step) {
		s.parts[s.at].fresh++
	}
	return err
}

// done stores the results of all parts.
func (s *stepScan) done() {
	name := s.parts[0].rows.Table.Name
	for _, p := range s.parts {
		p.done()
		s.recorded.add(p.rows.From, p.rows.Until)
		s.c.cover.addSteps(name, s.attempt, p.rows.From, p.rows.Until)
	}
}

// spansOf is the set of recorded steps of a table and an attempt.
func (s *streamState) spansOf(table, attempt string) *stepRanges {
	key := table + " " + attempt
	if s.spans[key] == nil {
		s.spans[key] = &stepRanges{}
	}
	return s.spans[key]
}
