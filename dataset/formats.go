package dataset

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

// Remedies that several formats share.
const (
	remedyTooLong  = "cut the record into smaller ones: 8 MiB is the limit"
	remedyUTF8     = "convert the file to UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
	remedyJSON     = "fix the JSON or leave the line out"
	remedyCutShort = "the file seems truncated: download it again"
)

// readJSONLines reads one JSON object per line and skips empty lines. A line
// that cannot be read costs only itself.
func (in *reader) readJSONLines(b *boundedReader) error {
	for n := 1; ; n++ {
		line, err := b.nextLine()
		switch {
		case err == io.EOF:
			return nil
		case err == errTooLong:
			in.reject(n, recordErrorf(remedyTooLong, "the line is longer than 8 MiB"))
		case err != nil:
			return err
		case len(bytes.TrimSpace(line)) > 0:
			if err := in.jsonRecord(n, line); err != nil {
				return err
			}
		}
	}
}

// jsonRecord reads one JSON object as a record.
func (in *reader) jsonRecord(line int, raw []byte) error {
	fields, err := parseObject(raw)
	if err != nil {
		in.reject(line, err)
		return nil
	}
	return in.record(record{line: line, fields: fields})
}

// parseObject parses one JSON object. Numbers stay as they are written, since a
// float64 would change ids of more than 53 bits.
func parseObject(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) {
		return nil, recordErrorf(remedyUTF8, "the record %s", notUTF8Reason(raw))
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, recordErrorf(remedyCutShort, "the JSON ends too early")
		}
		return nil, recordErrorf(remedyJSON, "the JSON is not valid: %v", err)
	}
	// Two objects on one line: a decoder would silently drop the second.
	if len(bytes.TrimSpace(raw[dec.InputOffset():])) > 0 {
		return nil, recordErrorf("put one JSON object on a line", "more text follows the JSON object")
	}
	if brokenSurrogate(raw) {
		return nil, recordErrorf("write both halves of the pair, or leave the record out",
			`the record contains half of a \uD800-\uDFFF surrogate pair, which is not a character`)
	}
	fields, ok := v.(map[string]any)
	if !ok {
		return nil, recordErrorf(`write records as objects: {"prompt": …}`, "the record is %s, not an object",
			typeName(v))
	}
	return fields, nil
}

// brokenSurrogate reports whether valid JSON contains a \u escape that is half
// of a surrogate pair. encoding/json would replace it silently with U+FFFD.
func brokenSurrogate(raw []byte) bool {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		// The escaped character: \\u is a backslash and a u.
		i++
		if raw[i] != 'u' {
			continue
		}
		// The JSON is valid, so four hexadecimal digits follow.
		first, _ := strconv.ParseUint(string(raw[i+1:i+5]), 16, 16)
		i += 4
		if !utf16.IsSurrogate(rune(first)) {
			continue
		}
		if i+6 >= len(raw) || raw[i+1] != '\\' || raw[i+2] != 'u' {
			return true
		}
		second, _ := strconv.ParseUint(string(raw[i+3:i+7]), 16, 16)
		if utf16.DecodeRune(rune(first), rune(second)) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// readJSON reads an array of objects, or objects one after the other. An error
// of the JSON itself ends the reading, since the next record cannot be found;
// the records before it are kept.
func (in *reader) readJSON(b *boundedReader) error {
	first, err := b.firstByte()
	if err != nil {
		return err
	}
	dec := json.NewDecoder(b)
	// Elements are decoded one by one, so that the array is never in memory whole.
	if first == '[' {
		if _, err := dec.Token(); err != nil {
			return err
		}
	}
	for dec.More() {
		b.allowRecordAt(dec.InputOffset())
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return in.rejectJSON(dec, b, err)
		}
		if err := in.jsonRecord(b.lineAt(dec.InputOffset()-int64(len(raw))), raw); err != nil {
			return err
		}
	}
	if first == '[' {
		b.allowRecordAt(dec.InputOffset())
		if _, err := dec.Token(); err != nil {
			return in.rejectJSON(dec, b, err)
		}
	}
	return nil
}

