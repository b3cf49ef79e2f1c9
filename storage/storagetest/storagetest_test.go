package storagetest

import (
	"testing"

	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/storage"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	a, b := New(t), New(t)
	ctx := t.Context()
	if err := a.CreateRun(ctx, storage.Run{ID: "run-one", Name: "one"}); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[*storage.Store]int{a: 1, b: 0} {
		runs, err := s.Runs(ctx, 0)
		if err != nil || len(runs) != want {
			t.Errorf("got %d runs (%v), want %d", len(runs), err, want)
		}
	}
}

func TestOnAnotherServer(t *testing.T) {
	t.Parallel()
	a := URLsOn(t, devstacktest.Postgres(t).PostgresURL)
	for _, url := range []string{a.Owner, a.App, a.Auditor} {
		if err := Open(t, url).Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestDatabaseIsDroppedWithTheTest(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("inner", func(t *testing.T) { url = URLs(t).Owner })
	if err := execute(t.Context(), url, "select 1"); err == nil {
		t.Error("the database of a finished test still answers")
	}
}
