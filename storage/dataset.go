package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Dataset is a name under which items of one kind are collected. Items are
// only ever added; what a version contains is fixed when it is frozen.
type Dataset struct {
	Name string
	Kind trimtab.Kind
	// Items counts the different items that were ever added, except those that
	// a split replaced.
	Items     int
	CreatedAt time.Time
	// Versions are listed newest first, each once.
	Versions []DatasetVersion
}

// DatasetVersion is an immutable multiset of items, identified by the Merkle
// root over their digests. Datasets with equal items share it.
type DatasetVersion struct {
	Dataset string
	Kind    trimtab.Kind
	// Digest is the Merkle root over the item digests; see trimtab.MerkleRoot.
	Digest trimtab.Digest
	// Items counts duplicates.
	Items int
	// Erased counts the different items without text. A version with any cannot
	// be read.
	Erased int
	// CreatedAt is when the dataset was last frozen to it.
	CreatedAt time.Time
}

// ImportCounts says how many of the given items were new.
type ImportCounts struct {
	Added   int // new in the dataset
	Present int // in the dataset already, or given more than once
}

// AddItems adds items that are in memory to a dataset, as ImportItems does.
// files are the ones that the items were read from, nil if there were none;
// they are recorded only if an item of them was new.
func (s *Store) AddItems(ctx context.Context, dataset string, kind trimtab.Kind, items []trimtab.Item,
	files []ImportedFile, actor string) (ImportCounts, error) {
	return s.ImportItems(ctx, dataset, kind, actor, func(add AddFunc) ([]ImportedFile, error) {
		return files, addAll(items, add)
	})
}

// addAll hands every item to add, with its digest.
func addAll(items []trimtab.Item, add AddFunc) error {
	for _, item := range items {
		var digest trimtab.Digest
		if item != nil { // add says what is wrong with nil
			digest = trimtab.DigestOf(item.Canonical())
		}
		if err := add(item, digest); err != nil {
			return err
		}
	}
	return nil
}

// Freeze makes a version of everything that was added to the dataset, except
// items that were erased or replaced by a split. Freezing the same content
// again returns the same version. A dataset without items is Conflict
// "dataset_empty".
func (s *Store) Freeze(ctx context.Context, dataset, actor string) (DatasetVersion, error) {
	var v DatasetVersion
	err := s.write(ctx, "freezing dataset "+dataset, func(tx pgx.Tx) error {
		kind, err := lockDataset(ctx, tx, dataset)
		if err != nil {
			return err
		}
		v, err = freezeAll(ctx, tx, dataset, kind, actor)
		return err
	})
	return v, err
}

// liveItems is the condition of the items of dataset $1 that a freeze
// includes. $2 is the table of its kind, in which erased items have
// tombstones; $3 are the events whose items a split replaced.
const liveItems = "dataset = $1 and event <> all($3) and not exists (select from erasure where relation = $2 and " +
	"digest = item)"

// freezeAll is Freeze of a dataset that the transaction has locked. The root
// is computed here from the digests in order, so that memory does not grow
// with the number of items.
func freezeAll(ctx context.Context, tx pgx.Tx, dataset string, kind trimtab.Kind,
	actor string) (DatasetVersion, error) {
	var tree trimtab.Merkle
	v := DatasetVersion{Dataset: dataset, Kind: kind}
	before, err := replacedEvents(ctx, tx, dataset)
	if err != nil {
		return v, err
	}
	args := []any{dataset, itemTable[kind], before}
	if err := eachDigest(ctx, tx, tree.Add, "select item from dataset_item where "+liveItems+" order by item",
		args...); err != nil {
		return v, err
	}
	v.Digest, v.Items = tree.Root(), tree.Len()
	err = putVersion(ctx, tx, &v, actor, "select $4, item, 1 from dataset_item where "+liveItems+" order by item",
		append(args, v.Digest)...)
	return v, err
}

// FreezeItems makes exactly these items, duplicates included, a version of the
// dataset, in one transaction. The items also join the dataset, so that a later
// Freeze contains them. The same items again return the same version.
func (s *Store) FreezeItems(ctx context.Context, dataset string, kind trimtab.Kind, items []trimtab.Item,
	actor string) (v DatasetVersion, err error) {
	err = s.write(ctx, "freezing items of dataset "+dataset, func(tx pgx.Tx) error {
		v, err = freezeItems(ctx, tx, dataset, kind, items, actor)
		return err
	})
	return v, err
}

