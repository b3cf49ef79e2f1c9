// Package migrations holds the schema as numbered SQL files.
//
// NNN_noun.sql is applied once, in the order of its number, in a transaction
// of its own, by storage.Migrate; the table public.schema_version holds the
// number of the last one. A file that was released never changes again.
//
// Roles: the owner runs these files. trimtab_app runs the program: it inserts
// facts, updates projections (run_state, attempt_state, fence, progress) and
// deletes nothing. trimtab_auditor reads.
package migrations

import "embed"

// Files holds every NNN_noun.sql at its root.
//
//go:embed *.sql
var Files embed.FS

// Schema is what the files make, a line for each table, column, constraint,
// function, trigger and right, as storage.Snapshot.SchemaLines lists them. After
// a new migration, `go test ./storage -run TestSchema -update` writes it again.
//
//go:embed schema.txt
var Schema string
