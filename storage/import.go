package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// A batch of items is loaded when it has so many, or so much text.
const (
	batchItems = 2000
	batchBytes = 4 << 20
)

// nestedLoopLimit is from when on the tables that are joined are read from end to end: what was written in a
// transaction is
// not yet in Postgres's statistics, so that it would look up a million rows one by one.
const nestedLoopLimit = 5000

// avoidNestedLoops tells the planner that a statement is about so many items.
func avoidNestedLoops(ctx context.Context, tx pgx.Tx, n int) error {
	if n < nestedLoopLimit {
		return nil
	}
	_, err := tx.Exec(ctx, "set local enable_nestloop = off")
	return err
}

// AddFunc takes the next item of ImportItems, with the digest of its canonical form.
type AddFunc func(item trimtab.Item, digest trimtab.Digest) error

// ImportItems adds the items that read hands to its argument, in one transaction
// and in memory that does not grow with their number: they are gathered in
// temporary tables, batch by batch, and go into the dataset when read has
// returned, with the files that it names. Whatever fails, and an error of
// read, leaves everything as it was. It makes a dataset that is new. A dataset
// holds each item once, so adding is harmless to repeat. It fails with Invalid
// "invalid_item" for the first item that is not valid or not of kind, with
// Conflict "dataset_kind" when the dataset holds another kind, and with
// Conflict "item_erased" for items that were erased.
func (s *Store) ImportItems(ctx context.Context, dataset string, kind trimtab.Kind, actor string,
	read func(AddFunc) ([]ImportedFile, error)) (ImportCounts, error) {
	var counts ImportCounts
	err := s.write(ctx, "adding items to dataset "+dataset, func(tx pgx.Tx) error {
		if err := ensureDataset(ctx, tx, dataset, kind, actor); err != nil {
			return err
		}
		a, err := newItemImport(ctx, tx, kind)
		if err != nil {
			return err
		}
		files, err := read(func(item trimtab.Item, digest trimtab.Digest) error { return a.add(ctx, item, digest) })
		if err != nil {
			return err
		}
		counts, err = a.finish(ctx, dataset, actor)
		if err != nil || counts.Added == 0 || len(files) == 0 {
			return err
		}
		return appendEvent(ctx, tx, datasetSubject(dataset), actor, "files_imported", map[string]any{"files": files})
	})
	return counts, err
}

// itemImport gathers items in temporary tables. A transaction has one at a time.
type itemImport struct {
	tx    pgx.Tx
	kind  trimtab.Kind
	loads []load // the first is of the items themselves
	batch []digestedItem
	size  int // bytes of batch
	given int
}

func newItemImport(ctx context.Context, tx pgx.Tx, kind trimtab.Kind) (*itemImport, error) {
	a := &itemImport{tx: tx, kind: kind}
	switch kind {
	case trimtab.KindText:
		a.loads = []load{textLoad}
	case trimtab.KindPrompts:
		a.loads = []load{promptLoad}
	case trimtab.KindDemonstrations:
		a.loads = []load{demoLoad}
	case trimtab.KindRankings:
		a.loads = []load{rankingLoad, responseLoad, rankedResponseLoad}
	default:
		return nil, invalid("invalid_kind", "no dataset is of kind %q", kind)
	}
	// Whoever hands the items on may take his time between two of them.
	if _, err := tx.Exec(ctx,
		"set local idle_in_transaction_session_timeout = 0; set local work_mem = '64MB'"); err != nil {
		return nil, err
	}
	return a, createStagingTables(ctx, tx, a.loads...)
}

// add takes an item of any order; one may come again.
func (a *itemImport) add(ctx context.Context, item trimtab.Item, digest trimtab.Digest) error {
	a.given++
	if item == nil || item.Kind() != a.kind {
		return invalid("invalid_item", "item %d is not one of %s", a.given, a.kind)
	}
	if err := item.Validate(); err != nil {
		return invalid("invalid_item", "item %d: %w", a.given, err)
	}
	a.batch = append(a.batch, digestedItem{digest: digest, item: item})
	if a.size += textSize(item); len(a.batch) < batchItems && a.size < batchBytes {
		return nil
	}
	return a.flush(ctx)
}

// textSize is about how many bytes an item takes.
func textSize(item trimtab.Item) int {
	switch item := item.(type) {
	case trimtab.Text:
		return len(item.Body)
	case trimtab.Prompt:
		return len(item.Text)
	case trimtab.Demonstration:
		return len(item.Prompt) + len(item.Response)
	case trimtab.Ranking:
		n := len(item.Prompt)
		for _, r := range item.Responses {
			n += len(r.Bytes) + 4*len(r.Tokens)
		}
		return n
	}
	return 0
}

