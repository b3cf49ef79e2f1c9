package storage

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/audit"
)

// InvariantNames are the names of all invariants.
func InvariantNames() []string {
	names := make([]string, len(invariants))
	for i, inv := range invariants {
		names[i] = inv.name
	}
	return names
}

// CheckRunIn is CheckRun inside a transaction.
func CheckRunIn(ctx context.Context, tx pgx.Tx, run string) ([]Finding, error) {
	return checkRun(ctx, tx, run)
}

// RowDigests are the digests of all rows of a table, in the order in which they lie.
func (r Snapshot) RowDigests(ctx context.Context, t *audit.Table) (list []audit.Hash, err error) {
	var h rowHasher
	err = r.sendRequests(ctx, []*rowRequest{{sql: selectRow(t) + "order by t.ctid", done: func() {},
		row: func(values [][]byte) error {
			d, err := h.digest(t, values)
			list = append(list, d)
			return err
		}}})
	return list, err
}
