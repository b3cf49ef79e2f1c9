package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testURL = "postgres://someone:p%20w@127.0.0.1/postgres?sslmode=disable"

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"-tls here": "", "-port 20000 -log-level debug -tls here": "", "": "-tls",
		"-tls here -port 65533": "port", "-port 0": "port", "-ip localhost": "IP", "extra": "extra",
	} {
		_, err := parse(strings.Fields(args), testURL, io.Discard)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	if _, err := parse([]string{"-tls", "here"}, "", io.Discard); err == nil ||
		!strings.Contains(err.Error(), "TRIMTAB_TEMPORAL_POSTGRES_URL") {
		t.Errorf("without a database: %v", err)
	}
}

func TestParseStore(t *testing.T) {
	s, err := parseStore(testURL)
	if err != nil {
		t.Fatal(err)
	}
	c := s.config(mainDatabase, 20)
	if c.ConnectAddr != "127.0.0.1:5432" || c.User != "someone" || c.Password != "p w" ||
		c.DatabaseName != "temporal" || c.ConnectAttributes["sslmode"] != "disable" {
		t.Errorf("%+v", c)
	}
	for _, bad := range []string{"", "::", "mysql://a:secret@b/c", "postgres:///x", "postgres://secret"} {
		if _, err := parseStore(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v; want an error that tells no password", bad, err)
		}
	}
}

func TestConfig(t *testing.T) {
	o, err := parse([]string{"-port", "20000", "-tls", "here"}, testURL, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseStore(o.postgresURL)
	if err != nil {
		t.Fatal(err)
	}
	c := newConfig(o, s)
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	ports := map[int]bool{}
	for name, service := range c.Services {
		ports[service.RPC.GRPCPort] = true
		if service.RPC.HTTPPort != 0 || service.RPC.MembershipPort != 0 {
			t.Errorf("service %s listens on more than one port: %+v", name, service.RPC)
		}
	}
	for port := 20000; port < 20004; port++ {
		if !ports[port] {
			t.Errorf("port %d is unused: %v", port, ports)
		}
	}
	if len(ports) != 4 || c.Persistence.NumHistoryShards != 4 {
		t.Errorf("%d ports, %d shards", len(ports), c.Persistence.NumHistoryShards)
	}
}

func TestNoCertificatesNoServer(t *testing.T) {
	for _, file := range []string{"", "server.pem", "server.key", "ca.pem"} {
		dir := t.TempDir()
		if file != "" {
			if err := os.WriteFile(filepath.Join(dir, file), []byte("nothing"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := loadTLS(dir); err == nil {
			t.Errorf("a folder with %q gives %+v", file, c)
		}
	}
}
