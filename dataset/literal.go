package dataset

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parseLiteral reads a value that a table holds as a string: JSON, or a Python
// literal of lists, tuples, dicts, strings, numbers, True, False and None,
// which pandas writes into CSV. Elements of a printed numpy array have no
// commas between them, which is accepted between dicts.
//
//	[{"role": "user", "content": "Q"}]      JSON
//	[{'role': 'user', 'content': 'Q'}]      Python
func parseLiteral(s string) (any, error) {
	if fields, err := parseValue([]byte(s)); err == nil {
		return fields, nil
	}
	p := pythonParser{rest: s}
	v, err := p.value(0)
	if p.skipSpace(); err == nil && p.rest != "" {
		err = errLiteral
	}
	return v, err
}

// parseValue reads one JSON value. Trailing data is an error.
func parseValue(raw []byte) (any, error) {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(raw[dec.InputOffset():]))) > 0 || brokenSurrogate(raw) {
		return nil, errLiteral
	}
	return v, nil
}

// errLiteral is the error for a string that is neither.
var errLiteral = errors.New("neither JSON nor a Python literal")

// maxNesting bounds the recursion of the parser.
const maxNesting = 100

// pythonParser is a recursive-descent parser of Python literals. It consumes
// the front of rest.
type pythonParser struct{ rest string }

// skipSpace skips white space.
func (p *pythonParser) skipSpace() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// accept consumes token, after white space, and reports whether it was there.
func (p *pythonParser) accept(token string) bool {
	p.skipSpace()
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

// value reads any value.
func (p *pythonParser) value(depth int) (any, error) {
	p.skipSpace()
	switch {
	case depth > maxNesting:
		return nil, errLiteral
	case p.accept("["):
		return p.list(depth, "]")
	case p.accept("("):
		return p.list(depth, ")")
	case p.accept("{"):
		return p.dict(depth)
	case p.rest != "" && (p.rest[0] == '\'' || p.rest[0] == '"'):
		return p.quotedString()
	}
	return p.scalar()
}

// list reads the elements of a list or tuple up to end.
func (p *pythonParser) list(depth int, end string) (any, error) {
	list := []any{}
	for !p.accept(end) {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if p.accept(",") {
			continue
		}
		// numpy prints no commas. Between dicts the end of one is clear; between
		// strings Python itself would join them.
		_, dict := v.(map[string]any)
		if p.skipSpace(); !strings.HasPrefix(p.rest, end) && !(dict && strings.HasPrefix(p.rest, "{")) {
			return nil, errLiteral
		}
	}
	return list, nil
}

// dict reads a dict. Keys must be distinct strings.
func (p *pythonParser) dict(depth int) (any, error) {
	dict := map[string]any{}
	for !p.accept("}") {
		key, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok || !p.accept(":") {
			return nil, errLiteral
		}
		if _, repeated := dict[name]; repeated {
			return nil, errLiteral
		}
		if dict[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if p.skipSpace(); !p.accept(",") && !strings.HasPrefix(p.rest, "}") {
			return nil, errLiteral
		}
	}
	return dict, nil
}

// scalar reads a number, a boolean or None. Numbers are those that JSON could
// have written: no hexadecimal, no underscores, no nan.
func (p *pythonParser) scalar() (any, error) {
	end := strings.IndexAny(p.rest, ",:]})( \t\r\n")
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	switch word {
	case "None", "null":
		return nil, nil
	case "True", "true":
		return true, nil
	case "False", "false":
		return false, nil
	}
	if _, err := strconv.ParseFloat(word, 64); err != nil || strings.ContainsAny(word, "xXpP_iInN") {
		return nil, errLiteral
	}
	return json.Number(word), nil
}

// quotedString reads a string in single or double quotes.
func (p *pythonParser) quotedString() (any, error) {
	quote := p.rest[0]
	var b strings.Builder
	for i := 1; i < len(p.rest); {
		switch c := p.rest[i]; c {
		case quote:
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case '\\':
			r, n, err := parseEscape(p.rest[i:])
			if err != nil {
				return nil, err
			}
			b.WriteRune(r)
			i += n
		case '\n':
			return nil, errLiteral
		default:
			b.WriteByte(c)
			i++
		}
	}
	return nil, errLiteral
}

// simpleEscapes are the escapes of one letter.
var simpleEscapes = map[byte]rune{'\\': '\\', '\'': '\'', '"': '"', 'n': '\n', 'r': '\r', 't': '\t', 'a': '\a',
	'b': '\b', 'f': '\f', 'v': '\v'}

// parseEscape reads the escape sequence at the start of s and returns its
// length. Named and octal escapes are refused: repr does not write them.
func parseEscape(s string) (rune, int, error) {
	if len(s) < 2 {
		return 0, 0, errLiteral
	}
	if r, ok := simpleEscapes[s[1]]; ok {
		return r, 2, nil
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	if digits == 0 || len(s) < 2+digits {
		return 0, 0, errLiteral
	}
	v, err := strconv.ParseUint(s[2:2+digits], 16, 32)
	if err != nil || v > utf8.MaxRune || !utf8.ValidRune(rune(v)) {
		return 0, 0, errLiteral
	}
	return rune(v), 2 + digits, nil
}
