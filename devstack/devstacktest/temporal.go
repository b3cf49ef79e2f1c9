package devstacktest

import (
	"context"
	"os"
	"path/filepath"

	"github.com/trimtab/trimtab/devstack"
)

// startTemporal starts Temporal if it is not running. The caller holds the lock,
// and has started Postgres.
func startTemporal(ctx context.Context) (err error) {
	if stack.temporal != nil {
		return nil
	}
	stack.temporal, err = devstack.StartTemporal(ctx, devstack.TemporalOptions{
		Dir:           filepath.Join(stack.dir, "temporal"),
		PostgresURL:   stack.postgres.URL,
		DieWithParent: true,
		Log:           os.Stderr,
	})
	return err
}
