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

// Who could put another program in the place of one that is run? Whoever owns
// it or may write it, and whoever owns or may write a folder on the way to it,
// since he may rename what is in it. A folder with the sticky bit, as the
// system's temporary one, lets each user rename only what is his. A symbolic
// link on the way counts as what it is, and then as where it leads.
//
// Access control lists show as rights of the group, which are judged like those.

// trustPolicy are those besides this user and root of whom a path may depend.
type trustPolicy int

const (
	selfOnly trustPolicy = iota // nobody: what Trimtab wrote itself
	anyOwner                    // owners and groups: what the user has put in his PATH
)

// checkTrust finds the first thing on the way to a file or folder that makes it
// depend on other users than are allowed; nil if there is none. A path that
// does not exist is judged as far as it does.
func checkTrust(path string, allowed trustPolicy) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	at, rest := "/", split(path)
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
		next := filepath.Join(at, rest[0]) // ".." too: what is above has been looked at
		if err := checkSticky(st, next); err != nil {
			return err
		}
		at, rest = next, rest[1:]
	}
}

func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

// checkEntry judges the owner and the rights of one folder or file.
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

// checkSticky judges what is in a folder that everybody can write, where each
// user may have put something.
func checkSticky(folder fs.FileInfo, next string) error {
	if folder.Mode()&fs.ModeSticky == 0 || folder.Mode().Perm()&0o022 == 0 {
		return nil
	}
	st, err := os.Lstat(next)
	if err != nil {
		return nil // the loop finds that it is not there
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && !isSelfOrRoot(sys.Uid) {
		name, _ := userName(sys.Uid)
		return fmt.Errorf("%s, in a folder that others can write, belongs to %s", next, name)
	}
	return nil
}

func isSelfOrRoot(uid uint32) bool { return int(uid) == os.Geteuid() || isRoot(uid) }

// adminGroups are groups whose members can become root, or manage the
// system's programs by the custom of their system.
var adminGroups = map[string][]string{
	"linux":  {"root", "wheel", "sudo", "staff"}, // staff: Debian's for /usr/local
	"darwin": {"wheel", "admin"},
}

// trustedGroup is true of those groups, and of the one that has the user's own
// name, which on many systems each user is the only member of.
func trustedGroup(gid uint32) bool {
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10))
	if gid == 0 || err == nil && slices.Contains(adminGroups[runtime.GOOS], g.Name) {
		return true
	}
	u, own := user.Current()
	return err == nil && own == nil && u.Gid == g.Gid && u.Username == g.Name
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return "group " + g.Name
	}
	return "group " + id
}

// checkFolderTrust refuses a data folder whose programs and passwords somebody
// else could exchange. The store of models alone may be in such a one.
func checkFolderTrust(dir string) error {
	err := checkTrust(dir, selfOnly)
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "unsafe_folder",
		"choose a data folder in your home with --data-folder or TRIMTAB_DATA, or take that right away (chmod go-w), "+
			"or run as the user that it belongs to",
		"run servers from %s: %w", dir, err)
}

// CheckSettingsFile refuses a settings file that somebody else could have put
// where it was found: it names addresses and files.
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
