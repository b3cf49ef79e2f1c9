package notary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/storage"
)

// Problem is one thing that is not as it was recorded.
type Problem struct {
	Where string `json:"where"` // the event, row, head or file
	What  string `json:"what"`
}

// Report is what a verification looked at and found.
type Report struct {
	Events   int64            `json:"events"`
	Leaves   int64            `json:"leaves"` // events in the tree
	Heads    int              `json:"heads"`  // signed heads that were compared
	Newest   audit.Head       `json:"-"`      // the largest head whose signature holds
	Rows     map[string]int64 `json:"rows"`   // of each audited table
	Files    int              `json:"files"`  // models whose files were read
	Problems []Problem        `json:"problems"`
	More     int              `json:"more"` // problems beyond those
}

// most is how many problems are named.
const most = 100

func (r *Report) add(where, what string, args ...any) {
	if len(r.Problems) == most {
		r.More++
		return
	}
	r.Problems = append(r.Problems, Problem{where, fmt.Sprintf(what, args...)})
}

// SavedHead is a signed head that lies outside the database, and where.
type SavedHead struct{ Where, Note string }

// Verify is what to hold the record against.
type Verify struct {
	Store *storage.Store
	Keys  []string // that heads may be signed with
	Saved []SavedHead
	// Model reads the files of a model and compares their digests; nil leaves files out.
	Model func(digest string) error
}

// Run verifies the record as it is at one instant: each stream's chain, the
// tree over all of them, every signed head, the rows that events tell of, and the
// files of the models. It needs memory for the streams and the attempts of one
// run, not for the events. Errors are of the looking; what is wrong is in the report.
func (v Verify) Run(ctx context.Context) (Report, error) {
	var rep Report
	err := v.Store.Reading(ctx, func(r storage.Reading) error {
		streams, err := v.chains(ctx, r, &rep)
		if err := rep.unreadable("the events", err); err != nil {
			return err
		}
		if err := rep.unreadable("the tree", v.tree(ctx, r, &rep, streams)); err != nil {
			return err
		}
		if err := rep.unreadable("the rows", v.facts(ctx, r, &rep)); err != nil {
			return err
		}
		return rep.unreadable("the models", v.models(ctx, r, &rep))
	})
	return rep, err
}

// unreadable makes a problem of what cannot be read because it was changed; a
// database that is away, or whoever lost patience, is an error.
func (r *Report) unreadable(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || storage.Away(err) {
		return err
	}
	r.add(what, "they cannot be read to the end: %v", err)
	return nil
}

func eventName(stream string, sequence int64) string {
	return fmt.Sprintf("event %d of %s", sequence, stream)
}

// chains follows every stream and holds its end against what stands beside it.
func (v Verify) chains(ctx context.Context, r storage.Reading, rep *Report) (map[string]storage.Stream, error) {
	beside, err := r.Streams(ctx)
	if err != nil {
		return nil, err
	}
	c := chainCheck{rep: rep, streams: make(map[string]storage.Stream, len(beside)), seen: map[string]bool{}}
	for _, s := range beside {
		c.streams[s.Name] = s
	}
	err = r.Events(ctx, c.next)
	c.ended()
	for _, s := range beside {
		if s.Head > 0 && !c.seen[s.Name] {
			rep.add("stream "+s.Name, "event_stream says %d events, none is there", s.Head)
		}
	}
	return c.streams, err
}

// chainCheck follows the events of all streams.
type chainCheck struct {
	rep     *Report
	chain   audit.Chain
	streams map[string]storage.Stream // what stands beside the events
	seen    map[string]bool
	broken  string // the stream at hand, if one of its events was named already
}

func (c *chainCheck) next(e *audit.Event, stored audit.Hash) error {
	c.rep.Events++
	if name, _, _ := c.chain.Last(); e.Stream != name {
		c.ended()
	}
	if err := c.chain.Next(e, stored); err != nil {
		if c.broken != e.Stream { // what follows in the stream hangs on it
			c.rep.add(eventName(e.Stream, e.Sequence), "%v", err)
		}
		c.broken = e.Stream
		c.chain.Skip(e, stored)
	}
	return nil
}

