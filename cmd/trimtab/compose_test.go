package main

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"

	"github.com/trimtab/trimtab/storage/storagetest"
)

const root = "../.."

// compose loads docker-compose.yml as the engine would: strictly, interpolated, checked.
func compose(t *testing.T, env ...string) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithWorkingDirectory(root), cli.WithEnv(env), cli.WithProfiles([]string{"cli", "pages"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeOrder(t *testing.T) {
	p := compose(t)
	var names []string
	for name := range p.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"cli", "migrate", "postgres", "temporal", "temporal-role", "temporal-schema", "temporal-ui",
		"worker"}
	if !slices.Equal(names, want) {
		t.Errorf("services %v, want %v", names, want)
	}
	for service, needs := range map[string]map[string]string{
		"temporal-role":   {"postgres": types.ServiceConditionHealthy},
		"temporal-schema": {"temporal-role": types.ServiceConditionCompletedSuccessfully},
		"temporal":        {"temporal-schema": types.ServiceConditionCompletedSuccessfully},
		"migrate":         {"postgres": types.ServiceConditionHealthy, "temporal": types.ServiceConditionHealthy},
		"worker":          {"migrate": types.ServiceConditionCompletedSuccessfully},
	} {
		for on, condition := range needs {
			if got := p.Services[service].DependsOn[on].Condition; got != condition {
				t.Errorf("%s waits for %s to be %q, want %q", service, on, got, condition)
			}
		}
	}
	for service, s := range p.Services { // a wait for health needs a check of health
		for on, d := range s.DependsOn {
			if d.Condition == types.ServiceConditionHealthy && p.Services[on].HealthCheck == nil {
				t.Errorf("%s waits for the health of %s, which has no check", service, on)
			}
		}
	}
}

// Every variable that reaches trimtab must be one that it reads, and every command one that it has.
func TestComposeSettings(t *testing.T) {
	p := compose(t, "APP_PASSWORD=one", "POSTGRES_PASSWORD=two")
	app := &app{}
	commands := app.root()
	for name, s := range p.Services {
		for key := range s.Environment {
			wanted := strings.ToLower(strings.TrimPrefix(key, "TRIMTAB_"))
			if strings.HasPrefix(key, "TRIMTAB_") &&
				!slices.ContainsFunc(allSettings, func(s setting) bool { return s.key == wanted }) {
				t.Errorf("%s sets %s, which no setting reads", name, key)
			}
		}
		if s.Image != "trimtab:local" || len(s.Command) == 0 {
			continue
		}
		if cmd, _, err := commands.Find(s.Command); err != nil || cmd == commands {
			t.Errorf("%s runs %q, which is no command: %v", name, s.Command, err)
		}
	}
	if got := *p.Services["worker"].Environment["TRIMTAB_POSTGRES_URL"]; got != "postgres://trimtab_app:one@postgres:5432/trimtab" {
		t.Errorf("the worker's postgres_url is %s", got)
	}
	if _, owner := p.Services["worker"].Environment["TRIMTAB_POSTGRES_OWNER_URL"]; owner {
		t.Error("the worker has the owner's password")
	}
	if got := *p.Services["migrate"].Environment["TRIMTAB_POSTGRES_OWNER_URL"]; got != "postgres://trimtab:two@postgres:5432/trimtab" {
		t.Errorf("migrate's owner url is %s", got)
	}
	if p.Services["worker"].Volumes[0].Source != p.Services["cli"].Volumes[0].Source {
		t.Error("worker and cli do not share the store")
	}
}

// Temporal has no door of its own: nothing of it may be open to the machine unless it is asked for.
func TestComposeTemporalIsInside(t *testing.T) {
	p := compose(t)
	if ports := p.Services["temporal"].Ports; len(ports) > 0 {
		t.Errorf("Temporal is open to every user of the machine: %+v", ports)
	}
	if ui := p.Services["temporal-ui"]; !slices.Equal(ui.Profiles, []string{"pages"}) || len(ui.Ports) != 1 ||
		ui.Ports[0].HostIP != "127.0.0.1" {
		t.Errorf("its pages have profiles %q and ports %+v", ui.Profiles, ui.Ports)
	}
}

// A typing mistake in the file is an error, not silence.
func TestComposeIsStrict(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{"healthcheck:", "healthchek:"},
		{"temporal-schema: {condition", "temporal-shema: {condition"}, {"[store:/data]", "[stor:/data]"}} {
		if !bytes.Contains(text, []byte(change[0])) {
			t.Fatalf("the file has no %q", change[0])
		}
		file := filepath.Join(t.TempDir(), "docker-compose.yml")
		write(t, file, strings.Replace(string(text), change[0], change[1], 1))
		o, err := cli.NewProjectOptions([]string{file}, cli.WithProfiles([]string{"cli", "pages"}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.LoadProject(t.Context()); err == nil {
			t.Errorf("%q passed", change[1])
		}
	}
}

// The image builds what the compose file runs, from folders that exist, with a Go at least as new as go.mod asks.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FROM golang:1.26 ", "./cmd/trimtab", "cd devstack/temporald", "CGO_ENABLED=0",
		`ENTRYPOINT ["/usr/local/bin/trimtab"]`, "USER 65532"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
	for _, dir := range []string{"cmd/trimtab", "devstack/temporald/go.mod", "go.sum"} {
		if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
			t.Error(err)
		}
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil || !bytes.Contains(mod, []byte("\ngo 1.26")) {
		t.Errorf("go.mod asks for another Go than the Dockerfile's 1.26 (%v)", err)
	}
}

// The script that makes Temporal's role does so, twice over; the role makes its
// own databases and does not come into trimtab's, which workers and auditors do.
func TestComposeTemporalRole(t *testing.T) {
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("psql is not installed")
	}
	urls := storagetest.URLs(t)
	owner, err := url.Parse(urls.Owner)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(owner.Path, "/")
	script := compose(t).Services["temporal-role"].Command[0]
	script = strings.ReplaceAll(script, "DATABASE trimtab ", "DATABASE "+name+" ")
	password, _ := owner.User.Password()
	for range 2 {
		cmd := exec.Command("/bin/sh", "-ec", script)
		cmd.Env = append(os.Environ(), "PGHOST="+host(owner), "PGPORT="+port(owner), "PGUSER="+owner.User.Username(),
			"PGPASSWORD="+password,
			"PGDATABASE="+name, "TEMPORAL_PASSWORD=it's a secret")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Cleanup(func() {
		query(t, urls.Owner, "drop database if exists "+name+"_temporal")
		query(t, urls.Owner, "drop role temporal")
	})
	temporal := *owner
	temporal.User = url.UserPassword("temporal", "it's a secret")
	if err := query(t, temporal.String(), "select 1"); err == nil {
		t.Error("Temporal's role comes into trimtab's database")
	}
	temporal.Path = "/postgres"
	if err := query(t, temporal.String(), "create database "+name+"_temporal"); err != nil {
		t.Errorf("Temporal's role cannot make its database: %v", err)
	}
	for _, address := range []string{urls.App, urls.Auditor} {
		if err := query(t, address, "select 1"); err != nil {
			t.Errorf("locked out: %v", err)
		}
	}
}

// host is the server's name or socket folder, which a URL may hold as a parameter.
func host(u *url.URL) string {
	if h := u.Query().Get("host"); h != "" {
		return h
	}
	return u.Hostname()
}

func port(u *url.URL) string {
	if p := u.Query().Get("port"); p != "" {
		return p
	}
	return u.Port()
}

func query(t *testing.T, address, sql string) error {
	t.Helper()
	c, err := pgx.Connect(context.Background(), address)
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	_, err = c.Exec(context.Background(), sql)
	return err
}
