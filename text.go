package trimtab

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The longest texts that people give things, in characters.
const (
	MostName    = 200    // of a run's name, or of a person's
	MostReason  = 4_000  // of why somebody decided something
	MostSetting = 16_000 // of a setting that is changed, with its path
)

// CheckName says why a text cannot be the name of a run or of a person, or
// nil: it has to pass CheckText with at most MostName characters, and has no
// space around it. Empty text passes.
func CheckName(s string) error {
	if err := CheckText(s, MostName); err != nil {
		return err
	}
	if strings.TrimSpace(s) != s {
		return fmt.Errorf("there is space before or after it")
	}
	return nil
}

// CheckText says why a line that a person wrote cannot be recorded and shown
// as it is, or nil: it has to be UTF-8, one line, without characters that are
// not to be seen (see Unseen), and of at most most characters. Empty text passes.
func CheckText(s string, most int) error {
	for i, r := range s {
		if _, size := utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError && size == 1 {
			return fmt.Errorf("byte %d, \\x%02x, is not UTF-8", i+1, s[i])
		}
		if Unseen(r) {
			return fmt.Errorf("it holds %s, which cannot be seen", seenAs(r))
		}
	}
	if n := utf8.RuneCountInString(s); n > most {
		return fmt.Errorf("it has %d characters, and may have %d", n, most)
	}
	return nil
}

// seenAs is a character that cannot be seen, in words.
func seenAs(r rune) string {
	switch r {
	case '\n', '\r':
		return "a line break"
	case '\t':
		return "a tab"
	case 0:
		return "a NUL"
	}
	return fmt.Sprintf("the character %U", r)
}

// Unseen reports characters that could move the cursor, colour the screen or
// turn the reading direction: control characters (C0, DEL, C1), the line and
// paragraph separators, private-use and format characters (Cf holds the
// bidirectional overrides, zero-width characters and tags), except the joiners
// that scripts and emoji need.
func Unseen(r rune) bool {
	const zeroWidthNonJoiner, zeroWidthJoiner = '\u200c', '\u200d'
	if r == zeroWidthJoiner || r == zeroWidthNonJoiner {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}
