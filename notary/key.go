package notary

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
)

// OpenKey reads the key at path, two lines of which the first is secret; it
// makes one if there is none. Processes that come at once end with one key.
func OpenKey(path string) (*audit.Signer, error) {
	s, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	signer, verifier, err := audit.NewKey()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // for its owner alone
	if err != nil {
		return nil, fmt.Errorf("make the key of the record: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(signer + "\n" + verifier + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the key of the record: %w", err)
	}
	return readKey(path)
}

func readKey(path string) (*audit.Signer, error) {
	raw, err := os.ReadFile(path)
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

func badKey(path string, err error) error {
	return trimtab.NewError(trimtab.Invalid, "audit_key", "restore the file from a backup; with a new key, heads signed with the old one need --key", "the key in %s: %w", path, err)
}
