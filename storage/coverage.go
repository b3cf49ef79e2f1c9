package storage

import (
	"context"
	"slices"
	"sort"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/trimtab/trimtab/audit"
)

// stepRanges is a set of steps, as half-open ranges in ascending order that
// neither overlap nor touch. Commits come in order, so that a whole attempt
// is usually one range.
type stepRanges struct{ ranges [][2]int64 } // from, until

// after is the index of the first range that ends at step or later.
func (s *stepRanges) after(step int64) int {
	return sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i][1] >= step })
}

// add adds the steps from ≤ step < until, merging the ranges that they touch.
func (s *stepRanges) add(from, until int64) {
	i := s.after(from)
	// Ranges i … j-1 overlap or touch the new one, and become one with it.
	j := i
	for ; j < len(s.ranges) && s.ranges[j][0] <= until; j++ {
		from, until = min(from, s.ranges[j][0]), max(until, s.ranges[j][1])
	}
	s.ranges = slices.Replace(s.ranges, i, j, [2]int64{from, until})
}

// has reports whether a step is in the set. A nil set is empty.
func (s *stepRanges) has(step int64) bool {
	if s == nil {
		return false
	}
	i := s.after(step + 1)
	return i < len(s.ranges) && s.ranges[i][0] <= step
}

// Coverage collects which rows of some tables events have recorded, so that
// UnrecordedRows can name the others. It needs memory for each row, except
// for tables whose rows belong to steps; these need memory for ranges of
// steps. A nil Coverage collects nothing.
type Coverage struct {
	tables map[string]bool        // that are covered
	keys   map[string]bool        // coverageKey of rows without steps
	steps  map[string]*stepRanges // of the others, by table and attempt
}

// NewCoverage returns an empty Coverage of tables. Rows of other tables are
// ignored.
func NewCoverage(tables ...string) *Coverage {
	c := &Coverage{tables: map[string]bool{}, keys: map[string]bool{}, steps: map[string]*stepRanges{}}
	for _, t := range tables {
		c.tables[t] = true
	}
	return c
}

// coverageKey identifies a row by what an event names of it. An item or a
// tombstone is named by the event that added it, not by its own key: one
// event covers all of its rows.
func coverageKey(t *audit.Table, values [][]byte) string {
	if t.Name == "dataset_item" || t.Name == "erasure" {
		return t.Name + " " + string(values[t.ColumnIndex("dataset")]) + " " +
			valueText("int8", values[t.ColumnIndex("event")])
	}
	return rowKey(t, values)
}

// add marks the rows that share the row's coverageKey as recorded.
func (c *Coverage) add(t *audit.Table, values [][]byte) {
	if c != nil && c.tables[t.Name] {
		c.keys[coverageKey(t, values)] = true
	}
}

// addSteps marks the rows of some steps of an attempt as recorded.
func (c *Coverage) addSteps(table, attempt string, from, until int64) {
	if c == nil || !c.tables[table] {
		return
	}
	key := table + " " + attempt
	if c.steps[key] == nil {
		c.steps[key] = &stepRanges{}
	}
	c.steps[key].add(from, until)
}

// has reports whether an event recorded the row.
func (c *Coverage) has(t *audit.Table, values [][]byte) bool {
	i := t.ColumnIndex("step")
	if i < 0 {
		return c.keys[coverageKey(t, values)]
	}
	step, err := strconv.ParseInt(valueText(t.Columns[i].Type, values[i]), 10, 64)
	return err == nil && c.steps[t.Name+" "+valueText("int8", values[t.ColumnIndex("attempt")])].has(step)
}

// UnrecordedRows calls f with the table and key of every row of the
// coverage's tables that no event recorded.
func (r Snapshot) UnrecordedRows(ctx context.Context, cover *Coverage, f func(row string)) error {
	for _, t := range audit.Tables {
		if !cover.tables[t.Name] {
			continue
		}
		err := r.sendRequests(ctx, []*rowRequest{{sql: selectKey(t), done: func() {}, row: func(values [][]byte) error {
			if !cover.has(t, values) {
				f(rowKey(t, values))
			}
			return nil
		}}})
		if err != nil {
			return err
		}
	}
	return nil
}

// AlteredTombstones calls f with the table and key of every erased row that
// is not as the erasure left it: erasure.remains is the digest of the row
// without its text.
func (r Snapshot) AlteredTombstones(ctx context.Context, f func(row string)) error {
	for _, name := range erasableTables {
		there, err := r.erasedRows(ctx, audit.TableOf(name))
		if err != nil {
			return err
		}
		err = r.forEach(ctx, func(row pgx.Rows) error {
			var digest string
			var remains pgtype.DriverBytes
			if err := row.Scan(&digest, &remains); err != nil {
				return err
			}
			if d, ok := there[digest]; !ok || string(d[:]) != string(remains) {
				f(name + " " + digest)
			}
			return nil
		}, "select digest::text, remains from only public.erasure where relation = $1 order by 1", name)
		if err != nil {
			return err
		}
	}
	return nil
}

// erasedRows returns the digests of the erased rows of a table as they are
// now, by the digest that names the row.
func (r Snapshot) erasedRows(ctx context.Context, t *audit.Table) (map[string]audit.Hash, error) {
	var h rowHasher
	there := map[string]audit.Hash{}
	sql := selectRow(t) +
		"where t.digest::text in (select e.digest::text from only public.erasure e where e.relation = $1)"
	row := func(values [][]byte) error {
		d, err := h.digest(t, values)
		there[string(values[0])] = d
		return err
	}
	err := r.sendRequests(ctx, []*rowRequest{{sql: sql, args: []string{t.Name}, row: row, done: func() {}}})
	return there, err
}
