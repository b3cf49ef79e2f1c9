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

// thing is what a catalog says of one thing: Is is what it is, Name its name, and Of what it belongs to.
type thing struct{ Kind, Of, Name, Is string }

// called is a thing as people call it: "trigger event_stays of event".
func (t thing) called() string {
	name := plain(t.Name)
	switch {
	case t.Kind == "column":
		return "column " + t.Of + "." + name
	case t.Kind == "grant":
		return "rights on " + plain(t.Of)
	case t.Of != "":
		return t.Kind + " " + name + " of " + t.Of
	}
	return t.Kind + " " + name
}

// plain is a name without the schema that all of ours are in.
func plain(name string) string { return strings.ReplaceAll(name, "public.", "") }

// line is the thing as schema.txt has it.
func (t thing) line() string { return strings.Join([]string{t.Kind, t.Of, t.Name, t.Is}, "\t") }

// things runs a query of catalog.go. A fifth column is a source, of which the digest is taken.
func (r Reading) things(ctx context.Context, sql string) ([]thing, error) {
	return collect(ctx, r.tx, func(row pgx.CollectableRow) (t thing, err error) {
		var source *string
		into := []any{&t.Kind, &t.Of, &t.Name, &t.Is, &source}
		err = row.Scan(into[:len(row.FieldDescriptions())]...)
		t.Is = strings.Join(strings.Fields(t.Is), " ")
		if source != nil {
			sum := sha256.Sum256([]byte(*source))
			t.Is += ", source " + hex.EncodeToString(sum[:8])
		}
		return t, err
	}, sql)
}

