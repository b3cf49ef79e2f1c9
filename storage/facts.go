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

// Told is an event that tells of rows: what it said of them, and what they are now.
type Told struct {
	Stream   string
	Sequence int64
	Type     string
	Stage    string
	Attempt  int
	Facts    []byte     // what the event said, lines
	Now      []Recount  // what the rows are now, in the order in which an event of its type tells of tables
	State    bool       // it is the last event of its stream that told of a row that changes: Now is that row
	Was      audit.Seal // with State: what it said of the row
	Err      error      // its body cannot be read
}

// Recount is a line of facts, computed from the rows as they are now.
type Recount struct {
	audit.Seal
	Fresh int64 // rows of which no event before it told
	Later bool  // the rows change, and are compared with the last event about them
}

// eventsAtOnce is how many events are looked at together.
const eventsAtOnce = 500

// Facts calls f with every event that tells of rows, in order of stream and sequence, and after the last event of a
// stream with the rows of it that change. With a cover, it is told which rows events tell of.
func (r Reading) Facts(ctx context.Context, cover *Cover, f func(t Told) error) error {
	c := recount{r: r, cover: cover, f: f, global: map[string]bool{}, at: newStream(""), last: map[string]*run{}}
	sql := fmt.Sprintf(`declare facts no scroll cursor for
		select stream, sequence, type, stage, attempt, body, facts from only public.event where facts <> '' or type = any('{%s}') order by stream, sequence`, strings.Join(audit.Sealing, ","))
	if _, err := r.tx.Exec(ctx, sql); err != nil {
		return err
	}
	for {
		events, err := collect(ctx, r.tx, scanFact, "fetch "+strconv.Itoa(eventsAtOnce)+" from facts")
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
	c.ended()
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

// recount goes through events in order and asks for the rows that they tell of.
type recount struct {
	hasher
	r     Reading
	f     func(t Told) error
	cover *Cover

	requests []*request
	waiting  []*Told // until their requests are answered

	at       *stream
	attempts map[string]map[string]int64 // of a run: by stage and number
	kinds    map[string]string           // of datasets
	global   map[string]bool             // rows that events of any stream may tell of
	last     map[string]*run             // the request that may be made longer, by table
}

// stream is what is known of the stream that is gone through.
type stream struct {
	name    string
	freezes int64             // dataset_frozen events so far
	states  []*claim          // the last event about each row that changes, in the order in which they came
	seen    map[string]bool   // rows that were told of
	spans   map[string]*spans // steps of attempts that were told of, by table and attempt
}

func newStream(name string) *stream {
	return &stream{name: name, seen: map[string]bool{}, spans: map[string]*spans{}}
}

// events takes the next events.
func (c *recount) events(ctx context.Context, events []audit.Event) error {
	if err := c.look(ctx, events); err != nil {
		return err
	}
	for i := range events {
		e := &events[i]
		if e.Stream != c.at.name {
			c.ended()
			c.at = newStream(e.Stream)
			clear(c.last)
		}
		t := &Told{Stream: e.Stream, Sequence: e.Sequence, Type: e.Type, Stage: e.Stage, Attempt: e.Attempt, Facts: e.Facts}
		rows, err := e.Seals()
		t.Err = err
		c.waiting = append(c.waiting, t)
		for _, one := range rows {
			if err := c.tell(ctx, t, one); err != nil {
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
func (c *recount) flush(ctx context.Context) error {
	if err := c.r.ask(ctx, c.requests); err != nil {
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

// look reads the attempts of the runs and the kinds of the datasets that events are of.
func (c *recount) look(ctx context.Context, events []audit.Event) error {
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
	if rows, err = c.r.tx.Query(ctx, "select name, kind from only public.dataset where name = any($1)", datasets); err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&name, &kind}, func() error { c.kinds[name] = kind; return nil })
	return err
}

func attemptKey(stage string, number int) string { return strconv.Itoa(number) + " " + stage }

// tell asks for the rows of one line of an event's facts.
func (c *recount) tell(ctx context.Context, t *Told, rows audit.Rows) error {
	if rows.Table == nil {
		return c.items(ctx, t)
	}
	t.Now = append(t.Now, Recount{Seal: audit.Seal{Table: rows.Table.Name}, Later: rows.Table.State})
	p := &part{told: t, of: c.at, line: len(t.Now) - 1, rows: rows}
	args, ok := c.args(t, rows)
	switch {
	case rows.Table.State:
		c.claim(p, args, ok)
		return nil
	case !ok || rows.None:
		p.done()
		return nil
	}
	if rows.Table.Column("step") >= 0 {
		c.ask(p, args[0])
		return nil
	}
	c.find(p, args)
	return nil
}

// find asks for the rows of a part.
func (c *recount) find(p *part, args []string) {
	c.requests = append(c.requests, &request{sql: finding[p.rows.Table.Name], args: args, done: p.done,
		row: func(values [][]byte) error { return c.take(p, values) }})
}

// args are the parameters of the statement that finds rows; not ok, if there can be none.
func (c *recount) args(t *Told, rows audit.Rows) (args []string, ok bool) {
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
		args = []string{t.Stream, rows.Digest, strconv.Itoa(t.Attempt), t.Stage, number(saidRows(t.Facts, "evaluation"))}
	}
	for _, a := range args { // what no row can hold
		if strings.ContainsRune(a, 0) {
			return nil, false
		}
	}
	return args, true
}

// saidRows is how many rows of a table the facts of an event say; 1 if they say none.
func saidRows(facts []byte, table string) int64 {
	seals, _ := audit.ParseSeals(facts)
	for _, s := range seals {
		if s.Table == table {
			return s.Rows
		}
	}
	return 1
}

// part is what is found for one line of an event's facts.
type part struct {
	told  *Told
	of    *stream
	line  int // of told.Now
	rows  audit.Rows
	sum   audit.Sum
	fresh int64
}

// done puts what was found into the line.
func (p *part) done() {
	line := &p.told.Now[p.line]
	line.Seal, line.Fresh = p.sum.Seal(line.Table), p.fresh
}

// take adds a row to a part.
func (c *recount) take(p *part, values [][]byte) error {
	digest, err := c.digest(p.rows.Table, values)
	p.sum.Add(digest[:])
	if c.isFresh(p, values) {
		p.fresh++
	}
	return err
}

// isFresh reports whether no event before told of a row, and takes note that one does now. Rows of a dataset count in
// the dataset's own stream alone.
func (c *recount) isFresh(p *part, values [][]byte) bool {
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
	key := keyOf(t, values)
	if seen[key] {
		return false
	}
	seen[key] = true
	c.cover.add(t, values)
	return true
}

// claim is the last event about a row that changes.
type claim struct {
	part *part
	args []string
	ok   bool
}

// claim takes note that an event tells of a row that changes. The last one holds.
func (c *recount) claim(p *part, args []string, ok bool) {
	t := p.told
	was, _ := audit.ParseSeals(t.Facts)
	last := &Told{Stream: t.Stream, Sequence: t.Sequence, Type: t.Type, Stage: t.Stage, Attempt: t.Attempt, State: true}
	last.Now = []Recount{{Seal: audit.Seal{Table: p.rows.Table.Name}}}
	for _, s := range was {
		if s.Table == p.rows.Table.Name {
			last.Was = s
		}
	}
	p = &part{told: last, of: c.at, rows: p.rows}
	for i, have := range c.at.states {
		of := have.part.told
		if have.part.rows.Table == p.rows.Table && slices.Equal(have.args, args) && of.Stage == t.Stage && of.Attempt == t.Attempt {
			c.at.states[i] = &claim{p, args, ok}
			return
		}
	}
	c.at.states = append(c.at.states, &claim{p, args, ok})
}

// ended asks for the rows of the stream that change, and has the last events about them handed on.
func (c *recount) ended() {
	for _, s := range c.at.states {
		c.waiting = append(c.waiting, s.part.told)
		if s.ok {
			c.find(s.part, s.args)
		} else {
			s.part.done()
		}
	}
	c.at.states = nil
}

// run is a request for the rows of steps that follow one another, of which several events tell.
type run struct {
	c       *recount
	attempt string
	request *request
	parts   []*part
	at      int    // of parts
	told    *spans // steps of which earlier events told
}

// ask asks for the rows of steps of an attempt, together with those of the event before if these come right before.
func (c *recount) ask(p *part, attempt string) {
	name := p.rows.Table.Name
	until := strconv.FormatInt(p.rows.Until, 10)
	if s := c.last[name]; s != nil && s.attempt == attempt && s.parts[len(s.parts)-1].rows.Until == p.rows.From {
		s.parts = append(s.parts, p)
		s.request.args[2] = until
		return
	}
	s := &run{c: c, attempt: attempt, parts: []*part{p}, told: p.of.spansOf(name, attempt)}
	args := []string{attempt, strconv.FormatInt(p.rows.From, 10), until}
	s.request = &request{sql: finding[name], args: args, row: s.take, done: s.done}
	c.last[name] = s
	c.requests = append(c.requests, s.request)
}

// take adds a row, which comes in order of its step, to the part of its step.
func (s *run) take(values [][]byte) error {
	t := s.parts[0].rows.Table
	i := t.Column("step")
	step, err := strconv.ParseInt(valueText(t.Columns[i].Type, values[i]), 10, 64)
	if err != nil {
		return fmt.Errorf("the step of a row of %s: %w", t.Name, err)
	}
	for s.at < len(s.parts)-1 && step >= s.parts[s.at].rows.Until {
		s.at++
	}
	digest, err := s.c.digest(t, values)
	s.parts[s.at].sum.Add(digest[:])
	if !s.told.has(step) {
		s.parts[s.at].fresh++
	}
	return err
}

func (s *run) done() {
	name := s.parts[0].rows.Table.Name
	for _, p := range s.parts {
		p.done()
		s.told.add(p.rows.From, p.rows.Until)
		s.c.cover.addSteps(name, s.attempt, p.rows.From, p.rows.Until)
	}
}

func (s *stream) spansOf(table, attempt string) *spans {
	key := table + " " + attempt
	if s.spans[key] == nil {
		s.spans[key] = &spans{}
	}
	return s.spans[key]
}