// ended compares the end of the stream at hand.
func (c *chainCheck) ended() {
	name, last, hash := c.chain.Last()
	if last == 0 {
		return
	}
	c.seen[name] = true
	if s, ok := c.streams[name]; !ok {
		c.rep.add("stream "+name, "it has events, but no row in event_stream")
	} else if s.Head != last || !bytes.Equal(s.Hash, hash[:]) {
		c.rep.add("stream "+name, "it ends with event %d, event_stream says %d: events were taken out or put in at its end, or event_stream was changed", last, s.Head)
	}
}

// tree builds the tree again and compares it with every head.
func (v Verify) tree(ctx context.Context, r storage.Reading, rep *Report, streams map[string]storage.Stream) error {
	heads, err := v.heads(ctx, r, rep)
	if err != nil {
		return err
	}
	c := headCheck{rep: rep, heads: heads}
	c.reached()
	last := make(map[string]int64, len(streams))
	holes := false
	err = r.Leaves(ctx, func(index int64, stream string, sequence int64, hash audit.Hash, found bool) error {
		where := fmt.Sprintf("leaf %d", index)
		if index != c.tree.Size() && !holes {
			rep.add(where, "leaves %d to %d are missing", c.tree.Size(), index-1)
			holes = true
		}
		if !found {
			rep.add(where, "its event %d of %s is gone", sequence, stream)
		}
		if last[stream]+1 != sequence {
			rep.add(where, "it is event %d of %s, which comes after %d", sequence, stream, last[stream])
		}
		last[stream] = sequence
		c.add(hash)
		return nil
	})
	if err != nil {
		return err
	}
	rep.Leaves = c.tree.Size()
	c.ended()
	for _, name := range sorted(streams) {
		s := streams[name]
		if s.Logged != last[name] {
			rep.add("stream "+name, "event_stream says that %d of its events are in the tree, there are %d", s.Logged, last[name])
		}
	}
	return v.stored(ctx, r, rep, c.tree.Root())
}

// stored holds the stored hashes of the tree against one another, and against the root.
func (v Verify) stored(ctx context.Context, r storage.Reading, rep *Report, root audit.Hash) error {
	var t audit.HashList
	bad := false
	err := r.Hashes(ctx, func(index int64, hash []byte) error {
		if bad {
			return nil
		}
		if err := t.Next(index, hash); err != nil {
			rep.add(fmt.Sprintf("log_hash %d", index), "%v", err)
			bad = true
		}
		return nil
	})
	if err == nil && !bad && (!t.Whole() || t.Size() != rep.Leaves || t.Root() != root) {
		rep.add("log_hash", "the stored hashes are of another tree than that of the events: %d leaves, root %s; the events have %d, root %s", t.Size(), t.Root(), rep.Leaves, root)
	}
	return err
}

// placed is a head whose signature holds.
type placed struct {
	where string
	head  audit.Head
}

// heads opens every signed head, in order of size.
func (v Verify) heads(ctx context.Context, r storage.Reading, rep *Report) ([]placed, error) {
	rows, err := r.TreeHeads(ctx)
	if err != nil {
		return nil, err
	}
	saved := make([]SavedHead, 0, len(rows)+len(v.Saved))
	for _, row := range rows {
		where := fmt.Sprintf("tree_head %d", row.Size)
		saved = append(saved, SavedHead{where, row.Note})
		if h, err := audit.OpenHead(row.Note, v.Keys...); err == nil && h.Size != row.Size {
			rep.add(where, "its note is of size %d", h.Size)
		}
	}
	v.missing(rows, rep)
	return openAll(rep, v.Keys, append(saved, v.Saved...)), nil
}

// headCheck builds a tree and compares it with signed heads on the way.
type headCheck struct {
	rep   *Report
	tree  audit.Tree
	heads []placed // in order of size
	due   int      // the next one
}

func (c *headCheck) add(event audit.Hash) {
	c.tree.Add(event)
	c.reached()
}

// reached compares the heads of the size that the tree has now.
func (c *headCheck) reached() {
	for ; c.due < len(c.heads) && c.heads[c.due].head.Size == c.tree.Size(); c.due++ {
		if h := c.heads[c.due]; h.head.Root != c.tree.Root() {
			c.rep.add(h.where, "the record under this signed head of %d events is not what it was: the root is %s now, %s was signed", h.head.Size, c.tree.Root(), h.head.Root)
		}
	}
}

// ended reports the heads of trees that are larger.
func (c *headCheck) ended() {
	for ; c.due < len(c.heads); c.due++ {
		h := c.heads[c.due]
		c.rep.add(h.where, "it is of %d events, the tree has %d: the record ends too early, or is an older copy", h.head.Size, c.tree.Size())
	}
}