// rejectJSON reports the record that cannot be read at the line on which it
// begins. An error of the file rather than its content is returned.
func (in *reader) rejectJSON(dec *json.Decoder, b *boundedReader, err error) error {
	f := jsonError(err)
	if f == nil {
		return err
	}
	// The offset is after the previous record; the broken one begins after the
	// white space that follows.
	at := dec.InputOffset()
	rest := bufio.NewReader(dec.Buffered())
	for c, err := rest.ReadByte(); err == nil && strings.ContainsRune(" \t\r\n", rune(c)); c, err = rest.ReadByte() {
		at++
	}
	in.reject(b.lineAt(at), f)
	return nil
}

// firstByte returns the first byte that is not white space, without consuming
// it; 0 for an empty file.
func (b *boundedReader) firstByte() (byte, error) {
	for n := 1; ; n++ {
		peek, err := b.r.Peek(n)
		switch {
		case len(peek) < n && err == io.EOF:
			return 0, nil
		case len(peek) < n:
			return 0, err
		case !strings.ContainsRune(" \t\r\n", rune(peek[n-1])):
			return peek[n-1], nil
		}
	}
}

// jsonError describes JSON that cannot be read; nil if err is a failed read.
func jsonError(err error) error {
	switch {
	case errors.Is(err, errTooLong):
		return recordErrorf(remedyTooLong, "a record is longer than 8 MiB; nothing after it was read")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return recordErrorf(remedyCutShort, "the JSON ends too early")
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); !ok {
		return nil
	}
	return recordErrorf("fix the JSON", "the JSON is not valid from here on: %v", err)
}

// readText reads plain text as texts or prompts.
func (in *reader) readText(b *boundedReader) error {
	split, column := in.options.Split, "text"
	// Only texts and prompts are a single string each.
	if in.kind == trimtab.KindPrompts {
		column = "prompt"
	}
	if in.kind != trimtab.KindText && in.kind != trimtab.KindPrompts {
		return trimtab.NewError(trimtab.Usage, "dataset_format_unknown", "use .jsonl, .json or .csv",
			"reading %s: plain text cannot hold %s", in.name, in.kind)
	}
	if split == "" {
		split = map[string]string{"text": "document", "prompt": "line"}[column]
	}
	if split != "document" && split != "paragraph" && split != "line" {
		return trimtab.NewError(trimtab.Usage, "dataset_split_unknown", "use document, paragraph or line",
			"reading %s: split %q is not known", in.name, split)
	}
	return in.wrapError(in.blocks(b, split, column))
}

// blocks collects lines until split says that an item ends.
func (in *reader) blocks(b *boundedReader, split, column string) error {
	t := block{in: in, split: split, column: column, start: 1}
	for n := 1; ; n++ {
		line, err := b.nextLine()
		if err == io.EOF {
			return t.flush()
		}
		if err != nil && err != errTooLong {
			return err
		}
		blank := err == nil && len(bytes.TrimSpace(line)) == 0
		// With split "document" nothing is flushed before the end of the file.
		if split == "line" || split == "paragraph" && blank {
			if err := t.flush(); err != nil {
				return err
			}
		}
		// Blank lines inside an item are kept; before its first line they are not.
		if !blank || t.body.Len() > 0 {
			t.add(n, line, err == errTooLong)
		}
	}
}

// block is the lines of one item so far.
type block struct {
	in            *reader
	split, column string          // ReadOptions.Split, and the column that the item fills
	body          strings.Builder // the lines, each with its end
	start         int             // line of the first one
	tooLong       bool            // the item exceeds MaxRecord and body is incomplete
}

// add appends line n. Of an item that is too long nothing more is kept, so that
// memory stays bounded.
func (t *block) add(n int, line []byte, tooLong bool) {
	if t.body.Len() == 0 && !t.tooLong {
		t.start = n
	}
	t.tooLong = t.tooLong || tooLong || t.body.Len()+len(line) > MaxRecord
	if !t.tooLong {
		t.body.Write(line)
		t.body.WriteByte('\n')
	}
}

// flush emits the collected lines as a record and starts the next item.
func (t *block) flush() error {
	body, tooLong := strings.Trim(t.body.String(), "\n"), t.tooLong
	t.body.Reset()
	t.tooLong = false
	switch {
	case tooLong:
		t.in.reject(t.start, recordErrorf(`pass --split paragraph or --split line`, "the %s is longer than 8 MiB",
			t.split))
	case strings.TrimSpace(body) != "":
		return t.in.record(record{line: t.start, fields: map[string]any{t.column: body}})
	}
	return nil
}