// FreezeItems is Store.FreezeItems by the holder of the lease.
func (l Lease) FreezeItems(ctx context.Context, dataset string, kind trimtab.Kind, items []trimtab.Item,
	actor string) (v DatasetVersion, err error) {
	err = l.write(ctx, "freezing items of dataset "+dataset, func(tx pgx.Tx, _ subject) error {
		v, err = freezeItems(ctx, tx, dataset, kind, items, actor)
		return err
	})
	return v, err
}

// freezeItems is FreezeItems in the caller's transaction.
func freezeItems(ctx context.Context, tx pgx.Tx, dataset string, kind trimtab.Kind, items []trimtab.Item,
	actor string) (DatasetVersion, error) {
	v := DatasetVersion{Dataset: dataset, Kind: kind, Items: len(items)}
	if err := ensureDataset(ctx, tx, dataset, kind, actor); err != nil {
		return v, err
	}
	a, err := newItemImport(ctx, tx, kind)
	if err != nil {
		return v, err
	}
	var digests []trimtab.Digest
	err = addAll(items, func(item trimtab.Item, digest trimtab.Digest) error {
		digests = append(digests, digest)
		return a.add(ctx, item, digest)
	})
	if err != nil {
		return v, err
	}
	if _, err := a.finish(ctx, dataset, actor); err != nil {
		return v, err
	}
	v.Digest = trimtab.MerkleRoot(digests)
	err = putVersion(ctx, tx, &v, actor,
		"select $1, item, count(*) from unnest($2::text[]) i (item) group by item order by item", v.Digest, digests)
	return v, err
}

// datasetSubject is the subject of a dataset's events.
func datasetSubject(name string) subject { return subject{stream: "dataset/" + name} }

// ensureDataset creates the dataset if it is new, and locks it until the
// transaction ends. An existing one of another kind is Conflict
// "dataset_kind".
func ensureDataset(ctx context.Context, tx pgx.Tx, name string, kind trimtab.Kind, actor string) error {
	tag, err := tx.Exec(ctx, "insert into dataset (name, kind) values ($1, $2) on conflict do nothing", name, kind)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 1 {
		return appendEvent(ctx, tx, datasetSubject(name), actor, trimtab.EventDatasetCreated,
			datasetCreatedBody{Kind: kind})
	}
	have, err := lockDataset(ctx, tx, name)
	if err == nil && have != kind {
		return trimtab.NewError(trimtab.Conflict, "dataset_kind", "choose another name",
			"dataset %q holds %s, not %s", name, have, kind)
	}
	return err
}

// lockDataset makes writers of one dataset take turns and returns its kind.
// It is an advisory lock: the row itself cannot be locked, since the role
// trimtab_app may not update facts.
func lockDataset(ctx context.Context, tx pgx.Tx, name string) (kind trimtab.Kind, err error) {
	if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtextextended('dataset/' || $1, 0))", name); err != nil {
		return "", err
	}
	err = tx.QueryRow(ctx, "select kind from dataset where name = $1", name).Scan(&kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", datasetNotFound(name)
	}
	return kind, err
}

// datasetNotFound is the error for a name, digest or reference of no dataset.
func datasetNotFound(name string) error {
	return notFound("dataset", name, "list them with `trimtab data list`")
}

// putVersion writes a version and makes it the dataset's newest. items is a
// query with args that selects version, item and copies. If the version
// exists, its items and summary exist with it, and only the freeze is new.
func putVersion(ctx context.Context, tx pgx.Tx, v *DatasetVersion, actor, items string, args ...any) error {
	if v.Items == 0 {
		return trimtab.NewError(trimtab.Conflict, "dataset_empty", "add items with `trimtab data import`",
			"dataset %q has no items to freeze", v.Dataset)
	}
	if err := avoidNestedLoops(ctx, tx, v.Items); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx,
		"insert into dataset_version (digest, kind, items) values ($1, $2, $3) on conflict do nothing",
		v.Digest, v.Kind, v.Items)
	if err != nil {
		return err
	}
	// The digest covers the items, so an existing version has the same ones.
	if tag.RowsAffected() == 1 { // else its items came with it
		if _, err := tx.Exec(ctx, "insert into dataset_version_item (version, item, copies) "+items,
			args...); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into dataset_summary select (summary_of($1)).* on conflict do nothing",
			v.Digest); err != nil {
			return err
		}
	}
	return nameVersion(ctx, tx, v, actor)
}

