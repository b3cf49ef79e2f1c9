package dataset

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
)

// readCSV reads comma-separated values with a header. The header or a first
// line "sep=;", as spreadsheets write it, may call for another separator.
func (in *reader) readCSV(b *boundedReader) error {
	switch comma := separator(b); comma {
	case '\t':
		return in.readTSV(b)
	default:
		return in.readDelimited(b, comma)
	}
}

// separator returns the separator of a table by its first line. A line "sep=;"
// is consumed.
func separator(b *boundedReader) rune {
	first := b.peekLine()
	if sep, ok := bytes.CutPrefix(first, []byte("sep=")); ok && len(sep) == 1 &&
		strings.Contains(",;\t|", string(sep)) {
		_, _ = b.nextLine()
		b.skippedLines++
		return rune(sep[0])
	}
	// Separators inside quotes belong to a column's name. Commas win: a header of
	// semicolons has none.
	bare := unquoted(string(first))
	for _, sep := range ",;\t" {
		if strings.ContainsRune(bare, sep) {
			return sep
		}
	}
	return ','
}

// unquoted returns a line without its quoted parts, in which separators have no
// meaning.
func unquoted(line string) string {
	parts := strings.Split(line, `"`)
	var b strings.Builder
	for i := 0; i < len(parts); i += 2 {
		b.WriteString(parts[i])
	}
	return b.String()
}

// readDelimited reads rows whose fields may be quoted, by encoding/csv.
func (in *reader) readDelimited(b *boundedReader, comma rune) error {
	c := csv.NewReader(b)
	// The slice of a row is reused, its strings are not.
	c.Comma, c.ReuseRecord = comma, true
	header, err := c.Read()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return in.rejectRow(err, b)
	}
	if header, err = columns(header, comma); err != nil {
		return err
	}
	for {
		// The csv reader buffers ahead of the row it returns.
		b.allowRecordAt(c.InputOffset() + 1<<16)
		row, err := c.Read()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, csv.ErrFieldCount), errors.Is(err, csv.ErrBareQuote):
			// The reader is at the next line, which may be a row again.
			in.reject(errorLine(err, b), rowError(err))
			continue
		case err != nil:
			return in.rejectRow(err, b)
		}
		line, _ := c.FieldPos(0)
		// Lets the reader forget the lines before.
		b.lineAt(c.InputOffset())
		if err := in.row(line+b.skippedLines, header, row); err != nil {
			return err
		}
	}
}

// readTSV reads tab-separated values with a header. Each line is a row: tools
// that write .tsv rarely quote, so a stray quote must not swallow the lines
// after it.
func (in *reader) readTSV(b *boundedReader) error {
	var t tabRows
	for n := 1 + b.skippedLines; ; n++ {
		line, err := b.nextLine()
		switch {
		case err == io.EOF:
			return nil
		case err == errTooLong:
			in.reject(n, recordErrorf(remedyTooLong, "the row is longer than 8 MiB"))
			// Without a header no row can be read.
			if t.header == nil {
				return nil
			}
			continue
		case err != nil:
			return err
		case len(line) == 0:
			continue
		}
		row, err := t.row(n, string(line))
		switch {
		case t.header == nil && err != nil:
			in.reject(n, err)
			return nil
		case t.header == nil:
			t.header, err = columns(row, '\t')
		case err != nil:
			in.reject(n, err)
			err = nil
		default:
			err = in.row(n, t.header, row)
		}
		if err != nil {
			return err
		}
	}
}

// tabRows splits lines into rows.
type tabRows struct {
	header []string
	// open is the line in which a quote was opened and not closed, or 0.
	open int
}

// row splits line n. A field that spans lines spoils its first and its last
// line; both are reported rather than read as rows.
func (t *tabRows) row(n int, line string) ([]string, error) {
	row, err := splitTabs(line)
	switch {
	case err != nil:
		t.open = n
		return nil, err
	case t.open > 0 && strings.Count(line, `"`)%2 == 1:
		err = recordErrorf("write the field in one line, or leave both out",
			"the line may end a field that line %d began", t.open)
		t.open = 0
		return nil, err
	case t.header != nil && len(row) != len(t.header):
		return nil,
			recordErrorf(`a row is one line, its columns separated by tabs; write a tab in a field in quotes: "a	b"`,
				"the row has %d columns, the header %d", len(row), len(t.header))
	}
	return row, nil
}

