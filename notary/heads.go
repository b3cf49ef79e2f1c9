package notary

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/trimtab/trimtab/plainfile"
)

// headsName is the file of signed heads in a checkpoint store or a folder.
const headsName = "tree-heads.jsonl"

// HeadsIn is the path of the file of signed heads in a folder.
func HeadsIn(folder string) string { return filepath.Join(folder, headsName) }

// headLine is a line of that file.
type headLine struct {
	Note string `json:"note"`
}

// appendHead appends a head to a file and syncs it to disk.
func appendHead(path, signed string) error {
	line, err := json.Marshal(headLine{signed})
	if err != nil {
		return err
	}
	return plainfile.AppendLine(path, 0o644, line)
}

// ReadHeads reads the signed heads of a file, and none if there is no file. A
// line that is not a head, as a crash may leave at the end, counts as torn. A
// file that does not begin with a JSON object is taken for a single head.
func ReadHeads(path string) (notes []string, torn int, err error) {
	raw, err := plainfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the tree heads: %w", err)
	}
	notes, torn = parseHeads(raw)
	return notes, torn, nil
}

// parseHeads is ReadHeads for the contents of a file.
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
