package dataset

import (
	"fmt"
	"os"
	"testing"

	"github.com/trimtab/trimtab"
)

// Digests beyond what is held lie in a file, and are counted as exactly.
func TestDistinct(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	for _, n := range []int{0, 1, 7, 8, 9, 64, 1000} {
		d := newDigestCounter()
		d.maxBuffered = 8
		for i := range n {
			for range 1 + i%3 {
				if err := d.add(trimtab.DigestOf(fmt.Appendf(nil, "%d", i))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got, err := d.count(); got != n || err != nil {
			t.Errorf("%d of %d: %v", got, n, err)
		}
		d.close()
	}
	if left, _ := os.ReadDir(folder); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Setenv("TMPDIR", folder+"/none")
	d := newDigestCounter()
	d.maxBuffered = 1
	if err := d.add(trimtab.DigestOf(nil)); trimtab.AsError(err).Type != "temporary_file" {
		t.Errorf("without a temporary folder: %v", err)
	}
}
