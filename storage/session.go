package storage

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/trimtab/trimtab"
)

// requiredSettings are the settings that the statements of this package rely
// on. They are sent with the request for a connection, where they take
// precedence over what alter role and alter database set. Postgres has all of
// them since version 13.
//
// Objects are created in public; pg_catalog, which is not named, is searched
// first. With row_security off, a policy that would hide rows from us is an
// error instead.
var requiredSettings = map[string]string{
	"search_path":                    "public, pg_temp",
	"row_security":                   "off",
	"client_encoding":                "UTF8",
	"standard_conforming_strings":    "on",
	"backslash_quote":                "safe_encoding",
	"bytea_output":                   "hex",
	"DateStyle":                      "ISO, MDY",
	"IntervalStyle":                  "postgres",
	"TimeZone":                       "UTC",
	"extra_float_digits":             "1",
	"xmlbinary":                      "base64",
	"array_nulls":                    "on",
	"transform_null_equals":          "off",
	"quote_all_identifiers":          "off",
	"check_function_bodies":          "on",
	"default_transaction_isolation":  "read committed",
	"default_transaction_read_only":  "off",
	"default_transaction_deferrable": "off",
	"default_table_access_method":    "heap",
	"default_tablespace":             "",
	"exit_on_error":                  "off",
}

// laterSettings are such settings of newer versions of Postgres. They are set
// once the session exists, if the server knows them: in the request for a
// connection an unknown one would be refused.
var laterSettings = map[string]string{
	"idle_session_timeout":             "0", // 14
	"transaction_timeout":              "0", // 17
	"restrict_nonsystem_relation_kind": "",  // minor versions of 2024
}

// defaultSettings are settings that an address may override, as in
// postgres://…?jit=on.
var defaultSettings = map[string]string{
	"application_name":  "trimtab",
	"statement_timeout": "0",
	"lock_timeout":      "0",
	idleParam:           idleTimeout,
	jitParam:            "off",
}

// applySettings gives the connections of a configuration these settings.
func applySettings(config *pgx.ConnConfig) {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	maps.Copy(config.RuntimeParams, requiredSettings)
	for name, value := range defaultSettings {
		if _, ok := config.RuntimeParams[name]; !ok {
			config.RuntimeParams[name] = value
		}
	}
	// Everything is set again after connecting, since a login trigger may
	// have changed it.
	all := maps.Clone(laterSettings)
	maps.Copy(all, requiredSettings)
	for name := range defaultSettings {
		all[name] = config.RuntimeParams[name]
	}
	config.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error { return enforceSettings(ctx, c, all) }
}

// enforceSettingsQuery sets what newer versions have, and sets again what a
// login trigger may have changed. Every name in it is qualified, since the
// search path may be one of the changed settings.
const enforceSettingsQuery = `
	select pg_catalog.set_config(w.name, w.value, false), pg_catalog.current_setting('session_replication_role')
	from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) w (name, value)
	where pg_catalog.current_setting(w.name, true) is not null`

// enforceSettings runs enforceSettingsQuery on a new connection. It refuses
// one on which triggers and foreign keys are off: a session without a
// superuser's rights cannot turn them on.
func enforceSettings(ctx context.Context, c *pgconn.PgConn, settings map[string]string) error {
	var names, values []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		names, values = append(names, name), append(values, settings[name])
	}
	result := c.ExecParams(ctx, enforceSettingsQuery, [][]byte{[]byte(arrayText(names)), []byte(arrayText(values))},
		nil, nil, nil).Read()
	if result.Err != nil || len(result.Rows) == 0 {
		return result.Err
	}
	// With session_replication_role = replica, facts could be changed
	// unnoticed.
	if role := string(result.Rows[0][1]); role == "replica" {
		return trimtab.NewError(trimtab.Conflict, "triggers_off",
			"reset it with `alter role … reset session_replication_role`, for the role or the database that has it",
			"connecting to the database: its setting session_replication_role is replica, under which triggers and "+
				"foreign keys do nothing")
	}
	return nil
}
