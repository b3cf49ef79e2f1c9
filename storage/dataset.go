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

// Dataset is a name under which items are gathered.
type Dataset struct {
	Name      string
	Kind      trimtab.Kind
	Items     int // different items ever added, frozen or not
	CreatedAt time.Time
	Versions  []DatasetVersion // newest first, each once
}

// DatasetVersion is an immutable multiset of items under a Merkle root.
type DatasetVersion struct {
	Dataset   string
	Kind      trimtab.Kind
	Digest    trimtab.Digest // MerkleRoot of the item digests
	Items     int            // copies counted
	Erased    int            // different items whose text is gone; one with any cannot be read
	CreatedAt time.Time      // when the dataset was last frozen to it
}

// Counts says what AddItems found.
type Counts struct {
	Added   int // new in the dataset
	Present int // in it already, or twice in the call
}

// AddItems adds items to a dataset, which it makes when it is new. A dataset
// holds each item once, so adding is harmless to repeat. It fails with Invalid
// "invalid_item" for the first item that is not valid or not of kind, and with
// Conflict "dataset_kind" when the dataset holds another kind.
func (s *Store) AddItems(ctx context.Context, dataset string, kind trimtab.Kind, items []trimtab.Item, actor string) (Counts, error) {
	return s.AddItemsOf(ctx, dataset, kind, items, nil, actor)
}

// AddItemsOf is AddItems for items that were read from files, which it writes
// down beside them. Files that bring nothing new are not told.
func (s *Store) AddItemsOf(ctx context.Context, dataset string, kind trimtab.Kind, items []trimtab.Item, files []ImportedFile, actor string) (Counts, error) {
	unique, err := digestItems(kind, items)
	if err != nil {
		return Counts{}, err
	}
	var counts Counts
	err = s.write(ctx, "adding items to dataset "+dataset, func(tx pgx.Tx) error {
		if err := ensureDataset(ctx, tx, dataset, kind, actor); err != nil {
			return err
		}
		added, err := addUnique(ctx, tx, dataset, kind, unique, actor)
		counts = Counts{Added: added, Present: len(items) - added}
		if err != nil || added == 0 || len(files) == 0 {
			return err
		}
		return record(ctx, tx, datasetSubject(dataset), actor, "files_imported", map[string]any{"files": files})
	})
	return counts, err
}

// Freeze makes everything added so far a version. Freezing the same content again returns the same version.
// A dataset without items is Conflict "dataset_empty".
func (s *Store) Freeze(ctx context.Context, dataset, actor string) (DatasetVersion, error) {
	var v DatasetVersion
	err := s.write(ctx, "freezing dataset "+dataset, func(tx pgx.Tx) error {
		kind, err := lockDataset(ctx, tx, dataset)
		if err != nil {
			return err
		}
		items, err := collect(ctx, tx, pgx.RowTo[trimtab.Digest],
			"select item from dataset_item where dataset = $1 and not exists (select from erasure where relation = $2 and digest = item) order by item", dataset, itemTable[kind])
		if err != nil {
			return err
		}
		unique := make([]digested, len(items))
		for i, d := range items {
			unique[i] = digested{digest: d, copies: 1}
		}
		v, err = freeze(ctx, tx, dataset, kind, unique, actor)
		return err
	})
	return v, err
}

// FreezeItems makes exactly these items, copies kept, a version of the dataset, in one transaction. They are also
// added to the dataset, so that a later Freeze holds them too. The same items again return the same version.
func (s *Store) FreezeItems(ctx context.Context, dataset string, kind trimtab.Kind, items []trimtab.Item, actor string) (DatasetVersion, error) {
	var v DatasetVersion
	unique, err := digestItems(kind, items)
	if err != nil {
		return v, err
	}
	err = s.write(ctx, "freezing items of dataset "+dataset, func(tx pgx.Tx) error {
		if err := ensureDataset(ctx, tx, dataset, kind, actor); err != nil {
			return err
		}
		if _, err := addUnique(ctx, tx, dataset, kind, unique, actor); err != nil {
			return err
		}
		v, err = freeze(ctx, tx, dataset, kind, unique, actor)
		return err
	})
	return v, err
}

func datasetSubject(name string) subject { return subject{stream: "dataset/" + name} }

// ensureDataset makes the dataset if it is new, and holds it until the transaction ends.
func ensureDataset(ctx context.Context, tx pgx.Tx, name string, kind trimtab.Kind, actor string) error {
	tag, err := tx.Exec(ctx, "insert into dataset (name, kind) values ($1, $2) on conflict do nothing", name, kind)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 1 {
		return record(ctx, tx, datasetSubject(name), actor, "dataset_created", map[string]any{"kind": kind})
	}
	have, err := lockDataset(ctx, tx, name)
	if err == nil && have != kind {
		return trimtab.NewError(trimtab.Conflict, "dataset_kind", "choose another name",
			"dataset %q holds %s, not %s", name, have, kind)
	}
	return err
}

