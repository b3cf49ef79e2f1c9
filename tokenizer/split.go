package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// GPT-2 cuts text into words with the pattern
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// of openai/gpt-2, src/encoder.py. Go's regexp has no lookahead, so it is a
// scanner here. The alternatives are tried in that order at each place:
// a contraction; one optional space and a run of letters, of numbers, or of
// anything else that is not white space; white space up to, but without, the
// last character before a word (so that the space stays with the word).

// charClass is a class of characters that GPT-2's pattern distinguishes.
type charClass byte

const (
	letter charClass = iota
	number
	space // the Unicode property White_Space
	other // everything else, and bytes that are not UTF-8
)

// asciiClasses holds the classes of the ASCII characters, which most text is
// made of.
var asciiClasses = func() (table [utf8.RuneSelf]charClass) {
	for c := range table {
		table[c] = classOf(rune(c))
	}
	return table
}()

// classOf returns the class of a character. unicode.IsLetter, IsNumber and
// IsSpace are the pattern's \p{L}, \p{N} and \s.
func classOf(r rune) charClass {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return other
}

// classAt returns the class of the first character of s, which is not empty,
// and its length in bytes. A byte that is not UTF-8 counts as a character of
// one byte.
func classAt(s string) (charClass, int) {
	if c := s[0]; c < utf8.RuneSelf {
		return asciiClasses[c], 1
	}
	r, n := utf8.DecodeRuneInString(s)
	return classOf(r), n
}

// wordLen returns the length in bytes of the first word of s, which is not
// empty. The order of its cases is that of the pattern's alternatives.
func wordLen(s string) int {
	if n := contractionLen(s); n > 0 {
		return n
	}
	from := 0
	if s[0] == ' ' {
		from = 1
	}
	if from < len(s) {
		if c, _ := classAt(s[from:]); c != space {
			return from + runLen(c, s[from:])
		}
	}
	return whitespaceLen(s)
}

// contractionLen returns the length of the contraction at the start of s, or 0.
// As in GPT-2, only lower case and the ASCII apostrophe count.
func contractionLen(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	switch s[1] {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v', 'l':
		if len(s) > 2 && (s[1:3] == "re" || s[1:3] == "ve" || s[1:3] == "ll") {
			return 3
		}
	}
	return 0
}

// runLen returns the length in bytes of the run of characters of class c at the
// start of s.
func runLen(c charClass, s string) int {
	n := 0
	for n < len(s) {
		next, size := classAt(s[n:])
		if next != c {
			break
		}
		n += size
	}
	return n
}

// whitespaceLen returns the length of the word that the white space at the
// start of s makes. Where a word follows, the last white-space character is
// left out, unless it is the only one: that is \s+(?!\S)|\s+.
func whitespaceLen(s string) int {
	n := runLen(space, s)
	if n == len(s) {
		return n
	}
	_, last := utf8.DecodeLastRuneInString(s[:n])
	if n > last {
		return n - last
	}
	return n
}
