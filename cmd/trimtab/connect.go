package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/redact"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// session is an open connection to everything a command works on. It is
// opened by withStore or withService and closed when the command's function
// returns.
type session struct {
	// store is the database: metadata, datasets, metrics and the record.
	store *storage.Store
	// files is the content-addressed store of models and checkpoints.
	files *checkpoint.Store
	// runs is the service layer. Opened by withStore it has no Temporal client:
	// it can show runs, but not launch or change them.
	runs *runs.Service

	// embedded is true if the servers and the worker run on this machine,
	// started by this program.
	embedded bool

	// restart starts whatever part of the embedded stack has died; keepAlive
	// keeps the stack from stopping, which it does without a client. Both do
	// nothing for configured servers.
	restart   func(ctx context.Context) error
	keepAlive func()
	// closers run in reverse order when the session is closed.
	closers []func()
}

// Close closes the connections, the last one opened first.
func (s *session) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// endpoints are the addresses of the servers for this invocation.
type endpoints struct {
	// postgres is the URL of the database.
	postgres string
	// temporal has an empty HostPort where there is no Temporal server.
	temporal client.Options
	// embedded is true for the servers that this program starts.
	embedded bool
}

// locate returns the configured addresses. If neither is configured, it finds
// the embedded stack of the data folder, or starts it, which takes seconds.
func (a *app) locate(ctx context.Context) (endpoints, error) {
	e := endpoints{postgres: a.settings.value("postgres_url")}
	var err error
	if e.temporal, err = a.temporalOptions(); err != nil || e.postgres != "" || e.temporal.HostPort != "" {
		return e, err
	}
	d, err := a.ensure(ctx)
	if err != nil {
		return e, err
	}
	e.postgres, e.embedded = d.AppURL, true
	e.temporal, err = d.TemporalOptions()
	return e, err
}

// temporalOptions are the connection options for the configured Temporal
// server: plain text, unless a certificate, an authority, a server name or an
// API key is set, or temporal_tls is on.
func (a *app) temporalOptions() (client.Options, error) {
	o := client.Options{HostPort: a.settings.value("temporal_address"),
		Namespace: a.settings.value("temporal_namespace")}
	if o.HostPort == "" {
		return o, nil
	}
	files := devstack.TLS{
		CA:         a.settings.value("temporal_tls_ca"),
		Cert:       a.settings.value("temporal_tls_cert"),
		Key:        a.settings.value("temporal_tls_key"),
		ServerName: a.settings.value("temporal_tls_server_name"),
	}
	key := a.settings.value("temporal_api_key")
	if key != "" {
		o.Credentials = client.NewAPIKeyStaticCredentials(key)
	}
	if files == (devstack.TLS{}) && key == "" && a.settings.value("temporal_tls") != "on" {
		return o, nil
	}
	var err error
	o.ConnectionOptions.TLS, err = files.Config()
	return o, err
}

// withStore runs a command that needs the database and the files but not
// Temporal: everything that only reads works while Temporal is unavailable.
func (a *app) withStore(cmd *cobra.Command, do func(context.Context, *session) error) error {
	return a.withSession(cmd, false, do)
}

// withService runs a command that launches or changes runs, and so needs
// Temporal too.
func (a *app) withService(cmd *cobra.Command, do func(context.Context, *session) error) error {
	return a.withSession(cmd, true, do)
}

// withSession opens a session, calls do and closes the session.
func (a *app) withSession(cmd *cobra.Command, temporal bool, do func(context.Context, *session) error) error {
	ctx := cmd.Context()
	e, err := a.locate(ctx)
	if err != nil {
		return err
	}
	s, err := a.openRetrying(ctx, e, temporal)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(ctx, s)
}

// openRetrying is open, except that it waits for embedded servers that have
// just died: the supervisor restarts them within seconds. Configured servers
// get no such wait; a wrong address should fail at once.
func (a *app) openRetrying(ctx context.Context, e endpoints, temporal bool) (*session, error) {
	s, err := a.open(ctx, e, temporal)
	// Only an error that can pass is waited for.
	away := func() bool { return err != nil && e.embedded && trimtab.AsError(err).Class == trimtab.Unavailable }
	if away() {
		a.note("%v; waiting for it to come back", trimtab.AsError(err).Message)
	}
	for end := time.Now().Add(outagePatience); away() && time.Now().Before(end) && sleep(ctx, pollEvery); {
		s, err = a.open(ctx, e, temporal)
	}
	return s, err
}

