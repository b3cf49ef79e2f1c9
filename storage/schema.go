package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/migrations"
)

// schemaObject is one object of the database's schema as the catalogs
// describe it: its kind, the object that it belongs to, its name and its
// definition.
type schemaObject struct{ Kind, Parent, Name, Definition string }

// displayName is the object as people name it: "trigger event_stays of
// event".
func (t schemaObject) displayName() string {
	name := unqualified(t.Name)
	switch {
	case t.Kind == "column":
		return "column " + t.Parent + "." + name
	case t.Kind == "grant":
		return "rights on " + unqualified(t.Parent)
	case t.Parent != "":
		return t.Kind + " " + name + " of " + t.Parent
	}
	return t.Kind + " " + name
}

// unqualified is a name without the schema public, which all of ours are in.
func unqualified(name string) string { return strings.ReplaceAll(name, "public.", "") }

// line is the object as a line of schema.txt.
func (t schemaObject) line() string {
	return strings.Join([]string{t.Kind, t.Parent, t.Name, t.Definition}, "\t")
}

// schemaObjects runs a query of catalog.go. A fifth column is the source of a
// function; the definition gets its digest.
func (r Snapshot) schemaObjects(ctx context.Context, sql string) ([]schemaObject, error) {
	return queryRows(ctx, r.tx, func(row pgx.CollectableRow) (t schemaObject, err error) {
		var source *string
		into := []any{&t.Kind, &t.Parent, &t.Name, &t.Definition, &source}
		err = row.Scan(into[:len(row.FieldDescriptions())]...)
		t.Definition = strings.Join(strings.Fields(t.Definition), " ")
		if source != nil {
			sum := sha256.Sum256([]byte(*source))
			t.Definition += ", source " + hex.EncodeToString(sum[:8])
		}
		return t, err
	}, sql)
}

// SchemaLines describes what the migrations make as it is in the database, in
// order, one line for each object, as migrations/schema.txt has it.
func (r Snapshot) SchemaLines(ctx context.Context) ([]string, error) {
	var lines []string
	for _, sql := range migratedObjects {
		list, err := r.schemaObjects(ctx, sql)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			lines = append(lines, t.line())
		}
	}
	slices.Sort(lines)
	return lines, nil
}

// SchemaDeviation is a way in which the schema, the rights or the settings
// differ from what the migrations make.
type SchemaDeviation struct {
	Where, What string
	// Harmless is set if neither the record nor anybody's rights over it are
	// affected.
	Harmless bool
}

// Schema compares the tables, functions, triggers, rights, roles and settings
// of the database with what the migrations make, and looks for objects that
// could take their place.
func (r Snapshot) Schema(ctx context.Context) ([]SchemaDeviation, error) {
	lines, err := r.SchemaLines(ctx)
	if err != nil {
		return nil, err
	}
	odd := compare(parseSchemaObjects(strings.Split(strings.TrimSpace(migrations.Schema), "\n")),
		parseSchemaObjects(lines))
	// The catalog of parameter rights is missing before Postgres 15.
	queries := unmanagedObjects
	var parameters bool
	if err := r.tx.QueryRow(ctx,
		"select to_regclass('pg_catalog.pg_parameter_acl') is not null").Scan(&parameters); err != nil {
		return nil, err
	}
	// The list is shared: appending to it must not change it.
	if parameters {
		queries = append(slices.Clone(queries), parameterRights)
	}
	for _, sql := range queries {
		list, err := r.schemaObjects(ctx, sql)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			odd = append(odd, t.deviation())
		}
	}
	return odd, nil
}

// Schema is Snapshot.Schema in a snapshot of its own.
func (s *Store) Schema(ctx context.Context) (odd []SchemaDeviation, err error) {
	err = s.Snapshot(ctx, func(r Snapshot) error {
		odd, err = r.Schema(ctx)
		return err
	})
	return odd, err
}

// parseSchemaObjects reads lines of schema.txt.
func parseSchemaObjects(lines []string) []schemaObject {
	var list []schemaObject
	for _, line := range lines {
		if p := strings.SplitN(line, "\t", 4); len(p) == 4 {
			list = append(list, schemaObject{p[0], p[1], p[2], p[3]})
		}
	}
	return list
}

// schemaObjectKey identifies an object: everything but its definition.
type schemaObjectKey struct{ kind, of, name string }

