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

var errTooLong = errors.New("record is longer than 8 MiB")

// boundedReader reads a file without its byte order mark, refuses to go further
// than one record past what was allowed, and knows where its lines begin.
type boundedReader struct {
	r            *bufio.Reader
	read         int64   // bytes handed on so far
	allowed      int64   // bytes that may be handed on
	lineStarts   []int64 // offsets after line ends not yet passed by lineAt
	line         int     // at the last lineAt
	skippedLines int     // lines before the first that is counted
}

func newBoundedReader(r io.Reader) *boundedReader {
	b := &boundedReader{r: bufio.NewReaderSize(r, 1<<16), line: 1}
	if mark, _ := b.r.Peek(3); string(mark) == "\ufeff" {
		_, _ = b.r.Discard(3)
	}
	b.allowRecordAt(0)
	return b
}

// allowRecordAt lets one more record be read from offset.
func (b *boundedReader) allowRecordAt(offset int64) { b.allowed = offset + MaxRecord }

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

// lineAt is the line of the byte at offset, which never falls.
func (b *boundedReader) lineAt(offset int64) int {
	passed, _ := slices.BinarySearch(b.lineStarts, offset+1)
	b.lineStarts = b.lineStarts[passed:]
	b.line += passed
	return b.line
}

// nextLine returns the next line without its end, of a file read by lines
// alone. The line is valid until the next call. A line over MaxRecord is
// passed over, in bounded memory, and gives errTooLong.
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

// lineError lets a last line without an end be a line.
func lineError(line []byte, err error) error {
	if err == io.EOF && len(line) > 0 {
		return nil
	}
	return err
}

func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// checkBytes refuses what no text holds.
func checkBytes(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New(notUTF8Reason([]byte(s)))
	case strings.ContainsRune(s, 0):
		return errors.New("holds a NUL character")
	}
	return nil
}

// notUTF8Reason says what is not UTF-8 about b, and what it is likely to be.
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

// peekLine is the beginning of what comes next, up to the end of its line; of
// a line that is longer than the buffer, its first 64 KiB.
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