// Made lists what the migrations make as it is in the database, a line each in order, as migrations/schema.txt has it.
func (r Reading) Made(ctx context.Context) ([]string, error) {
	var lines []string
	for _, sql := range made {
		list, err := r.things(ctx, sql)
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

// Oddity is something about the schema, the rights or the settings that is not as the migrations make it.
type Oddity struct {
	Where, What string
	// Harmless is set where nothing of the record and nobody's rights over it are other than they should be.
	Harmless bool
}

// Schema holds the tables, functions, triggers, rights, roles and settings of the database against those that the
// migrations make, and looks for what could stand in their place.
func (r Reading) Schema(ctx context.Context) ([]Oddity, error) {
	lines, err := r.Made(ctx)
	if err != nil {
		return nil, err
	}
	odd := compare(readThings(strings.Split(strings.TrimSpace(migrations.Schema), "\n")), readThings(lines))
	queries := beside
	var parameters bool
	if err := r.tx.QueryRow(ctx, "select to_regclass('pg_catalog.pg_parameter_acl') is not null").Scan(&parameters); err != nil {
		return nil, err
	}
	if parameters {
		queries = append(slices.Clone(queries), parameterRights)
	}
	for _, sql := range queries {
		list, err := r.things(ctx, sql)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			odd = append(odd, t.odd())
		}
	}
	return odd, nil
}

// Schema is Reading.Schema by itself.
func (s *Store) Schema(ctx context.Context) (odd []Oddity, err error) {
	err = s.Reading(ctx, func(r Reading) error {
		odd, err = r.Schema(ctx)
		return err
	})
	return odd, err
}

func readThings(lines []string) []thing {
	var list []thing
	for _, line := range lines {
		if p := strings.SplitN(line, "\t", 4); len(p) == 4 {
			list = append(list, thing{p[0], p[1], p[2], p[3]})
		}
	}
	return list
}

type thingKey struct{ kind, of, name string }

func (t thing) key() thingKey { return thingKey{t.Kind, t.Of, t.Name} }

// compare says in what things differ from those that are wanted.
func compare(want, have []thing) []Oddity {
	wanted, there := map[thingKey]string{}, map[thingKey]string{}
	ours := map[string]bool{} // tables, functions and types that the migrations make, and names of functions
	for _, t := range want {
		wanted[t.key()] = t.Is
		ours[t.Kind+" "+t.Name] = true
		if t.Kind == "function" {
			ours["any "+baseName(t.Name)] = true
		}
	}
	for _, t := range have {
		there[t.key()] = t.Is
	}
	var odd []Oddity
	for _, t := range want {
		if is, ok := there[t.key()]; !ok {
			odd = append(odd, t.missing())
		} else if is != t.Is {
			odd = append(odd, t.differs(is))
		}
	}
	for _, t := range have {
		if _, ok := wanted[t.key()]; !ok && t.concerns(ours) {
			o := t.added()
			if t.Kind == "function" && ours["any "+baseName(t.Name)] {
				o = Oddity{Where: t.called(), What: "it has the name of one of ours, and can be taken for it: " + t.Is}
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

// concerns reports whether a thing is, or belongs to, something in which our tables and functions have a part.
func (t thing) concerns(ours map[string]bool) bool {
	switch t.Kind {
	case "column", "index", "trigger", "rule", "policy", "inheritance":
		return ours["table "+t.Of] || ours["view "+t.Of]
	case "constraint":
		return ours["table "+t.Of] || ours["type "+t.Of]
	case "grant":
		kind, name, _ := strings.Cut(t.Of, " ")
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

func (t thing) missing() Oddity {
	switch {
	case t.Kind == "grant":
		return Oddity{t.called(), fmt.Sprintf("%s has no longer %s", t.Name, t.Is), true}
	case strings.HasPrefix(t.Kind, "builtin"):
		return Oddity{t.called(), "it is not there in this Postgres", true}
	}
	return Oddity{Where: t.called(), What: "it is not there: the migrations make it as " + t.Is}
}

func (t thing) differs(is string) Oddity {
	if t.Kind == "database" && is == "SQL_ASCII" {
		return Oddity{t.called(), "it is SQL_ASCII: Postgres takes any bytes for text, and the program sends UTF-8", true}
	}
	if t.Kind != "grant" {
		return Oddity{Where: t.called(), What: fmt.Sprintf("it is not as the migrations make it: %s; now it is %s", t.Is, is)}
	}
	more := thing{Kind: t.Kind, Of: t.Of, Name: t.Name}
	had := strings.Split(t.Is, ", ")
	var extra []string
	for _, right := range strings.Split(is, ", ") {
		if !slices.Contains(had, right) {
			extra = append(extra, right)
		}
	}
	if more.Is = strings.Join(extra, ", "); more.Is == "" {
		return Oddity{t.called(), fmt.Sprintf("%s has %s of %s", t.Name, is, t.Is), true}
	}
	return more.added()
}

// added is of something that the migrations do not make.
func (t thing) added() Oddity {
	o := Oddity{Where: t.called(), What: "the migrations do not make it: " + t.Is}
	switch t.Kind {
	case "grant":
		o.What = fmt.Sprintf("%s has %s, which the migrations do not grant", t.Name, t.Is)
		o.Harmless = t.onlyReads()
	case "table", "view", "sequence", "type", "function": // see overload
		o.Harmless = true
	case "index":
		o.Harmless = t.onlyFinds()
	}
	if o.Harmless && t.Kind != "grant" {
		o.What = "it is somebody else's: the migrations do not make it"
	}
	return o
}

// onlyFinds reports whether an index neither refuses rows nor calls what somebody defined.
func (t thing) onlyFinds() bool {
	return strings.HasPrefix(t.Is, "btree ") && !strings.HasPrefix(t.Is, "btree unique") && !strings.Contains(t.Is, " calls ") &&
		strings.Count(t.Is, " of ") == strings.Count(t.Is, " of pg_catalog")
}

// onlyReads reports whether rights let nobody change anything.
func (t thing) onlyReads() bool {
	for _, right := range strings.Split(t.Is, ", ") {
		switch right {
		case "SELECT", "USAGE", "CONNECT":
		case "EXECUTE":
			if slices.Contains(writers, strings.TrimPrefix(baseName(t.Of), "function public.")) {
				return false
			}
		case "TEMPORARY":
			return t.Of == "database"
		default:
			return t.Of == "database" && t.Name != AppRole && t.Name != AuditorRole && t.Name != "public"
		}
	}
	return true
}

// writers are the functions that write with their owner's rights.
var writers = []string{"append_event", "next_event", "unlogged_events", "add_leaves", "erase_item"}

// overriding are the settings that a session cannot set for itself, and that change what is read or written.
var overriding = []string{"session_replication_role", "role", "session_authorization", "session_preload_libraries",
	"local_preload_libraries", "zero_damaged_pages", "ignore_checksum_failure", "ignore_system_indexes",
	"allow_system_table_mods", "event_triggers", "dynamic_library_path", "plpgsql.variable_conflict"}

// odd says what is odd about a thing that no migration makes.
func (t thing) odd() Oddity {
	name := plain(t.Name)
	switch t.Kind {
	case "owner":
		return Oddity{name, "it " + t.Is, t.Of == "superuser"}
	case "role":
		return Oddity{"role " + name, "it is not what the migrations make: " + t.Is, false}
	case "member":
		return Oddity{"role " + name, "it is a member of " + t.Of, t.Is == "reads"}
	case "may act as":
		return Oddity{"role " + name, "it may do what " + t.Of + " may", true}
	case "setting":
		where := "setting " + name + " of " + t.Of
		if slices.Contains(overriding, name) {
			return Oddity{where, "it is set to " + t.Is, false}
		}
		return Oddity{where, "it is set to " + t.Is + "; the program's sessions set what they rely on themselves", true}
	case "shadow":
		return Oddity{"schema " + t.Of, fmt.Sprintf("it has a %s %s: whoever has the schema on the path takes it for ours", t.Is, name), false}
	case "schema of a role":
		return Oddity{"schema " + name, "it has the name of a role of ours, which finds what is in it before what is ours", true}
	case "overload":
		return Oddity{t.Is + " " + name, "somebody made it: it can be taken for one of Postgres's own", false}
	case "redirected":
		return Oddity{name, "it is Postgres's own, and " + t.Is, false}
	case "event trigger":
		what := "it runs at changes of the schema: " + t.Is
		return Oddity{"event trigger " + name, what, strings.HasSuffix(t.Is, "of an extension")}
	case "subscription":
		return Oddity{"subscription " + name, "it writes to the table " + t.Of, false}
	case "parameter":
		return Oddity{"parameter " + name, t.Of + " may " + strings.ToLower(t.Is) + " it", false}
	}
	return Oddity{t.Kind + " " + name, t.Is, true}
}
