package dataset

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// decode gives r as UTF-8. It reads UTF-16 that says so by a byte order mark,
// and names what is another encoding or no text at all.
func decode(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch what, remedy := container(head); {
	case what != "":
		return nil, recordErrorf(remedy, "it is %s, not text", what)
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

func iconv(from string) string {
	return "convert it with iconv -f " + from + " -t UTF-8 OLD > NEW"
}

// containers are formats that hold text in a form of their own, by how they begin.
var containers = []struct{ begins, what, remedy string }{
	{"\x1f\x8b", "compressed with gzip", "put .gz behind its ending"},
	{"PK\x03\x04", "a zip file or a spreadsheet", "unpack it, or save the spreadsheet as CSV"},
	{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a spreadsheet or document of Microsoft Office", "save it as CSV"},
	{"PAR1\x15", "a Parquet file",
		"write it as JSON lines first, for example with pandas: read_parquet, then to_json(lines=True, " +
			"orient=\"records\")"},
	{"ARROW1\x00", "an Arrow file", "write it as JSON lines first"},
	{"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it, or compress it with gzip (.gz)"},
	{"BZh91AY&SY", "compressed with bzip2", "unpack it, or compress it with gzip (.gz)"},
	{"\xfd7zXZ\x00", "compressed with xz", "unpack it, or compress it with gzip (.gz)"},
}

// container names what a file is that is no text, and says what to do about it.
func container(head []byte) (what, remedy string) {
	for _, c := range containers {
		if bytes.HasPrefix(head, []byte(c.begins)) {
			return c.what, c.remedy
		}
	}
	return "", ""
}

// unmarkedUTF16 recognises UTF-16 without a byte order mark by the zeros that go
// with letters of English; of other texts the invalid bytes are found later.
func unmarkedUTF16(head []byte) string {
	var zeros [2]int
	for i, c := range head {
		if c == 0 {
			zeros[i%2]++
		}
	}
	most := func(of, other int) bool { return of >= max(2, len(head)/6) && other <= of/8 }
	switch {
	case most(zeros[1], zeros[0]):
		return "UTF-16LE"
	case most(zeros[0], zeros[1]):
		return "UTF-16BE"
	}
	return ""
}

// utf16Reader gives UTF-16 as UTF-8. Half of a pair, or of a unit at the end,
// becomes a byte that UTF-8 does not have, so that its record is refused.
type utf16Reader struct {
	r     *bufio.Reader
	order binary.ByteOrder
	rest  []byte // encoded and not yet handed on
	err   error
}

// newUTF16 reads what comes after the byte order mark.
func newUTF16(r *bufio.Reader, order binary.ByteOrder) *utf16Reader {
	_, _ = r.Discard(2)
	return &utf16Reader{r: r, order: order}
}

const notUTF8 = 0xff

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

// next encodes one character into rest.
func (u *utf16Reader) next() {
	first, ok := u.unit()
	if !ok {
		return
	}
	r := rune(first)
	if utf16.IsSurrogate(r) {
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

// unit reads two bytes.
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