// lockDataset makes writers of one dataset take turns; its row cannot be locked, since the app may not update facts.
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

func datasetNotFound(name string) error {
	return notFound("dataset", name, "list them with `trimtab data list`")
}

var datasetItemLoad = load{table: "dataset_item", key: []string{"dataset", "item"}, silent: []string{"actor", "event"}}

// addUnique writes the items and their membership, and tells how many were new to the dataset.
func addUnique(ctx context.Context, tx pgx.Tx, dataset string, kind trimtab.Kind, items []digested, actor string) (int, error) {
	if gone, err := erasedAmong(ctx, tx, kind, items); err != nil {
		return 0, err
	} else if len(gone) > 0 {
		return 0, trimtab.NewError(trimtab.Conflict, "item_erased", "leave them out",
			"%d of these items were erased because a person asked for it, the first is %s", len(gone), gone[0])
	}
	if err := putItems(ctx, tx, kind, items); err != nil {
		return 0, err
	}
	l := datasetItemLoad
	if err := twins(ctx, tx, l); err != nil {
		return 0, err
	}
	event, err := nextEvent(ctx, tx, datasetSubject(dataset))
	if err != nil {
		return 0, err
	}
	added, err := l.write(ctx, tx, len(items), func(i int) ([]any, error) {
		return []any{dataset, items[i].digest, clean(actor), event}, nil
	})
	if err != nil || added == 0 {
		return added, err
	}
	digests := make([]trimtab.Digest, len(items))
	for i, d := range items {
		digests[i] = d.digest
	}
	return added, record(ctx, tx, datasetSubject(dataset), actor, "items_added",
		map[string]any{"added": added, "given": len(items), "root": trimtab.MerkleRoot(digests)})
}

var versionItemLoad = load{table: "dataset_version_item", key: []string{"version", "item"}, columns: []string{"copies"}}

// freeze writes the version of these items, given in order of digest, and makes it the dataset's newest.
func freeze(ctx context.Context, tx pgx.Tx, dataset string, kind trimtab.Kind, items []digested, actor string) (DatasetVersion, error) {
	var leaves []trimtab.Digest
	for _, d := range items {
		for range d.copies {
			leaves = append(leaves, d.digest)
		}
	}
	v := DatasetVersion{Dataset: dataset, Kind: kind, Digest: trimtab.MerkleRoot(leaves), Items: len(leaves)}
	if len(leaves) == 0 {
		return v, trimtab.NewError(trimtab.Conflict, "dataset_empty", "add items with `trimtab data import`",
			"dataset %q has no items to freeze", dataset)
	}
	if err := putVersion(ctx, tx, v, items); err != nil {
		return v, err
	}
	return v, nameVersion(ctx, tx, &v, actor)
}

func putVersion(ctx context.Context, tx pgx.Tx, v DatasetVersion, items []digested) error {
	tag, err := tx.Exec(ctx, "insert into dataset_version (digest, kind, items) values ($1, $2, $3) on conflict do nothing",
		v.Digest, v.Kind, v.Items)
	if err != nil || tag.RowsAffected() == 0 {
		return err // its items came with it
	}
	l := versionItemLoad
	if err := twins(ctx, tx, l); err != nil {
		return err
	}
	_, err = l.write(ctx, tx, len(items), func(i int) ([]any, error) {
		return []any{v.Digest, items[i].digest, items[i].copies}, nil
	})
	return err
}

// nameVersion points the dataset's name to v, unless it points there already.
func nameVersion(ctx context.Context, tx pgx.Tx, v *DatasetVersion, actor string) error {
	var newest trimtab.Digest
	err := tx.QueryRow(ctx, "select version, created_at from dataset_freeze where dataset = $1 order by id desc limit 1",
		v.Dataset).Scan(&newest, &v.CreatedAt)
	if err == nil && newest == v.Digest || err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	err = tx.QueryRow(ctx, "insert into dataset_freeze (dataset, version, actor) values ($1, $2, $3) returning created_at",
		v.Dataset, v.Digest, clean(actor)).Scan(&v.CreatedAt)
	if err != nil {
		return err
	}
	return record(ctx, tx, datasetSubject(v.Dataset), actor, "dataset_frozen", map[string]any{"version": v.Digest, "items": v.Items})
}

// Datasets lists every dataset by name.
func (s *Store) Datasets(ctx context.Context) ([]Dataset, error) {
	return s.datasets(ctx, "")
}

