package trimtab

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MostLabel is the most characters of a labeller, a demonstrator, a guideline,
// a group or a tag: they are shown in tables, and an index of the database
// holds no more than 2,700 bytes.
const MostLabel = 500

// checkLabel refuses what the database does not hold or index; empty is sound.
func checkLabel(field, s string) error {
	if err := checkBytes(field, s); err != nil {
		return err
	}
	if n := utf8.RuneCountInString(s); n > MostLabel {
		return fmt.Errorf("field %q has %d characters: at most %d", field, n, MostLabel)
	}
	return nil
}

// checkBytes refuses what no text of the database holds.
func checkBytes(field, s string) error {
	switch {
	case !utf8.ValidString(s):
		return fmt.Errorf("field %q is not valid UTF-8", field)
	case strings.ContainsRune(s, 0):
		return fmt.Errorf("field %q holds a NUL character", field)
	}
	return nil
}
