// Package redact shows addresses without their secrets. It is the one place
// that decides what may be seen of an address: in settings, errors, logs and
// the record.
//
//	postgres://ann:s3cret@db/x?sslmode=require&sslpassword=p
//	postgres://ann:xxxxx@db/x?sslmode=require&sslpassword=xxxxx
//
//	host=db user=ann password='s3 cret'
//	host=db user=ann password=xxxxx
//
//	https://t0ken@lake/events?api_key=k
//	https://xxxxx@lake/events?api_key=xxxxx
//
//	postgres://ann:s3/cret@db       cannot be parsed: any of it may be secret
//	postgres://xxxxx
//
//	db:5432, /var/lib/trimtab       shown unchanged
//
// Anything in an address that is not known to be harmless counts as a secret.
// The path does not: it names what is there.
package redact

import (
	"net/url"
	"slices"
	"strings"
)

// Hidden stands in the place of a secret. Its length says nothing about the
// secret's.
const Hidden = "xxxxx"

// safeParameters are the parameters of a database address that are shown, in
// either form of it. Names that begin with pool_ are, too. The list names what
// is safe, not what is secret, so that a new parameter of Postgres is hidden.
var safeParameters = []string{"host", "hostaddr", "port", "dbname", "database", "user", "connect_timeout",
	"application_name", "target_session_attrs",
	"sslmode", "sslrootcert", "sslcert", "sslkey", "sslsni", "sslnegotiation", "channel_binding", "gssencmode",
	"krbsrvname", "krbspn",
	"min_protocol_version", "max_protocol_version", "passfile", "service", "servicefile", "search_path",
	"client_encoding", "timezone",
	"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "default_query_exec_mode",
	"statement_cache_capacity", "tz"}

// isSafeParameter reports whether the value of a parameter may be shown.
func isSafeParameter(key string) bool {
	key = strings.ToLower(strings.TrimSpace(key))
	return slices.Contains(safeParameters, key) || strings.HasPrefix(key, "pool_")
}

// Address returns an address, in any of the forms that settings take, without
// its secrets. One without secrets is returned unchanged.
func Address(s string) string {
	scheme, _, isURL := strings.Cut(s, "://")
	switch {
	case isURL && isScheme(scheme):
		return redactURL(s)
	case strings.HasPrefix(s, "/"), strings.HasPrefix(s, "."), strings.HasPrefix(s, "~"): // a path
		return s
	case strings.Contains(s, "="):
		return redactKeywords(s)
	case strings.Contains(s, "@"):
		return Hidden + s[strings.LastIndex(s, "@"):]
	case isURL:
		return Hidden
	}
	return s
}

// isScheme reports whether s can be the scheme of a URL (RFC 3986).
func isScheme(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789+.-") == ""
}

// List redacts a comma-separated list of addresses.
func List(s string) string {
	parts := strings.Split(s, ",")
	for i, p := range parts {
		trimmed := strings.TrimSpace(p)
		parts[i] = strings.Replace(p, trimmed, Address(trimmed), 1)
	}
	return strings.Join(parts, ",")
}

// redactURL hides the secrets of a URL: the password, a user that stands alone
// where it may be a token, values of the query, and the fragment. A URL that
// cannot be parsed without doubt is hidden whole.
func redactURL(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	u, err := url.Parse(s)
	if err != nil || strings.ContainsAny(rest, " \t\n'\"`") || hasStrayAt(u) {
		return scheme + "://" + Hidden
	}
	if u.Scheme == "file" {
		return s
	}
	before, fragment, cut := strings.Cut(rest, "#")
	if cut && fragment != "" {
		before += "#" + Hidden
	}
	address, query, _ := strings.Cut(before, "?")
	out := scheme + "://" + redactUserinfo(u, address)
	if len(before) > len(address) {
		if i := strings.Index(query, "#"); i >= 0 {
			query = query[:i]
		}
		out += "?" + redactQuery(query)
		if cut && fragment != "" {
			out += "#" + Hidden
		}
	}
	return out
}

// hasStrayAt reports an @ behind the host. A password with an unescaped /, ? or
// # puts it there, and the parser then takes the rest of the password for a
// path, a query or a fragment.
func hasStrayAt(u *url.URL) bool {
	return strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment()+u.Opaque, "@")
}

// redactUserinfo returns the part of a URL between scheme and query, with the
// secret of its user hidden. A Postgres user without a password is a name, any
// other one may be a token.
func redactUserinfo(u *url.URL, address string) string {
	if u.User == nil {
		return address
	}
	end := strings.IndexByte(address, '/')
	if end < 0 {
		end = len(address)
	}
	at := strings.LastIndexByte(address[:end], '@')
	if at < 0 {
		return address
	}
	user, _, hasPassword := strings.Cut(address[:at], ":")
	switch {
	case hasPassword:
		return user + ":" + Hidden + address[at:]
	case strings.HasPrefix(u.Scheme, "postgres"):
		return address
	}
	return Hidden + address[at:]
}

// redactQuery returns the query of a URL without values that may be secrets.
func redactQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		switch {
		case !ok && pair != "":
			pairs[i] = Hidden // a value without a name may be a token
		case ok && (err != nil || !isSafeParameter(name)) && value != "":
			pairs[i] = key + "=" + Hidden
		}
	}
	return strings.Join(pairs, "&")
}

// redactKeywords hides the secrets of a database address of the form host=…
// user=…. One that cannot be parsed is hidden whole.
func redactKeywords(s string) string {
	pairs, ok := readKeywords(s)
	if !ok {
		return Hidden
	}
	shown, hides := make([]string, len(pairs)), false
	for i, p := range pairs {
		shown[i] = p[0] + "=" + p[1]
		if !isSafeParameter(p[0]) {
			shown[i], hides = displayKey(p[0])+"="+Hidden, true
		}
	}
	if !hides {
		return s
	}
	return strings.Join(shown, " ")
}

// displayKey returns the keyword of a hidden value if it is a known one.
// Another one may be a part of a password with a space in it, and is hidden as
// well.
func displayKey(key string) string {
	if slices.Contains([]string{"password", "sslpassword", "options", "passwd", "require_auth", "oauth_client_secret"},
		strings.ToLower(key)) {
		return key
	}
	return Hidden
}

// readKeywords splits key=value pairs. Values are returned as they are written,
// with their quotes.
func readKeywords(s string) (pairs [][2]string, ok bool) {
	for rest := strings.TrimSpace(s); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, ok := strings.Cut(rest, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" || strings.ContainsAny(key, " \t\n'\\@/:") {
			return nil, false
		}
		value, left, ok := keywordValue(strings.TrimLeft(after, " \t\n"))
		if !ok {
			return nil, false
		}
		pairs, rest = append(pairs, [2]string{key, value}), left
	}
	return pairs, true
}

// keywordValue cuts the value, as it is written, off the front of a keyword
// string. It reports false for a quote that is not closed.
func keywordValue(s string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(s, "'")
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case quoted && i > 0 && c == '\'':
			return s[:i+1], s[i+1:], true
		case !quoted && strings.IndexByte(" \t\n", c) >= 0:
			return s[:i], s[i:], true
		}
	}
	return s, "", !quoted
}
