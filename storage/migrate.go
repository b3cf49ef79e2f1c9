package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/migrations"
)

// The roles that Migrate creates: the program runs as AppRole, which inserts
// facts and updates projections; AuditorRole only reads.
const (
	AppRole     = "trimtab_app"
	AuditorRole = "trimtab_auditor"
)

const versionTable = "public.schema_version"

// Migrate brings the database of ownerURL to this program's schema, creates
// the roles trimtab_app and trimtab_auditor if they are missing, and sets
// their passwords; an empty password leaves a role's as it is.
//
// It may be repeated, and run by several processes at once: tern takes an
// advisory lock, and each file is one transaction, so that an error leaves
// the schema at a whole version number. A database that a newer program
// migrated is Conflict "schema_newer".
func Migrate(ctx context.Context, ownerURL string, appPassword, auditorPassword string) error {
	const doing = "migrating the database"
	config, err := poolConfig(ownerURL)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return wrapError(ctx, doing, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := migrateSchema(ctx, conn); err != nil {
		return wrapError(ctx, doing, err)
	}
	return wrapError(ctx, doing, grantDatabase(ctx, conn, appPassword, auditorPassword))
}

// migrateSchema applies the files that the database lacks.
func migrateSchema(ctx context.Context, conn *pgx.Conn) error {
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return err
	}
	if err := m.LoadMigrations(migrations.Files); err != nil {
		return err
	}
	// After each file tern resets the session's settings, so that the required
	// ones have to be set again.
	again := func() error { return conn.Config().AfterConnect(ctx, conn.PgConn()) }
	m.OnStart = func(int32, string, string, string) { _ = again() } // an error here also fails the migration
	err = m.Migrate(ctx)
	// tern refuses a version that it has no file for.
	if _, ok := errors.AsType[migrate.BadVersionError](err); ok {
		return newerSchema(err)
	}
	if err != nil {
		return err
	}
	return again()
}

// grantDatabase sets what neither CREATE DATABASE … TEMPLATE nor a dump
// copies: passwords belong to the server, and rights on the database to its
// name.
func grantDatabase(ctx context.Context, conn *pgx.Conn, appPassword, auditorPassword string) error {
	database := pgx.Identifier{conn.Config().Database}.Sanitize()
	statements := []string{
		"revoke temporary on database " + database + " from public",
		"grant connect, temporary on database " + database + " to " + AppRole,
		"grant connect on database " + database + " to " + AuditorRole,
	}
	for _, of := range [][2]string{{AppRole, appPassword}, {AuditorRole, auditorPassword}} {
		if of[1] == "" {
			continue
		}
		secret, err := scramSecret(of[1])
		if err != nil {
			return err
		}
		statements = append(statements, "alter role "+of[0]+" password "+quoteLiteral(secret))
	}
	for _, sql := range statements {
		if err := execConcurrent(ctx, conn, sql); err != nil {
			return err
		}
	}
	return nil
}

// execConcurrent repeats a statement on a shared catalog that the migration
// of another database changed at the same moment: Postgres answers XX000
// "tuple concurrently updated", and there is no lock across databases to
// take.
func execConcurrent(ctx context.Context, conn *pgx.Conn, sql string) error {
	var err error
	// Ten tries are many: the conflict is over when the other statement ends.
	for range 10 {
		_, err = conn.Exec(ctx, sql)
		// the message may be in any language
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "XX000" {
			return err
		}
	}
	return err
}

// quoteLiteral quotes a text for a statement that takes no parameters,
// whatever standard_conforming_strings is.
func quoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// checkSchema compares the schema version of the database with the number of
// migrations of this program.
func (s *Store) checkSchema(ctx context.Context) error {
	const doing = "opening the database"
	files, err := migrate.FindMigrations(migrations.Files)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	var version int
	if err := s.pool.QueryRow(ctx, "select version from "+versionTable).Scan(&version); err != nil {
		return wrapError(ctx, doing, err)
	}
	switch {
	case version > len(files):
		return newerSchema(fmt.Errorf("version %d, want %d", version, len(files)))
	case version < len(files):
		return trimtab.NewError(trimtab.Conflict, "schema_outdated", "run `trimtab migrate`",
			"%s: its schema is version %d, this program needs %d", doing, version, len(files))
	}
	return nil
}

// newerSchema is the error for a database that a newer program migrated: this
// one does not know what its schema means.
func newerSchema(err error) error {
	return trimtab.NewError(trimtab.Conflict, "schema_newer", "use the newer trimtab that migrated it",
		"the database has the schema of a newer program: %w", err)
}
