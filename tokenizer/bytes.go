package tokenizer

import "fmt"

// GPT-2 writes a byte as a printable character: the printable ones of Latin-1
// as themselves, the other 68 as U+0100 and up (openai/gpt-2, src/encoder.py,
// bytes_to_unicode). That order is also the order of the first 256 ids.
var (
	byteOrder [256]byte  // by id in a learned vocabulary
	byteRank  [256]int32 // its inverse
	byteChar  [256]rune
	charByte  = make(map[rune]byte, 256)
)

func init() {
	printable := func(b int) bool { return b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE }
	n := 0
	put := func(b int, r rune) {
		byteOrder[n], byteRank[b], byteChar[b], charByte[r] = byte(b), int32(n), r, byte(b)
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

// spell writes bytes as GPT-2's characters.
func spell(piece string) string {
	out := make([]rune, len(piece))
	for i := range len(piece) {
		out[i] = byteChar[piece[i]]
	}
	return string(out)
}

// unspell reads what spell writes.
func unspell(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		b, ok := charByte[r]
		if !ok {
			return "", fmt.Errorf("piece %q holds %q, which stands for no byte", s, r)
		}
		out = append(out, b)
	}
	return string(out), nil
}
