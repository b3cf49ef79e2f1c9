package devstack

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// FolderMarker is the file trimtab.json, which marks a data folder. A folder that
// holds other files and no marker is never written to, so that a --data-folder
// that names something else by mistake does no harm.
type FolderMarker struct {
	// Format is the version of everything in the folder.
	Format int `json:"format"`
	// ID is 32 hexadecimal digits; a copy of the folder has the same.
	ID string `json:"id"`
}

const (
	// markerFile is the name of the marker's file.
	markerFile   = "trimtab.json"
	folderFormat = 1       // the newest format that this program knows
	maxMarker    = 1 << 16 // bytes
)

// folderID matches FolderMarker.ID.
var folderID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ClaimFolder makes dir a data folder of this user if it is absent or empty, and
// reads its marker otherwise. A data folder from before markers were introduced
// is given one. Nothing is changed when an error is returned. Errors:
// data_folder, not_a_data_folder, data_folder_owner.
func ClaimFolder(dir string) (FolderMarker, error) {
	found, err := inspectFolder(dir)
	if err != nil || found.marker.ID != "" {
		return found.marker, err
	}
	if err := makeFolder(dir); err != nil {
		return FolderMarker{}, folderError(dir, err)
	}
	m, err := writeMarker(dir)
	if err != nil && !found.legacy { // a legacy folder may be on a disk that is full or read-only
		return FolderMarker{}, folderError(dir, err)
	}
	return m, nil
}

// FolderGone is the type of the error of ReclaimFolder for a folder that is no
// longer the one that was claimed.
const FolderGone = "data_folder_gone"

// ReclaimFolder is ClaimFolder for a caller that has claimed dir before and was
// given m: a folder that was removed or replaced since is an error of type
// FolderGone, and is not created again. With the zero marker it is ClaimFolder.
func ReclaimFolder(dir string, m FolderMarker) (FolderMarker, error) {
	if m.ID == "" {
		return ClaimFolder(dir)
	}
	if now, err := InspectFolder(dir); err != nil || now == m {
		return now, err
	}
	return m, trimtab.NewError(trimtab.Unavailable, FolderGone,
		"run the command again, which creates a new folder, or restore the folder from a backup first",
		"use %s as data folder: it was removed or replaced since this command started", dir)
}

// InspectFolder reads the marker of a data folder and changes nothing. The marker
// is zero for a folder that is absent, empty, or from before markers were
// introduced. The errors are those of ClaimFolder.
func InspectFolder(dir string) (FolderMarker, error) {
	found, err := inspectFolder(dir)
	return found.marker, err
}

// claimForServers is ReclaimFolder for a folder from which servers are to run: it
// must be safe from other users too.
func claimForServers(dir string, m FolderMarker) error {
	if _, err := inspectFolder(dir); err != nil { // first, since its error names the owner
		return err
	}
	if err := checkFolderTrust(dir); err != nil {
		return err
	}
	_, err := ReclaimFolder(dir, m)
	return err
}

// folderState is what inspectFolder found.
type folderState struct {
	// exists: there is a folder at the path.
	exists bool
	// legacy: Trimtab created it before markers were introduced.
	legacy bool
	marker FolderMarker
}

