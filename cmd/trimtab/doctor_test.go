package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// change runs SQL as the owner of a database.
func change(t *testing.T, ownerURL, sql string, args ...any) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// Doctor names what is broken in a run's record, and ends with exit code 5; Temporal is away all the time.
func TestDoctorOfARun(t *testing.T) {
	quiet(t)
	urls := storagetest.URLs(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", urls.App)
	s := storagetest.Open(t, urls.App)
	if err := s.CreateRun(t.Context(), storage.Run{ID: "run-1", Name: "mine",
		Plan: trimtab.Plan{Run: "run-1"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRunStatus(t.Context(), "run-1", trimtab.RunRunning, "", nil, "trimtab"); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "", "doctor", "--run", "mine"); code != 0 ||
		!strings.Contains(out, "events_without_gap") || !strings.Contains(errs, "invariants hold") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	if f := fails(t, 3, "doctor", "--run", "nobody"); f.Type != "run_not_found" {
		t.Errorf("%+v", f)
	}
	change(t, urls.Owner, "update run_state set next = 'rest' where run = 'run-1'")
	code, out, errs := command(t, "", "doctor", "--run", "mine", "-o", "json")
	var doc struct {
		Schema, Run string
		OK          bool
		Invariants  []invariant
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 5 || doc.Schema != "trimtab.invariants/v1" ||
		doc.Run != "run-1" || doc.OK {
		t.Fatalf("exit %d, %v: %s%s", code, err, out, errs)
	}
	for _, i := range doc.Invariants {
		if want := i.Invariant != "run_state"; i.OK != want || (i.Broken == 0) != want ||
			(len(i.Offenders) == 0) != want || i.Must == "" {
			t.Errorf("%+v", i)
		}
	}
}
