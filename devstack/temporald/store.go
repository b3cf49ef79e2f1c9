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

// The databases, which are also the names of the stores.
const (
	mainDatabase       = "temporal"
	visibilityDatabase = "temporal_visibility"
)

// store is a Postgres server and the role to use there.
type store struct {
	url                  string
	address              string // host:port
	user, password       string
	connectionAttributes map[string]string
}

func storeOf(rawURL string) (store, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "" || u.User == nil {
		// nothing of it: it holds a password
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

func (s store) config(database string, connections int) *config.SQL {
	return &config.SQL{
		PluginName: postgresql.PluginNamePGX, ConnectProtocol: "tcp", ConnectAddr: s.address,
		User: s.user, Password: s.password, DatabaseName: database, ConnectAttributes: s.connectionAttributes,
		MaxConns: connections, MaxIdleConns: connections, MaxConnLifetime: time.Hour,
	}
}

const migrationLock = 7233_5432 // the advisory lock of whoever migrates

// migrate makes the databases and brings their schemas to this server's
// version, by Temporal's own library. What a killed migration left is taken up.
func (s store) migrate(ctx context.Context, logger log.Logger) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // frees the lock
	if _, err := conn.Exec(ctx, `select pg_advisory_lock($1)`, migrationLock); err != nil {
		return fmt.Errorf("wait for another migration: %w", err)
	}
	for _, d := range []struct{ database, schema string }{
		{mainDatabase, "postgresql/v12/temporal"},
		{visibilityDatabase, "postgresql/v12/visibility"},
	} {
		if err := create(ctx, conn, d.database); err != nil {
			return fmt.Errorf("create database %s: %w", d.database, err)
		}
		if err := s.upgrade(d.database, d.schema, logger); err != nil {
			return fmt.Errorf("bring the schema of database %s up to date: %w", d.database, err)
		}
	}
	return nil
}

func create(ctx context.Context, conn *pgx.Conn, database string) error {
	var have bool
	err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, database).Scan(&have)
	if have || err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `create database `+pgx.Identifier{database}.Sanitize())
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42P04" { // exists by now
		return nil
	}
	return err
}

func (s store) upgrade(database, schemaName string, logger log.Logger) error {
	db, err := temporalsql.NewConnection(s.config(database, 2), logger)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ReadSchemaVersion(); err != nil { // no table of versions yet
		setup := schema.NewSetupSchemaTask(db, &schema.SetupConfig{InitialVersion: "0.0"}, logger)
		if err := setup.Run(); err != nil {
			return err
		}
	}
	return schema.NewUpdateSchemaTask(db, &schema.UpdateConfig{SchemaName: schemaName}, logger).Run()
}