// inspectFolder examines a folder and changes nothing.
func inspectFolder(dir string) (found folderState, err error) {
	if err := checkPath(dir); err != nil {
		return found, err
	}
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return found, nil
	case err != nil:
		return found, folderError(dir, err)
	case !st.IsDir():
		return found, folderError(dir, errors.New("it is not a folder"))
	}
	found.exists = true
	if err := checkFolderOwner(dir, st); err != nil {
		return found, err
	}
	found.marker, err = readMarker(filepath.Join(dir, markerFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	found.legacy, err = isLegacyFolder(dir)
	return found, err
}

// checkPath refuses paths that no data folder can have: Postgres and its tools
// write the path into files line by line.
func checkPath(dir string) error {
	const remedy = "give the path of a folder with --data-folder, TRIMTAB_DATA, or data in the settings file"
	switch {
	case dir == "":
		return trimtab.NewError(trimtab.Usage, "data_folder", remedy, "choose the data folder: its path is empty")
	case !utf8.ValidString(dir), strings.ContainsFunc(dir, unicode.IsControl):
		return trimtab.NewError(trimtab.Usage, "data_folder", remedy,
			"use %q as data folder: the path contains a control character or invalid UTF-8", dir)
	}
	return nil
}

// absolute returns the absolute path of a data folder given by the user.
func absolute(dir string) (string, error) {
	if err := checkPath(dir); err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// folderError wraps an error of the file system as data_folder, with the path and
// a remedy; an Error stays as it is.
func folderError(dir string, err error) error {
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	return trimtab.NewError(trimtab.Unavailable, "data_folder",
		"choose another with --data-folder or TRIMTAB_DATA, or make this one a writable folder",
		"use %s as data folder: %w", dir, err)
}

// checkFolderOwner refuses a file or folder of another user. One that belongs to
// root and is nevertheless writable for this user, as volumes of containers are,
// counts as this user's. Error: data_folder_owner.
func checkFolderOwner(path string, st fs.FileInfo) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || int(sys.Uid) == os.Geteuid() {
		return nil
	}
	const write = 2
	if os.Geteuid() != 0 && isRoot(sys.Uid) && syscall.Access(path, write) == nil {
		return nil
	}
	name, as := userName(sys.Uid)
	return trimtab.NewError(trimtab.Usage, "data_folder_owner",
		fmt.Sprintf("run as that user (sudo -u %s trimtab …), or choose another folder with --data-folder or "+
			"TRIMTAB_DATA", as),
		"use %s as data folder: it belongs to %s", path, name)
}

// userName is a user as a message names it, and as sudo -u takes it.
func userName(uid uint32) (name, as string) {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return "user " + u.Username, u.Username
	}
	return "user " + id, "'#" + id + "'"
}

// readMarker reads and checks a marker, which this user must own. An absent one
// is fs.ErrNotExist.
func readMarker(path string) (m FolderMarker, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return m, err
	}
	if err := checkFolderOwner(path, st); err != nil {
		return m, err
	}
	if st.Size() > maxMarker {
		err = fmt.Errorf("it is too large (%d bytes)", st.Size())
	}
	var raw []byte
	if err == nil {
		raw, err = plainfile.Read(path)
	}
	if err == nil {
		m, err = parseMarker(raw)
	}
	if err != nil {
		return FolderMarker{}, trimtab.NewError(trimtab.Unavailable, "data_folder",
			"restore the file from a backup, or choose another folder with --data-folder or TRIMTAB_DATA",
			"read the marker of the data folder, %s: %w", path, err)
	}
	return m, nil
}

// parseMarker parses the JSON of a marker. Fields that it does not know are
// ignored.
func parseMarker(raw []byte) (m FolderMarker, err error) {
	if err := json.Unmarshal(raw, &m); err != nil {
		return FolderMarker{}, err
	}
	switch {
	case m.Format < 1 || !folderID.MatchString(m.ID):
		return FolderMarker{}, fmt.Errorf("format %d and id %.40q are not those of a data folder", m.Format, m.ID)
	case m.Format > folderFormat:
		return FolderMarker{}, fmt.Errorf("the folder has format %d, made by a newer trimtab; this one knows %d",
			m.Format, folderFormat)
	}
	return m, nil
}

// writeMarker creates the marker. Of several processes that do so at once the
// first wins, and all return its marker.
func writeMarker(dir string) (FolderMarker, error) {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	m := FolderMarker{folderFormat, hex.EncodeToString(raw)}
	err := createJSON(filepath.Join(dir, markerFile), m)
	if errors.Is(err, fs.ErrExist) {
		return readMarker(filepath.Join(dir, markerFile))
	}
	return m, err
}

// topLevel lists everything that Trimtab itself creates directly in a data
// folder; the value is true for a folder.
var topLevel = map[string]bool{
	"bin": true, "postgres": true, "temporal": true, "store": true,
	"dev.lock": false, "dev.json": false, "dev.pid": false, "dev.log": false, "dev.log.old": false, "start.lock": false,
	"worker.json": false, "worker.log": false, "worker.log.old": false, "client": false, "program.json": false,
	"app.password": false, "auditor.password": false, "audit.key": false,
}

