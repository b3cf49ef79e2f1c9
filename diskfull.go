package trimtab

import (
	"errors"
	"strings"
	"syscall"
)

// IsDiskFull reports whether a call to the operating system failed because space,
// inodes or a quota of a disk are used up. A file size limit (EFBIG) is not among
// them: freeing space does not help against it.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// SaysDiskFull reports whether a text, such as a server's log or an error message
// of Postgres, holds the words by which the C library reports ENOSPC or EDQUOT.
// It is for programs that pass on the words but not the error number; they must
// run in English (LC_ALL=C, or lc_messages).
func SaysDiskFull(text string) bool {
	return strings.Contains(text, "No space left on device") || strings.Contains(text, "Disk quota exceeded")
}
