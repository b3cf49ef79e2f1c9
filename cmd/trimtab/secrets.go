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

// addressSettings are the settings that may hold a secret within an address.
var addressSettings = []string{"postgres_url", "postgres_owner_url", "temporal_address", "audit_copies",
	"openlineage_url", "openlineage_namespace", "maven_mirror"}

// foreignVariables are the variables by which other programs' addresses come in, and show in errors of libraries.
var foreignVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
	"GOPROXY", "DATABASE_URL"}

// redactorOf knows the secrets of what was set: by flags and the environment,
// and, once the settings are read, by their file. It hides them in whatever
// this process says beside what it was asked for.
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
	plain = append(plain, os.Getenv("PGPASSWORD"))
	return redact.New(known, plain)
}

// splitList is a list with commas between, and the list as a whole.
func splitList(s string) []string {
	all := []string{s}
	for part := range strings.SplitSeq(s, ",") {
		all = append(all, strings.TrimSpace(part))
	}
	return all
}

// shown is the value with its secrets left out.
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

// redactedWriter is a writer for lines of others, such as those about the embedded servers.
func (a *app) redactedWriter(w io.Writer) io.Writer { return redacting{w, a.secrets} }

type redacting struct {
	w       io.Writer
	secrets *redact.Redactor
}

func (r redacting) Write(b []byte) (int, error) {
	if _, err := io.WriteString(r.w, r.secrets.Text(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// redactAttr leaves secrets out of a log's texts and errors.
func (a *app) redactAttr(_ []string, attr slog.Attr) slog.Attr {
	switch v := attr.Value; v.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(a.secrets.Text(v.String()))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			attr.Value = slog.StringValue(a.secrets.Text(x.Error()))
		case fmt.Stringer:
			attr.Value = slog.StringValue(a.secrets.Text(x.String()))
		}
	}
	return attr
}