// key identifies the object.
func (t schemaObject) key() schemaObjectKey { return schemaObjectKey{t.Kind, t.Parent, t.Name} }

// compare returns the deviations of the objects that are there from those
// that are wanted.
func compare(want, have []schemaObject) []SchemaDeviation {
	wanted, there := map[schemaObjectKey]string{}, map[schemaObjectKey]string{}
	ours := map[string]bool{} // tables, functions and types that the migrations make, and names of functions
	for _, t := range want {
		wanted[t.key()] = t.Definition
		ours[t.Kind+" "+t.Name] = true
		if t.Kind == "function" {
			ours["any "+baseName(t.Name)] = true
		}
	}
	for _, t := range have {
		there[t.key()] = t.Definition
	}
	var odd []SchemaDeviation
	for _, t := range want {
		if is, ok := there[t.key()]; !ok {
			odd = append(odd, t.missing())
		} else if is != t.Definition {
			odd = append(odd, t.differs(is))
		}
	}
	for _, t := range have {
		if _, ok := wanted[t.key()]; !ok && t.affectsOurs(ours) {
			o := t.added()
			if t.Kind == "function" && ours["any "+baseName(t.Name)] {
				o = SchemaDeviation{Where: t.displayName(),
					What: "it has the name of one of ours, and can be taken for it: " + t.Definition}
			}
			odd = append(odd, o)
		}
	}
	return odd
}

// baseName is the name of a function without its arguments.
func baseName(function string) string {
	name, _, _ := strings.Cut(function, "(")
	return name
}

// affectsOurs reports whether an object is, or belongs to, one that our
// tables and functions depend on. Other people may have objects of their own
// in the database.
func (t schemaObject) affectsOurs(ours map[string]bool) bool {
	switch t.Kind {
	case "column", "index", "trigger", "rule", "policy", "inheritance":
		return ours["table "+t.Parent] || ours["view "+t.Parent]
	case "constraint":
		return ours["table "+t.Parent] || ours["type "+t.Parent]
	case "grant":
		kind, name, _ := strings.Cut(t.Parent, " ")
		if kind == "column" {
			table, _, _ := strings.Cut(name, ".")
			kind, name = "table", table
		}
		return ours[kind+" "+name] || !slices.Contains([]string{"table", "view", "sequence", "function", "type"}, kind)
	case "builtin operator", "builtin function":
		return false // of another version of Postgres
	}
	return true
}

// missing is the deviation of an object that is not there. A missing right,
// or a builtin that this version of Postgres does not have, is harmless.
func (t schemaObject) missing() SchemaDeviation {
	switch {
	case t.Kind == "grant":
		return SchemaDeviation{t.displayName(), fmt.Sprintf("%s no longer has %s", t.Name, t.Definition), true}
	case strings.HasPrefix(t.Kind, "builtin"):
		return SchemaDeviation{t.displayName(), "it is not there in this Postgres", true}
	}
	return SchemaDeviation{Where: t.displayName(), What: "it is not there: the migrations make it as " + t.Definition}
}

// differs is the deviation of an object with another definition. Of rights,
// only additional ones are reported as a change.
func (t schemaObject) differs(is string) SchemaDeviation {
	if t.Kind == "database" && is == "SQL_ASCII" {
		return SchemaDeviation{t.displayName(),
			"it is SQL_ASCII: Postgres takes any bytes for text, and the program sends UTF-8", true}
	}
	if t.Kind != "grant" {
		return SchemaDeviation{Where: t.displayName(),
			What: fmt.Sprintf("it is not as the migrations make it: %s; now it is %s", t.Definition, is)}
	}
	more := schemaObject{Kind: t.Kind, Parent: t.Parent, Name: t.Name}
	had := strings.Split(t.Definition, ", ")
	var extra []string
	for _, right := range strings.Split(is, ", ") {
		if !slices.Contains(had, right) {
			extra = append(extra, right)
		}
	}
	if more.Definition = strings.Join(extra, ", "); more.Definition == "" {
		return SchemaDeviation{t.displayName(), fmt.Sprintf("%s has %s of %s", t.Name, is, t.Definition), true}
	}
	return more.added()
}

