package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack/fetch"
)

// Downloads say whether the programs of Postgres may be fetched where none are
// installed, and from where. A nil *Downloads allows none; what was fetched
// before is used all the same.
type Downloads struct {
	Offline  bool                    // fetch nothing
	Mirror   string                  // address of a mirror of Maven Central; empty: Maven Central itself
	Progress func(done, total int64) // told how many bytes have come; done is total when a line follows; may be nil

	table   []binaries    // nil: published; other for tests, as what follows
	cache   string        // empty: the user's
	options fetch.Options // how patient to be
}

// CheckMirror returns an error that says why the address of a mirror cannot be one.
// A password in it is not shown.
func CheckMirror(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("it cannot be read as an address")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return errors.New("it is not an http or https address")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("it has a part after ? or #, which no Maven repository has")
	}
	return nil
}

func (d *Downloads) offline() bool { return d == nil || d.Offline }

// setGoOffline keeps go from downloading modules and toolchains, should this
// process have to build the Temporal server, when nothing is to be downloaded.
func (d *Downloads) setGoOffline() {
	if d != nil && d.Offline {
		os.Setenv("GOPROXY", "off")
		os.Setenv("GOTOOLCHAIN", "local")
	}
}

func (d *Downloads) repository() string {
	if d == nil || d.Mirror == "" {
		return mavenCentral
	}
	return d.Mirror
}

// host is the server that is asked, for people.
func (d *Downloads) host() string {
	u, err := url.Parse(d.repository())
	if err != nil {
		return "(not an address)"
	}
	return u.Host
}

// selectArchive picks the archive for this machine.
func (d *Downloads) selectArchive(want int) (binaries, bool) {
	table := published
	if d != nil && d.table != nil {
		table = d.table
	}
	return selectArchive(table, platform(), want)
}

// findOrFetch finds the programs for a data folder: installed ones, else those
// that were fetched before, else it fetches them.
func findOrFetch(ctx context.Context, data, bin string, d *Downloads, cred *syscall.Credential,
	log io.Writer) (programs, error) {
	p, err := findPrograms(data, bin)
	if err == nil || !isNotInstalled(err) {
		return p, err
	}
	s, err := newCacheEntry(data, d, cred, err)
	if err != nil {
		return programs{}, err
	}
	s.log = log
	if err := s.checkTrusted(); err != nil {
		return programs{}, err
	}
	if s.isIntact() {
		_ = os.Remove(s.archive()) // of one that was killed right after it had unpacked it
		return s.probe()
	}
	if d.offline() {
		return programs{}, s.missing
	}
	return s.fetch(ctx)
}

// isNotInstalled tells the errors of findPrograms that fetching cures.
func isNotInstalled(err error) bool {
	e, ok := errors.AsType[*trimtab.Error](err)
	return ok && (e.Type == "postgres_missing" || e.Type == "postgres_version")
}

// cacheEntry is the place of one version's programs in the cache.
type cacheEntry struct {
	binaries
	d           *Downloads
	cache       string // folder of all versions
	missing     error  // what is wrong while there are none
	installHint string // how to do without
	log         io.Writer
}

// newCacheEntry is what would be fetched for a data folder; missing is why it has to be.
func newCacheEntry(data string, d *Downloads, cred *syscall.Credential, missing error) (*cacheEntry, error) {
	want, err := dataMajor(data)
	if err != nil {
		return nil, err
	}
	b, ok := d.selectArchive(want)
	if e := trimtab.AsError(missing); !ok && d != nil {
		return nil, trimtab.NewError(e.Class, e.Type, e.Remedy,
			"%s; and none is published for %s, so nothing can be fetched", e.Message, platform())
	} else if !ok {
		return nil, missing
	}
	cache, err := d.cacheFolder(cred)
	if err != nil {
		return nil, err
	}
	s := &cacheEntry{binaries: b, d: d, cache: cache, installHint: installHint(want), missing: missing}
	if e := trimtab.AsError(missing); d != nil && d.Offline {
		s.missing = trimtab.NewError(trimtab.Unavailable, e.Type, "let it be fetched, by leaving offline out, or "+
			s.installHint,
			"%s, nor is %s in %s; offline is set, so nothing is fetched", e.Message, b.name(), cache)
	}
	return s, nil
}

