package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/storage"
)

// registerTimeout is how long migrate waits for Temporal to answer: with
// docker compose both start at the same time.
const registerTimeout = 2 * time.Minute

// migrateCmd is "trimtab migrate", for servers that are not the embedded
// ones. It runs as the owner of the database; everything else runs as
// trimtab_app, which cannot change the schema or rewrite the record.
func (a *app) migrateCmd() *cobra.Command {
	return &cobra.Command{
		Use: "migrate", Short: "prepare the database and the Temporal namespace for this program",
		Args: argCount(0, 0),
		Long: `Migrate the database to this program's schema, and create the roles trimtab_app and
trimtab_auditor with the passwords from the settings app_password and auditor_password. If
a Temporal address is set, register the namespace and its search attributes too. It is safe
to repeat, and to run several at once. The embedded servers do not need it.`,
		Example: "  TRIMTAB_APP_PASSWORD=… trimtab migrate --postgres-owner-url postgres://owner@db/trimtab " +
			"--temporal-address temporal:7233",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.migrate(cmd.Context()) },
	}
}

// migrateDocument says which servers migrate prepared. It prints the same if
// there was nothing to change.
type migrateDocument struct {
	Schema string `json:"schema"`
	// Postgres and Temporal are true for the servers that were prepared.
	Postgres  bool   `json:"postgres"`
	Temporal  bool   `json:"temporal"`
	Namespace string `json:"namespace,omitempty"`
}

// migrate prepares whichever of the two servers is configured, and may be run
// again after every upgrade. The database is migrated as its owner, by
// default the role of postgres_url. A lock in the database makes concurrent
// migrations take turns. The passwords are set only if they are given, so
// that a later migration without them leaves the roles as they are.
func (a *app) migrate(ctx context.Context) error {
	owner := a.settings.value("postgres_owner_url")
	temporal, err := a.temporalOptions()
	if err != nil {
		return err
	}
	// On a database of one's own, the role that connects is usually the
	// owner.
	if owner == "" {
		owner = a.settings.value("postgres_url")
	}
	if owner == "" && temporal.HostPort == "" {
		return usagef("set postgres_owner_url, temporal_address or both; the embedded servers migrate themselves",
			"no server is configured: there is nothing to migrate")
	}
	doc := migrateDocument{Schema: "trimtab.migrate/v1"}
	if owner != "" {
		if err := storage.Migrate(ctx, owner, a.settings.value("app_password"),
			a.settings.value("auditor_password")); err != nil {
			return err
		}
		doc.Postgres = true
	}
	if temporal.HostPort != "" {
		doc.Namespace = temporal.Namespace
		if err := registerNamespace(ctx, temporal); err != nil {
			return err
		}
		doc.Temporal = true
	}
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	if doc.Postgres {
		fmt.Fprintln(a.out, "the database is ready")
	}
	if doc.Temporal {
		fmt.Fprintf(a.out, "the Temporal namespace %s is ready\n", escapeLine(doc.Namespace))
	}
	return nil
}

// registerNamespace registers the namespace and its search attributes. It
// waits for the server to start, and for the attributes to become usable.
func registerNamespace(ctx context.Context, o client.Options) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	if err := devstack.RegisterNamespace(ctx, o); err != nil {
		return temporalUnavailable("%w", err)
	}
	return nil
}
