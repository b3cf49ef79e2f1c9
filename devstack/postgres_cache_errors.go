package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack/fetch"
)

// diskError sorts a failure to write in the cache.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &fetch.Error{Cause: fetch.Space, Err: err}
	}
	return &fetch.Error{Cause: fetch.Disk, Err: err}
}

// startError says what was being done, and what a person can do about it.
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
		"fetch %s, since none that fits is installed, from %s into %s: %w", s.name(), s.d.host(), s.cache, err)
}

// remedyFor is what may cure a failure to fetch.
func (s *cacheEntry) remedyFor(e *fetch.Error) string {
	const mirror = "name a mirror of Maven Central (--maven-mirror)"
	switch e.Cause {
	case fetch.Network:
		return "see that this machine reaches " + s.d.host() +
			" (HTTPS_PROXY names a proxy), and run the command again: it goes on where it broke off"
	case fetch.Name:
		return "see that this machine has a network, with a proxy in HTTPS_PROXY if it needs one; or " + mirror
	case fetch.TLS:
		return "if a proxy of your network answers in its place, add its certificate to the system's " +
			"(on Linux also SSL_CERT_FILE); or " + mirror
	case fetch.Status:
		return s.statusRemedy(e.Status)
	case fetch.Length, fetch.Digest:
		return "see what answers as " + s.d.host() + ", perhaps a proxy or the login page of a network; or " + mirror
	case fetch.Address:
		return "correct the address, of the mirror (maven_mirror) or of the proxy (HTTPS_PROXY)"
	case fetch.Space:
		return fmt.Sprintf("free %s and 1,100 inodes there (df, df -i), or set XDG_CACHE_HOME to a folder on another disk",
			megabytes(s.file.Size+s.unpacked))
	case fetch.Archive:
		return "report it, with this message"
	}
	return "let this user write there, or set XDG_CACHE_HOME to another folder"
}

func (s *cacheEntry) statusRemedy(status int) string {
	switch status {
	case 401, 403:
		return "see whether " + s.d.host() +
			" wants a user and a password (https://USER:PASSWORD@HOST/… in TRIMTAB_MAVEN_MIRROR), or name another " +
			"mirror"
	case 407:
		return "put the user and the password for the proxy into HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT)"
	case 404, 410:
		return "see that the address of the mirror is that of a Maven repository which has io.zonky.test.postgres, " +
			"or name another (--maven-mirror)"
	}
	return "try again later, or name a mirror of Maven Central (--maven-mirror)"
}

// probe runs what was fetched. Where that fails, it says why.
func (s *cacheEntry) probe() (programs, error) {
	bin := filepath.Join(s.dir(), "bin")
	p, err := programs{dir: bin, fetched: true}.probe()
	if err == nil && p.major != s.major() {
		err = fmt.Errorf("they say that they are Postgres %s", p.version)
	}
	if err == nil {
		return p, nil
	}
	return p, trimtab.NewError(trimtab.Unavailable, "postgres_runs", runRemedy(filepath.Join(bin, "postgres"), err)+
		"; or "+s.installHint,
		"run the programs of %s that were fetched into %s: %w", s.name(), s.dir(), err)
}

// runRemedy says what to do about a program that is whole and does not run.
func runRemedy(program string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "set XDG_CACHE_HOME to a folder from which programs may be run: " +
			"this one is perhaps on a file system that is mounted noexec"
	case errors.Is(err, fs.ErrNotExist):
		if loader, err := interpreter(program); err == nil && loader != "" {
			if _, err := os.Stat(loader); err != nil {
				return "install " + loader + ", the loader of the C library that it needs"
			}
		}
	}
	if _, ended := errors.AsType[*exec.ExitError](err); ended {
		return "install what the system lacks, which the message names " +
			"(on Linux they need glibc 2.25, version 18 of them 2.27, or musl)"
	}
	return "report it, with this message"
}
