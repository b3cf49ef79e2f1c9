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

// registerTimeout is how long migrate waits for Temporal to answer.
const registerTimeout = 2 * time.Minute

func (a *app) migrateCmd() *cobra.Command {
	return &cobra.Command{
		Use: "migrate", Short: "make the database and the Temporal namespace ready for this program",
		Args: argCount(0, 0),
		Long: `Bring the database to this program's schema and make the roles trimtab_app and
trimtab_auditor, with the passwords of the settings app_password and
auditor_password. With a Temporal address, register the namespace and its search
attributes too. It may be repeated, and run by several at once. The embedded
servers need none of it.`,
		Example: `  TRIMTAB_APP_PASSWORD=… trimtab migrate --postgres-owner-url postgres://owner@db/trimtab --temporal-address temporal:7233`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.migrate(cmd.Context()) },
	}
}

// migrateDocument says what migrate made ready.
type migrateDocument struct {
	Schema    string `json:"schema"`
	Postgres  bool   `json:"postgres"`
	Temporal  bool   `json:"temporal"`
	Namespace string `json:"namespace,omitempty"`
}

func (a *app) migrate(ctx context.Context) error {
	owner := a.settings.value("postgres_owner_url")
	temporal, err := a.temporalOptions()
	if err != nil {
		return err
	}
	if owner == "" {
		owner = a.settings.value("postgres_url")
	}
	if owner == "" && temporal.HostPort == "" {
		return usagef("set postgres_owner_url, temporal_address or both; the embedded servers migrate themselves",
			"there is no address to migrate")
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

func registerNamespace(ctx context.Context, o client.Options) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	if err := devstack.RegisterNamespace(ctx, o); err != nil {
		return temporalUnavailable("%w", err)
	}
	return nil
}