var (
	// tempFiles matches the temporary files of atomic replacements, which a killed process may have left behind.
	tempFiles = regexp.MustCompile(
		`^\.(trimtab\.json|dev\.json|dev\.pid|worker\.json|program\.json|app\.password|auditor\.password|key)-[0-9]+$`)
	// systemEntries are what operating and file systems put into any folder.
	systemEntries = []string{"lost+found", ".snapshot", ".zfs", ".DS_Store"}
)

// isLegacyFolder examines a folder without a marker. It returns false for an
// empty one and true for one that Trimtab created before markers were introduced;
// anything else is the error not_a_data_folder.
func isLegacyFolder(dir string) (old bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, folderError(dir, err)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return slices.Contains(systemEntries, e.Name()) || e.Type().IsRegular() && tempFiles.MatchString(e.Name())
	})
	if len(entries) == 0 {
		return false, nil
	}
	if err := checkEntryOwners(dir, entries); err != nil {
		return false, err
	}
	if hasServerState(dir) || hasStore(filepath.Join(dir, "store")) || hasStartupFiles(dir, entries) {
		return true, nil
	}
	return false, trimtab.NewError(trimtab.Usage, "not_a_data_folder",
		"give a new or empty folder, or the data folder that you mean, with --data-folder or TRIMTAB_DATA",
		"use %s as data folder: it holds other files (%s) and is not marked as a data folder; nothing was changed", dir,
		summarizeEntries(entries))
}

// checkEntryOwners refuses a folder whose known entries belong to another user.
func checkEntryOwners(dir string, entries []fs.DirEntry) error {
	for _, e := range entries {
		if _, known := topLevel[e.Name()]; !known {
			continue
		}
		if st, err := e.Info(); err == nil {
			if err := checkFolderOwner(filepath.Join(dir, e.Name()), st); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasServerState looks for the state of an embedded server: a port and, for
// Postgres, a socket.
func hasServerState(dir string) bool {
	var c clusterState
	var t temporalState
	pg := readJSON(filepath.Join(dir, "postgres", "postgres.json"), &c) == nil && c.Port > 0 && c.Socket != ""
	return pg || readJSON(filepath.Join(dir, "temporal", "temporal.json"), &t) == nil && t.Port > 0
}

// hasStore looks for the folders of a model store.
func hasStore(store string) bool {
	for _, name := range []string{"", "objects", "artifacts", "states", "rollouts", "partial"} {
		if st, err := os.Lstat(filepath.Join(store, name)); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

// hasStartupFiles recognises what a first command or dev process leaves behind
// when it fails early, or a signing key on its own. It is false if there is any
// other file.
func hasStartupFiles(dir string, entries []fs.DirEntry) bool {
	have := map[string]bool{}
	for _, e := range entries {
		isFolder, known := topLevel[e.Name()]
		if !known || isFolder != e.IsDir() || !isFolder && !e.Type().IsRegular() {
			return false
		}
		have[e.Name()] = true
	}
	if have["client"] && (have["start.lock"] || have["dev.lock"]) {
		return true
	}
	raw, err := plainfile.Read(filepath.Join(dir, "audit.key"))
	return err == nil && strings.HasPrefix(string(raw), "PRIVATE+KEY+")
}

// summarizeEntries names the first entries of a folder and counts the rest.
func summarizeEntries(entries []fs.DirEntry) string {
	const most = 3
	var names []string
	for _, e := range entries[:min(most, len(entries))] {
		names = append(names, strconv.Quote(e.Name()))
	}
	if len(entries) > most {
		names = append(names, fmt.Sprintf("%d more", len(entries)-most))
	}
	return strings.Join(names, ", ")
}

// isRoot reports whether a user id is root's, or the overflow id, which root
// outside this process's user namespace appears as.
func isRoot(uid uint32) bool { return uid == 0 || uid == overflowUID() }

// overflowUID is the id that stands for every user without one in this process's
// user namespace; 0 in the initial namespace, where all users have one.
var overflowUID = sync.OnceValue(func() uint32 {
	table, err := os.ReadFile("/proc/self/uid_map")
	if f := strings.Fields(string(table)); err != nil || len(f) == 3 && f[2] == "4294967295" {
		return 0
	}
	raw, _ := os.ReadFile("/proc/sys/kernel/overflowuid")
	id, _ := strconv.ParseUint(cmp.Or(strings.TrimSpace(string(raw)), "65534"), 10, 32)
	return uint32(id)
})
