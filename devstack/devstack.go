// Package devstack runs the servers that trimtab needs when nobody gives it
// any: a private Postgres, the Temporal server (the program trimtab-temporal,
// built from the module in temporald), and the dev process that owns both and
// a worker.
//
// All state of one stack is under one data folder:
//
//	dev.lock            held by the dev process while it lives; dev.pid says who it is
//	dev.json            {pid, birth, build_id, started, endpoints}, written once all is ready
//	dev.log worker.log  what they said; NAME.old is the part before
//	worker.json         {pid, birth, build_id, endpoints}
//	client              its time of change is the last sign of a client
//	program.json        {file, build_id} of the program that a client was last
//	app.password auditor.password
//	bin/BUILD/trimtab   the copy of the program that dev and worker run
//	postgres/postgres.json      {port, socket, place}: fixed once chosen
//	postgres/postgres.password  of the owner
//	postgres/data               the cluster; never deleted by this package
//	temporal/temporal.json      {port, pid, birth, postgres, authority}: fixed ports
//	temporal/temporal.password  of Temporal's own database role
//	temporal/tls/               the certificates of its server and of its clients
//
// Servers outlive a parent that is killed and are adopted by the next one: a
// process is known by its id and its birth (boot and start time), so that a
// reused id is never mistaken for it.
package devstack

import (
	"fmt"
	"io"
	"net/url"
	"path/filepath"
)

// Namespace is the Temporal namespace of every embedded stack.
const Namespace = "trimtab"

// Database is the database that holds trimtab's own records.
const Database = "trimtab"

// The database roles that a migration grants to.
const (
	AppRole     = "trimtab_app"
	AuditorRole = "trimtab_auditor"
)

// Endpoints is where the servers answer. It holds passwords.
type Endpoints struct {
	PostgresURL     string `json:"postgres_url"`     // as the owner, who migrates
	AppURL          string `json:"app_url"`          // as AppRole, once migrated
	AuditorURL      string `json:"auditor_url"`      // as AuditorRole, once migrated
	AppPassword     string `json:"app_password"`     // for the migration that makes the role
	AuditorPassword string `json:"auditor_password"` // likewise
	Temporal        string `json:"temporal"`         // host:port of the workflow service
	TemporalTLS     TLS    `json:"temporal_tls"`     // for its clients; zero: an older trimtab runs it, in plain text
	Namespace       string `json:"namespace"`
}

// EndpointsOf tells where p and t answer; t may be nil. The passwords of the
// database roles are made once and kept in dir.
func EndpointsOf(dir string, p *Postgres, t *Temporal) (Endpoints, error) {
	app, err := password(filepath.Join(dir, "app.password"))
	if err != nil {
		return Endpoints{}, err
	}
	auditor, err := password(filepath.Join(dir, "auditor.password"))
	if err != nil {
		return Endpoints{}, err
	}
	e := Endpoints{PostgresURL: p.URL, AppURL: withUser(p.URL, AppRole, app),
		AuditorURL:  withUser(p.URL, AuditorRole, auditor),
		AppPassword: app, AuditorPassword: auditor, Namespace: Namespace}
	if t != nil {
		e.Temporal, e.TemporalTLS = t.Address, t.TLS
	}
	return e, nil
}

// withUser returns rawURL with another user.
func withUser(rawURL, user, password string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

// withDatabase returns rawURL with another database.
func withDatabase(rawURL, name string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	u.Path = "/" + name
	return u.String()
}

// logf writes one line for people; w may be nil.
func logf(w io.Writer, format string, args ...any) {
	if w != nil {
		fmt.Fprintf(w, format+"\n", args...)
	}
}
