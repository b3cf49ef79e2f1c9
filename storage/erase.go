package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// erasableTables are the tables whose rows have text that can be erased.
var erasableTables = []string{"text_item", "prompt", "demonstration", "ranking", "response"}

// itemTable maps the kind of a dataset to the table of its items.
var itemTable = map[trimtab.Kind]string{trimtab.KindText: "text_item", trimtab.KindPrompts: "prompt",
	trimtab.KindDemonstrations: "demonstration", trimtab.KindRankings: "ranking"}

// ErasureResult is what an erasure did, or would do.
type ErasureResult struct {
	// Items are the items whose text is removed, Already those for which that
	// was done before.
	Items   []trimtab.Digest
	Already []trimtab.Digest
	// Rows counts the rows whose text is removed: those of the items, and of
	// the responses of rankings that no other ranking has.
	Rows int
	// Versions are the frozen versions that contain one of the items. They can
	// still be verified, but no longer be trained on.
	Versions []trimtab.Digest
	// Rollouts counts the rollouts that show the prompt of one of the items.
	// They keep it.
	Rollouts int
}

// Erase removes the text of items of a dataset and leaves their digests and a
// tombstone, so that the versions that contain them keep their roots. The
// copies that a split of the dataset made of an item are erased with it.
//
// With dry it returns what it would do and changes nothing. An item that is
// not in the dataset is NotFound "item_not_found".
func (s *Store) Erase(ctx context.Context, dataset string, items []trimtab.Digest, actor, reason string,
	dry bool) (ErasureResult, error) {
	var done ErasureResult
	err := s.write(ctx, "erasing items of dataset "+dataset, func(tx pgx.Tx) error {
		kind, err := lockDataset(ctx, tx, dataset)
		if err != nil {
			return err
		}
		done = ErasureResult{}
		items, err := withSplitVariants(ctx, tx, dataset, kind, items)
		if err != nil {
			return err
		}
		if err := done.plan(ctx, tx, dataset, itemTable[kind], items); err != nil || dry || len(done.Items) == 0 {
			return err
		}
		return done.erase(ctx, tx, dataset, itemTable[kind], actor, reason)
	})
	return done, err
}

// withSplitVariants adds to items those of the dataset that differ from them
// in their split alone: they have the same text, copied by a split of the
// dataset.
func withSplitVariants(ctx context.Context, tx pgx.Tx, dataset string, kind trimtab.Kind,
	items []trimtab.Digest) ([]trimtab.Digest, error) {
	if kind == trimtab.KindText {
		return items, nil
	}
	found, err := readItems(ctx, tx, kind, items)
	if err != nil {
		return nil, err
	}
	var twins []trimtab.Digest
	for _, d := range found {
		for _, split := range []string{"", trimtab.SplitTrain, trimtab.SplitTest} {
			if twin := trimtab.DigestOf(inSplit(d.item, split).Canonical()); !slices.Contains(items, twin) {
				twins = append(twins, twin)
			}
		}
	}
	there, err := queryRows(ctx, tx, pgx.RowTo[trimtab.Digest],
		"select item from dataset_item where dataset = $1 and item = any($2) order by item", dataset, twins)
	return slices.Concat(items, there), err
}

// plan determines which items are erased and what else is affected.
func (e *ErasureResult) plan(ctx context.Context, tx pgx.Tx, dataset, table string, items []trimtab.Digest) error {
	for _, d := range items {
		var there, gone bool
		err := tx.QueryRow(ctx, `
			select exists (select from dataset_item where dataset = $1 and item = $2), exists (select from erasure
				where relation = $3 and digest = $2)`,
			dataset, d, table).Scan(&there, &gone)
		switch {
		case err != nil:
			return err
		case !there:
			return notFound("item", string(d), "give the digest as `trimtab data show --items` prints it")
		case gone:
			e.Already = append(e.Already, d)
		default:
			e.Items = append(e.Items, d)
		}
	}
	var err error
	e.Versions, err = queryRows(ctx, tx, pgx.RowTo[trimtab.Digest],
		"select distinct version from dataset_version_item where item = any($1) order by version", e.Items)
	if err != nil || table == "text_item" {
		return err
	}
	return tx.QueryRow(ctx,
		fmt.Sprintf("select count(*) from rollout where prompt in (select prompt from %s where digest = any($1))",
			table), e.Items).Scan(&e.Rollouts)
}

