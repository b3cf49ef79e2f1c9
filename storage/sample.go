package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// CountBySplit counts the items of a version by their split, duplicates
// included. Text has no split and counts under "". It reads no text, however
// large the version.
func (s *Store) CountBySplit(ctx context.Context, version trimtab.Digest) (trimtab.Kind, map[string]int, error) {
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
		rows, err := queryRows(ctx, tx, pgx.RowToStructByPos[count], fmt.Sprintf(`
			select %s, sum(v.copies) from dataset_version_item v join %s t on t.digest = v.item where v.version = $1
				group by 1`, split, itemTable[kind]), version)
		for _, r := range rows {
			counts[r.Split] = r.Items
		}
		return err
	})
	return kind, counts, err
}

// SampleItems returns the first items of a version in order of their digests,
// duplicates included: at least one, at most most, and with at most mostBytes
// bytes of text together; the text of other kinds is not measured. The order
// of digests is independent of the content, so they are a fair sample.
//
// The content of each item is verified, the root of the version is not.
func (s *Store) SampleItems(ctx context.Context, version trimtab.Digest, most int,
	mostBytes int64) ([]trimtab.Item, error) {
	var items []trimtab.Item
	var size int64
	err := s.eachItem(ctx, version, false, func(item trimtab.Item) error {
		if text, ok := item.(trimtab.Text); ok {
			size += int64(len(text.Body))
		}
		if len(items) > 0 && (len(items) == most || size > mostBytes) {
			return ErrStop
		}
		items = append(items, item)
		return nil
	})
	return items, err
}
