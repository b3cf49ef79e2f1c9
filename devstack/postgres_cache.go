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

// Downloads configure whether the programs of Postgres may be fetched where none
// are installed, and from where. A nil *Downloads forbids fetching; programs
// fetched earlier are used in any case.
type Downloads struct {
	// Offline forbids all downloads.
	Offline bool
	// Mirror is the URL of a mirror of Maven Central; empty: Maven Central
	// itself.
	Mirror string
	// Progress is called with the number of bytes received so far; done equals
	// total when the progress display has to end because a line of text follows.
	// It may be nil: progress lines are then printed instead.
	Progress func(done, total int64)

	// table replaces the published archives, for tests; nil: published.
	table []binaries
	// cache replaces the folder of the cache, for tests; empty: the user's.
	cache string
	// options configure the patience of fetch.Get, for tests.
	options fetch.Options
}

// CheckMirror reports why a string cannot be the URL of a mirror, or nil. The
// error never shows a password in it.
func CheckMirror(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("it cannot be parsed as a URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return errors.New("it is not an http or https URL")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("it has a query or a fragment, which the URL of a Maven repository cannot have")
	}
	return nil
}

// offline reports whether nothing may be fetched.
func (d *Downloads) offline() bool { return d == nil || d.Offline }

// setGoOffline keeps the go command, which this process may run to build the
// Temporal server, from downloading modules and toolchains when downloads are
// forbidden.
func (d *Downloads) setGoOffline() {
	if d != nil && d.Offline {
		os.Setenv("GOPROXY", "off")
		os.Setenv("GOTOOLCHAIN", "local")
	}
}

// repository is the root of the Maven repository to fetch from.
func (d *Downloads) repository() string {
	if d == nil || d.Mirror == "" {
		return mavenCentral
	}
	return d.Mirror
}

// host is the host of the repository, for messages: without user and password.
func (d *Downloads) host() string {
	u, err := url.Parse(d.repository())
	if err != nil {
		return "(not a URL)"
	}
	return u.Host
}

// selectArchive picks the archive for this machine; see the function
// selectArchive.
func (d *Downloads) selectArchive(want int) (binaries, bool) {
	table := published
	if d != nil && d.table != nil {
		table = d.table
	}
	return selectArchive(table, platform(), want)
}

// findOrFetch returns the programs for the cluster in data: installed ones; else
// those fetched earlier; else it fetches them, unless d forbids that. Errors:
// those of findPrograms, unsafe_folder, cache_folder, postgres_fetch,
// postgres_digest, postgres_runs.
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
		_ = os.Remove(s.archive()) // left by a process that was killed right after unpacking it
		return s.probe()
	}
	if d.offline() {
		return programs{}, s.missing
	}
	return s.fetch(ctx)
}

// isNotInstalled reports whether err is one of findPrograms that fetching would
// cure.
func isNotInstalled(err error) bool {
	e, ok := errors.AsType[*trimtab.Error](err)
	return ok && (e.Type == "postgres_missing" || e.Type == "postgres_version")
}

// cacheEntry is one version of Postgres in the cache of fetched programs, whether
// it is there yet or not.
type cacheEntry struct {
	binaries
	d *Downloads
	// cache is the folder that holds all versions.
	cache string
	// missing is the error to return when the entry is absent and may not be
	// fetched.
	missing error
	// installHint is the advice for doing without a download, appended to every
	// remedy.
	installHint string
	// log receives progress lines; it may be nil.
	log io.Writer
}

// newCacheEntry selects the archive for the cluster in data. The error missing,
// of findPrograms, is returned, with an explanation, if no archive is published
// for this machine.
func newCacheEntry(data string, d *Downloads, cred *syscall.Credential, missing error) (*cacheEntry, error) {
	want, err := dataMajor(data)
	if err != nil {
		return nil, err
	}
	b, ok := d.selectArchive(want)
	if e := trimtab.AsError(missing); !ok && d != nil {
		return nil, trimtab.NewError(e.Class, e.Type, e.Remedy,
			"%s; none is published for %s either, so none can be fetched", e.Message, platform())
	} else if !ok {
		return nil, missing
	}
	cache, err := d.cacheFolder(cred)
	if err != nil {
		return nil, err
	}
	s := &cacheEntry{binaries: b, d: d, cache: cache, installHint: installHint(want), missing: missing}
	if e := trimtab.AsError(missing); d != nil && d.Offline {
		s.missing = trimtab.NewError(trimtab.Unavailable, e.Type, "allow the download by unsetting offline, or "+
			s.installHint,
			"%s, nor is %s in %s; offline is set, so nothing is fetched", e.Message, b.name(), cache)
	}
	return s, nil
}

// cacheFolder is the folder that fetched programs are kept in, under
// XDG_CACHE_HOME or the system's cache folder. For root it must be one that the
// user who runs Postgres can enter. Error: cache_folder.
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
				"keep the programs of Postgres in %s: Postgres cannot run as root, and other users cannot enter %s",
				base, closed)
		}
	}
	return filepath.Join(base, "trimtab", "postgres"), nil
}

// makeCache creates the cache folder: private to an ordinary user, and readable
// by every user under root, where another user runs the programs.
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
		if err := os.Chmod(dir, 0o755); err != nil { // regardless of the umask
			return err
		}
	}
	return nil
}

// dir is the folder of the unpacked programs. It appears by a rename, complete.
func (s *cacheEntry) dir() string { return filepath.Join(s.cache, s.folderName()) }

// archive is where the downloaded archive is kept until it is unpacked.
func (s *cacheEntry) archive() string { return s.dir() + ".jar" }

