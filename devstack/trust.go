package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/trimtab/trimtab"
)

// Which users could replace a program before it is run? Those who own or can write
// its file, and those who own or can write a folder on the path to it, since they
// can rename what is in it. In a folder with the sticky bit, such as /tmp, each
// user can rename only files of their own. A symbolic link on the path is checked
// itself, and then the path that it leads to.
//
// Access control lists appear in the mode as permissions of the group, and are
// treated as such.

// trustPolicy is which users, besides this one and root, a path may depend on.
type trustPolicy int

const (
	selfOnly trustPolicy = iota // nobody else: for files that Trimtab wrote itself
	anyOwner                    // owners and groups, but not everybody: for programs found in the user's PATH
)

// checkTrust returns an error for the first file or folder on a path that lets
// more users than the policy allows replace what the path leads to; nil if there
// is none. A path that does not exist is checked as far as it does. An error of
// the file system is an *fs.PathError.
func checkTrust(path string, allowed trustPolicy) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	at, rest := "/", split(path)
	// The path is walked element by element, as the kernel does, with links resolved in place: filepath.EvalSymlinks
	// would hide the folders that hold the links. 40 links are the kernel's own limit.
	for links := 0; ; {
		st, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			if links++; links > 40 {
				return &fs.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
			}
			target, err := os.Readlink(at)
			if err != nil {
				return err
			}
			rest = append(split(target), rest...)
			if at = filepath.Dir(at); filepath.IsAbs(target) {
				at = "/"
			}
			continue
		}
		if err := checkEntry(at, st, allowed); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
		next := filepath.Join(at, rest[0]) // ".." needs no care: everything above has been checked
		if err := checkSticky(st, next); err != nil {
			return err
		}
		at, rest = next, rest[1:]
	}
}

// split returns the elements of a path.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

// checkEntry checks the owner and the mode of one file or folder.
func checkEntry(path string, st fs.FileInfo, allowed trustPolicy) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	sticky := st.IsDir() && st.Mode()&fs.ModeSticky != 0
	mode := st.Mode().Perm()
	switch {
	case mode&0o002 != 0 && !sticky:
		return fmt.Errorf("every user can write %s", path)
	case !isSelfOrRoot(sys.Uid) && (allowed == selfOnly || os.Geteuid() == 0):
		name, _ := userName(sys.Uid)
		return fmt.Errorf("%s belongs to %s", path, name)
	case mode&0o020 != 0 && !sticky && allowed == selfOnly && !trustedGroup(sys.Gid):
		return fmt.Errorf("%s can write %s", groupName(sys.Gid), path)
	}
	return nil
}

// checkSticky checks the owner of an entry of a sticky folder that other users
// can write: any of them may have put it there.
func checkSticky(folder fs.FileInfo, next string) error {
	if folder.Mode()&fs.ModeSticky == 0 || folder.Mode().Perm()&0o022 == 0 {
		return nil
	}
	st, err := os.Lstat(next)
	if err != nil {
		return nil // checkTrust finds out itself that it is absent
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && !isSelfOrRoot(sys.Uid) {
		name, _ := userName(sys.Uid)
		return fmt.Errorf("%s, in a folder that others can write, belongs to %s", next, name)
	}
	return nil
}

// isSelfOrRoot reports whether a user id is this process's or root's.
func isSelfOrRoot(uid uint32) bool { return int(uid) == os.Geteuid() || isRoot(uid) }

// adminGroups are the groups, by system, whose members can become root or by
// convention manage the system's programs.
var adminGroups = map[string][]string{
	"linux":  {"root", "wheel", "sudo", "staff"}, // staff: Debian's for /usr/local
	"darwin": {"wheel", "admin"},
}

// trustedGroup reports whether a group is one of those, or has the user's own
// name: on many systems each user is the only member of such a group.
func trustedGroup(gid uint32) bool {
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10))
	if gid == 0 || err == nil && slices.Contains(adminGroups[runtime.GOOS], g.Name) {
		return true
	}
	u, own := user.Current()
	return err == nil && own == nil && u.Gid == g.Gid && u.Username == g.Name
}

// groupName is a group for messages.
func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return "group " + g.Name
	}
	return "group " + id
}

// checkFolderTrust refuses a data folder in which another user could replace
// programs or passwords. A folder that only holds the model store may be shared.
// Error: unsafe_folder.
func checkFolderTrust(dir string) error {
	err := checkTrust(dir, selfOnly)
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "unsafe_folder",
		"choose a data folder in your home with --data-folder or TRIMTAB_DATA, or remove that write permission (chmod "+
			"go-w), or run as the user that it belongs to",
		"run servers from %s: %w", dir, err)
}

// CheckSettingsFile refuses a settings file that another user could have put
// where it was found: it names addresses and files that trimtab will use.
func CheckSettingsFile(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
	case !isSelfOrRoot(sys.Uid):
		name, _ := userName(sys.Uid)
		return fmt.Errorf("it belongs to %s", name)
	case st.Mode().Perm()&0o002 != 0:
		return errors.New("every user can write it")
	}
	return nil
}