// nameVersion makes v the dataset's newest version, unless it is already.
func nameVersion(ctx context.Context, tx pgx.Tx, v *DatasetVersion, actor string) error {
	var newest trimtab.Digest
	err := tx.QueryRow(ctx,
		"select version, created_at from dataset_freeze where dataset = $1 order by id desc limit 1",
		v.Dataset).Scan(&newest, &v.CreatedAt)
	// Freezing unchanged content again must not look like a change.
	if err == nil && newest == v.Digest || err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	err = tx.QueryRow(ctx,
		"insert into dataset_freeze (dataset, version, actor) values ($1, $2, $3) returning created_at",
		v.Dataset, v.Digest, storableText(actor)).Scan(&v.CreatedAt)
	if err != nil {
		return err
	}
	return appendEvent(ctx, tx, datasetSubject(v.Dataset), actor, trimtab.EventDatasetFrozen,
		datasetFrozenBody{Items: v.Items, Version: v.Digest})
}

// Datasets lists every dataset in order of name, with its versions.
func (s *Store) Datasets(ctx context.Context) ([]Dataset, error) {
	return s.datasets(ctx, "")
}

// Dataset returns the dataset of a name, or NotFound "dataset_not_found".
func (s *Store) Dataset(ctx context.Context, name string) (Dataset, error) {
	found, err := s.datasets(ctx, name)
	if err != nil {
		return Dataset{}, err
	}
	if name == "" || len(found) == 0 {
		return Dataset{}, datasetNotFound(name)
	}
	return found[0], nil
}

// datasets reads one dataset, or all if name is empty. The number of items
// comes from the events that counted them, because counting the rows of a
// million items takes seconds.
func (s *Store) datasets(ctx context.Context, name string) ([]Dataset, error) {
	var found []Dataset
	err := s.read(ctx, "reading datasets", func(tx pgx.Tx) (err error) {
		found, err = queryRows(ctx, tx, func(row pgx.CollectableRow) (d Dataset, err error) {
			err = row.Scan(&d.Name, &d.Kind, &d.Items, &d.CreatedAt)
			return d, err
		}, `select name, kind, (
				select coalesce(sum((convert_from(body, 'UTF8')::json ->> 'added')::bigint)
					filter (where type = 'items_added'), 0)
				- coalesce(sum((convert_from(body, 'UTF8')::json ->> 'replaced')::bigint)
					filter (where type = 'dataset_split'), 0)
				from event where stream = 'dataset/' || name and type in ('items_added', 'dataset_split')), created_at
			from dataset where $1 = '' or name = $1 order by name collate "C"`, name)
		if err != nil {
			return err
		}
		versions, err := frozenVersions(ctx, tx, "$1 = '' or f.dataset = $1", name)
		for i := range found {
			for _, v := range versions {
				if v.Dataset == found[i].Name {
					found[i].Versions = append(found[i].Versions, v)
				}
			}
		}
		return err
	})
	return found, err
}

// VersionSummary counts what a frozen version contains, duplicates included.
type VersionSummary struct {
	// HeldOut counts the items of the split test.
	HeldOut int
	// Pairs counts the comparisons that rankings imply, without ties.
	Pairs int
	// Longer counts twice the pairs whose preferred response is the longer one,
	// and once those of equal length, so that it stays an integer.
	Longer int
	// Labellers counts the different labellers of rankings.
	Labellers int
	// Common counts the pairs that two labellers both ordered, Agreed those
	// that both ordered alike.
	Common int
	Agreed int
}

// Summary returns the counts that were stored when a version was frozen. It
// reports false for a digest that is no version, and for versions that had
// erased items when the program began to store counts.
func (s *Store) Summary(ctx context.Context, version trimtab.Digest) (VersionSummary, bool, error) {
	found, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[VersionSummary],
		"select held_out, pairs, longer, labellers, common, agreed from dataset_summary where version = $1", version)
	if err != nil || len(found) == 0 {
		return VersionSummary{}, false, wrapError(ctx, "reading the counts of "+version.Short(), err)
	}
	return found[0], true, nil
}