// splitTabs splits a line at its tabs. A quoted field may contain tabs, and
// quotes written twice. A quote that nothing closes is an error, since a field
// of several lines may have opened it. Other quotes are text.
func splitTabs(line string) ([]string, error) {
	var row []string
	for {
		field, rest, more, err := tabField(line)
		if err != nil {
			return nil, err
		}
		if row = append(row, field); !more {
			return row, nil
		}
		line = rest
	}
}

// tabField takes the first field off a line; more reports whether another one
// follows.
func tabField(line string) (field, rest string, more bool, err error) {
	if strings.HasPrefix(line, `"`) {
		field, end, ok := quoted(line)
		switch {
		case ok && end == len(line):
			return field, "", false, nil
		case ok:
			return field, line[end+1:], true, nil
		case end < 0:
			return "", "", false,
				recordErrorf(`close the quote in the same line, and write a quote in a field twice: "a ""b"""; `+
					`a line end in a field needs .jsonl`,
					"a quote is opened and not closed in its line")
		}
	}
	field, rest, more = strings.Cut(line, "\t")
	return field, rest, more, nil
}

// quoted reads the quoted field at the start of a line; end is the offset after
// its closing quote. It reports false if the quotes do not enclose a field,
// with end -1 if nothing closes them.
func quoted(line string) (field string, end int, ok bool) {
	for i := 1; i < len(line); i++ {
		if line[i] != '"' {
			continue
		}
		switch {
		case i+1 == len(line) || line[i+1] == '\t':
			return strings.ReplaceAll(line[1:i], `""`, `"`), i + 1, true
		case line[i+1] == '"':
			i++
		default:
			return "", 0, false
		}
	}
	return "", -1, false
}

// columns checks the names of a header: each once, without white space around
// it, and more than one if the line contains a separator.
func columns(header []string, comma rune) ([]string, error) {
	names := make([]string, len(header))
	for i, h := range header {
		if err := checkBytes(h); err != nil {
			return nil, recordErrorf(remedyUTF8, "its header %v", err)
		}
		names[i] = strings.TrimSpace(h)
		if names[i] != "" && slices.Contains(names[:i], names[i]) {
			return nil, recordErrorf("give each column a name of its own",
				"its header has the column %q twice", names[i])
		}
	}
	if len(names) == 1 && strings.ContainsAny(strings.ReplaceAll(names[0], string(comma), ""), ",;\t|") {
		return nil, recordErrorf("separate the columns by the character that the extension calls for: "+
			"commas or semicolons for .csv, tabs for .tsv",
			"its header has one column, %q, since its columns are not separated by %q", names[0], comma)
	}
	return names, nil
}

// row reads one row as a record.
func (in *reader) row(line int, header, row []string) error {
	fields := make(map[string]any, len(row))
	for i, v := range row {
		if err := checkBytes(v); err != nil {
			remedy := remedyUTF8
			if strings.ContainsRune(v, 0) {
				remedy = "fix the record or leave it out"
			}
			in.reject(line, recordErrorf(remedy, "column %q %v", header[i], err))
			return nil
		}
		fields[header[i]] = v
	}
	return in.record(record{line: line, fields: fields, table: true})
}

// rejectRow reports a row that cannot be read. An error of the file rather than
// its content is returned.
func (in *reader) rejectRow(err error, b *boundedReader) error {
	f := rowError(err)
	if f == nil {
		return err
	}
	in.reject(errorLine(err, b), f)
	return nil
}

// errorLine returns the line at which a row begins that could not be read.
func errorLine(err error, b *boundedReader) int {
	if p, ok := errors.AsType[*csv.ParseError](err); ok {
		return p.StartLine + b.skippedLines
	}
	return b.line + b.skippedLines
}

// rowError describes a row that cannot be read; nil if err is a failed read.
func rowError(err error) error {
	const quote = `put fields that contain a quote in quotes, and double the quote: "a ""b"""`
	switch {
	case errors.Is(err, errTooLong):
		return recordErrorf("close the quote that was left open, or cut the row into smaller ones",
			"a row is longer than 8 MiB; nothing after it was read")
	case errors.Is(err, csv.ErrFieldCount):
		return recordErrorf("put fields that contain a comma in quotes",
			"the row does not have as many columns as the header")
	case errors.Is(err, csv.ErrBareQuote):
		return recordErrorf(quote, "an unquoted field contains a quote")
	}
	p, ok := errors.AsType[*csv.ParseError](err)
	if !ok {
		return nil
	}
	return recordErrorf(quote,
		"a quote is not closed, or text follows a closing quote; nothing after it was read: %v", p.Err)
}
