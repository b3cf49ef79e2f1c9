package dataset

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// errTooLong ends the reading of a record that exceeds MaxRecord.
var errTooLong = errors.New("record is longer than 8 MiB")

// boundedReader reads a file without its byte order mark. It refuses to read
// more than one record beyond what was allowed, which keeps the decoders of
// encoding/json and encoding/csv from buffering a record of any size, and it
// counts lines for messages.
type boundedReader struct {
	r *bufio.Reader
	// read and allowed count bytes: those returned so far, and the limit.
	read    int64
	allowed int64
	// lineStarts are the offsets of line starts that lineAt has not passed yet.
	lineStarts []int64
	// line is the result of the last lineAt; skippedLines come before the first
	// line that the decoder sees.
	line         int
	skippedLines int
}

// newBoundedReader returns a reader that may read one record of r.
func newBoundedReader(r io.Reader) *boundedReader {
	b := &boundedReader{r: bufio.NewReaderSize(r, 1<<16), line: 1}
	if mark, _ := b.r.Peek(3); string(mark) == "\ufeff" {
		_, _ = b.r.Discard(3)
	}
	b.allowRecordAt(0)
	return b
}

// allowRecordAt allows one more record to be read, which begins at offset.
func (b *boundedReader) allowRecordAt(offset int64) { b.allowed = offset + MaxRecord }

// Read implements io.Reader for the decoders, up to the allowed offset.
func (b *boundedReader) Read(p []byte) (int, error) {
	if b.read >= b.allowed {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.allowed-b.read)])
	for i, c := range p[:n] {
		if c == '\n' {
			b.lineStarts = append(b.lineStarts, b.read+int64(i)+1)
		}
	}
	b.read += int64(n)
	return n, err
}

// lineAt returns the line, counted from 1, of the byte at offset. Offsets must
// not decrease from call to call: line starts before the last one are
// forgotten, so that memory stays bounded.
func (b *boundedReader) lineAt(offset int64) int {
	passed, _ := slices.BinarySearch(b.lineStarts, offset+1)
	b.lineStarts = b.lineStarts[passed:]
	b.line += passed
	return b.line
}

// nextLine returns the next line without its end, for a file that is read by
// lines alone. The line is valid until the next call. A line longer than
// MaxRecord is skipped, in bounded memory, and gives errTooLong: the lines
// after it can still be read.
func (b *boundedReader) nextLine() ([]byte, error) {
	part, err := b.r.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return trimEnd(part), lineError(part, err)
	}
	line, tooLong := slices.Clone(part), false
	for err == bufio.ErrBufferFull {
		part, err = b.r.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > MaxRecord; !tooLong {
			line = append(line, part...)
		}
	}
	if tooLong && (err == nil || err == io.EOF) {
		return nil, errTooLong
	}
	return trimEnd(line), lineError(line, err)
}

// lineError returns err unless it is the end of the file behind a last line
// that has no line end.
func lineError(line []byte, err error) error {
	if err == io.EOF && len(line) > 0 {
		return nil
	}
	return err
}

// trimEnd removes a line end of either kind.
func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// checkBytes refuses bytes that are not text. Postgres cannot store a NUL in
// text either.
func checkBytes(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New(notUTF8Reason([]byte(s)))
	case strings.ContainsRune(s, 0):
		return errors.New("holds a NUL character")
	}
	return nil
}

// notUTF8Reason says which byte of b is not UTF-8 and what the encoding
// probably is.
func notUTF8Reason(b []byte) string {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size <= 1 {
			return fmt.Sprintf("is not valid UTF-8 (byte %#02x; it may be Latin-1 or Windows-1252)", b[i])
		}
		i += size
	}
	return "is not valid UTF-8"
}

// peekLine returns the beginning of the next line without consuming it; of a
// line longer than the buffer, the first 64 KiB.
func (b *boundedReader) peekLine() []byte {
	for n := 256; ; n *= 2 {
		head, err := b.r.Peek(min(n, b.r.Size()))
		if end := bytes.IndexByte(head, '\n'); end >= 0 {
			return trimEnd(head[:end+1])
		}
		if err != nil || n >= b.r.Size() {
			return head
		}
	}
}