// frozenVersions lists the versions of datasets, the most recently frozen
// first, each once for a dataset.
func frozenVersions(ctx context.Context, q querier, where string, args ...any) ([]DatasetVersion, error) {
	return queryRows(ctx, q, func(row pgx.CollectableRow) (v DatasetVersion, err error) {
		err = row.Scan(&v.Dataset, &v.Kind, &v.Digest, &v.Items, &v.Erased, &v.CreatedAt)
		return v, err
	}, `select f.dataset, v.kind, v.digest, v.items,
			(select count(*) from erasure e join dataset_version_item i on i.version = v.digest and i.item = e.digest
				where e.relation <> 'response'), max(f.created_at)
		from dataset_freeze f join dataset_version v on v.digest = f.version
		where `+where+` group by f.dataset, v.digest order by max(f.id) desc`, args...)
}

// ResolveDataset finds the version that a person's reference means:
//
//	name                   its newest version
//	name@sha256:prefix     the version of that dataset
//	sha256:…               the version with that digest
//
// A name without any version is Conflict "dataset_not_frozen", and a prefix
// of several versions Usage "dataset_ambiguous".
func (s *Store) ResolveDataset(ctx context.Context, ref string) (DatasetVersion, error) {
	if d, err := trimtab.ParseDigest(ref); err == nil {
		found, err := frozenVersions(ctx, s.pool, "v.digest = $1", d)
		return s.oneVersion(ctx, ref, found, err)
	}
	name, prefix, _ := strings.Cut(ref, "@")
	prefix = strings.TrimPrefix(prefix, "sha256:")
	found, err := frozenVersions(ctx, s.pool, "f.dataset = $1 and starts_with(v.digest, 'sha256:' || $2)", name, prefix)
	if prefix != "" && len(found) > 1 {
		return DatasetVersion{}, trimtab.NewError(trimtab.Usage, "dataset_ambiguous", "write more digits",
			"%q is a prefix of the digests of %d versions", ref, len(found))
	}
	if err == nil && len(found) == 0 && prefix == "" {
		if _, err := s.Dataset(ctx, name); err != nil {
			return DatasetVersion{}, err
		}
		return DatasetVersion{}, trimtab.NewError(trimtab.Conflict, "dataset_not_frozen",
			fmt.Sprintf("run `trimtab data freeze %s`", name), "dataset %q has no frozen version", name)
	}
	return s.oneVersion(ctx, ref, found, err)
}

// oneVersion is the last step of ResolveDataset: the first version, or why
// there is none.
func (s *Store) oneVersion(ctx context.Context, ref string, found []DatasetVersion, err error) (DatasetVersion, error) {
	switch {
	case err != nil:
		return DatasetVersion{}, wrapError(ctx, "finding dataset "+ref, err)
	case len(found) == 0:
		return DatasetVersion{}, datasetNotFound(ref)
	}
	return found[0], nil
}

// Items returns the items of a version in order of their digests, duplicates
// included, after verifying them; see EachItem.
func (s *Store) Items(ctx context.Context, version trimtab.Digest) ([]trimtab.Item, error) {
	var items []trimtab.Item
	err := s.EachItem(ctx, version, func(item trimtab.Item) error {
		items = append(items, item)
		return nil
	})
	return items, err
}

// ErrStop is returned by the function given to EachItem to end the iteration
// without an error.
var ErrStop = errors.New("enough")

// EachItem calls f with the items of a version in order of their digests,
// duplicates included, in memory that does not grow with their number.
//
// The Merkle root over the digests is compared with the version's before the
// first call, and the digest of each item with its content before its own. A
// mismatch is Verification "dataset_digest_mismatch". A version with erased
// items is Conflict "dataset_erased".
//
// f runs inside the reading transaction and must not use the store: with all
// connections taken by such readers it would wait for itself.
func (s *Store) EachItem(ctx context.Context, version trimtab.Digest, f func(trimtab.Item) error) error {
	return s.eachItem(ctx, version, true, f)
}

// FirstItems returns at most n items of a version, the first in order of
// their digests. The content of each is verified, the root of the version is
// not.
func (s *Store) FirstItems(ctx context.Context, version trimtab.Digest, n int) ([]trimtab.Item, error) {
	var items []trimtab.Item
	if n <= 0 {
		return nil, nil
	}
	err := s.eachItem(ctx, version, false, func(item trimtab.Item) error {
		if items = append(items, item); len(items) == n {
			return ErrStop
		}
		return nil
	})
	return items, err
}