// missing finds heads that were taken out of the database, which has each before any other place does.
func (v Verify) missing(rows []storage.SignedHead, rep *Report) {
	have := map[string]bool{}
	for _, row := range rows {
		have[row.Note] = true
	}
	for _, s := range v.Saved {
		if !have[s.Note] {
			rep.add("table tree_head", "it lacks the signed head that is kept as %s", s.Where)
		}
	}
}

// states are the tables whose rows change, with an event each time: the last event about a row holds.
var states = []string{"run_state", "attempt_state"}

// shared are the tables whose rows several events may tell of.
var shared = []string{"text_item", "prompt", "demonstration", "ranking", "ranking_response", "response", "dataset_version", "dataset_version_item"}

// claim is the last word about a row of a state.
type claim struct {
	where    string
	was, now string
}

// facts holds the rows that events tell of against what was told, and looks for rows of which none tells.
func (v Verify) facts(ctx context.Context, r storage.Reading, rep *Report) error {
	c := factCheck{rep: rep, told: map[string]int64{}, last: map[string]claim{}}
	err := r.Facts(ctx, c.next)
	c.ended()
	if err != nil {
		return err
	}
	if rep.Rows, err = r.Tables(ctx); err != nil {
		return err
	}
	for _, table := range sorted(rep.Rows) {
		if n := rep.Rows[table]; n != c.told[table] && !slices.Contains(shared, table) {
			rep.add("table "+table, "it has %d rows, events tell of %d", n, c.told[table])
		}
	}
	strays, err := r.Strays(ctx)
	for _, s := range strays {
		rep.add("row "+s, "no event tells of it")
	}
	if err != nil {
		return err
	}
	changed, err := r.Remains(ctx)
	for _, s := range changed {
		rep.add("row "+s, "it was erased, and has been changed since")
	}
	return err
}

// factCheck compares what events said of rows with what they are.
type factCheck struct {
	rep    *Report
	told   map[string]int64 // rows, by table
	stream string
	last   map[string]claim // of the stream at hand, by table, stage and attempt
}

func (c *factCheck) next(t storage.Told) error {
	if t.Stream != c.stream {
		c.ended()
		c.stream = t.Stream
	}
	where := fmt.Sprintf("%s (%s)", eventName(t.Stream, t.Sequence), t.Type)
	was, now := factLines(t.Was), factLines(t.Is)
	for _, table := range sorted(was) {
		line := was[table]
		if slices.Contains(states, table) {
			c.last[fmt.Sprintf("%s %s %d", table, t.Stage, t.Attempt)] = claim{where, line.text, now[table].text}
			continue
		}
		if line.text != now[table].text {
			c.rep.add(where, "%s", differs(table, line.text, now[table].text))
		}
		c.told[table] += line.rows
	}
	return nil
}

// ended compares the last words about the states of the stream at hand.
func (c *factCheck) ended() {
	for _, key := range sorted(c.last) {
		table, _, _ := strings.Cut(key, " ")
		if l := c.last[key]; l.was != l.now {
			c.rep.add(l.where, "%s", differs(table, l.was, l.now))
		}
		c.told[table]++
	}
	clear(c.last)
}

func differs(table, was, now string) string {
	if now == "" {
		return fmt.Sprintf("the rows of %s that it tells of cannot be found", table)
	}
	return fmt.Sprintf("the rows of %s that it tells of are not what they were: %s was recorded, now it is %s", table, was, now)
}

type factLine struct {
	text string
	rows int64
}

func factLines(raw []byte) map[string]factLine {
	lines := map[string]factLine{}
	for line := range strings.Lines(string(raw)) {
		table, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		var l factLine
		_, _ = fmt.Sscan(rest, &l.rows)
		l.text = rest
		lines[table] = l
	}
	return lines
}

// models reads the files of every model in the record.
func (v Verify) models(ctx context.Context, r storage.Reading, rep *Report) error {
	if v.Model == nil {
		return nil
	}
	digests, err := r.Models(ctx)
	if err != nil {
		return err
	}
	for _, d := range digests {
		rep.Files++
		if err := v.Model(d); err != nil {
			if errors.Is(err, context.Canceled) {
				return err
			}
			rep.add("model "+d, "%v", err)
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
