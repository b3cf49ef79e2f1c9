package redact

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The parts of a text that look like an address, or like a secret under its name.
var (
	urlPattern = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'` + "`" + `<>]+`)
	// A password may be quoted, as in a keyword string, or end at white space or where an address or a list goes on.
	assignmentPattern = regexp.MustCompile(`(?i)\b((?:ssl)?pass(?:word|wd|phrase)?|pgpassword|secret|client[_-]?secret|token|access[_-]?token|api[_-]?key|access[_-]?key|signature|sig|auth)(\s*=\s*)('(?:[^'\\]|\\.)*'?|"[^"]*"?|[^\s&;,)"` + "`" + `]+)`)
	userinfoPattern   = regexp.MustCompile(`[^\s/:@"'` + "`" + `(]+:[^\s/@"'` + "`" + `]+@[A-Za-z0-9\[]`)
)

// Text is a text, such as an error of a library, in which addresses stand
// without their secrets. It finds what looks like an address; where the
// secrets are known, see Redactor.
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

// Redactor hides secrets that are known, wherever they stand in a text and
// however a library has cut them; then it does as Text.
type Redactor struct {
	whole   []string // addresses as they were given
	secrets []string // the longest first
}

// minSecretLen is how long a secret is at the least to be looked for in other text.
const minSecretLen = 4

// New makes a Redactor that knows the secrets of these addresses. Plain are
// secrets as such, for example passwords.
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
		return len(s) < minSecretLen ||
			slices.Contains(programWords, s)
	})
	return r
}

// programWords are words of this program's own messages. Who chose one for a password has none to hide, and would read
// riddles.
var programWords = []string{"trimtab", "trimtab_app", "trimtab_auditor", "postgres", "temporal", "password", "secret",
	"localhost", "database", "host", "user", "port"}

// secretsOf is what Address hides of an address: as it is written, without its
// escapes, and, since a library may cut it where a part of an address ends, in pieces.
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

// hiddenParts lists the parts of an address that Address hides, as they are written.
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
	seen := strings.Split(shown, Hidden) // what is hidden stands between two parts that are shown
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

// secretCandidate is what an address that cannot be read has before its last @, without the user in front.
func secretCandidate(rest string) string {
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[:i]
	}
	if user, password, ok := strings.Cut(rest, ":"); ok && !strings.ContainsAny(user, "=/") {
		return password
	}
	return rest
}

func queryUnescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// Text is s without the known secrets and without those of other addresses. A
// nil Redactor knows none.
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
