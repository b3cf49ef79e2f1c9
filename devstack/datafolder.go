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

// FolderMarker is the marker of a data folder: its file trimtab.json. Folders
// that hold other files and no marker are never written to, so that a
// --data-folder that names something else by mistake does no harm.
type FolderMarker struct {
	Format int    `json:"format"` // of all that is in the folder
	ID     string `json:"id"`     // 32 hexadecimal digits; a copy of the folder has the same
}

const (
	markerFile   = "trimtab.json"
	folderFormat = 1       // the newest that this program knows
	maxMarker    = 1 << 16 // bytes
)

var folderID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ClaimFolder makes dir a data folder of this user if it is absent or empty,
// and reads its marker otherwise. A data folder that was made before there were
// markers is given one. Nothing is changed before an error. Errors:
// data_folder, not_a_data_folder, data_folder_owner.
func ClaimFolder(dir string) (FolderMarker, error) {
	is, err := inspectFolder(dir)
	if err != nil || is.marker.ID != "" {
		return is.marker, err
	}
	if err := makeFolder(dir); err != nil {
		return FolderMarker{}, folderError(dir, err)
	}
	m, err := writeMarker(dir)
	if err != nil && !is.legacy { // one from before may be on a disk that is full or read-only
		return FolderMarker{}, folderError(dir, err)
	}
	return m, nil
}

// FolderGone is the type of the error of ReclaimFolder.
const FolderGone = "data_folder_gone"

// ReclaimFolder is ClaimFolder for whoever has claimed dir before, with what he
// was given then: a folder that was removed since is not made again. The zero
// marker is that of the first time.
func ReclaimFolder(dir string, m FolderMarker) (FolderMarker, error) {
	if m.ID == "" {
		return ClaimFolder(dir)
	}
	if now, err := InspectFolder(dir); err != nil || now == m {
		return now, err
	}
	return m, trimtab.NewError(trimtab.Unavailable, FolderGone,
		"begin again: a new command makes the folder anew, or restore it from a backup first",
		"use %s as data folder: it was removed or replaced since this command began", dir)
}

// InspectFolder reads the marker of a data folder and changes nothing. It is empty
// for a folder that is absent, empty, or from before there were markers. The
// errors are those of ClaimFolder.
func InspectFolder(dir string) (FolderMarker, error) {
	is, err := inspectFolder(dir)
	return is.marker, err
}

// claimForServers is ReclaimFolder for a folder from which servers are run.
func claimForServers(dir string, m FolderMarker) error {
	if _, err := inspectFolder(dir); err != nil { // what names the owner comes first
		return err
	}
	if err := checkFolderTrust(dir); err != nil {
		return err
	}
	_, err := ReclaimFolder(dir, m)
	return err
}

// folderState is what a folder was found to be.
type folderState struct {
	exists bool // as a folder
	legacy bool // made by Trimtab before there were markers
	marker FolderMarker
}

func inspectFolder(dir string) (is folderState, err error) {
	if err := checkPath(dir); err != nil {
		return is, err
	}
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return is, nil
	case err != nil:
		return is, folderError(dir, err)
	case !st.IsDir():
		return is, folderError(dir, errors.New("it is not a folder"))
	}
	is.exists = true
	if err := checkFolderOwner(dir, st); err != nil {
		return is, err
	}
	is.marker, err = readMarker(filepath.Join(dir, markerFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return is, err
	}
	is.legacy, err = isLegacyFolder(dir)
	return is, err
}

// checkPath refuses what no data folder can be named: Postgres and the programs
// around it write the path into lines.
func checkPath(dir string) error {
	const remedy = "give the path of a folder with --data-folder, TRIMTAB_DATA, or data in the settings file"
	switch {
	case dir == "":
		return trimtab.NewError(trimtab.Usage, "data_folder", remedy, "choose the data folder: its path is empty")
	case !utf8.ValidString(dir), strings.ContainsFunc(dir, unicode.IsControl):
		return trimtab.NewError(trimtab.Usage, "data_folder", remedy,
			"use %q as data folder: its path holds a control character, or bytes that are not UTF-8", dir)
	}
	return nil
}

