// Package redact shows addresses without their secrets. It is the one place
// that decides what of an address may be seen: in settings, errors, logs and
// the record.
//
//	postgres://ann:s3cret@db/x?sslmode=require&sslpassword=p  postgres://ann:xxxxx@db/x?sslmode=require&sslpassword=xxxxx
//	host=db user=ann password='s3 cret'                       host=db user=ann password=xxxxx
//	https://t0ken@lake/events?api_key=k                       https://xxxxx@lake/events?api_key=xxxxx
//	db:5432, /var/lib/trimtab                                 as they are
//	postgres://ann:s3/cret@db                                 postgres://xxxxx: it cannot be read, so any of it may be the secret
//
// What stands in an address and is not known to be harmless counts as a
// secret. The path of an address does not: it names what is there.
package redact

import (
	"net/url"
	"slices"
	"strings"
)

// Hidden stands in the place of a secret.
const Hidden = "xxxxx"

// safeParameters are the parameters of a database address that are shown, in either
// form of it. Names that begin with pool_ are, too.
var safeParameters = []string{"host", "hostaddr", "port", "dbname", "database", "user", "connect_timeout",
	"application_name", "target_session_attrs",
	"sslmode", "sslrootcert", "sslcert", "sslkey", "sslsni", "sslnegotiation", "channel_binding", "gssencmode",
	"krbsrvname", "krbspn",
	"min_protocol_version", "max_protocol_version", "passfile", "service", "servicefile", "search_path",
	"client_encoding", "timezone",
	"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "default_query_exec_mode",
	"statement_cache_capacity", "tz"}

func isSafeParameter(key string) bool {
	key = strings.ToLower(strings.TrimSpace(key))
	return slices.Contains(safeParameters, key) || strings.HasPrefix(key, "pool_")
}

// Address is an address, in any of the forms that settings take, without its
// secrets. What has none comes back as it is.
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

func isScheme(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789+.-") == ""
}

// List is a list of addresses with commas between.
func List(s string) string {
	parts := strings.Split(s, ",")
	for i, p := range parts {
		trimmed := strings.TrimSpace(p)
		parts[i] = strings.Replace(p, trimmed, Address(trimmed), 1)
	}
	return strings.Join(parts, ",")
}

// redactURL is a URL without its secrets: the password, a user that stands
// alone where it may be a token, values of the query, and the fragment.
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

// hasStrayAt reports an @ behind the host: a password with a /, ? or # in it may
// not have been escaped, and its rest be taken for a path, a query or a fragment.
func hasStrayAt(u *url.URL) bool {
	return strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment()+u.Opaque, "@")
}

// redactUserinfo is the part of a URL between scheme and query, with the secret of its user hidden.
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

// redactQuery is the query of a URL without values that may be secrets.
func redactQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		switch {
		case !ok && pair != "":
			pairs[i] = Hidden // nobody knows what it is
		case ok && (err != nil || !isSafeParameter(name)) && value != "":
			pairs[i] = key + "=" + Hidden
		}
	}
	return strings.Join(pairs, "&")
}

// redactKeywords is a database address of the form host=… user=… without its
// secrets. One that cannot be read so is hidden whole.
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

// displayKey is a keyword whose value is hidden. One that is none may be a part of a password with a space in it.
func displayKey(key string) string {
	if slices.Contains([]string{"password", "sslpassword", "options", "passwd", "require_auth", "oauth_client_secret"},
		strings.ToLower(key)) {
		return key
	}
	return Hidden
}

// readKeywords splits key=value pairs; values are as they are written.
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

// keywordValue cuts the value, as it is written, off the front of a keyword string.
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
