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

// lockName is the file whose flock separates writers of the store (shared) from
// the garbage collector (exclusive), across processes. The kernel releases the
// lock when the process that holds it ends, however it ends.
const lockName = "lock"

// lockTimeout is how long the garbage collector waits for writers. It is bounded
// because a writer may be suspended, or hang on a dead disk.
const lockTimeout = 30 * time.Second

// withSharedLock runs f while no garbage is collected. On a file system without
// locks it runs f all the same: the collector refuses to run there.
func (s *Store) withSharedLock(f func() error) error {
	lock, err := s.lock(syscall.LOCK_SH)
	if err == nil {
		defer lock.Close()
	}
	return f()
}

// withExclusiveLock runs f while no file is put into the store. It polls, because
// flock has no timeout. Errors: store_unlockable, store_busy, those of f.
func (s *Store) withExclusiveLock(f func() error) error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		lock, err := s.lock(syscall.LOCK_EX | syscall.LOCK_NB)
		switch {
		case err == nil:
			defer lock.Close()
			return f()
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return trimtab.NewError(trimtab.Conflict, "store_unlockable", "run gc on the machine that has the folder",
				"lock the store: %w", err)
		case time.Since(began) > lockTimeout:
			return trimtab.NewError(trimtab.Unavailable, "store_busy", "try again; look whether a worker is suspended",
				"writers held the lock of the store for %s", lockTimeout)
		}
	}
}

// lock opens and locks the lock file, with the operation how of flock(2). Closing
// the file releases the lock.
func (s *Store) lock(how int) (*os.File, error) {
	f, err := plainfile.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		switch err = syscall.Flock(int(f.Fd()), how); err {
		case nil:
			return f, nil
		case syscall.EINTR: // a signal; try again
		default:
			f.Close()
			return nil, err
		}
	}
}
