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

// clusterState is the file postgres.json: what must not change from one start to
// the next. Clients such as Temporal cannot follow a server to another port.
type clusterState struct {
	// Port is the TCP port on 127.0.0.1; 0 before the first start.
	Port int `json:"port"`
	// Socket is the private folder of the Unix socket.
	Socket string `json:"socket"`
	// DataParent is the folder that holds data, if that is not the cluster's own
	// folder.
	DataParent string `json:"place,omitempty"`
	// DataKey is the folderKey of data when the server was last started from
	// here: a copy has another.
	DataKey string `json:"data,omitempty"`
	// Draft is the name of a cluster that initdb is creating, or was when the
	// process was killed.
	Draft string `json:"draft,omitempty"`
}

// cluster is one Postgres data folder and everything that belongs to it.
type cluster struct {
	opts PostgresOptions
	// dir is the absolute path of the folder that holds password, log and state.
	dir string
	// cred is the user that Postgres runs as when this process is root; nil
	// otherwise.
	cred *syscall.Credential
	// password is the owner's.
	password string
	clusterState
}

// dataParent is the folder that holds data.
func (c *cluster) dataParent() string { return cmp.Or(c.DataParent, c.dir) }

// data is Postgres's data folder (PGDATA).
func (c *cluster) data() string { return filepath.Join(c.dataParent(), "data") }

// log is the server's log file.
func (c *cluster) log() string { return filepath.Join(c.dir, "postgres.log") }

// stateFile is the file of clusterState.
func (c *cluster) stateFile() string { return filepath.Join(c.dir, "postgres.json") }

// openCluster reads, or for a new cluster chooses, everything that is fixed for a
// data folder except port and socket. It creates only the folder itself.
func openCluster(o PostgresOptions) (*cluster, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := makeSubfolder(dir); err != nil {
		return nil, trimtab.NewError(trimtab.Unavailable, "data_folder",
			"choose another data folder, or make this one writable", "create the folder of the database: %w", err)
	}
	c := &cluster{opts: o, dir: dir}
	if err := readJSON(c.stateFile(), &c.clusterState); err != nil {
		return nil, err
	}
	if c.cred, err = credential(); err != nil {
		return nil, err
	}
	if c.Port == 0 { // a new cluster
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

// chooseDataParent returns where to put the data of a new cluster if the user
// that Postgres runs as cannot reach dir: a folder under /var/lib that does not
// exist yet. It is empty if that user can reach dir.
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
	for n := 2; ; n++ { // an existing one belonged to a removed data folder of the same path
		if _, err := os.Stat(place); err != nil {
			break
		}
		place = fmt.Sprintf("%s-%d", base, n)
	}
	logf(c.opts.Log, "Postgres cannot run as root, and other users cannot enter %s: the database is kept in %s",
		closed, place)
	return place
}

// dataOwner is the file owner.json, which is beside data where that is not in the
// cluster's own folder: it records which folder the data belongs to.
type dataOwner struct {
	// Path is the folder of the cluster.
	Path string `json:"path"`
	// Folder is the folderKey of that folder.
	Folder string `json:"folder"`
}

// ownerFile is the file of dataOwner.
func (c *cluster) ownerFile() string { return filepath.Join(c.DataParent, "owner.json") }

// checkNotCopied refuses the data of another folder of which this one is a copy:
// the copy has no data of its own, and would work on the original's. Error:
// copied_folder.
func (c *cluster) checkNotCopied() error {
	if c.DataParent == "" {
		return nil
	}
	var owner dataOwner
	if err := readJSON(c.ownerFile(), &owner); err != nil {
		return err
	}
	if owner.Folder == "" || owner.Folder == folderKey(c.dir) || folderKey(owner.Path) != owner.Folder {
		return nil // unowned, ours, or of a folder that was moved here
	}
	return trimtab.NewError(trimtab.Conflict, "copied_folder",
		fmt.Sprintf("stop the original, copy its database with cp -a %s %s-copy, remove the file owner.json from the "+
			"copy, and set \"place\" in %s to the path of the copy", c.DataParent, c.DataParent, c.stateFile()),
		"open the database of %s: the folder is a copy of %s, whose database is in %s and was not copied with it",
		c.dir, owner.Path, c.DataParent)
}

// claimDataParent records that the data belongs to this folder.
func (c *cluster) claimDataParent() error {
	if c.DataParent == "" {
		return nil
	}
	return writeJSON(c.ownerFile(), dataOwner{c.dir, folderKey(c.dir)})
}

// isCopy reports whether data was copied here since its server last ran: what its
// files say about processes and sockets then concerns the original.
func (c *cluster) isCopy() bool { return c.DataKey != "" && c.DataKey != folderKey(c.data()) }

// firstUnreachable returns the folder nearest to path, path included, that the
// user cannot enter; empty if all can be entered.
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

// canEnter reports whether the mode bits of a folder let the user search it.
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

// credential is the user to run Postgres as: nil, this user, for an ordinary
// user; for root the user postgres, or else nobody. Error: postgres_user.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		if _, err := user.LookupId(strconv.Itoa(os.Getuid())); err != nil {
			return nil, trimtab.NewError(trimtab.Unavailable, "postgres_user",
				"run as a user that /etc/passwd lists, or use a running server (--postgres-url)",
				"start a private Postgres: initdb needs a user name, and user %d has none", os.Getuid())
		}
		return nil, nil
	}
	// Postgres refuses to run as root. The user postgres exists where a package has been installed, nobody almost
	// everywhere.
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

// checkOwner makes Postgres run as the user that owns existing data, and refuses
// data of a user that this process cannot become. Error: postgres_owner.
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

// socketLimit is the longest path of a Unix socket, in bytes: sun_path has 104 on
// macOS and the BSDs and 108 on Linux, with a final NUL.
const socketLimit = 103

// makeSocketFolder creates the folder of the socket, with a path short enough for
// socketLimit. Only Postgres's user and root can enter it: local connections
// through it are trusted without a password.
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
	// Five digits are the longest port, and MkdirTemp appends at most ten.
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

// ownsSocketFolder reports whether the saved folder is still ours: another user
// may have created one of that name after the system's temporary folder was
// emptied.
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

// inUse reports whether any process works in the data folder: every process of a
// Postgres server has it as working directory. It is true where that cannot be
// determined.
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
		// Folders are compared, not paths: a path may lead through a link, or the folder may have been moved.
		switch cwd, err := os.Stat(l); {
		case errors.Is(err, fs.ErrPermission), err == nil && data != nil && os.SameFile(cwd, data):
			return true
		}
	}
	return false
}

// isPostgres reports whether the program name of a running process is that of a
// Postgres server.
func isPostgres(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if runtime.GOOS != "linux" {
		name, err = exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	}
	base := filepath.Base(strings.TrimSpace(string(name)))
	return err == nil && (strings.HasPrefix(base, "postgres") || base == "postmaster")
}
