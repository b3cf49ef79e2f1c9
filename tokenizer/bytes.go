package tokenizer

import "fmt"

// GPT-2 writes a byte as a printable character: the printable ones of Latin-1
// as themselves, the other 68 as U+0100 and up (openai/gpt-2, src/encoder.py,
// bytes_to_unicode). That order is also the order of the first 256 ids.
var (
	byteByID    [256]byte  // by id in a learned vocabulary
	byteID      [256]int32 // its inverse
	byteEncoder [256]rune
	byteDecoder = make(map[rune]byte, 256)
)

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

// bytesToUnicode writes bytes as GPT-2's characters.
func bytesToUnicode(piece string) string {
	out := make([]rune, len(piece))
	for i := range len(piece) {
		out[i] = byteEncoder[piece[i]]
	}
	return string(out)
}

// unicodeToBytes reads what spell writes.
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
