package notary_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab/notary"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// A forgery is what somebody with a superuser's rights does to a copy of a sound record.
type forgery struct {
	name  string
	do    string // SQL
	undo  string // SQL for what belongs to the whole server: roles
	want  string // in a problem that verify names; without it, none is
	note  string // in a note
	since int    // version of Postgres
}

// forgeries reads testdata/forgeries.txt: paragraphs of a name, what is wanted, and SQL. The first is done before each.
func forgeries(t *testing.T) (before string, list []forgery) {
	t.Helper()
	raw, err := os.ReadFile("testdata/forgeries.txt")
	must(t, err)
	for paragraph := range strings.SplitSeq(string(raw), "\n\n") {
		var f forgery
		for line := range strings.Lines(paragraph) {
			key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch key {
			case "#":
				f.name = rest
			case "want:":
				f.want = rest
			case "note:":
				f.note = rest
			case "undo:":
				f.undo = rest
			case "since:":
				_, err := fmt.Sscan(rest, &f.since)
				must(t, err)
			default:
				f.do += line
			}
		}
		list = append(list, f)
	}
	return list[0].do, list[1:]
}

// A copy of a sound record is changed by somebody who may do anything: verify names each change.
func TestForgeriesAreNamed(t *testing.T) {
	r := newRecord(t)
	r.fill()
	r.keep()
	r.store.Close()
	r.owner.Close(t.Context())
	before, list := forgeries(t)
	var table strings.Builder
	for i, f := range list {
		t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
			said := r.forge(t, i, before, f)
			fmt.Fprintf(&table, "| %s | %s |\n", f.name, strings.ReplaceAll(said, "|", "/"))
		})
	}
	if path := os.Getenv("TRIMTAB_FORGERIES"); path != "" { // for a table of what was said
		must(t, os.WriteFile(path, []byte(table.String()), 0o644))
	}
}

// forge makes a copy of the record, changes it and says what verify finds.
func (r *recorded) forge(t *testing.T, i int, before string, f forgery) string {
	urls := r.copied(t, fmt.Sprintf("forged_%d", i))
	owner, err := pgx.Connect(t.Context(), urls.Owner)
	must(t, err)
	defer owner.Close(context.WithoutCancel(t.Context()))
	var version int
	must(t, owner.QueryRow(t.Context(), "select current_setting('server_version_num')::integer / 10000").Scan(&version))
	if version < f.since {
		t.Skipf("Postgres %d", version)
	}
	run := func(sql string) {
		if _, err := owner.PgConn().Exec(context.WithoutCancel(t.Context()), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if f.undo != "" {
		defer run(f.undo)
	}
	run(before)
	run(f.do)
	return r.judged(t, urls, f)
}

// judged verifies a copy; what was wanted must be among what it says.
func (r *recorded) judged(t *testing.T, urls storagetest.Addresses, f forgery) string {
	store, err := storage.Open(t.Context(), urls.App)
	if err != nil {
		if f.want == "" || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%v", err)
		}
		return err.Error()
	}
	defer store.Close()
	v := notary.Verifier{Store: store, Keys: []string{r.signer.Verifier()}, Saved: r.savedHeads()}
	rep, err := v.Verify(t.Context())
	must(t, err)
	problems, notes := said(rep.Problems), said(rep.Notes)
	if !strings.Contains(problems, f.want) || f.want == "" && problems != "" {
		t.Errorf("%q is not named: %s", f.want, problems)
	}
	if !strings.Contains(notes, f.note) {
		t.Errorf("%q is not noted: %s", f.note, notes)
	}
	if problems == "" {
		return "(a note, exit 0) " + notes
	}
	return problems
}

func said(list []notary.Problem) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.Where + ": " + p.What
	}
	return strings.Join(texts, "; ")
}

// copied is a database of its own with all that the record has, dropped with the test.
func (r *recorded) copied(t *testing.T, name string) storagetest.Addresses {
	t.Helper()
	at := func(raw, database string) string {
		u, err := url.Parse(raw)
		must(t, err)
		u.Path = "/" + database
		return u.String()
	}
	u, err := url.Parse(r.urls.Owner)
	must(t, err)
	from := strings.TrimPrefix(u.Path, "/")
	name = from + "_" + name
	admin, err := pgx.Connect(t.Context(), at(r.urls.Owner, "postgres"))
	must(t, err)
	defer admin.Close(context.WithoutCancel(t.Context()))
	_, err = admin.Exec(t.Context(), fmt.Sprintf("create database %s template %s", name, from))
	must(t, err)
	t.Cleanup(func() {
		admin, err := pgx.Connect(context.Background(), at(r.urls.Owner, "postgres"))
		must(t, err)
		defer admin.Close(context.Background())
		_, err = admin.Exec(context.Background(), fmt.Sprintf("drop database %s with (force)", name))
		must(t, err)
	})
	return storagetest.Addresses{Owner: at(r.urls.Owner, name), App: at(r.urls.App, name),
		Auditor: at(r.urls.Auditor, name)}
}
