package trimtab

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

// A full disk is recognised by its error number, also within other errors, and by the words of the C library.
func TestDiskFull(t *testing.T) {
	for err, want := range map[error]bool{
		&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}: true,
		fmt.Errorf("sync: %w", syscall.EDQUOT):                     true,
		syscall.EFBIG:                                              false, errors.New("No space left on device"): false, nil: false,
	} {
		if got := IsDiskFull(err); got != want {
			t.Errorf("IsDiskFull(%v) = %v", err, got)
		}
	}
	for text, want := range map[string]bool{
		`could not extend file "base/5/1": No space left on device`: true,
		"write: Disk quota exceeded":                                true,
		"File too large":                                            false,
		"":                                                          false,
	} {
		if got := SaysDiskFull(text); got != want {
			t.Errorf("SaysDiskFull(%q) = %v", text, got)
		}
	}
}