// open connects to the servers in e. What was opened before an error is
// closed.
func (a *app) open(ctx context.Context, e endpoints, temporal bool) (*session, error) {
	if e.postgres == "" || temporal && e.temporal.HostPort == "" {
		return nil, usagef("set both postgres_url and temporal_address, or neither to use the embedded servers",
			"only one of the two addresses is set")
	}
	s := &session{embedded: e.embedded, restart: func(context.Context) error { return nil }, keepAlive: func() {}}
	if e.embedded {
		s.restart = func(ctx context.Context) error { _, err := a.ensure(ctx); return err }
		s.keepAlive = func() { _ = devstack.Touch(a.settings.value("data")) } // best effort
	}
	var err error
	if s.files, err = a.openFiles(); err != nil {
		return nil, err
	}
	if s.store, err = storage.Open(ctx, e.postgres); err != nil {
		return nil, outdatedServersError(e, err)
	}
	s.closers = append(s.closers, s.store.Close)
	var c client.Client
	lg := slog.New(slog.DiscardHandler)
	if temporal {
		if c, err = dialTemporal(ctx, e.temporal, lg); err != nil {
			s.Close()
			return nil, err
		}
		s.closers = append(s.closers, c.Close)
	}
	s.runs = runs.New(lg, s.store, s.files, c)
	return s, nil
}

// outdatedServersError explains a schema that is behind this program.
// Embedded servers migrate their database when they start, so if it is
// behind, the running ones were started by an older build.
func outdatedServersError(e endpoints, err error) error {
	if !e.embedded || trimtab.AsError(err).Type != "schema_outdated" {
		return err
	}
	return trimtab.NewError(trimtab.Conflict, "older_servers",
		"use that trimtab until its runs have ended, or run `trimtab dev stop`: the next command restarts the "+
			"servers, and open runs continue with this program",
		"the servers of this data folder were started by an older trimtab and still have an open run: %w", err)
}

// claimDataFolder makes sure that the data folder exists, is a data folder
// and belongs to this user. After the first call it must also be the same
// folder: if it has been removed meanwhile, it is not created again, since
// the run's files would be missing from it.
func (a *app) claimDataFolder() (dir string, err error) {
	if dir, err = a.settings.dataFolder(); err == nil {
		a.folder, err = devstack.ReclaimFolder(dir, a.folder)
	}
	return dir, err
}

// checkDataFolder is claimDataFolder without creating or changing anything.
func (a *app) checkDataFolder() (dir string, err error) {
	if dir, err = a.settings.dataFolder(); err == nil {
		_, err = devstack.InspectFolder(dir)
	}
	return dir, err
}

// storeFolder is the folder of models and checkpoints within the data folder.
func (a *app) storeFolder() string { return filepath.Join(a.settings.value("data"), "store") }

// openFiles opens the store of models and checkpoints.
func (a *app) openFiles() (*checkpoint.Store, error) {
	if _, err := a.claimDataFolder(); err != nil {
		return nil, err
	}
	return checkpoint.Open(a.storeFolder())
}

// dialTemporal connects to Temporal; the connection is checked before it
// returns.
func dialTemporal(ctx context.Context, o client.Options, lg *slog.Logger) (client.Client, error) {
	o.Logger = log.NewStructuredLogger(lg)
	c, err := client.DialContext(ctx, o)
	if err != nil && !errors.Is(err, context.Canceled) {
		return nil, temporalUnavailable("connect to Temporal at %s: %w", redact.Address(o.HostPort), err)
	}
	return c, err
}

// temporalUnavailable is the error for a Temporal server that does not
// answer, or refuses the connection.
func temporalUnavailable(format string, args ...any) error {
	return trimtab.NewError(trimtab.Unavailable, "temporal_unavailable",
		"check temporal_address with `trimtab doctor`, and temporal_tls… or temporal_api_key if the server needs them",
		format, args...)
}