// absolute is the full path of a data folder that was given.
func absolute(dir string) (string, error) {
	if err := checkPath(dir); err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

func folderError(dir string, err error) error {
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	return trimtab.NewError(trimtab.Unavailable, "data_folder",
		"choose another with --data-folder or TRIMTAB_DATA, or make this one a folder that you can write",
		"use %s as data folder: %w", dir, err)
}

// checkFolderOwner refuses the folder of another user. One that belongs to root
// and that this user can write all the same, as the volumes of containers are, is his.
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

// userName is a user for people, and as sudo -u takes it.
func userName(uid uint32) (name, as string) {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return "user " + u.Username, u.Username
	}
	return "user " + id, "'#" + id + "'"
}

// readMarker reads a marker, whose owner has to be who reads it.
func readMarker(path string) (m FolderMarker, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return m, err
	}
	if err := checkFolderOwner(path, st); err != nil {
		return m, err
	}
	if st.Size() > maxMarker {
		err = fmt.Errorf("it has %d bytes", st.Size())
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

func parseMarker(raw []byte) (m FolderMarker, err error) {
	if err := json.Unmarshal(raw, &m); err != nil {
		return FolderMarker{}, err
	}
	switch {
	case m.Format < 1 || !folderID.MatchString(m.ID):
		return FolderMarker{}, fmt.Errorf("format %d and id %.40q mark no data folder", m.Format, m.ID)
	case m.Format > folderFormat:
		return FolderMarker{}, fmt.Errorf("the folder has format %d, made by a newer trimtab; this one knows %d",
			m.Format, folderFormat)
	}
	return m, nil
}

// writeMarker writes the marker. Of those who come at once the first one's stays.
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

// topLevel is what Trimtab writes into a data folder itself: true for a folder.
var topLevel = map[string]bool{
	"bin": true, "postgres": true, "temporal": true, "store": true,
	"dev.lock": false, "dev.json": false, "dev.pid": false, "dev.log": false, "dev.log.old": false, "start.lock": false,
	"worker.json": false, "worker.log": false, "worker.log.old": false, "client": false, "program.json": false,
	"app.password": false, "auditor.password": false, "audit.key": false,
}

// drafts are files of Trimtab under way, which a killed process may have left;
// bystanders are what systems put into any folder.
var (
	tempFiles     = regexp.MustCompile(`^\.(trimtab\.json|dev\.json|dev\.pid|worker\.json|program\.json|app\.password|auditor\.password|key)-[0-9]+$`)
	systemEntries = []string{"lost+found", ".snapshot", ".zfs", ".DS_Store"}
)

// isLegacyFolder tells what a folder without a marker is: empty (false), or made by
// Trimtab (true). All else is an error.
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
		"use %s as data folder: it holds other files (%s) and nothing that marks it as one; nothing was changed", dir,
		summarizeEntries(entries))
}

// checkEntryOwners refuses a folder that another user filled.
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

// hasServerState finds the state of an embedded server, which names a port and, of Postgres, a socket.
func hasServerState(dir string) bool {
	var c clusterState
	var t temporalState
	pg := readJSON(filepath.Join(dir, "postgres", "postgres.json"), &c) == nil && c.Port > 0 && c.Socket != ""
	return pg || readJSON(filepath.Join(dir, "temporal", "temporal.json"), &t) == nil && t.Port > 0
}

// hasStore finds the folders of a store of models.
func hasStore(store string) bool {
	for _, name := range []string{"", "objects", "artifacts", "states", "rollouts", "partial"} {
		if st, err := os.Lstat(filepath.Join(store, name)); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

// hasStartupFiles finds what the first command or dev process leaves when it gets no
// further, or a key alone; beside it there is nothing else.
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

// summarizeEntries names the first entries of a folder.
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

// isRoot is true of root, and of the id that stands for every user who has none
// in the user namespace of this process, as root of the machine outside.
func isRoot(uid uint32) bool { return uid == 0 || uid == overflowUID() }

// overflowUID is that id; 0 in the machine's own namespace.
var overflowUID = sync.OnceValue(func() uint32 {
	table, err := os.ReadFile("/proc/self/uid_map")
	if f := strings.Fields(string(table)); err != nil || len(f) == 3 && f[2] == "4294967295" {
		return 0
	}
	raw, _ := os.ReadFile("/proc/sys/kernel/overflowuid")
	id, _ := strconv.ParseUint(cmp.Or(strings.TrimSpace(string(raw)), "65534"), 10, 32)
	return uint32(id)
})
