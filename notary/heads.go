package notary

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// headsName is the file of signed heads in a store or a folder.
const headsName = "tree-heads.jsonl"

// HeadsIn is the file of signed heads in a folder.
func HeadsIn(folder string) string { return filepath.Join(folder, headsName) }

// headLine is a line of that file.
type headLine struct {
	Note string `json:"note"`
}

// appendHead adds a head to a file, durably. A line that a crash tore is ended first.
func appendHead(path, signed string) error {
	line, err := json.Marshal(headLine{signed})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	var last [1]byte
	if end, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	} else if end > 0 {
		if _, err := f.ReadAt(last[:], end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Sync()
}

// ReadHeads reads the signed heads of a file; none if there is no file. Lines
// that are no heads, as a crash may leave one, are counted in torn. A file that
// begins as a head is one itself.
func ReadHeads(path string) (notes []string, torn int, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the tree heads: %w", err)
	}
	notes, torn = parseHeads(raw)
	return notes, torn, nil
}

func parseHeads(raw []byte) (notes []string, torn int) {
	if len(raw) > 0 && raw[0] != '{' {
		return []string{string(raw)}, 0
	}
	for line := range bytes.Lines(raw) {
		var l headLine
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if json.Unmarshal(line, &l) != nil || l.Note == "" {
			torn++
			continue
		}
		notes = append(notes, l.Note)
	}
	return notes, torn
}
