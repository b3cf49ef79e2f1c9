// Package devstack runs the servers that trimtab needs when the user names none:
// a private Postgres, the Temporal server (the program trimtab-temporal, built
// from the module in temporald), and the dev process, which owns both and a
// worker.
//
// Commands call Ensure, which starts a detached dev process if none runs;
// `trimtab dev` calls RunDev in the foreground. StartPostgres and StartTemporal
// start one server each, for tests and for RunDev.
//
// All state of one stack is in one data folder:
//
//	trimtab.json        the marker {format, id}, see FolderMarker
//	dev.lock            locked by the dev process while it runs; dev.pid identifies it
//	dev.json            {pid, birth, build_id, started, endpoints}, written once all is ready
//	dev.log worker.log  their output; NAME.old is the previous part
//	worker.json         {pid, birth, build_id, endpoints}
//	client              its modification time is the last sign of a client
//	program.json        {file, build_id} of the program that was last hashed
//	app.password auditor.password
//	bin/BUILD/trimtab   the copy of the program that dev and worker run
//	postgres/postgres.json      {port, socket, place}: fixed once chosen
//	postgres/postgres.password  of the owner
//	postgres/data               the cluster; never deleted by this package
//	temporal/temporal.json      {port, pid, birth, postgres, authority}: fixed ports
//	temporal/temporal.password  of Temporal's own database role
//	temporal/tls/               the certificates of its server and of its clients
//
// Servers outlive a parent that is killed, and the next one adopts them. A
// process is identified by its id and its birth (boot and start time), so that a
// reused id is never mistaken for it. All files are replaced atomically; file
// locks, which the kernel releases with the process, serialise starts.
package devstack

import (
	"fmt"
	"io"
	"net/url"
	"path/filepath"
)

// Namespace is the Temporal namespace of every embedded stack.
const Namespace = "trimtab"

// Database is the database that holds trimtab's own tables.
const Database = "trimtab"

// The database roles that the migrations create and grant rights to.
const (
	// AppRole is the role that workers and commands work as.
	AppRole = "trimtab_app"
	// AuditorRole is the role that verifies the record: it may only read.
	AuditorRole = "trimtab_auditor"
)

// Endpoints are the addresses and credentials of the servers. They hold
// passwords: print only what does not.
type Endpoints struct {
	// PostgresURL connects as the owner, who migrates.
	PostgresURL string `json:"postgres_url"`
	// AppURL connects as AppRole, which exists once migrated.
	AppURL string `json:"app_url"`
	// AuditorURL connects as AuditorRole, which exists once migrated.
	AuditorURL string `json:"auditor_url"`
	// AppPassword is for the migration that creates AppRole.
	AppPassword string `json:"app_password"`
	// AuditorPassword is for the migration that creates AuditorRole.
	AuditorPassword string `json:"auditor_password"`
	// Temporal is host:port of the workflow service.
	Temporal string `json:"temporal"`
	// TemporalTLS is for Temporal's clients. It is zero if an older trimtab runs
	// the server, in plain text.
	TemporalTLS TLS `json:"temporal_tls"`
	// Namespace is the Temporal namespace to work in.
	Namespace string `json:"namespace"`
}

// EndpointsOf returns the endpoints of p and t; t may be nil. The passwords of
// the database roles are created on the first call and kept in dir.
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

// withUser returns rawURL with another user and password.
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
