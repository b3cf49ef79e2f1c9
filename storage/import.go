package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// A batch is copied into the staging tables when it has batchItems items or
// batchBytes bytes of text, whichever comes first.
const (
	batchItems = 2000
	batchBytes = 4 << 20
)

// nestedLoopLimit is the number of items from which joins scan whole tables.
// Rows that were written in the same transaction are not in the planner's
// statistics, so that it would look up a million rows one by one.
const nestedLoopLimit = 5000

// avoidNestedLoops makes the planner choose hash and merge joins for the rest
// of the transaction, if it is about many items.
func avoidNestedLoops(ctx context.Context, tx pgx.Tx, n int) error {
	if n < nestedLoopLimit {
		return nil
	}
	_, err := tx.Exec(ctx, "set local enable_nestloop = off")
	return err
}

// AddFunc takes the next item of ImportItems, with the digest of its
// canonical form, which the caller has computed already.
type AddFunc func(item trimtab.Item, digest trimtab.Digest) error

// ImportItems adds the items that read passes to its argument, in one
// transaction and in memory that does not grow with their number: batch by
// batch they go into temporary tables, and from there into the dataset when
// read has returned the files that they came from. Any error, also one of
// read, leaves everything as it was.
//
// A dataset that does not exist is created. It has each item once, so that an
// import can be repeated.
//
// Errors: Invalid "invalid_item" for the first item that is not valid or not
// of the kind, Conflict "dataset_kind" when the dataset has another kind, and
// Conflict "item_erased" for items that were erased.
func (s *Store) ImportItems(ctx context.Context, dataset string, kind trimtab.Kind, actor string,
	read func(AddFunc) ([]ImportedFile, error)) (ImportCounts, error) {
	var counts ImportCounts
	err := s.write(ctx, "adding items to dataset "+dataset, func(tx pgx.Tx) error {
		// The lock on the dataset is taken first and held while the file is
		// read.
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
		return appendEvent(ctx, tx, datasetSubject(dataset), actor, trimtab.EventFilesImported,
			filesImportedBody{Files: files})
	})
	return counts, err
}

// itemImport collects items in temporary tables. A transaction has one at a
// time, since the tables of a connection are shared by all of them.
type itemImport struct {
	tx    pgx.Tx
	kind  trimtab.Kind
	loads []load // the first is that of the items themselves
	batch []digestedItem
	size  int // bytes of text in batch
	given int // items so far, duplicates counted
}

// newItemImport prepares the temporary tables of a kind of item.
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
	// The caller may read a file for long between two items.
	if _, err := tx.Exec(ctx,
		"set local idle_in_transaction_session_timeout = 0; set local work_mem = '64MB'"); err != nil {
		return nil, err
	}
	return a, createStagingTables(ctx, tx, a.loads...)
}

// add takes an item, in any order. Duplicates are dropped by finish.
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

// textSize is roughly how many bytes an item has, to bound the memory of a
// batch.
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

// flush copies the batch into the temporary tables. A ranking goes into
// three: itself, its responses, and the ranks that link them.
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

// finish adds what was collected to the dataset, records the event and
// empties the temporary tables. Items that were there before are compared
// with the given ones: the digests are equal, so a difference means that the
// stored row was changed.
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
	// The root is computed from what was given, before anything is merged.
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
			continue // all are new, so there is nothing to compare with
		}
		if err := l.compareExisting(ctx, a.tx); err != nil {
			return counts, err
		}
	}
	// Items may exist in other datasets; these rows say which are in this
	// one.
	counts.Added, err = a.linkToDataset(ctx, dataset, actor)
	counts.Present -= counts.Added
	if err != nil {
		return counts, err
	}
	// Another import may follow in this transaction: a split does one for each
	// event.
	a.given = 0
	if err := truncateStaging(ctx, a.tx, a.loads...); err != nil || counts.Added == 0 {
		return counts, err
	}
	return counts, appendEvent(ctx, a.tx, datasetSubject(dataset), actor, trimtab.EventItemsAdded,
		itemsAddedBody{Added: counts.Added, Given: given.Len(), Root: given.Root()})
}

// root is the Merkle tree over what was collected, each item once.
func (a *itemImport) root(ctx context.Context) (given trimtab.Merkle, err error) {
	err = eachDigest(ctx, a.tx, given.Add, fmt.Sprintf("select distinct digest from %s order by digest",
		a.loads[0].staging().Sanitize()))
	return given, err
}

// eachDigest calls f with every digest that a query returns, one at a time.
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

// linkToDataset makes what was collected items of the dataset and returns how
// many are new in it. The rows name the event that finish appends next, by
// which the audit finds them.
func (a *itemImport) linkToDataset(ctx context.Context, dataset, actor string) (int, error) {
	event, err := nextEvent(ctx, a.tx, datasetSubject(dataset))
	if err != nil {
		return 0, err
	}
	tag, err := a.tx.Exec(ctx, fmt.Sprintf(`insert into dataset_item (dataset, item, actor, event)
		select $1, digest, $2, $3 from (select distinct digest from %s) s order by digest
			on conflict (dataset, item) do nothing`, a.loads[0].staging().Sanitize()),
		dataset, storableText(actor), event)
	return int(tag.RowsAffected()), err
}

// checkNotErased refuses items whose text was erased at a person's request:
// an import must not bring it back.
func checkNotErased(ctx context.Context, tx pgx.Tx, items load) error {
	var n int
	var first *trimtab.Digest
	err := tx.QueryRow(ctx, fmt.Sprintf(`select count(*), min(e.digest) from erasure e
		where e.relation = $1 and exists (select from %s s where s.digest = e.digest)`,
		items.staging().Sanitize()), items.table).Scan(&n, &first)
	if err != nil || n == 0 {
		return err
	}
	return trimtab.NewError(trimtab.Conflict, "item_erased", "leave them out",
		"%d of these items were erased at a person's request; the first is %s", n, *first)
}