// draftPrefix begins the names of folders that are being unpacked into.
func (s *cacheEntry) draftPrefix() string { return s.dir() + ".unpacking-" }

// checkTrusted refuses a cache in which another user could replace the programs.
// Error: unsafe_folder.
func (s *cacheEntry) checkTrusted() error {
	err := checkTrust(s.dir(), selfOnly)
	if _, unreadable := errors.AsType[*fs.PathError](err); unreadable {
		return s.wrapError(fetch.DiskError(err))
	}
	if err != nil {
		return trimtab.NewError(trimtab.Unavailable, "unsafe_folder",
			"remove that write permission (chmod go-w), or set XDG_CACHE_HOME to a folder of your own, or "+
				s.installHint,
			"keep the programs of Postgres in %s: %w", s.cache, err)
	}
	return nil
}

// isIntact reports whether the programs are there, complete and unchanged since
// they were unpacked.
func (s *cacheEntry) isIntact() bool {
	if _, err := os.Lstat(s.dir()); err != nil {
		return false
	}
	got, err := fetch.TreeDigest(s.dir())
	return err == nil && got == s.tree
}

// fetch downloads the programs into the cache. Under a file lock one process
// downloads while the others wait for its result.
func (s *cacheEntry) fetch(ctx context.Context) (programs, error) {
	if err := s.makeCache(); err != nil {
		return programs{}, s.wrapError(fetch.DiskError(err))
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return programs{}, err
	}
	defer unlock()
	if !s.isIntact() { // no other process fetched them while this one waited
		if err := s.download(ctx); err != nil {
			return programs{}, err
		}
	}
	return s.probe()
}

// lock takes the cache's file lock. It announces that it waits only after a tenth
// of a second.
func (s *cacheEntry) lock(ctx context.Context) (func(), error) {
	path := filepath.Join(s.cache, "fetch.lock")
	unlock, err := lockWithin(ctx, path, 100*time.Millisecond)
	if unlock == nil && err == nil {
		logf(s.log, "waiting for another trimtab process that is fetching Postgres")
		unlock, err = lock(ctx, path)
	}
	if err != nil && ctx.Err() == nil {
		err = s.wrapError(fetch.DiskError(err))
	}
	return unlock, err
}

// download fetches the archive, unpacks it next to its final place and renames it
// there. A partial archive stays for the next attempt.
func (s *cacheEntry) download(ctx context.Context) error {
	started := time.Now()
	if err := s.removeLeftovers(); err != nil {
		return s.wrapError(fetch.DiskError(err))
	}
	logf(s.log, "no suitable Postgres is installed: fetching %s (%s) from %s into %s, needed once",
		s.name(), megabytes(s.file.Size), s.d.host(), s.cache)
	err := fetch.Get(ctx, s.fileAt(s.d.repository()), s.archive(), s.fetchOptions())
	s.endProgress()
	if err != nil {
		s.discardPartial(err)
		return s.wrapError(err)
	}
	logf(s.log, "unpacking %s (%s)", s.name(), megabytes(s.unpacked))
	if err := s.unpack(); err != nil {
		return s.wrapError(err)
	}
	_ = os.Remove(s.archive())
	logf(s.log, "%s fetched and unpacked in %.1f s", s.name(), time.Since(started).Seconds())
	return nil
}

// discardPartial removes a partial download that is empty, or whose bytes would
// keep the disk full.
func (s *cacheEntry) discardPartial(err error) {
	e, _ := errors.AsType[*fetch.Error](err)
	if st, gone := os.Stat(s.archive()); gone == nil && (st.Size() == 0 || e != nil && e.Cause == fetch.Space) {
		_ = os.Remove(s.archive())
	}
}

// fetchOptions reports progress through Downloads.Progress, or where that is nil
// by a line every ten seconds.
func (s *cacheEntry) fetchOptions() fetch.Options {
	o := s.d.options
	o.OnRetry = func(cause error, done int64, pause time.Duration) {
		s.endProgress()
		logf(s.log, "download interrupted after %s of %s: %v; resuming in %v",
			megabytes(done), megabytes(s.file.Size), cause, pause)
	}
	last := time.Now()
	o.OnProgress = func(done int64) {
		if s.d.Progress != nil {
			s.d.Progress(done, s.file.Size)
		} else if time.Since(last) > 10*time.Second {
			last = time.Now()
			logf(s.log, "%s: %s of %s downloaded", s.name(), megabytes(done), megabytes(s.file.Size))
		}
	}
	return o
}

// endProgress ends the progress display, because a line of text follows.
func (s *cacheEntry) endProgress() {
	if s.d.Progress != nil {
		s.d.Progress(s.file.Size, s.file.Size)
	}
}

// megabytes formats a number of bytes, in units of 10^6.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// removeLeftovers removes what a killed process left half unpacked, and renames a
// folder whose contents have changed since it was unpacked. Only the process that
// holds the lock may call it.
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
		logf(s.log, "%s has changed since it was unpacked: it is renamed to %s", s.dir(), aside)
		return os.Rename(s.dir(), aside)
	}
}

// unpack extracts the archive into a draft folder, verifies the tree's digest,
// and renames the draft into place. The cache folder is synced, so that the
// rename survives a crash.
func (s *cacheEntry) unpack() error {
	draft, err := os.MkdirTemp(s.cache, filepath.Base(s.draftPrefix())+"*")
	if err != nil {
		return fetch.DiskError(err)
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
			Err: fmt.Errorf("the unpacked tree has the digest %s; it should be %s", got, s.tree)}
	}
	if err := errors.Join(os.Chmod(draft, 0o755), os.Rename(draft, s.dir()), fetch.Sync(s.cache)); err != nil {
		return fetch.DiskError(err)
	}
	return nil
}
