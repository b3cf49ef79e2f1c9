package notary

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/plainfile"
)

// OpenKey reads the signing key at path: two lines, of which the first is the
// secret half. If there is no file, it makes a key. The file is created
// exclusively, so that processes that start together end up with the same
// key.
func OpenKey(path string) (*audit.Signer, error) {
	s, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	signer, verifier, err := audit.NewKey()
	if err != nil {
		return nil, err
	}
	err = plainfile.WriteNew(path, 0o600, []byte(signer+"\n"+verifier+"\n"))
	// Another process may have made the key in the meantime; it is read
	// below.
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, trimtab.NewError(trimtab.Unavailable, "audit_key_unwritable",
			"make its folder, or name another file with audit_key", "make the key of the record: %w", err)
	}
	return readKey(path)
}

// readKey reads a key that exists.
func readKey(path string) (*audit.Signer, error) {
	raw, err := plainfile.Read(path)
	if errors.Is(err, plainfile.ErrNotPlain) {
		return nil, badKey(path, err)
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) != 2 {
		return nil, badKey(path, fmt.Errorf("it has %d lines, not 2", len(lines)))
	}
	s, err := audit.NewSigner(strings.TrimSpace(lines[0]), strings.TrimSpace(lines[1]))
	if err != nil {
		return nil, badKey(path, err)
	}
	return s, nil
}

// badKey is the error for a file that is not a key.
func badKey(path string, err error) error {
	return trimtab.NewError(trimtab.Invalid, "audit_key",
		"restore the file from a backup; with a new key, heads signed with the old one need --key", "the key in %s: %w",
		path, err)
}
