package storage_test

import (
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// A disk of Postgres that is full is told as what it is, and what was refused is
// done when there is space again.
func TestDiskOfPostgresFull(t *testing.T) {
	t.Parallel()
	disk := storagetest.SmallDisk(t, 32)
	urls := storagetest.URLs(t)
	s, ctx := storagetest.Open(t, urls.App), t.Context()
	id := leasedAttempt(t, s)
	disk.MoveTables(t, urls)
	commit := func(step int) error {
		return s.Lease(id, 1).Commit(ctx, []storage.StepReport{report(step, 3, 10, 1000)},
			&storage.Checkpoint{Step: step + 1, Digest: digest("s")})
	}
	must(t, commit(0))
	free := disk.Fill(t)
	var err error
	step := 1
	for ; err == nil && step < 1000; step++ { // what there is of room in the pages
		err = commit(step)
	}
	wantError(t, err, trimtab.Unavailable, "disk_full")
	if !storage.IsUnavailable(err) {
		t.Errorf("%v: it is for good", err)
	}
	wantError(t, commit(step-1), trimtab.Unavailable, "disk_full")
	free()
	must(t, commit(step-1))
}
