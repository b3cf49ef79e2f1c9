package dataset

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// decode returns r as UTF-8. It converts UTF-16 with a byte order mark, and
// refuses other encodings and files that are not text, naming what they are: a
// user who exports a spreadsheet often gets one of those.
func decode(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch what, remedy := container(head); {
	case what != "":
		return nil, recordErrorf(remedy, "it is %s, not text", what)
	// UTF-32 first: its little-endian mark begins with that of UTF-16.
	case bytes.HasPrefix(head, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(head, []byte{0, 0, 0xfe, 0xff}):
		return nil, recordErrorf(iconv("UTF-32"), "it is UTF-32")
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		return newUTF16(b, binary.LittleEndian), nil
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return newUTF16(b, binary.BigEndian), nil
	}
	if name := unmarkedUTF16(head); name != "" {
		return nil, recordErrorf(iconv(name), "it is UTF-16 without a byte order mark")
	}
	return b, nil
}

// iconv returns the remedy of a text in another encoding.
func iconv(from string) string {
	return "convert it with iconv -f " + from + " -t UTF-8 OLD > NEW"
}

// containers are file formats that are not plain text, by their magic bytes.
var containers = []struct{ begins, what, remedy string }{
	{"\x1f\x8b", "compressed with gzip", "add .gz to its name"},
	{"PK\x03\x04", "a zip file or a spreadsheet", "unpack it, or save the spreadsheet as CSV"},
	{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a spreadsheet or document of Microsoft Office", "save it as CSV"},
	{"PAR1\x15", "a Parquet file",
		"convert it to JSON lines first, for example with pandas: read_parquet, then to_json(lines=True, " +
			"orient=\"records\")"},
	{"ARROW1\x00", "an Arrow file", "convert it to JSON lines first"},
	{"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it, or compress it with gzip (.gz)"},
	{"BZh91AY&SY", "compressed with bzip2", "unpack it, or compress it with gzip (.gz)"},
	{"\xfd7zXZ\x00", "compressed with xz", "unpack it, or compress it with gzip (.gz)"},
}

// container names the format of a file that is not text and says what to do
// about it; "" for text.
func container(head []byte) (what, remedy string) {
	for _, c := range containers {
		if bytes.HasPrefix(head, []byte(c.begins)) {
			return c.what, c.remedy
		}
	}
	return "", ""
}

// unmarkedUTF16 recognizes UTF-16 without a byte order mark by the zero bytes
// of ASCII letters, and returns its name or "". A text with few ASCII letters
// passes, and is refused later for bytes that are not UTF-8.
func unmarkedUTF16(head []byte) string {
	var zeros [2]int
	for i, c := range head {
		if c == 0 {
			zeros[i%2]++
		}
	}
	// A third of the units at least are ASCII, and hardly any zero is on the
	// other side: binary files have zeros on both.
	mostly := func(zeros, others int) bool { return zeros >= max(2, len(head)/6) && others <= zeros/8 }
	switch {
	case mostly(zeros[1], zeros[0]):
		return "UTF-16LE"
	case mostly(zeros[0], zeros[1]):
		return "UTF-16BE"
	}
	return ""
}

// utf16Reader converts UTF-16 to UTF-8. An unpaired surrogate, or half a unit
// at the end, becomes a byte that is invalid in UTF-8, so that only its record
// is refused.
type utf16Reader struct {
	r     *bufio.Reader
	order binary.ByteOrder
	// rest is converted text that Read has not returned yet.
	rest []byte
	// err is the end of the input, returned once rest is empty.
	err error
}

// newUTF16 skips the byte order mark, which gave the order, and reads the rest.
func newUTF16(r *bufio.Reader, order binary.ByteOrder) *utf16Reader {
	_, _ = r.Discard(2)
	return &utf16Reader{r: r, order: order}
}

// notUTF8 is a byte that no UTF-8 text contains.
const notUTF8 = 0xff

// Read implements io.Reader.
func (u *utf16Reader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(u.rest) == 0 {
			if u.err != nil {
				break
			}
			u.next()
		}
		k := copy(p[n:], u.rest)
		n, u.rest = n+k, u.rest[k:]
	}
	if n == 0 && len(p) > 0 {
		return 0, u.err
	}
	return n, nil
}

// next converts one character into rest.
func (u *utf16Reader) next() {
	first, ok := u.unit()
	if !ok {
		return
	}
	r := rune(first)
	if utf16.IsSurrogate(r) {
		// The second unit is consumed only if it belongs to the first.
		peek, _ := u.r.Peek(2)
		if len(peek) < 2 {
			u.rest = append(u.rest, notUTF8)
			return
		}
		if r = utf16.DecodeRune(r, rune(u.order.Uint16(peek))); r == utf8.RuneError {
			u.rest = append(u.rest, notUTF8)
			return
		}
		_, _ = u.r.Discard(2)
	}
	u.rest = utf8.AppendRune(u.rest, r)
}

// unit reads one 16-bit unit; false at the end, with the reason in err.
func (u *utf16Reader) unit() (uint16, bool) {
	var b [2]byte
	u.rest = u.rest[:0]
	n, err := io.ReadFull(u.r, b[:])
	if n == 1 {
		u.rest = append(u.rest, notUTF8)
		err = io.EOF
	}
	if err != nil {
		u.err = err
		return 0, false
	}
	return u.order.Uint16(b[:]), true
}
