package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/redact"
)

// addressSettings are the settings whose values are addresses, in which there
// may be a password.
var addressSettings = []string{"postgres_url", "postgres_owner_url", "temporal_address", "audit_copies",
	"openlineage_url", "openlineage_namespace", "maven_mirror"}

// foreignVariables are environment variables of other programs whose
// addresses show up in the errors of libraries.
var foreignVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
	"GOPROXY", "DATABASE_URL"}

// redactorOf returns a redactor for every secret that this process was given:
// in flags, in the environment and, once s has been read, in the settings
// file. It is applied to everything that is printed except the answer itself.
func redactorOf(cmd *cobra.Command, s *settings) *redact.Redactor {
	var known, plain []string
	for _, one := range allSettings {
		values := []string{os.Getenv(envName(one.key))}
		if flag := cmd.Flag(one.flagName()); flag != nil {
			values = append(values, flag.Value.String())
		}
		if s != nil {
			values = append(values, s.value(one.key))
		}
		switch {
		case one.secret:
			plain = append(plain, values...)
		case slices.Contains(addressSettings, one.key):
			for _, v := range values {
				known = append(known, splitList(v)...)
			}
		}
	}
	for _, name := range foreignVariables {
		known = append(known, splitList(os.Getenv(name))...)
	}
	// pgx reads it, so that it can show up in an error about a connection.
	plain = append(plain, os.Getenv("PGPASSWORD"))
	return redact.New(known, plain)
}

// splitList returns the elements of a comma-separated list, and the list
// itself.
func splitList(s string) []string {
	all := []string{s}
	for part := range strings.SplitSeq(s, ",") {
		all = append(all, strings.TrimSpace(part))
	}
	return all
}

// shown is the value of a setting with its secrets removed; "(set)" for a
// setting that is a secret as a whole.
func (s *settings) shown(key string) string {
	value := s.value(key)
	switch {
	case value == "":
		return ""
	case slices.ContainsFunc(allSettings, func(s setting) bool { return s.key == key && s.secret }):
		return "(set)"
	case key == "audit_copies":
		return redact.List(value)
	case slices.Contains(addressSettings, key):
		return redact.Address(value)
	}
	return value
}

// redactedWriter wraps w, removing secrets from what other packages write,
// such as the progress of the embedded servers.
func (a *app) redactedWriter(w io.Writer) io.Writer { return redacting{w, a.secrets} }

// redacting is the writer of redactedWriter. A secret that is split over two
// writes is not found; its users write whole lines.
type redacting struct {
	w       io.Writer
	secrets *redact.Redactor
}

// Write implements io.Writer.
func (r redacting) Write(b []byte) (int, error) {
	if _, err := io.WriteString(r.w, r.secrets.Text(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// redactAttr is the ReplaceAttr of loggers: it removes secrets from strings,
// errors and values with a String method.
func (a *app) redactAttr(_ []string, attr slog.Attr) slog.Attr {
	switch v := attr.Value; v.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(a.secrets.Text(v.String()))
	case slog.KindAny:
		switch value := v.Any().(type) {
		case error:
			attr.Value = slog.StringValue(a.secrets.Text(value.Error()))
		case fmt.Stringer:
			attr.Value = slog.StringValue(a.secrets.Text(value.String()))
		}
	}
	return attr
}