// Dataset returns the dataset of that name, or NotFound "dataset_not_found".
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

func (s *Store) datasets(ctx context.Context, name string) ([]Dataset, error) {
	var found []Dataset
	err := s.read(ctx, "reading datasets", func(tx pgx.Tx) (err error) {
		found, err = collect(ctx, tx, func(row pgx.CollectableRow) (d Dataset, err error) {
			err = row.Scan(&d.Name, &d.Kind, &d.Items, &d.CreatedAt)
			return d, err
		}, `select name, kind, (select count(*) from dataset_item where dataset = name), created_at
			from dataset where $1 = '' or name = $1 order by name collate "C"`, name)
		if err != nil {
			return err
		}
		versions, err := frozen(ctx, tx, "$1 = '' or f.dataset = $1", name)
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

// frozen lists the versions that datasets had, newest freeze first, each once a dataset.
func frozen(ctx context.Context, q querier, where string, args ...any) ([]DatasetVersion, error) {
	return collect(ctx, q, func(row pgx.CollectableRow) (v DatasetVersion, err error) {
		err = row.Scan(&v.Dataset, &v.Kind, &v.Digest, &v.Items, &v.Erased, &v.CreatedAt)
		return v, err
	}, `select f.dataset, v.kind, v.digest, v.items,
			(select count(*) from erasure e join dataset_version_item i on i.version = v.digest and i.item = e.digest where e.relation <> 'response'), max(f.created_at)
		from dataset_freeze f join dataset_version v on v.digest = f.version
		where `+where+` group by f.dataset, v.digest order by max(f.id) desc`, args...)
}

// ResolveDataset finds a version by "name" (the newest frozen one),
// "name@sha256:prefix", or its digest. A name without any frozen version is
// Conflict "dataset_not_frozen"; a prefix of several is Usage
// "dataset_ambiguous".
func (s *Store) ResolveDataset(ctx context.Context, ref string) (DatasetVersion, error) {
	if d, err := trimtab.ParseDigest(ref); err == nil {
		found, err := frozen(ctx, s.pool, "v.digest = $1", d)
		return s.oneVersion(ctx, ref, found, err)
	}
	name, prefix, _ := strings.Cut(ref, "@")
	prefix = strings.TrimPrefix(prefix, "sha256:")
	found, err := frozen(ctx, s.pool, "f.dataset = $1 and starts_with(v.digest, 'sha256:' || $2)", name, prefix)
	if prefix != "" && len(found) > 1 {
		return DatasetVersion{}, trimtab.NewError(trimtab.Usage, "dataset_ambiguous", "write more digits",
			"%q is the beginning of %d versions", ref, len(found))
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

func (s *Store) oneVersion(ctx context.Context, ref string, found []DatasetVersion, err error) (DatasetVersion, error) {
	switch {
	case err != nil:
		return DatasetVersion{}, fault(ctx, "finding dataset "+ref, err)
	case len(found) == 0:
		return DatasetVersion{}, datasetNotFound(ref)
	}
	return found[0], nil
}

// Items returns the items of a version in order of item digest, copies kept.
// It computes the Merkle root again and fails with Verification
// "dataset_digest_mismatch" when it is not version.
func (s *Store) Items(ctx context.Context, version trimtab.Digest) ([]trimtab.Item, error) {
	if gone, err := s.ErasedItems(ctx, version); err != nil {
		return nil, err
	} else if len(gone) > 0 {
		return nil, trimtab.NewError(trimtab.Conflict, "dataset_erased", "freeze the dataset again, without them, and use that version",
			"%d items of dataset version %s were erased, the first is %s", len(gone), version.Short(), gone[0])
	}
	var items []trimtab.Item
	err := s.read(ctx, "reading the items of "+version.Short(), func(tx pgx.Tx) error {
		var kind trimtab.Kind
		err := tx.QueryRow(ctx, "select kind from dataset_version where digest = $1", version).Scan(&kind)
		if errors.Is(err, pgx.ErrNoRows) {
			return datasetNotFound(string(version))
		} else if err != nil {
			return err
		}
		items, err = readItems(ctx, tx, kind, version, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	leaves := make([]trimtab.Digest, len(items))
	for i, it := range items {
		leaves[i] = trimtab.DigestOf(it.Canonical())
	}
	if root := trimtab.MerkleRoot(leaves); root != version {
		return nil, trimtab.NewError(trimtab.Verification, "dataset_digest_mismatch",
			"the record was changed from outside: restore the database from a backup, or import and freeze the data again",
			"the items of dataset version %s have the root %s", version, root)
	}
	return items, nil
}
