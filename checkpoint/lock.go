package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// lockName is the file by whose lock those who put files into a store and
// those who remove what nothing points to (Collect) keep out of each other's
// way, also in several processes. It ends with the process that holds it.
const lockName = "lock"

// lockTimeout is how long Collect waits for writers, of which one may be frozen.
const lockTimeout = 30 * time.Second

// withSharedLock does f while nothing is collected. Where the file system knows no
// locks it does f all the same: Collect refuses to work there.
func (s *Store) withSharedLock(f func() error) error {
	lock, err := s.lock(syscall.LOCK_SH)
	if err == nil {
		defer lock.Close()
	}
	return f()
}

// withExclusiveLock does f while nobody puts a file into the store.
func (s *Store) withExclusiveLock(f func() error) error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		lock, err := s.lock(syscall.LOCK_EX | syscall.LOCK_NB)
		switch {
		case err == nil:
			defer lock.Close()
			return f()
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return trimtab.NewError(trimtab.Conflict, "store_unlockable", "collect on the machine that has the folder",
				"lock the store: %w", err)
		case time.Since(began) > lockTimeout:
			return trimtab.NewError(trimtab.Unavailable, "store_busy", "try again; see whether a worker is stopped",
				"the store was being written to for %s", lockTimeout)
		}
	}
}

// lock returns the locked file; closing it ends the lock.
func (s *Store) lock(how int) (*os.File, error) {
	f, err := plainfile.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		switch err = syscall.Flock(int(f.Fd()), how); err {
		case nil:
			return f, nil
		case syscall.EINTR:
		default:
			f.Close()
			return nil, err
		}
	}
}
