package devstack

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/trimtab/trimtab"
)

// clusterState is what must never change between two starts: clients such as
// Temporal cannot follow a server to another port.
type clusterState struct {
	Port       int    `json:"port"`
	Socket     string `json:"socket"`          // folder
	DataParent string `json:"place,omitempty"` // holds data, if the folder itself does not
	DataKey    string `json:"data,omitempty"`  // folderKey of data when it was last started from here
	Draft      string `json:"draft,omitempty"` // name of a cluster that is being made
}

// cluster is one data folder of Postgres and what belongs to it.
type cluster struct {
	opts     PostgresOptions
	dir      string              // absolute; password, log, state
	cred     *syscall.Credential // whom Postgres runs as, when we are root
	password string
	clusterState
}

func (c *cluster) dataParent() string { return cmp.Or(c.DataParent, c.dir) }
func (c *cluster) data() string       { return filepath.Join(c.dataParent(), "data") }
func (c *cluster) log() string        { return filepath.Join(c.dir, "postgres.log") }
func (c *cluster) stateFile() string  { return filepath.Join(c.dir, "postgres.json") }

// openCluster reads or chooses all that is fixed for the data folder but its port and socket.
func openCluster(o PostgresOptions) (*cluster, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := makeSubfolder(dir); err != nil {
		return nil, trimtab.NewError(trimtab.Unavailable, "data_folder",
			"choose another data folder, or make this one writable", "make the folder of the database: %w", err)
	}
	c := &cluster{opts: o, dir: dir}
	if err := readJSON(c.stateFile(), &c.clusterState); err != nil {
		return nil, err
	}
	if c.cred, err = credential(); err != nil {
		return nil, err
	}
	if c.Port == 0 { // a new one
		c.DataParent = c.chooseDataParent()
	}
	if err := c.checkNotCopied(); err != nil {
		return nil, err
	}
	if err := c.checkOwner(); err != nil {
		return nil, err
	}
	return c, nil
}

// chooseDataParent is where the data goes if the user that Postgres runs as cannot
// reach dir: under /var/lib, where nothing is yet. It is empty if he can.
func (c *cluster) chooseDataParent() string {
	if c.cred == nil {
		return ""
	}
	closed := firstUnreachable(c.dir, c.cred)
	if closed == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(c.dir))
	base := filepath.Join("/var/lib/trimtab", hex.EncodeToString(sum[:8]))
	place := base
	for n := 2; ; n++ { // one that is there belonged to a folder of this name that was removed
		if _, err := os.Stat(place); err != nil {
			break
		}
		place = fmt.Sprintf("%s-%d", base, n)
	}
	logf(c.opts.Log, "Postgres does not run as root, and %s is closed to other users: the database is kept in %s",
		closed, place)
	return place
}

// dataOwner is the file owner.json beside data that is not in the data folder
// itself: whose it is.
type dataOwner struct {
	Path   string `json:"path"`   // of the folder of the cluster
	Folder string `json:"folder"` // folderKey of it
}

func (c *cluster) ownerFile() string { return filepath.Join(c.DataParent, "owner.json") }

// checkNotCopied refuses the data of another folder, of which this one is a copy:
// the copy has no data of its own, and would work on the original's.
func (c *cluster) checkNotCopied() error {
	if c.DataParent == "" {
		return nil
	}
	var is dataOwner
	if err := readJSON(c.ownerFile(), &is); err != nil {
		return err
	}
	if is.Folder == "" || is.Folder == folderKey(c.dir) || folderKey(is.Path) != is.Folder {
		return nil // nobody's yet, ours, or of one that was moved here
	}
	return trimtab.NewError(trimtab.Conflict, "copied_folder",
		fmt.Sprintf("stop the original, copy its database with cp -a %s %s-copy, remove the file owner.json in that, "+
			"and write its path as \"place\" into %s", c.DataParent, c.DataParent, c.stateFile()),
		"open the database of %s: the folder is a copy of %s, whose database is in %s and was not copied with it",
		c.dir, is.Path, c.DataParent)
}

// claimDataParent notes whose the data is.
func (c *cluster) claimDataParent() error {
	if c.DataParent == "" {
		return nil
	}
	return writeJSON(c.ownerFile(), dataOwner{c.dir, folderKey(c.dir)})
}

// isCopy tells that the data was started last where it was copied from, so that
// what it says of processes and sockets is said of those there.
func (c *cluster) isCopy() bool { return c.DataKey != "" && c.DataKey != folderKey(c.data()) }

