package redact

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The parts of a text that look like an address, or like a secret after its
// name.
var (
	// urlPattern matches a URL up to white space or a quote.
	urlPattern = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'` + "`" + `<>]+`)
	// assignmentPattern matches a secret after its name. The value may be quoted,
	// as in a keyword string; otherwise it ends at white space, or where an address
	// or a list continues.
	assignmentPattern = regexp.MustCompile(`(?i)\b((?:ssl)?pass(?:word|wd|phrase)?|pgpassword|secret|` +
		`client[_-]?secret|token|access[_-]?token|api[_-]?key|access[_-]?key|signature|sig|auth)` +
		`(\s*=\s*)` +
		`('(?:[^'\\]|\\.)*'?|"[^"]*"?|[^\s&;,)"` + "`" + `]+)`)
	// userinfoPattern matches user:password@host without a scheme.
	userinfoPattern = regexp.MustCompile(`[^\s/:@"'` + "`" + `(]+:[^\s/@"'` + "`" + `]+@[A-Za-z0-9\[]`)
)

// Text returns a text, such as an error of a library, with the addresses in it
// redacted. It finds what looks like an address or a secret; where the secrets
// are known, a Redactor is safer.
func Text(s string) string {
	if !strings.ContainsAny(s, "=@:") {
		return s
	}
	s = urlPattern.ReplaceAllStringFunc(s, func(m string) string {
		end := len(strings.TrimRight(m, ".,;:)]}"))
		return Address(m[:end]) + m[end:]
	})
	s = assignmentPattern.ReplaceAllStringFunc(s, func(m string) string {
		i := strings.IndexByte(m, '=') + 1
		if value := strings.TrimLeft(m[i:], " \t\n"); strings.HasPrefix(value, Hidden) {
			return m
		}
		return m[:i] + Hidden
	})
	return userinfoPattern.ReplaceAllStringFunc(s, func(m string) string {
		if strings.Contains(m, ":"+Hidden+"@") || strings.Contains(m, "@sha256") {
			return m
		}
		at := strings.LastIndexByte(m, '@')
		return m[:strings.IndexByte(m, ':')+1] + Hidden + m[at:]
	})
}

// Redactor hides known secrets wherever they occur in a text and however a
// library has split them, and then does the same as Text. It is immutable.
type Redactor struct {
	// whole are the addresses as they were given, secrets what Address hides of
	// them; both with the longest first, so that no part hides a rest.
	whole   []string
	secrets []string // the longest first
}

// minSecretLen is the length from which a secret is searched for in other text.
// A shorter one would hide parts of ordinary words.
const minSecretLen = 4

// New returns a Redactor that knows the secrets of addresses, and the secrets
// in plain, for example passwords.
func New(addresses, plain []string) *Redactor {
	r := &Redactor{}
	for _, a := range addresses {
		if Address(a) != a {
			r.whole = append(r.whole, a)
			r.secrets = append(r.secrets, secretsOf(a)...)
		}
	}
	for _, p := range plain {
		if p != "" {
			r.secrets = append(r.secrets, p)
		}
	}
	byLength := func(a, b string) int { return len(b) - len(a) }
	slices.SortFunc(r.whole, byLength)
	slices.SortFunc(r.secrets, byLength)
	r.secrets = slices.DeleteFunc(r.secrets, func(s string) bool {
		return len(s) < minSecretLen || slices.Contains(programWords, s)
	})
	return r
}

// programWords are words of this program's own messages. As a password such a
// word protects nothing, and hiding it everywhere would make messages
// unreadable.
var programWords = []string{"trimtab", "trimtab_app", "trimtab_auditor", "postgres", "temporal", "password", "secret",
	"localhost", "database", "host", "user", "port"}

// secretsOf returns what Address hides of an address: as it is written, without
// its escapes, and, since a library may split it where a part of an address
// ends, in pieces.
func secretsOf(a string) (secrets []string) {
	for _, raw := range hiddenParts(a) {
		raw = strings.Trim(raw, "'")
		secrets = append(secrets, raw)
		for _, plain := range []string{raw, queryUnescape(raw), strings.ReplaceAll(raw, `\`, "")} {
			secrets = append(secrets, plain)
			secrets = append(secrets, strings.FieldsFunc(plain,
				func(r rune) bool { return strings.ContainsRune("/?#@: \t\n'\"&=", r) })...)
		}
	}
	return secrets
}

// hiddenParts lists the parts of an address that Address hides, as they are
// written.
func hiddenParts(a string) (parts []string) {
	shown := Address(a)
	scheme, rest, isURL := strings.Cut(a, "://")
	if unreadable := shown == Hidden || strings.HasSuffix(shown, "://"+Hidden) ||
		strings.HasPrefix(shown, Hidden+"@"); unreadable {
		if !isURL || strings.ContainsAny(scheme, "= ") {
			rest = a
		}
		return []string{secretCandidate(rest)}
	}
	if pairs, ok := readKeywords(a); ok && !isURL {
		for _, p := range pairs {
			if !isSafeParameter(p[0]) {
				parts = append(parts, p[1])
			}
		}
		return parts
	}
	// Each hidden part lies between two parts that are shown.
	seen := strings.Split(shown, Hidden)
	for i, next := range seen[1:] {
		_, after, _ := strings.Cut(a, seen[i])
		end := len(after)
		if j := strings.Index(after, next); next != "" && j >= 0 {
			end = j
		}
		parts, a = append(parts, after[:end]), after[end:]
	}
	return parts
}

// secretCandidate returns what may be secret in an address that cannot be
// parsed: everything before its last @, without the user in front.
func secretCandidate(rest string) string {
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[:i]
	}
	if user, password, ok := strings.Cut(rest, ":"); ok && !strings.ContainsAny(user, "=/") {
		return password
	}
	return rest
}

// queryUnescape decodes percent-escapes, or returns s if they are not valid.
func queryUnescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// Text returns s without the known secrets and without those of other
// addresses. A nil Redactor knows none.
func (r *Redactor) Text(s string) string {
	if r != nil {
		for _, w := range r.whole {
			s = strings.ReplaceAll(s, w, Address(w))
		}
		for _, secret := range r.secrets {
			s = strings.ReplaceAll(s, secret, Hidden)
		}
	}
	return Text(s)
}
