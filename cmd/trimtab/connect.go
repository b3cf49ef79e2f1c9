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

// session is an open connection to what a command works on.
type session struct {
	store *storage.Store
	files *checkpoint.Store
	runs  *runs.Service // without Temporal it only shows

	embedded bool // the servers and the worker are on this machine

	// For the embedded stack: start what is gone, and tell it that a client is there. Nothing for a configured one.
	restart   func(ctx context.Context) error
	keepAlive func()
	closers   []func()
}

func (s *session) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// endpoints is where the servers of this invocation answer.
type endpoints struct {
	postgres string
	temporal client.Options // without an address there is none
	embedded bool
}

// locate takes the configured addresses; with none it starts or finds the embedded stack.
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

// temporalOptions is how the settings reach Temporal: in plain text, unless a
// certificate, an authority, a name or an API key is set, or TLS is on.
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

// withStore runs a command that needs the database and the files, but no
// Temporal: whatever only looks works while Temporal is away.
func (a *app) withStore(cmd *cobra.Command, do func(context.Context, *session) error) error {
	return a.withSession(cmd, false, do)
}

// withService runs a command that launches or changes runs.
func (a *app) withService(cmd *cobra.Command, do func(context.Context, *session) error) error {
	return a.withSession(cmd, true, do)
}

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

// openRetrying waits for embedded servers that have just died: dev starts them again within seconds.
func (a *app) openRetrying(ctx context.Context, e endpoints, temporal bool) (*session, error) {
	s, err := a.open(ctx, e, temporal)
	away := func() bool { return err != nil && e.embedded && trimtab.AsError(err).Class == trimtab.Unavailable }
	if away() {
		a.note("%v; waiting for it", trimtab.AsError(err).Message)
	}
	for end := time.Now().Add(outagePatience); away() && time.Now().Before(end) && sleep(ctx, pollEvery); {
		s, err = a.open(ctx, e, temporal)
	}
	return s, err
}

// open connects to the servers of e.
func (a *app) open(ctx context.Context, e endpoints, temporal bool) (*session, error) {
	if e.postgres == "" || temporal && e.temporal.HostPort == "" {
		return nil, usagef("set both postgres_url and temporal_address, or neither to use the embedded servers",
			"only one of the two addresses is set")
	}
	s := &session{embedded: e.embedded, restart: func(context.Context) error { return nil }, keepAlive: func() {}}
	if e.embedded {
		s.restart = func(ctx context.Context) error { _, err := a.ensure(ctx); return err }
		s.keepAlive = func() { _ = devstack.Touch(a.settings.value("data")) } // a hint
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

// outdatedServersError explains a schema that is behind: the embedded servers migrate
// themselves when they start, so those that run were started by an older build.
func outdatedServersError(e endpoints, err error) error {
	if !e.embedded || trimtab.AsError(err).Type != "schema_outdated" {
		return err
	}
	return trimtab.NewError(trimtab.Conflict, "older_servers",
		"use that trimtab until its runs have ended, or say trimtab dev stop: the next command starts the servers "+
			"anew, and their runs go on with this program",
		"the servers of this data folder were started by an older trimtab and a run is open there: %w", err)
}

// claimDataFolder makes sure that the data folder is one, of this user, and after
// the first time the same one: what was removed is not made again.
func (a *app) claimDataFolder() (dir string, err error) {
	if dir, err = a.settings.dataFolder(); err == nil {
		a.folder, err = devstack.ReclaimFolder(dir, a.folder)
	}
	return dir, err
}

// checkDataFolder is claimDataFolder without any change.
func (a *app) checkDataFolder() (dir string, err error) {
	if dir, err = a.settings.dataFolder(); err == nil {
		_, err = devstack.InspectFolder(dir)
	}
	return dir, err
}

// storeFolder holds models and checkpoints, in the data folder.
func (a *app) storeFolder() string { return filepath.Join(a.settings.value("data"), "store") }

// openFiles opens the store of models and checkpoints.
func (a *app) openFiles() (*checkpoint.Store, error) {
	if _, err := a.claimDataFolder(); err != nil {
		return nil, err
	}
	return checkpoint.Open(a.storeFolder())
}

// dialTemporal connects to Temporal.
func dialTemporal(ctx context.Context, o client.Options, lg *slog.Logger) (client.Client, error) {
	o.Logger = log.NewStructuredLogger(lg)
	c, err := client.DialContext(ctx, o)
	if err != nil && !errors.Is(err, context.Canceled) {
		return nil, temporalUnavailable("connect to Temporal at %s: %w", redact.Address(o.HostPort), err)
	}
	return c, err
}

// temporalUnavailable is about a Temporal server that does not answer, or not to us.
func temporalUnavailable(format string, args ...any) error {
	return trimtab.NewError(trimtab.Unavailable, "temporal_unavailable",
		"check temporal_address with trimtab doctor, and temporal_tls… or temporal_api_key where the server asks for them",
		format, args...)
}
