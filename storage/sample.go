package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Splits counts the items of a version by split, copies kept; text has none
// and is all under "". It reads no text, however large the version.
func (s *Store) Splits(ctx context.Context, version trimtab.Digest) (trimtab.Kind, map[string]int, error) {
	var kind trimtab.Kind
	counts := map[string]int{}
	err := s.read(ctx, "counting the items of "+version.Short(), func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "select kind from dataset_version where digest = $1", version).Scan(&kind)
		if errors.Is(err, pgx.ErrNoRows) {
			return datasetNotFound(string(version))
		} else if err != nil {
			return err
		}
		split := "t.split"
		if kind == trimtab.KindText {
			split = "''"
		}
		type count struct {
			Split string
			Items int
		}
		rows, err := collect(ctx, tx, pgx.RowToStructByPos[count], fmt.Sprintf(`
			select %s, sum(v.copies) from dataset_version_item v join %s t on t.digest = v.item where v.version = $1 group by 1`, split, itemTable[kind]), version)
		for _, r := range rows {
			counts[r.Split] = r.Items
		}
		return err
	})
	return kind, counts, err
}

// SomeItems returns items of a version in order of item digest, copies kept:
// the first, as many as have most items and mostBytes bytes of text together,
// and at least one. Which they are has nothing to do with what they say. Text
// is measured by its bytes, others are not measured.
func (s *Store) SomeItems(ctx context.Context, version trimtab.Digest, most int, mostBytes int64) ([]trimtab.Item, error) {
	var items []trimtab.Item
	err := s.read(ctx, "reading some items of "+version.Short(), func(tx pgx.Tx) error {
		var kind trimtab.Kind
		err := tx.QueryRow(ctx, "select kind from dataset_version where digest = $1", version).Scan(&kind)
		if errors.Is(err, pgx.ErrNoRows) {
			return datasetNotFound(string(version))
		} else if err != nil {
			return err
		}
		if kind == trimtab.KindText {
			err = tx.QueryRow(ctx, `
				select greatest(1, count(*)) from (
					select sum(octet_length(t.body)) over (order by v.item) as bytes
					from (select item from dataset_version_item where version = $1 order by item limit $2) v join text_item t on t.digest = v.item) x
				where bytes <= $3`, version, most, mostBytes).Scan(&most)
			if err != nil {
				return err
			}
		}
		items, err = readItems(ctx, tx, kind, version, most)
		return err
	})
	return items, err
}