// erase removes the text of the planned items and, for rankings, of their
// responses, unless another ranking that is not erased has the same response.
// The rows themselves are changed by the SQL function erase_item, since the
// role trimtab_app may not update facts.
func (e *ErasureResult) erase(ctx context.Context, tx pgx.Tx, dataset, table, actor, reason string) error {
	event, err := nextEvent(ctx, tx, datasetSubject(dataset))
	if err != nil {
		return err
	}
	// erase_item replaces the text and leaves a tombstone with the old
	// digest.
	rows := make([][2]string, 0, len(e.Items)) // table and digest
	for _, d := range e.Items {
		rows = append(rows, [2]string{table, string(d)})
	}
	// A response is shared by all rankings that have it.
	if table == "ranking" {
		only, err := queryRows(ctx, tx, pgx.RowTo[string], `
			select distinct response::text from ranking_response p where ranking = any($1) and not exists (
				select from ranking_response q where q.response = p.response and q.ranking <> all($1)
					and not exists (select from erasure where relation = 'ranking' and digest = q.ranking))
			order by 1`, e.Items)
		if err != nil {
			return err
		}
		for _, d := range only {
			rows = append(rows, [2]string{"response", d})
		}
	}
	for _, r := range rows {
		var erased bool
		if err := tx.QueryRow(ctx, "select erase_item($1, $2, $3, $4)", dataset, event, r[0],
			r[1]).Scan(&erased); err != nil {
			return err
		}
		if erased {
			e.Rows++
		}
	}
	return appendEvent(ctx, tx, datasetSubject(dataset), actor, trimtab.EventItemsErased,
		itemsErasedBody{Items: e.Items, Reason: reason, Rows: e.Rows, Versions: e.Versions})
}

// ErasedItems returns the erased items of a version in order.
func (s *Store) ErasedItems(ctx context.Context, version trimtab.Digest) ([]trimtab.Digest, error) {
	found, err := queryRows(ctx, s.pool, pgx.RowTo[trimtab.Digest], `
		select e.digest from dataset_version v join erasure e on e.relation = case v.kind
			when 'text' then 'text_item' when 'prompts' then 'prompt' when 'demonstrations' then 'demonstration'
				else 'ranking' end
		where v.digest = $1 and exists (select from dataset_version_item i where i.version = $1 and i.item = e.digest)
		order by e.digest`, version)
	return found, wrapError(ctx, "reading what was erased of "+version.Short(), err)
}

// selectLeaves selects the digests of the items of version $1 in order, each
// as often as it is in the version: the leaves of its Merkle tree.
const selectLeaves = "select item from dataset_version_item cross join lateral generate_series(1, copies) where " +
	"version = $1 order by item"

// Leaves returns the digests of a version's items in order, each as often as
// it is in the version: the leaves under its root.
func (s *Store) Leaves(ctx context.Context, version trimtab.Digest) ([]trimtab.Digest, error) {
	found, err := queryRows(ctx, s.pool, pgx.RowTo[trimtab.Digest], selectLeaves, version)
	if err == nil && len(found) == 0 {
		return nil, datasetNotFound(string(version))
	}
	return found, wrapError(ctx, "reading the items of "+version.Short(), err)
}

// FoundItem is an item of a dataset that contains a text.
type FoundItem struct {
	Digest trimtab.Digest
	Text   string // every text of the item, joined by newlines
	Erased bool
}

// FindItems returns the items of a dataset that contain a text literally, in
// order of their digests. It searches prompts, completions, tags and the
// texts of responses. Erased items contain nothing.
func (s *Store) FindItems(ctx context.Context, dataset, containing string) ([]FoundItem, error) {
	var found []FoundItem
	err := s.read(ctx, "searching dataset "+dataset, func(tx pgx.Tx) error {
		var kind trimtab.Kind
		if err := tx.QueryRow(ctx, "select kind from dataset where name = $1", dataset).Scan(&kind); errors.Is(err,
			pgx.ErrNoRows) {
			return datasetNotFound(dataset)
		} else if err != nil {
			return err
		}
		text := map[trimtab.Kind]string{trimtab.KindText: "t.body",
			trimtab.KindPrompts:        `concat_ws(E'\n', t.prompt, t.tag)`,
			trimtab.KindDemonstrations: `concat_ws(E'\n', t.prompt, t.completion)`,
			trimtab.KindRankings: `concat_ws(E'\n', t.prompt, (
				select string_agg(case when r.text = '' then convert_from(r.bytes, 'UTF8') else r.text end, E'\n'
					order by p.position)
				from ranking_response p join response r on r.digest = p.response where p.ranking = t.digest))`}[kind]
		var err error
		found, err = queryRows(ctx, tx, pgx.RowToStructByPos[FoundItem], fmt.Sprintf(`
			select digest, body, erased from (
				select t.digest, %[2]s as body, exists (select from erasure e where e.relation = '%[1]s'
					and e.digest = t.digest) as erased
				from dataset_item i join %[1]s t on t.digest = i.item where i.dataset = $1) x
			where position($2::text in body) > 0 order by digest`, itemTable[kind], text), dataset, containing)
		return err
	})
	return found, err
}
