package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/tools/common/schema"
	temporalsql "go.temporal.io/server/tools/sql"
)

// The databases; Temporal's configuration uses the same names for its stores.
const (
	mainDatabase       = "temporal"
	visibilityDatabase = "temporal_visibility"
)

// store is a Postgres server and the role to use there.
type store struct {
	// url connects to any database of the server, to create the others.
	url string
	// address is host:port.
	address string
	// user and password are the role's, which owns the databases.
	user, password string
	// connectionAttributes are the URL's parameters, such as sslmode. Temporal's
	// library adds them to each of its connections.
	connectionAttributes map[string]string
}

// parseStore parses the URL of a Postgres server. The error quotes nothing of it:
// it holds a password.
func parseStore(rawURL string) (store, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "" || u.User == nil {
		return store{}, errors.New("TRIMTAB_TEMPORAL_POSTGRES_URL: want postgres://user:password@host:port/database")
	}
	s := store{url: rawURL, address: u.Host, user: u.User.Username(), connectionAttributes: map[string]string{}}
	s.password, _ = u.User.Password()
	if u.Port() == "" {
		s.address = net.JoinHostPort(u.Hostname(), "5432")
	}
	for key := range u.Query() {
		s.connectionAttributes[key] = u.Query().Get(key)
	}
	return s, nil
}

// config is the configuration of Temporal's SQL store for one database, with that
// many connections at most.
func (s store) config(database string, connections int) *config.SQL {
	return &config.SQL{
		PluginName: postgresql.PluginNamePGX, ConnectProtocol: "tcp", ConnectAddr: s.address,
		User: s.user, Password: s.password, DatabaseName: database, ConnectAttributes: s.connectionAttributes,
		MaxConns: connections, MaxIdleConns: connections, MaxConnLifetime: time.Hour,
	}
}

// migrationLock is the advisory lock held during a migration, so that two starts
// cannot migrate at once.
const migrationLock = 7233_5432

// migrate creates the databases and upgrades their schemas to this server's
// version with Temporal's own library. It completes a migration that was
// interrupted.
func (s store) migrate(ctx context.Context, logger log.Logger) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // frees the lock
	if _, err := conn.Exec(ctx, `select pg_advisory_lock($1)`, migrationLock); err != nil {
		return fmt.Errorf("wait for another migration: %w", err)
	}
	// schema is the path of the schema within Temporal's embedded files.
	for _, d := range []struct{ database, schema string }{
		{mainDatabase, "postgresql/v12/temporal"},
		{visibilityDatabase, "postgresql/v12/visibility"},
	} {
		if err := createDatabase(ctx, conn, d.database); err != nil {
			return fmt.Errorf("create database %s: %w", d.database, err)
		}
		if err := s.upgradeSchema(d.database, d.schema, logger); err != nil {
			return fmt.Errorf("bring the schema of database %s up to date: %w", d.database, err)
		}
	}
	return nil
}

// createDatabase creates a database if it is absent.
func createDatabase(ctx context.Context, conn *pgx.Conn, database string) error {
	var have bool
	err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, database).Scan(&have)
	if have || err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `create database `+pgx.Identifier{database}.Sanitize())
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42P04" { // another process created it meanwhile
		return nil
	}
	return err
}

// upgradeSchema sets up the table of schema versions if there is none, then
// applies the versions that are missing.
func (s store) upgradeSchema(database, schemaName string, logger log.Logger) error {
	db, err := temporalsql.NewConnection(s.config(database, 2), logger)
	if err != nil {
		return err
	}
	defer db.Close()
	// An error here means that there is no table of versions yet; any other fault shows again below.
	if _, err := db.ReadSchemaVersion(); err != nil {
		setup := schema.NewSetupSchemaTask(db, &schema.SetupConfig{InitialVersion: "0.0"}, logger)
		if err := setup.Run(); err != nil {
			return err
		}
	}
	return schema.NewUpdateSchemaTask(db, &schema.UpdateConfig{SchemaName: schemaName}, logger).Run()
}
