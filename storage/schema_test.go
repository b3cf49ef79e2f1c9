package storage_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/migrations"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

var update = flag.Bool("update", false, "write migrations/schema.txt anew: after a new migration")

// What the migrations make is what migrations/schema.txt says, whatever the version of Postgres.
func TestSchema(t *testing.T) {
	s := storagetest.New(t)
	var lines []string
	var odd []storage.SchemaDeviation
	must(t, s.Snapshot(t.Context(), func(r storage.Snapshot) (err error) {
		if lines, err = r.SchemaLines(t.Context()); err != nil {
			return err
		}
		odd, err = r.Schema(t.Context())
		return err
	}))
	text := strings.Join(lines, "\n") + "\n"
	if *update {
		must(t, os.WriteFile("../migrations/schema.txt", []byte(text), 0o644))
		return
	}
	if text != migrations.Schema {
		have, want := strings.Split(text, "\n"), strings.Split(migrations.Schema, "\n")
		for _, d := range [][2][]string{{have, want}, {want, have}} {
			for _, line := range d[0] {
				if !strings.Contains("\n"+strings.Join(d[1], "\n")+"\n", "\n"+line+"\n") {
					t.Log(line)
				}
			}
		}
		t.Error("the schema is not that of migrations/schema.txt: go test ./storage -run TestSchema -update")
	}
	for _, o := range odd {
		t.Errorf("%+v", o)
	}
}
