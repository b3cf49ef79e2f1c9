package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/storage/storagetest"
)

// What audit verify and doctor say of a database of which somebody changed more than rows, and with which exit code.
func TestVerifyOfAChangedDatabase(t *testing.T) {
	quiet(t)
	urls := storagetest.URLs(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", urls.App)
	t.Setenv("TRIMTAB_TEMPORAL_ADDRESS", "127.0.0.1:1")
	t.Setenv("TRIMTAB_DATA", filepath.Join(t.TempDir(), "data"))
	must := func(want int, contains string, args ...string) string {
		t.Helper()
		code, out, errs := command(t, "{\"text\": \"a\"}\n", args...)
		if code != want || !strings.Contains(out+errs, contains) {
			t.Fatalf("%v: exit %d, without %q: %s%s", args, code, contains, out, errs)
		}
		return out
	}
	must(0, "", "data", "import", "x", "--kind", "text", "-")
	must(0, "note: the record: it began at ", "audit", "verify")
	must(0, "trimtab-", "audit", "key")
	must(0, "wrote ", "audit", "export", filepath.Join(t.TempDir(), "export"))
	must(0, "nothing was changed\nnot covered by this verification:\n", "audit", "verify")
	var doc verification
	if err := json.Unmarshal([]byte(must(0, "", "audit", "verify", "-o", "json", "--no-files")), &doc); err != nil ||
		!doc.Sound || len(doc.Notes) > 0 || doc.Heads == 0 {
		t.Errorf("%+v, %v", doc, err)
	}
	if len(doc.OutOfScope) < 5 || doc.OutOfScope[0] != "the files of models and checkpoints (--no-files)" ||
		doc.Unsigned.Events != 1 {
		t.Errorf("%q, %+v", doc.OutOfScope, doc.Unsigned) // the verification before is not yet under a head
	}
	must(6, "\nschema       ok ", "doctor") // Temporal is away

	change(t, urls.Owner, "create index theirs on run (actor)")
	must(0, "note: index theirs of run: it is somebody else's", "audit", "verify")
	must(6, "\nschema       warning", "doctor")
	change(t, urls.Owner, "alter table event disable trigger event_stays")
	must(5, "trigger event_stays of event: it is not as the migrations make it", "audit", "verify")
	must(6, "differs from the migrations in 1 place, first: trigger event_stays of event", "doctor")
	change(t, urls.Owner, "alter table dataset enable row level security")
	must(5, "table dataset: it is not as the migrations make it", "audit", "verify")
	must(5, "row security would hide rows of a table from this program", "data", "list")
}

// Row security that hides rows from the application alone, not from the owner, is named by doctor too, and so is a
// table
// without any row for it.
func TestDoctorOfHiddenRows(t *testing.T) {
	for what, policy := range map[string]string{
		"some rows": "create policy hide on metric to trimtab_app using (attempt <> 1)",
		"all rows":  "create policy owners on metric to current_user using (true)",
	} {
		t.Run(what, func(t *testing.T) {
			r := newRun(t)
			r.says(6, "\nschema       ok ", "doctor") // Temporal is away
			change(t, r.urls.Owner, "alter table metric enable row level security; "+policy)
			said := r.says(6, "\nschema       problem", "doctor")
			if !strings.Contains(said, "metric") || !strings.Contains(said, "audit verify") {
				t.Errorf("doctor does not say what is wrong: %s", said)
			}
			r.says(5, "table metric: it is not as the migrations make it", "audit", "verify")
			r.says(5, "row security would hide rows of a table from this program", "doctor", "--run", "mine")
		})
	}
}
