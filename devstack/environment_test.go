package devstack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// theirs is how users configure their own clients for other servers.
var theirs = []string{
	"PGSERVICE=prod", "PGSERVICEFILE=/nowhere/pg_service.conf", "PGOPTIONS=-c search_path=other -c statement_timeout=1",
	"PGHOST=192.0.2.1", "PGHOSTADDR=192.0.2.1", "PGPORT=1",
	"PGUSER=maria", "PGDATABASE=prod", "PGPASSWORD=wrong", "PGPASSFILE=/nowhere/pgpass", "PGAPPNAME=mine",
	"PGSSLMODE=verify-full", "PGSSLROOTCERT=/nowhere/root.crt",
	"PGSSLCERT=/nowhere/crt", "PGSSLKEY=/nowhere/key", "PGTARGETSESSIONATTRS=standby", "PGCONNECT_TIMEOUT=1",
	"PGTZ=Asia/Kolkata", "PGDATESTYLE=German", "PGDATA=/nowhere",
	"PGSSLNEGOTIATION=direct", "PGMINPROTOCOLVERSION=latest", "PGCHANNELBINDING=require", "PGREQUIREAUTH=none",
	"TEMPORAL_ADDRESS=192.0.2.1:7233", "TEMPORAL_NAMESPACE=prod", "TEMPORAL_TLS=true",
	"TEMPORAL_TLS_CLIENT_CERT_PATH=/nowhere/crt", "TEMPORAL_API_KEY=key", "TEMPORAL_TEST_DATA_ENCODING=json",
	"HTTP_PROXY=http://192.0.2.1:1", "HTTPS_PROXY=http://192.0.2.1:1", "https_proxy=http://192.0.2.1:1",
	"ALL_PROXY=http://192.0.2.1:1", "grpc_proxy=http://192.0.2.1:1", "NO_PROXY=",
	"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json",
}

// home is a user's home with files that libpq reads.
func home(t *testing.T) string {
	return put(t, openDir(t), map[string]string{
		".pg_service.conf":           "[prod]\nhost=192.0.2.1\n",
		".pgpass":                    "*:*:*:*:wrong\n",
		".postgresql/root.crt":       "no certificate",
		".postgresql/postgresql.crt": "no certificate",
		".postgresql/postgresql.key": "no key",
	})
}

// What directs the user's own clients does not reach the embedded servers: not
// from a dev process in the foreground, not from a client.
func TestUsersEnvironment(t *testing.T) {
	dir := stopped(t, openDir(t))
	mine := "HOME=" + home(t)
	// The program trimtab-temporal is found, or built, under the real home.
	if program, err := findTemporal(t.Context(), "", t.Output()); err != nil {
		t.Fatal(err)
	} else {
		t.Setenv("TRIMTAB_TEMPORAL_PROGRAM", program)
	}
	dev := exec.Command(os.Args[0], helper("dev", dir, "10m")...)
	dev.Env = append(append(os.Environ(), theirs...), mine)
	dev.Stdout, dev.Stderr = t.Output(), t.Output()
	dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- dev.Wait() }()
	for end := time.Now().Add(4 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, ok := Running(dir); ok {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("dev ended: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("dev is not ready")
		}
	}
	for _, kv := range append(theirs, mine) {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	e := ensure(t, dir, "10m", nil)
	if schema := query[string](t, e.PostgresURL,
		`select relnamespace::regnamespace::text from pg_class where relname = 'migrated'`); schema != "public" {
		t.Errorf("migrated into schema %s", schema)
	}
	if name := query[string](t, e.PostgresURL,
		`select current_setting('application_name') || current_setting('search_path')`); name != `"$user", public` {
		t.Errorf("a session has %s", name)
	}
	for _, c := range DoctorChecks(t.Context(), dir, nil) {
		if !c.OK {
			t.Errorf("doctor: %+v", c)
		}
	}
	if runtime.GOOS == "linux" {
		checkDeaf(t, pids(t, dir))
	}
}

// checkDeaf looks at the environment of the servers.
func checkDeaf(t *testing.T, ids [4]int) {
	t.Helper()
	for i, name := range []string{"dev", "the worker", "Temporal", "Postgres"} {
		if i == 0 {
			continue // which takes it from itself
		}
		env, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(ids[i]), "environ"))
		if err != nil {
			t.Error(err)
		}
		for _, kv := range theirs {
			reaches := strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "TEMPORAL_") || i == 2
			if i == 3 {
				reaches = strings.HasPrefix(kv, "PG")
			}
			if reaches && strings.Contains("\x00"+string(env), "\x00"+kv+"\x00") {
				t.Errorf("%s was given %s", name, kv)
			}
		}
	}
}
