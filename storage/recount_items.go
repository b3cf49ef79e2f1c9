package storage

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/audit"
)

// itemsAtOnce is the number of items whose rows are read together.
const itemsAtOnce = 1000

// recountItems computes the lines for the items that an event added to its
// dataset: one for each table of the dataset's kind.
func (c *recounter) recountItems(ctx context.Context, t *RecountedEvent) error {
	dataset := audit.DatasetOf(t.Stream)
	for _, table := range audit.ItemTables(c.kinds[dataset]) {
		t.Recounts = append(t.Recounts, Recount{Seal: audit.Seal{Table: table.Name}})
		p := &tableRecount{event: t, of: c.at, line: len(t.Recounts) - 1, rows: audit.RowSelector{Table: table}}
		if err := c.addItems(ctx, p, dataset, t.Sequence); err != nil {
			return err
		}
		p.done()
	}
	return nil
}

// addedItems is the query for the keys of the rows of a table that event $2
// added to dataset $1, in the order in which they were hashed.
func addedItems(table *audit.Table) string {
	if table.Name == "response" {
		return `select distinct p.response::text collate "C" from only public.dataset_item i
			join only public.ranking_response p on p.ranking::text = i.item::text where i.dataset = $1 and i.event = $2
				order by 1`
	}
	return `select i.item::text collate "C" from only public.dataset_item i
		where i.dataset = $1 and i.event = $2 order by 1`
}

// addItems adds up the rows of items page by page, so that memory does not
// grow with their number.
func (c *recounter) addItems(ctx context.Context, p *tableRecount, dataset string, event int64) error {
	if strings.ContainsRune(dataset, 0) {
		return nil
	}
	sql := "declare items no scroll cursor for " + addedItems(p.rows.Table)
	if _, err := c.r.tx.Exec(ctx, sql, pgx.QueryExecModeExec, dataset, event); err != nil {
		return err
	}
	for {
		keys, err := queryRows(ctx, c.r.tx, pgx.RowTo[string], "fetch "+strconv.Itoa(itemsAtOnce)+" from items")
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			_, err := c.r.tx.Exec(ctx, "close items")
			return err
		}
		digests, err := c.rowDigests(ctx, p.rows.Table, keys)
		if err != nil {
			return err
		}
		for _, k := range keys {
			for _, d := range digests[k] {
				p.sum.Add(d)
			}
		}
	}
}

// rowDigests returns the digests of the rows with these keys. An erased row
// has the digest that it had before, which its tombstone kept.
func (c *recounter) rowDigests(ctx context.Context, t *audit.Table, keys []string) (map[string][][]byte, error) {
	seals, err := c.tombstoneDigests(ctx, t, keys)
	if err != nil {
		return nil, err
	}
	digests := map[string][][]byte{}
	key, order := t.ColumnIndex(t.Key[0]), ""
	if len(t.Key) > 1 {
		order = " order by t." + t.Key[1]
	}
	sql := fmt.Sprintf("%s where t.%s::text = any($1)%s", selectRow(t), t.Key[0], order)
	err = c.r.sendRequests(ctx, []*rowRequest{{sql: sql, args: []string{arrayText(keys)}, done: func() {},
		row: func(values [][]byte) error {
			d, err := c.digest(t, values)
			k := string(values[key])
			if s, erased := seals[k]; erased {
				digests[k] = append(digests[k], s)
			} else {
				digests[k] = append(digests[k], d[:])
			}
			return err
		}}})
	return digests, err
}

// tombstoneDigests returns the digests that erased rows had.
func (c *recounter) tombstoneDigests(ctx context.Context, t *audit.Table, keys []string) (map[string][]byte, error) {
	rows, err := c.r.tx.Query(ctx,
		"select digest::text, seal from only public.erasure where relation = $1 and digest::text = any($2)", t.Name,
		keys)
	if err != nil {
		return nil, err
	}
	seals := map[string][]byte{}
	var key string
	var seal []byte
	_, err = pgx.ForEachRow(rows, []any{&key, &seal}, func() error {
		seals[key] = seal
		seal = nil
		return nil
	})
	return seals, err
}

// arrayText writes a text array in the syntax of Postgres.
func arrayText(list []string) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + quote.Replace(s) + `"`)
	}
	return "{" + b.String() + "}"
}