// flush copies the batch into the temporary tables.
func (a *itemImport) flush(ctx context.Context) error {
	if len(a.batch) == 0 {
		return nil
	}
	var places []rankedResponse
	if a.kind == trimtab.KindRankings {
		var err error
		if places, err = rankedResponses(a.batch); err != nil {
			return err
		}
	}
	for _, l := range a.loads {
		n, row := len(a.batch), func(i int) ([]any, error) { return itemRow(a.batch[i]), nil }
		switch l.table {
		case responseLoad.table:
			n, row = len(places), func(i int) ([]any, error) { return places[i].responseRow(), nil }
		case rankedResponseLoad.table:
			n, row = len(places), func(i int) ([]any, error) { return places[i].row(), nil }
		}
		if err := l.copy(ctx, a.tx, n, row); err != nil {
			return err
		}
	}
	clear(a.batch)
	a.batch, a.size = a.batch[:0], 0
	return nil
}

// finish puts what was gathered into the dataset, and empties the temporary tables.
func (a *itemImport) finish(ctx context.Context, dataset, actor string) (ImportCounts, error) {
	counts := ImportCounts{Present: a.given}
	if err := a.flush(ctx); err != nil {
		return counts, err
	}
	if err := avoidNestedLoops(ctx, a.tx, a.given); err != nil {
		return counts, err
	}
	items := a.loads[0]
	if err := checkNotErased(ctx, a.tx, items); err != nil {
		return counts, err
	}
	given, err := a.root(ctx)
	if err != nil {
		return counts, err
	}
	for i, l := range a.loads {
		fresh, err := l.merge(ctx, a.tx)
		if err != nil {
			return counts, err
		}
		if i == 0 && fresh == given.Len() {
			continue // what is new is as it was given
		}
		if err := l.compareExisting(ctx, a.tx); err != nil {
			return counts, err
		}
	}
	counts.Added, err = a.linkToDataset(ctx, dataset, actor)
	counts.Present -= counts.Added
	if err != nil {
		return counts, err
	}
	a.given = 0
	if err := truncateStaging(ctx, a.tx, a.loads...); err != nil || counts.Added == 0 {
		return counts, err
	}
	return counts, appendEvent(ctx, a.tx, datasetSubject(dataset), actor, "items_added",
		map[string]any{"added": counts.Added, "given": given.Len(), "root": given.Root()})
}

// root is the tree over what was gathered, each item once.
func (a *itemImport) root(ctx context.Context) (given trimtab.Merkle, err error) {
	err = eachDigest(ctx, a.tx, given.Add, fmt.Sprintf("select distinct digest from %s order by digest",
		a.loads[0].staging().Sanitize()))
	return given, err
}

// eachDigest calls f with every digest that a query finds, as they come.
func eachDigest(ctx context.Context, q querier, f func(trimtab.Digest), sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var d trimtab.Digest
	_, err = pgx.ForEachRow(rows, []any{&d}, func() error {
		f(d)
		return nil
	})
	return err
}

// linkToDataset makes what was gathered items of the dataset, and tells how many are new in it.
func (a *itemImport) linkToDataset(ctx context.Context, dataset, actor string) (int, error) {
	event, err := nextEvent(ctx, a.tx, datasetSubject(dataset))
	if err != nil {
		return 0, err
	}
	tag, err := a.tx.Exec(ctx, fmt.Sprintf(`insert into dataset_item (dataset, item, actor, event)
		select $1, digest, $2, $3 from (select distinct digest from %s) s order by digest on conflict (dataset, item) do nothing`, a.loads[0].staging().Sanitize()),
		dataset, storableText(actor), event)
	return int(tag.RowsAffected()), err
}

// checkNotErased is the error of items whose text a person had taken out: it does not come back by an import.
func checkNotErased(ctx context.Context, tx pgx.Tx, items load) error {
	var n int
	var first *trimtab.Digest
	err := tx.QueryRow(ctx, fmt.Sprintf(`select count(*), min(e.digest) from erasure e
		where e.relation = $1 and exists (select from %s s where s.digest = e.digest)`, items.staging().Sanitize()), items.table).Scan(&n, &first)
	if err != nil || n == 0 {
		return err
	}
	return trimtab.NewError(trimtab.Conflict, "item_erased", "leave them out",
		"%d of these items were erased because a person asked for it, the first is %s", n, *first)
}
