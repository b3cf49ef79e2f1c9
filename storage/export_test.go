package storage

import (
	"context"

	"github.com/jackc/pgx/v5"
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
