package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// quiet removes every setting of this machine from the environment of a test.
func quiet(t *testing.T) (dir string) {
	t.Helper()
	for _, s := range allSettings {
		t.Setenv(envName(s.key), "")
		os.Unsetenv(envName(s.key))
	}
	dir = t.TempDir()
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Chdir(dir)
	return dir
}

// Every setting is in the table of docs/cli.md, with its variable of the environment.
func TestSettingsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range allSettings {
		found := false
		for line := range strings.Lines(string(raw)) {
			found = found || strings.HasPrefix(line, "| `") && strings.Contains(line, "`"+s.key+"`") &&
				strings.Contains(line, "`"+envName(s.key)+"`")
		}
		if !found {
			t.Errorf("docs/cli.md has no row for %s (%s)", s.key, envName(s.key))
		}
	}
}

func flags(t *testing.T, args ...string) *cobra.Command {
	t.Helper()
	cmd := &cobra.Command{Use: "test"}
	addSettingFlags(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestSettingsOrder(t *testing.T) {
	dir := quiet(t)
	write(t, filepath.Join(dir, "trimtab.yaml"),
		"postgres_url: postgres://file\ntemporal_address: file:7233\nlog_level: warn\n")
	t.Setenv("TRIMTAB_POSTGRES_URL", "postgres://u:secret@env/db")
	t.Setenv("TRIMTAB_TEMPORAL_ADDRESS", "env:7233")
	s, err := readSettings(flags(t, "--temporal-address", "flag:7233"), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ key, value, origin string }{
		{"temporal_address", "flag:7233", "flag --temporal-address"},
		{"postgres_url", "postgres://u:xxxxx@env/db", "environment TRIMTAB_POSTGRES_URL"},
		{"log_level", "warn", "trimtab.yaml"},
		{"temporal_namespace", "trimtab", "default"},
		{"data", filepath.Join(dir, "data", "trimtab"), "default"},
	} {
		if s.shown(c.key) != c.value || s.origins[c.key] != c.origin {
			t.Errorf("%s = %q from %q, want %q from %q", c.key, s.shown(c.key), s.origins[c.key], c.value, c.origin)
		}
	}
	if s.value("postgres_url") != "postgres://u:secret@env/db" {
		t.Errorf("postgres_url = %q", s.value("postgres_url"))
	}
}

func TestSettingsErrors(t *testing.T) {
	dir := quiet(t)
	file := filepath.Join(dir, "other.yaml")
	for _, c := range []struct{ yaml, want string }{
		{"postgres_ulr: x\n", `did you mean "postgres_url"?`},
		{"log_format: [\n", "settings file"},
		{"postgres_url: [a, b]\n", "postgres_url is a list"},
		{"postgres_url:\n  host: a\n", "postgres_url is a mapping"},
		{"temporal_address: http://localhost:7233\n", "it is a web address"},
		{"temporal_address: ann@localhost:7233\n", "more than a host and a port"},
		{"log_format: xml\n", "text, json"},
	} {
		write(t, file, c.yaml)
		if _, err := readSettings(flags(t), file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.yaml, err, c.want)
		}
	}
	if _, err := readSettings(flags(t), filepath.Join(dir, "absent.yaml")); err == nil {
		t.Error("an absent --config was accepted")
	}
}

// TLS to a server of one's own is on where any part of it is set.
func TestTemporalOptions(t *testing.T) {
	quiet(t)
	for _, c := range []struct {
		args     []string
		key      string
		tls, api bool
	}{
		{nil, "", false, false},
		{nil, "secret", true, true},
		{[]string{"--temporal-tls", "on"}, "", true, false},
		{[]string{"--temporal-tls-server-name", "temporal.example"}, "", true, false},
	} {
		t.Setenv("TRIMTAB_TEMPORAL_API_KEY", c.key)
		s, err := readSettings(flags(t, append(c.args, "--temporal-address", "cloud:7233")...), "")
		if err != nil {
			t.Fatal(err)
		}
		o, err := (&app{settings: s}).temporalOptions()
		if err != nil || (o.ConnectionOptions.TLS != nil) != c.tls || (o.Credentials != nil) != c.api ||
			o.HostPort != "cloud:7233" || o.Namespace != "trimtab" {
			t.Errorf("%q, key %q: %+v, %v", c.args, c.key, o, err)
		}
		if len(c.args) == 2 && c.args[1] == "temporal.example" &&
			o.ConnectionOptions.TLS.ServerName != "temporal.example" {
			t.Errorf("the server's name is %q", o.ConnectionOptions.TLS.ServerName)
		}
	}
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSettingsDownloads(t *testing.T) {
	quiet(t)
	for _, c := range []struct {
		env, flag, offline string
	}{
		{"", "", "false"}, {"1", "", "true"}, {"true", "--offline=false", "false"}, {"", "--offline", "true"},
		{"0", "--offline", "true"},
	} {
		t.Setenv("TRIMTAB_OFFLINE", c.env)
		var args []string
		if c.flag != "" {
			args = []string{c.flag}
		}
		s, err := readSettings(flags(t, args...), "")
		if err != nil || s.value("offline") != c.offline {
			t.Errorf("TRIMTAB_OFFLINE=%q %s: %v, %v; want %s", c.env, c.flag, s, err, c.offline)
		}
	}
	t.Setenv("TRIMTAB_OFFLINE", "yes")
	if _, err := readSettings(flags(t), ""); err == nil || !strings.Contains(err.Error(), "true or false") {
		t.Errorf("offline=yes: %v", err)
	}
	t.Setenv("TRIMTAB_OFFLINE", "")
	for address, shown := range map[string]string{"https://me:hunter2@mirror.example/maven2": "https://me:xxxxx@mirror.example/maven2", "https://hunter2@mirror.example": "https://xxxxx@mirror.example"} {
		t.Setenv("TRIMTAB_MAVEN_MIRROR", address)
		s, err := readSettings(flags(t), "")
		if err != nil || s.shown("maven_mirror") != shown || s.value("maven_mirror") != address {
			t.Errorf("%s: %v, shown as %s", address, err, s.shown("maven_mirror"))
		}
	}
	for _, address := range []string{"me:hunter2@mirror.example", "https://me:hunter2@[",
		"ftp://me:hunter2@mirror.example/"} {
		t.Setenv("TRIMTAB_MAVEN_MIRROR", address)
		if _, err := readSettings(flags(t), ""); err == nil || strings.Contains(err.Error(), "hunter2") ||
			!strings.Contains(err.Error(), "maven_mirror") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestSettingsShadowed has a command with an --offline of its own, as audit prove and data prove have.
func TestSettingsShadowed(t *testing.T) {
	quiet(t)
	root, prove, align := flags(t), &cobra.Command{Use: "prove"}, &cobra.Command{Use: "align"}
	root.AddCommand(prove, align)
	file := prove.Flags().String("offline", "", "check this file")
	if err := prove.ParseFlags([]string{"--offline", "proof.json"}); err != nil {
		t.Fatal(err)
	}
	if s, err := readSettings(prove, ""); err != nil || *file != "proof.json" || s.value("offline") != "false" {
		t.Errorf("prove --offline proof.json: %q, %v", *file, err)
	}
	if err := align.ParseFlags([]string{"--offline"}); err != nil {
		t.Fatal(err)
	}
	if s, err := readSettings(align, ""); err != nil || s.value("offline") != "true" {
		t.Errorf("align --offline: %v", err)
	}
}

func TestProgressLine(t *testing.T) {
	var b bytes.Buffer
	show := (&app{err: &b}).progressLine(0)
	show(5_000_000, 15_000_000)
	show(15_000_000, 15_000_000)
	if want := "\r\x1b[K  5 MB of 15 MB (33 %)\r\x1b[K"; b.String() != want {
		t.Errorf("wrote %q, want %q", b.String(), want)
	}
}