// eachItem is EachItem; whole says whether to verify the root. An error of f
// is returned as it is, because it says nothing about the database.
func (s *Store) eachItem(ctx context.Context, version trimtab.Digest, whole bool, f func(trimtab.Item) error) error {
	// Erased items have no text: their digests would not verify.
	if gone, err := s.ErasedItems(ctx, version); err != nil {
		return err
	} else if len(gone) > 0 {
		return trimtab.NewError(trimtab.Conflict, "dataset_erased",
			"freeze the dataset again, without them, and use that version",
			"%d items of dataset version %s were erased; the first is %s", len(gone), version.Short(), gone[0])
	}
	var own error // of f, which is not about the database
	err := s.read(ctx, "reading the items of "+version.Short(), func(tx pgx.Tx) error {
		var kind trimtab.Kind
		err := tx.QueryRow(ctx, "select kind from dataset_version where digest = $1", version).Scan(&kind)
		if errors.Is(err, pgx.ErrNoRows) {
			return datasetNotFound(string(version))
		} else if err != nil {
			return err
		}
		// The caller may work for long between two items, which must not end the
		// session. And without statistics, for tables that were just filled, the
		// planner would scan them once for each page; only index scans are left.
		for _, set := range []string{"idle_in_transaction_session_timeout = 0", "enable_seqscan = off",
			"enable_bitmapscan = off", "enable_hashjoin = off", "enable_mergejoin = off"} {
			if _, err := tx.Exec(ctx, "set local "+set); err != nil {
				return err
			}
		}
		if whole {
			if err := checkRoot(ctx, tx, version); err != nil {
				return err
			}
		}
		return eachVerified(ctx, tx, kind, version, func(item trimtab.Item) error {
			own = f(item)
			return own
		})
	})
	switch {
	case errors.Is(own, ErrStop):
		return nil
	case own != nil:
		return own
	}
	return err
}

// checkRoot compares the Merkle root of a version's items with its digest.
func checkRoot(ctx context.Context, tx pgx.Tx, version trimtab.Digest) error {
	var tree trimtab.Merkle
	if err := eachDigest(ctx, tx, tree.Add, selectLeaves, version); err != nil {
		return err
	}
	if root := tree.Root(); root != version {
		return digestMismatch("the items of dataset version %s have the root %s", version, root)
	}
	return nil
}

// digestMismatch is the error of rows that are not what their digest says:
// only a change from outside of the program can have made them so.
func digestMismatch(format string, args ...any) error {
	return trimtab.NewError(trimtab.Verification, "dataset_digest_mismatch",
		"the record was changed from outside: restore the database from a backup, or import and freeze the data again",
		format, args...)
}

// Items are read in pages of pageItems, or fewer so that a page has about
// pageBytes of text: a page is in memory as a whole.
const (
	pageItems = 200
	pageBytes = 4 << 20
)

// eachVerified calls f with the items of a version, each held against its digest.
func eachVerified(ctx context.Context, tx pgx.Tx, kind trimtab.Kind, version trimtab.Digest,
	f func(trimtab.Item) error) error {
	type entry struct {
		Item   trimtab.Digest
		Copies int
	}
	// Keyset pagination: each page continues after the last digest of the one
	// before, by the primary key.
	most := pageItems
	for last := ""; ; {
		entries, err := queryRows(ctx, tx, pgx.RowToStructByPos[entry],
			"select item, copies from dataset_version_item where version = $1 and item > $2 order by item limit $3",
			version, last, most)
		if err != nil || len(entries) == 0 {
			return err
		}
		digests := make([]trimtab.Digest, len(entries))
		for i, e := range entries {
			digests[i] = e.Item
		}
		last = string(digests[len(digests)-1])
		found, err := readItems(ctx, tx, kind, digests)
		if err != nil {
			return err
		}
		size := 0
		for i, e := range entries {
			if i >= len(found) || found[i].digest != e.Item || trimtab.DigestOf(found[i].item.Canonical()) != e.Item {
				return digestMismatch("item %s of dataset version %s is not there, or not what its digest says", e.Item,
					version)
			}
			size += textSize(found[i].item)
			for range e.Copies {
				if err := f(found[i].item); err != nil {
					return err
				}
			}
		}
		most = max(1, min(pageItems, pageBytes*len(entries)/max(1, size)))
	}
}