// cacheFolder is where fetched programs are kept. For root that is a folder
// which the user that Postgres runs as can enter.
func (d *Downloads) cacheFolder(cred *syscall.Credential) (string, error) {
	if d != nil && d.cache != "" {
		return d.cache, nil
	}
	base := os.Getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(base) {
		var err error
		base, err = os.UserCacheDir()
		switch {
		case cred != nil && runtime.GOOS == "darwin":
			base = "/Library/Caches"
		case cred != nil:
			base = "/var/cache"
		case err != nil:
			return "", trimtab.NewError(trimtab.Unavailable, "cache_folder",
				"set HOME, or XDG_CACHE_HOME to a folder of yours",
				"choose a folder for the programs of Postgres: %w", err)
		}
	}
	if cred != nil {
		if closed := firstUnreachable(base, cred); closed != "" {
			return "", trimtab.NewError(trimtab.Unavailable, "cache_folder",
				"set XDG_CACHE_HOME to a folder that every user may enter, or unset it",
				"keep the programs of Postgres in %s: Postgres does not run as root, and %s is closed to other users",
				base, closed)
		}
	}
	return filepath.Join(base, "trimtab", "postgres"), nil
}

// makeCache makes the folder of all versions. Under root every user may look
// into those that it makes.
func (s *cacheEntry) makeCache() error {
	if os.Geteuid() != 0 {
		return os.MkdirAll(s.cache, 0o700)
	}
	for _, dir := range []string{filepath.Dir(s.cache), s.cache} {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask is
			return err
		}
	}
	return nil
}

func (s *cacheEntry) dir() string         { return filepath.Join(s.cache, s.folderName()) }
func (s *cacheEntry) archive() string     { return s.dir() + ".jar" }
func (s *cacheEntry) draftPrefix() string { return s.dir() + ".unpacking-" }

// checkTrusted refuses a place where somebody else could exchange the programs.
func (s *cacheEntry) checkTrusted() error {
	err := checkTrust(s.dir(), selfOnly)
	if _, unreadable := errors.AsType[*fs.PathError](err); unreadable {
		return s.wrapError(diskError(err))
	}
	if err != nil {
		return trimtab.NewError(trimtab.Unavailable, "unsafe_folder",
			"take that right away (chmod go-w), or set XDG_CACHE_HOME to a folder of your own, or "+s.installHint,
			"keep the programs of Postgres in %s: %w", s.cache, err)
	}
	return nil
}

// isIntact tells whether the programs are there, whole and unchanged.
func (s *cacheEntry) isIntact() bool {
	if _, err := os.Lstat(s.dir()); err != nil {
		return false
	}
	got, err := fetch.TreeDigest(s.dir())
	return err == nil && got == s.tree
}

// fetch takes the programs into the cache. Of several processes one does it and
// the others wait.
func (s *cacheEntry) fetch(ctx context.Context) (programs, error) {
	if err := s.makeCache(); err != nil {
		return programs{}, s.wrapError(diskError(err))
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return programs{}, err
	}
	defer unlock()
	if !s.isIntact() { // nobody has fetched them while this process waited
		if err := s.download(ctx); err != nil {
			return programs{}, err
		}
	}
	return s.probe()
}

func (s *cacheEntry) lock(ctx context.Context) (func(), error) {
	path := filepath.Join(s.cache, "fetch.lock")
	unlock, err := lockWithin(ctx, path, 100*time.Millisecond)
	if unlock == nil && err == nil {
		logf(s.log, "waiting for another process of trimtab, which fetches the programs of Postgres")
		unlock, err = lock(ctx, path)
	}
	if err != nil && ctx.Err() == nil {
		err = s.wrapError(diskError(err))
	}
	return unlock, err
}

