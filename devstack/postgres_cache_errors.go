package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack/fetch"
)

// wrapError turns a *fetch.Error into an Error that says what was being done, and
// what can be done about it. Cancellation passes through unchanged.
func (s *cacheEntry) wrapError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e, ok := errors.AsType[*fetch.Error](err)
	if !ok {
		return err
	}
	class, typ := trimtab.Unavailable, "postgres_fetch"
	if e.Cause == fetch.Digest {
		class, typ = trimtab.Verification, "postgres_digest"
	}
	return trimtab.NewError(class, typ, s.remedyFor(e)+"; or "+s.installHint,
		"fetch %s (no suitable Postgres is installed) from %s into %s: %w", s.name(), s.d.host(), s.cache, err)
}

// remedyFor is the remedy for a failure to fetch, by its cause.
func (s *cacheEntry) remedyFor(e *fetch.Error) string {
	const mirror = "use a mirror of Maven Central (--maven-mirror)"
	switch e.Cause {
	case fetch.Network:
		return "check that this machine can reach " + s.d.host() +
			" (through the proxy in HTTPS_PROXY, if there is one), and run the command again: it resumes where it " +
			"stopped"
	case fetch.Name:
		return "check this machine's network connection, and set HTTPS_PROXY if it needs a proxy; or " + mirror
	case fetch.TLS:
		return "if a proxy of your network intercepts TLS, add its certificate to the system's trusted ones " +
			"(on Linux also through SSL_CERT_FILE); or " + mirror
	case fetch.Status:
		return s.statusRemedy(e.Status)
	case fetch.Length, fetch.Digest:
		return "check what answers as " + s.d.host() + ", perhaps a proxy or a network's login page; or " + mirror
	case fetch.Address:
		return "correct the URL of the mirror (maven_mirror) or of the proxy (HTTPS_PROXY)"
	case fetch.Space:
		return "free " + megabytes(s.file.Size+s.unpacked) +
			" and 1,100 inodes there (df, df -i), or set XDG_CACHE_HOME to a folder on another disk"
	case fetch.Archive:
		return "report this as a bug, with this message"
	}
	return "make the folder writable for this user, or set XDG_CACHE_HOME to another folder"
}

// statusRemedy is the remedy for an HTTP status.
func (s *cacheEntry) statusRemedy(status int) string {
	switch status {
	case 401, 403:
		return "if " + s.d.host() + " requires a user name and a password, put them into the URL " +
			"(https://USER:PASSWORD@HOST/… in TRIMTAB_MAVEN_MIRROR), or use another mirror"
	case 407:
		return "put the user name and password for the proxy into HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT)"
	case 404, 410:
		return "check that the mirror is a Maven repository that holds io.zonky.test.postgres, " +
			"or use another (--maven-mirror)"
	}
	return "try again later, or use a mirror of Maven Central (--maven-mirror)"
}

// probe runs the fetched programs to learn their version. The error,
// postgres_runs, says why they do not run here.
func (s *cacheEntry) probe() (programs, error) {
	bin := filepath.Join(s.dir(), "bin")
	p, err := programs{dir: bin, fetched: true}.probe()
	if err == nil && p.major != s.major() {
		err = fmt.Errorf("they report to be Postgres %s", p.version)
	}
	if err == nil {
		return p, nil
	}
	remedy := runRemedy(filepath.Join(bin, "postgres"), err) + "; or " + s.installHint
	return p, trimtab.NewError(trimtab.Unavailable, "postgres_runs", remedy,
		"run the programs of %s fetched into %s: %w", s.name(), s.dir(), err)
}

// runRemedy is the remedy for a program that is complete but does not run: a
// noexec mount, a missing loader, or a missing library.
func runRemedy(program string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "set XDG_CACHE_HOME to a folder from which programs can be run: " +
			"this one may be on a file system mounted with noexec"
	case errors.Is(err, fs.ErrNotExist):
		if loader, err := interpreter(program); err == nil && loader != "" {
			if _, err := os.Stat(loader); err != nil {
				return "install " + loader + ", the dynamic loader that the program needs"
			}
		}
	}
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		return "install the library that the message names " +
			"(on Linux the programs need musl or glibc 2.25; version 18 needs glibc 2.27)"
	}
	return "report this as a bug, with this message"
}
