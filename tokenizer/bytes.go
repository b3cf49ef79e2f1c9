package tokenizer

import "fmt"

// GPT-2's files write a byte as a printable character: the printable ones of
// Latin-1 as themselves, the other 68 as U+0100 and up (openai/gpt-2,
// src/encoder.py, bytes_to_unicode). That is also the order of the first 256
// ids of a learned vocabulary.
var (
	// byteByID lists the bytes in the order of their ids; byteID is the
	// inverse.
	byteByID [256]byte
	byteID   [256]int32 // its inverse
	// byteEncoder is the character that a byte is written as; byteDecoder is
	// the inverse. The names are those of GPT-2's encoder.py.
	byteEncoder [256]rune
	byteDecoder = make(map[rune]byte, 256)
)

// init fills the four tables in GPT-2's order: first the printable bytes, then
// the others, which get the characters from U+0100 upwards.
func init() {
	printable := func(b int) bool { return b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE }
	n := 0
	put := func(b int, r rune) {
		byteByID[n], byteID[b], byteEncoder[b], byteDecoder[r] = byte(b), int32(n), r, byte(b)
		n++
	}
	for b := range 256 {
		if printable(b) {
			put(b, rune(b))
		}
	}
	hidden := rune(0x100)
	for b := range 256 {
		if !printable(b) {
			put(b, hidden)
			hidden++
		}
	}
}

// bytesToUnicode writes the bytes of a piece as GPT-2's characters.
func bytesToUnicode(piece string) string {
	out := make([]rune, len(piece))
	for i := range len(piece) {
		out[i] = byteEncoder[piece[i]]
	}
	return string(out)
}

// unicodeToBytes reads what bytesToUnicode writes. A character that stands for
// no byte is an error.
func unicodeToBytes(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		b, ok := byteDecoder[r]
		if !ok {
			return "", fmt.Errorf("piece %q holds %q, which stands for no byte", s, r)
		}
		out = append(out, b)
	}
	return string(out), nil
}
