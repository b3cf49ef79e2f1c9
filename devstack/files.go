package devstack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// makeFolder creates a folder and its missing parents, with a mode that lets
// other users pass through but not list them. Existing folders keep their mode.
func makeFolder(path string) error {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return nil
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return makeSubfolder(path)
}

// makeSubfolder is makeFolder for a folder whose parent must exist: nothing is
// created in the place of a data folder that was removed.
func makeSubfolder(path string) error {
	err := os.Mkdir(path, 0o711)
	if errors.Is(err, fs.ErrExist) {
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			return nil
		}
		return &fs.PathError{Op: "make folder", Path: path,
			Err: errors.New("there is something else of that name")}
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o711), f.Close()) // regardless of the umask
}

// lock waits until this process holds the lock file, or ctx ends. The kernel
// releases the lock when the process ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		unlock, err := tryLock(path)
		if err != nil || unlock != nil {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock file %s, which another process holds: %w", path, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lockWithin is lock with a time limit: nil and no error if another process still
// holds the file then. A process that was just killed may hold its locks for an
// instant.
func lockWithin(ctx context.Context, path string, limit time.Duration) (unlock func(), err error) {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		unlock, err := tryLock(path)
		if err != nil || unlock != nil || ctx.Err() != nil || time.Now().After(end) {
			return unlock, err
		}
	}
}

// tryLock is lock without waiting: nil and no error if another process holds the
// file.
func tryLock(path string) (unlock func(), err error) {
	f, err := plainfile.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// isLocked reports whether a process holds a lock file, without creating the
// file.
func isLocked(path string) bool {
	if _, err := os.Stat(path); err != nil {
		return false
	}
	unlock, err := tryLock(path)
	if unlock != nil {
		unlock()
	}
	return err == nil && unlock == nil
}

// writeFile replaces a file atomically; it is private to its owner.
func writeFile(path string, data []byte) error { return plainfile.Replace(path, 0o600, data) }

// remove removes a file. One that is absent is no error, and a folder is never
// removed.
func remove(path string) error {
	if err := syscall.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// writeJSON replaces a file with v as JSON.
func writeJSON(path string, v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return err
	}
	return writeFile(path, b)
}

// createJSON is writeJSON for a file that must not exist yet.
func createJSON(path string, v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return err
	}
	return plainfile.WriteNew(path, 0o600, b)
}

// encodeJSON is v as indented JSON with a final newline.
func encodeJSON(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}

// readJSON decodes a file into v, and leaves v alone if the file does not exist.
func readJSON(path string, v any) error {
	b, err := plainfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// password reads the password kept in a file, or creates it: 32 hexadecimal
// digits, which need no quoting in SQL and URLs.
func password(path string) (string, error) {
	b, err := plainfile.Read(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	p := hex.EncodeToString(raw)
	return p, writeFile(path, []byte(p+"\n"))
}

// reservedPorts are consecutive ports on 127.0.0.1 that are reserved for a server
// until it listens on them. Between the check that a port is free and the
// server's own bind, another start may make the same check. The UDP ports of the
// same numbers, held in the meantime, keep the two apart.
type reservedPorts struct {
	// first is the number of the first port.
	first int
	// held are the UDP ports.
	held []net.PacketConn
}

// release frees the UDP ports.
func (p *reservedPorts) release() {
	for _, c := range p.held {
		c.Close()
	}
	p.held = nil
}

// tryReserve reserves n ports from first on; nil if one of them is not free.
func tryReserve(first, n int) *reservedPorts {
	p := &reservedPorts{first: first}
	for port := first; port < first+n; port++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		c, err := net.ListenPacket("udp", address)
		// Another start reserved it for its server, whose clients must not reach our listener below.
		if errors.Is(err, syscall.EADDRINUSE) {
			p.release()
			return nil
		}
		if err == nil {
			p.held = append(p.held, c)
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			p.release()
			return nil
		}
		l.Close()
	}
	return p
}

// reserveFreePorts reserves n consecutive free ports at random, below the ranges
// from which systems assign ports to outgoing connections, so that they can be
// used for years. Error: no_ports.
func reserveFreePorts(n int) (*reservedPorts, error) {
	// The choice is random because several data folders, and tests, start at once.
	for range 200 {
		r, err := rand.Int(rand.Reader, big.NewInt(12000))
		if err != nil {
			return nil, err
		}
		if p := tryReserve(20000+int(r.Int64()), n); p != nil {
			return p, nil
		}
	}
	return nil, trimtab.NewError(trimtab.Unavailable, "no_ports",
		"stop what listens there, or check that this user may open sockets and files (ulimit -n)",
		"find %d consecutive free ports on 127.0.0.1 between 20000 and 32000: there are none", n)
}

// reservePorts reserves the n ports from first on, if first is not 0 and they are
// free or become so within two seconds; otherwise other ports.
func reservePorts(first, n int) (*reservedPorts, error) {
	for end := time.Now().Add(2 * time.Second); first != 0; time.Sleep(50 * time.Millisecond) {
		if p := tryReserve(first, n); p != nil {
			return p, nil
		}
		if time.Now().After(end) {
			break
		}
	}
	return reserveFreePorts(n)
}

// logLimit is the size in bytes beyond which a log is renamed to NAME.old when
// its writer starts.
const logLimit = 16 << 20

// openLog opens a log for appending; see logLimit.
func openLog(path string) (*os.File, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() && st.Size() > logLimit {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return plainfile.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// readFrom is the text of a log from an offset on; empty if it cannot be read.
func readFrom(path string, from int64) string {
	b, _ := plainfile.Read(path)
	return string(b[min(from, int64(len(b))):])
}

// tail is the last lines of a file from an offset on, for an error message. It is
// at most 2,000 bytes, and of each line at most 500: a line may hold a whole
// stack trace.
func tail(path string, from int64) string {
	const keep, longest = 2000, 500
	var last []string
	size := 0
	for line := range strings.Lines(readFrom(path, from)) {
		if line = strings.TrimRight(line, "\n"); len(line) > longest {
			line = strings.ToValidUTF8(line[:longest], "") + "…"
		}
		last, size = append(last, line), size+len(line)+1
		for size > keep {
			size -= len(last[0]) + 1
			last = last[1:]
		}
	}
	return strings.TrimSpace(strings.Join(last, "\n"))
}

// fileSize is the size of an open file; 0 if it is unknown.
func fileSize(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}