// added is the deviation of an object that the migrations do not make. Tables
// and functions of others are harmless in themselves; one that could be
// called in place of ours is reported by the query "overload".
func (t schemaObject) added() SchemaDeviation {
	o := SchemaDeviation{Where: t.displayName(), What: "the migrations do not make it: " + t.Definition}
	switch t.Kind {
	case "grant":
		o.What = fmt.Sprintf("%s has %s, which the migrations do not grant", t.Name, t.Definition)
		o.Harmless = t.isReadOnly()
	case "table", "view", "sequence", "type", "function": // see overload
		o.Harmless = true
	case "index":
		o.Harmless = t.isPlainIndex()
	}
	if o.Harmless && t.Kind != "grant" {
		o.What = "it is somebody else's: the migrations do not make it"
	}
	return o
}

// isPlainIndex reports whether an index only speeds up queries: it is no
// constraint, and uses no function or operator class that somebody defined.
func (t schemaObject) isPlainIndex() bool {
	return strings.HasPrefix(t.Definition, "btree ") && !strings.HasPrefix(t.Definition, "btree unique") &&
		!strings.Contains(t.Definition, " calls ") &&
		strings.Count(t.Definition, " of ") == strings.Count(t.Definition, " of pg_catalog")
}

// isReadOnly reports whether rights let nobody change anything.
func (t schemaObject) isReadOnly() bool {
	for _, right := range strings.Split(t.Definition, ", ") {
		switch right {
		case "SELECT", "USAGE", "CONNECT":
		case "EXECUTE":
			if slices.Contains(definerFunctions, strings.TrimPrefix(baseName(t.Parent), "function public.")) {
				return false
			}
		case "TEMPORARY":
			return t.Parent == "database"
		default:
			return t.Parent == "database" && t.Name != AppRole && t.Name != AuditorRole && t.Name != "public"
		}
	}
	return true
}

// definerFunctions are our functions that run with their owner's rights and
// write.
var definerFunctions = []string{"append_event", "next_event", "unlogged_events", "add_leaves", "erase_item"}

// privilegedSettings are settings that a session cannot set for itself and
// that change what is read or written.
var privilegedSettings = []string{"session_replication_role", "role", "session_authorization",
	"session_preload_libraries",
	"local_preload_libraries", "zero_damaged_pages", "ignore_checksum_failure", "ignore_system_indexes",
	"allow_system_table_mods", "event_triggers", "dynamic_library_path", "plpgsql.variable_conflict"}

// deviation describes an object of unmanagedObjects.
func (t schemaObject) deviation() SchemaDeviation {
	name := unqualified(t.Name)
	switch t.Kind {
	case "owner":
		return SchemaDeviation{name, "it " + t.Definition, t.Parent == "superuser"}
	case "role":
		return SchemaDeviation{"role " + name, "it is not what the migrations make: " + t.Definition, false}
	case "member":
		return SchemaDeviation{"role " + name, "it is a member of " + t.Parent, t.Definition == "reads"}
	case "may act as":
		return SchemaDeviation{"role " + name, "it may do what " + t.Parent + " may", true}
	case "setting":
		where := "setting " + name + " of " + t.Parent
		if slices.Contains(privilegedSettings, name) {
			return SchemaDeviation{where, "it is set to " + t.Definition, false}
		}
		return SchemaDeviation{where, "it is set to " + t.Definition +
			"; the program's sessions set what they rely on themselves", true}
	case "shadow":
		return SchemaDeviation{"schema " + t.Parent,
			fmt.Sprintf("it has a %s %s, which sessions with the schema on their search path take for ours",
				t.Definition, name),
			false}
	case "schema of a role":
		return SchemaDeviation{"schema " + name,
			"it has the name of a role of ours, which finds what is in it before what is ours", true}
	case "overload":
		return SchemaDeviation{t.Definition + " " + name, "somebody made it: it can be taken for one of Postgres's own",
			false}
	case "redirected":
		return SchemaDeviation{name, "it is Postgres's own, and " + t.Definition, false}
	case "event trigger":
		what := "it runs at changes of the schema: " + t.Definition
		return SchemaDeviation{"event trigger " + name, what, strings.HasSuffix(t.Definition, "of an extension")}
	case "subscription":
		return SchemaDeviation{"subscription " + name, "it writes to the table " + t.Parent, false}
	case "parameter":
		return SchemaDeviation{"parameter " + name, t.Parent + " may " + strings.ToLower(t.Definition) + " it", false}
	}
	return SchemaDeviation{t.Kind + " " + name, t.Definition, true}
}