// firstUnreachable names the first parent of path, or path, that the user cannot enter.
func firstUnreachable(path string, cred *syscall.Credential) string {
	for d := path; ; d = filepath.Dir(d) {
		if st, err := os.Stat(d); err == nil && !canEnter(st, cred) {
			return d
		}
		if d == filepath.Dir(d) {
			return ""
		}
	}
}

func canEnter(st fs.FileInfo, cred *syscall.Credential) bool {
	bit := fs.FileMode(0o001)
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		switch {
		case sys.Uid == cred.Uid:
			bit = 0o100
		case sys.Gid == cred.Gid:
			bit = 0o010
		}
	}
	return st.Mode()&bit != 0
}

// credential is nil for an ordinary user, and for root the user postgres, else nobody.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		if _, err := user.LookupId(strconv.Itoa(os.Getuid())); err != nil {
			return nil, trimtab.NewError(trimtab.Unavailable, "postgres_user",
				"run as a user that /etc/passwd lists, or use a server that runs (--postgres-url)",
				"start a private Postgres: initdb needs the name of user %d, who has none", os.Getuid())
		}
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, trimtab.NewError(trimtab.Unavailable, "postgres_user",
		"add a user named postgres, or run as another user than root",
		"start a private Postgres: it refuses to run as root, and neither user postgres nor nobody exists")
}

// checkOwner runs Postgres as the user whose data it is, and refuses data of
// somebody else that this user cannot become.
func (c *cluster) checkOwner() error {
	st, err := os.Stat(c.data())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
	case c.cred != nil && sys.Uid != 0:
		c.cred.Uid, c.cred.Gid = sys.Uid, sys.Gid
	case c.cred == nil && int(sys.Uid) != os.Geteuid():
		return trimtab.NewError(trimtab.Unavailable, "postgres_owner",
			"run as that user, or choose another data folder",
			"open the database in %s: it belongs to user %d", c.data(), sys.Uid)
	}
	return nil
}

// chown makes the user that Postgres runs as the owner of path.
func (c *cluster) chown(path string) error {
	if c.cred == nil {
		return nil
	}
	return os.Lchown(path, int(c.cred.Uid), int(c.cred.Gid))
}

// socketLimit is the longest path of a Unix socket on any system we know, less a byte.
const socketLimit = 103

// makeSocketFolder makes the private folder of the socket, short enough for its path.
// Only Postgres's user may enter it, so that whoever connects there is trusted.
func (c *cluster) makeSocketFolder() error {
	if c.Socket != "" && !c.isCopy() {
		err := os.Mkdir(c.Socket, 0o700)
		if err == nil {
			return c.chown(c.Socket)
		}
		if errors.Is(err, fs.ErrExist) && c.ownsSocketFolder() {
			return nil
		}
	}
	tmp := os.TempDir()
	if len(tmp)+len("/trimtab-0123456789/.s.PGSQL.12345") > socketLimit {
		tmp = "/tmp"
	}
	if c.cred != nil && firstUnreachable(tmp, c.cred) != "" {
		tmp = "/tmp"
	}
	dir, err := os.MkdirTemp(tmp, "trimtab-") // mode 0700
	if err != nil {
		return err
	}
	c.Socket = dir
	return c.chown(dir)
}

// ownsSocketFolder tells whether the saved folder is still ours: somebody else may
// have made it since the system's temporary folder was emptied.
func (c *cluster) ownsSocketFolder() bool {
	st, err := os.Lstat(c.Socket)
	if err != nil || !st.IsDir() || st.Mode().Perm() != 0o700 {
		return false
	}
	owner := uint32(os.Geteuid())
	if c.cred != nil {
		owner = c.cred.Uid
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Uid == owner
}

// inUse tells whether any process works in the data folder: every process of a
// cluster does. It is true where that cannot be known.
func (c *cluster) inUse() bool {
	if runtime.GOOS != "linux" {
		return true
	}
	owner := uint32(os.Geteuid())
	if c.cred != nil {
		owner = c.cred.Uid
	}
	data, _ := os.Stat(c.data())
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, l := range links {
		st, err := os.Stat(filepath.Dir(l))
		if err != nil {
			continue
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if ok && sys.Uid != owner {
			continue
		}
		switch key, err := os.Stat(l); { // as a folder, not as a path: it may lead through a link, or have been moved
		case errors.Is(err, fs.ErrPermission), err == nil && data != nil && os.SameFile(key, data):
			return true
		}
	}
	return false
}

// isPostgres tells whether a living process has the name of a postmaster.
func isPostgres(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if runtime.GOOS != "linux" {
		name, err = exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	}
	base := filepath.Base(strings.TrimSpace(string(name)))
	return err == nil && (strings.HasPrefix(base, "postgres") || base == "postmaster")
}
