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

// folderName makes a folder, and those above it that are absent, which other users
// may pass through but not list. What is there already keeps its mode.
func makeFolder(path string) error {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return nil
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return makeSubfolder(path)
}

// makeSubfolder is folder, but that the folder above has to be there: nothing is
// made again in the place of a data folder that was removed.
func makeSubfolder(path string) error {
	err := os.Mkdir(path, 0o711)
	if errors.Is(err, fs.ErrExist) {
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			return nil
		}
		return &fs.PathError{Op: "make folder", Path: path,
			Err: errors.New("something that is no folder is in its place")}
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o711), f.Close()) // whatever the umask is
}

// lock waits until this process holds the lock file; the kernel frees it when the process ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		unlock, err := tryLock(path)
		if err != nil || unlock != nil {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, which another process holds: %w", path, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lockWithin is lock with a limit: nil and no error if another process holds it
// for so long. A process that was killed may hold its locks for an instant more.
func lockWithin(ctx context.Context, path string, limit time.Duration) (unlock func(), err error) {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		unlock, err := tryLock(path)
		if err != nil || unlock != nil || ctx.Err() != nil || time.Now().After(end) {
			return unlock, err
		}
	}
}

// tryLock is lock without the wait: nil and no error if another process holds it.
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

// isLocked tells whether a process holds a lock file. It makes none.
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

// writeFile replaces a file whole, or leaves it as it was.
func writeFile(path string, data []byte) error { return plainfile.Replace(path, 0o600, data) }

// remove removes a file; one that is gone is no error, and a folder stays.
func remove(path string) error {
	if err := syscall.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return err
	}
	return writeFile(path, b)
}

// createJSON is writeJSON for a file that must not be there yet.
func createJSON(path string, v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return err
	}
	return plainfile.WriteNew(path, 0o600, b)
}

func encodeJSON(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}

// readJSON leaves v alone if the file does not exist.
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

// password reads the password kept in a file, or makes it: 32 hexadecimal digits.
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

// reservedPorts are n ports in a row on 127.0.0.1 that are kept for a server until it
// listens on them. Between the look whether a port is free and the server's own
// bind, another start may look as well: what keeps them apart are the UDP ports
// of the same numbers, which are held meanwhile.
type reservedPorts struct {
	first int
	held  []net.PacketConn
}

func (p *reservedPorts) release() {
	for _, c := range p.held {
		c.Close()
	}
	p.held = nil
}

// tryReserve is nil if one of the ports is not free.
func tryReserve(first, n int) *reservedPorts {
	p := &reservedPorts{first: first}
	for port := first; port < first+n; port++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		c, err := net.ListenPacket("udp", address)
		// kept for another server, whose clients must not meet a listener of ours
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

// reserveFreePorts holds n free ports in a row, below the range that systems lend to
// outgoing connections, so that they can be kept for ever.
func reserveFreePorts(n int) (*reservedPorts, error) {
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
		"end what listens there, or see that this user may open sockets and files (ulimit -n)",
		"find %d free ports in a row on 127.0.0.1 between 20000 and 32000: there are none", n)
}

// reservePorts holds the n ports from first on if it is given and they are free, or
// become so within two seconds; else others.
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

const logLimit = 16 << 20 // a log that has grown past this is set aside when its writer starts

// openLog opens a log for appending.
func openLog(path string) (*os.File, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() && st.Size() > logLimit {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return plainfile.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// compileStart is what a log holds from an offset on; nothing, if it cannot be read.
func readFrom(path string, from int64) string {
	b, _ := plainfile.Read(path)
	return string(b[min(from, int64(len(b))):])
}

// tail is the last lines of a file from an offset on, for an error message.
func tail(path string, from int64) string {
	const keep, longest = 2000, 500 // bytes in all, and of one line: a line may hold a whole stack trace
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

func fileSize(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}