// download downloads the archive, unpacks it beside its place and renames it there.
func (s *cacheEntry) download(ctx context.Context) error {
	begin := time.Now()
	if err := s.removeLeftovers(); err != nil {
		return s.wrapError(diskError(err))
	}
	logf(s.log, "fetching %s (%s) from %s, once, since none that fits is installed; it is kept in %s",
		s.name(), megabytes(s.file.Size), s.d.host(), s.cache)
	err := fetch.Get(ctx, s.fileAt(s.d.repository()), s.archive(), s.fetchOptions())
	s.endProgress()
	if err != nil {
		s.discardPartial(err)
		return s.wrapError(err)
	}
	logf(s.log, "unpacking it (%s)", megabytes(s.unpacked))
	if err := s.unpack(); err != nil {
		return s.wrapError(err)
	}
	_ = os.Remove(s.archive())
	logf(s.log, "%s is fetched and unpacked (%.1f s)", s.name(), time.Since(begin).Seconds())
	return nil
}

// discardPartial removes what has come when that is nothing, or fills the disk.
func (s *cacheEntry) discardPartial(err error) {
	e, _ := errors.AsType[*fetch.Error](err)
	if st, gone := os.Stat(s.archive()); gone == nil && (st.Size() == 0 || e != nil && e.Cause == fetch.Space) {
		_ = os.Remove(s.archive())
	}
}

// fetchOptions tells what goes on: every tenth of the way where nobody shows progress.
func (s *cacheEntry) fetchOptions() fetch.Options {
	o := s.d.options
	o.OnRetry = func(cause error, done int64, pause time.Duration) {
		s.endProgress()
		logf(s.log, "%v, after %s of %s; going on in %v", cause, megabytes(done), megabytes(s.file.Size), pause)
	}
	last := time.Now()
	o.OnProgress = func(done int64) {
		if s.d.Progress != nil {
			s.d.Progress(done, s.file.Size)
		} else if time.Since(last) > 10*time.Second {
			last = time.Now()
			logf(s.log, "%s: %s of %s", s.name(), megabytes(done), megabytes(s.file.Size))
		}
	}
	return o
}

func (s *cacheEntry) endProgress() {
	if s.d.Progress != nil {
		s.d.Progress(s.file.Size, s.file.Size)
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// removeLeftovers removes what a killed process left half unpacked, and sets a folder
// aside that is not as it was unpacked. Only who holds the lock may do so.
func (s *cacheEntry) removeLeftovers() error {
	drafts, err := filepath.Glob(s.draftPrefix() + "*")
	if err != nil {
		return err
	}
	for _, d := range drafts {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(s.dir()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.damaged-%d", s.dir(), n)
		if _, err := os.Lstat(aside); err == nil {
			continue
		}
		logf(s.log, "%s has changed since it was unpacked: it is set aside as %s", s.dir(), aside)
		return os.Rename(s.dir(), aside)
	}
}

func (s *cacheEntry) unpack() error {
	draft, err := os.MkdirTemp(s.cache, filepath.Base(s.draftPrefix())+"*")
	if err != nil {
		return diskError(err)
	}
	defer os.RemoveAll(draft)
	if err := fetch.Unpack(s.archive(), draft, fetch.Limits{Bytes: s.unpacked, Entries: 5000}); err != nil {
		return err
	}
	switch got, err := fetch.TreeDigest(draft); {
	case err != nil:
		return err
	case got != s.tree:
		return &fetch.Error{Cause: fetch.Digest,
			Err: fmt.Errorf("what was unpacked has the digest %s, which should be %s", got, s.tree)}
	}
	if err := errors.Join(os.Chmod(draft, 0o755), os.Rename(draft, s.dir()), syncFolder(s.cache)); err != nil {
		return diskError(err)
	}
	return nil
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
