package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/audit"
)

// HasEvent is an event that tells of rows: what it said of them, and what they are now.
type RecountedEvent struct {
	Stream   string
	Sequence int64
	Type     string
	Stage    string
	Attempt  int
	Facts    []byte     // what the event said, lines
	Recounts []Recount  // what the rows are now, in the order in which an event of its type tells of tables
	State    bool       // it is the last event of its stream that told of a row that changes: Now is that row
	Recorded audit.Seal // with State: what it said of the row
	Err      error      // its body cannot be read
}

// Recount is a line of facts, computed from the rows as they are now.
type Recount struct {
	audit.Seal
	Fresh    int64 // rows of which no event before it told
	Deferred bool  // the rows change, and are compared with the last event about them
}

// eventsAtOnce is how many events are looked at together.
const eventsAtOnce = 500

// RecountFacts calls f with every event that tells of rows, in order of stream and sequence, and after the last event
// of a
// stream with the rows of it that change. With a cover, it is told which rows events tell of.
func (r Snapshot) RecountFacts(ctx context.Context, cover *Coverage, f func(t RecountedEvent) error) error {
	c := recounter{r: r, cover: cover, f: f, global: map[string]bool{}, at: newStream(""), last: map[string]*stepScan{}}
	sql := fmt.Sprintf(`declare facts no scroll cursor for
		select stream, sequence, type, stage, attempt, body, facts from only public.event where facts <> '' or type = any('{%s}') order by stream, sequence`, strings.Join(audit.SealingTypes, ","))
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

func scanFact(row pgx.CollectableRow) (e audit.Event, err error) {
	err = row.Scan(&e.Stream, &e.Sequence, &e.Type, &e.Stage, &e.Attempt, &e.Body, &e.Facts)
	return e, err
}

// recounter goes through events in order and asks for the rows that they tell of.
type recounter struct {
	rowHasher
	r     Snapshot
	f     func(t RecountedEvent) error
	cover *Coverage

	requests []*rowRequest
	waiting  []*RecountedEvent // until their requests are answered

	at       *streamState
	attempts map[string]map[string]int64 // of a run: by stage and number
	kinds    map[string]string           // of datasets
	global   map[string]bool             // rows that events of any stream may tell of
	last     map[string]*stepScan        // the request that may be made longer, by table
}

// streamState is what is known of the stream that is gone through.
type streamState struct {
	name    string
	freezes int64                  // dataset_frozen events so far
	states  []*stateClaim          // the last event about each row that changes, in the order in which they came
	seen    map[string]bool        // rows that were told of
	spans   map[string]*stepRanges // steps of attempts that were told of, by table and attempt
}

func newStream(name string) *streamState {
	return &streamState{name: name, seen: map[string]bool{}, spans: map[string]*stepRanges{}}
}

// events takes the next events.
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
		rows, err := e.Seals()
		t.Err = err
		c.waiting = append(c.waiting, t)
		for _, one := range rows {
			if err := c.recountTable(ctx, t, one); err != nil {
				return err
			}
		}
		if e.Type == "dataset_frozen" {
			c.at.freezes++
		}
	}
	return c.flush(ctx)
}

// flush has the requests answered and hands on what waited for them.
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

// measure reads the attempts of the runs and the kinds of the datasets that events are of.
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

func attemptKey(stage string, number int) string { return strconv.Itoa(number) + " " + stage }

// recountTable asks for the rows of one line of an event's facts.
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

// requestRows asks for the rows of a part.
func (c *recounter) requestRows(p *tableRecount, args []string) {
	c.requests = append(c.requests, &rowRequest{sql: rowQueries[p.rows.Table.Name], args: args, done: p.done,
		row: func(values [][]byte) error { return c.addRow(p, values) }})
}

// args are the parameters of the statement that finds rows; not ok, if there can be none.
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
	for _, a := range args { // what no row can hold
		if strings.ContainsRune(a, 0) {
			return nil, false
		}
	}
	return args, true
}

// recordedRows is how many rows of a table the facts of an event say; 1 if they say none.
func recordedRows(facts []byte, table string) int64 {
	seals, _ := audit.ParseSeals(facts)
	for _, s := range seals {
		if s.Table == table {
			return s.Rows
		}
	}
	return 1
}

// tableRecount is what is found for one line of an event's facts.
type tableRecount struct {
	event *RecountedEvent
	of    *streamState
	line  int // of told.Now
	rows  audit.RowSelector
	sum   audit.Sum
	fresh int64
}

// result puts what was found into the line.
func (p *tableRecount) done() {
	line := &p.event.Recounts[p.line]
	line.Seal, line.Fresh = p.sum.Seal(line.Table), p.fresh
}

// collectRefs adds a row to a part.
func (c *recounter) addRow(p *tableRecount, values [][]byte) error {
	digest, err := c.digest(p.rows.Table, values)
	p.sum.Add(digest[:])
	if c.isFresh(p, values) {
		p.fresh++
	}
	return err
}

// isFresh reports whether no event before told of a row, and takes note that one does now. Rows of a dataset count in
// the dataset's own stream alone.
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

// stateClaim is the last event about a row that changes.
type stateClaim struct {
	part *tableRecount
	args []string
	ok   bool
}

// stateClaim takes note that an event tells of a row that changes. The last one holds.
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

// finishStream asks for the rows of the stream that change, and has the last events about them handed on.
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

// stepScan is a request for the rows of steps that follow one another, of which several events tell.
type stepScan struct {
	c        *recounter
	attempt  string
	request  *rowRequest
	parts    []*tableRecount
	at       int         // of parts
	recorded *stepRanges // steps of which earlier events told
}

// requestSteps asks for the rows of steps of an attempt, together with those of the event before if these come right
// before.
func (c *recounter) requestSteps(p *tableRecount, attempt string) {
	name := p.rows.Table.Name
	until := strconv.FormatInt(p.rows.Until, 10)
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

// collectRefs adds a row, which comes in order of its step, to the part of its step.
func (s *stepScan) take(values [][]byte) error {
	t := s.parts[0].rows.Table
	i := t.ColumnIndex("step")
	step, err := strconv.ParseInt(valueText(t.Columns[i].Type, values[i]), 10, 64)
	if err != nil {
		return fmt.Errorf("the step of a row of %s: %w", t.Name, err)
	}
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

func (s *stepScan) done() {
	name := s.parts[0].rows.Table.Name
	for _, p := range s.parts {
		p.done()
		s.recorded.add(p.rows.From, p.rows.Until)
		s.c.cover.addSteps(name, s.attempt, p.rows.From, p.rows.Until)
	}
}

func (s *streamState) spansOf(table, attempt string) *stepRanges {
	key := table + " " + attempt
	if s.spans[key] == nil {
		s.spans[key] = &stepRanges{}
	}
	return s.spans[key]
}
