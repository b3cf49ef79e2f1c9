package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// gcDocument is what `trimtab gc -o json` prints.
type gcDocument struct {
	Schema, Store string
	DryRun        bool  `json:"dry_run"`
	Bytes         int64 `json:"bytes"`
	BytesRemoved  int64 `json:"bytes_removed"`
	Files         []unreferencedFile
}

func garbage(t *testing.T, args ...string) (doc gcDocument) {
	t.Helper()
	code, out, errs := command(t, "", append([]string{"gc", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 0 || doc.Schema != "trimtab.gc/v1" {
		t.Fatalf("exit %d, %v: %s%s", code, err, out, errs)
	}
	return doc
}

// Gc shows with --dry-run, removes with --yes, and without either asks somebody who is there.
func TestGC(t *testing.T) {
	folder := quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	store := filepath.Join(folder, "data", "trimtab", "store")
	if doc := garbage(t); len(doc.Files) != 0 || doc.Store != store {
		t.Fatalf("a new store has %+v", doc)
	}
	name := trimtab.DigestOf(nil).Hex()
	file := filepath.Join(store, "objects", name)
	write(t, file, "loose")
	if doc := garbage(t, "--yes"); len(doc.Files) != 0 {
		t.Fatalf("a file that was just written: %+v", doc)
	}
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"gc"}, {"gc", "--grace", "1m", "--yes"}, {"gc", "--keep-states", "-1h", "--yes"}} {
		if f := fails(t, 2, args...); f.Type != "usage" {
			t.Errorf("%v: %+v", args, f)
		}
	}
	doc := garbage(t, "--dry-run")
	if !doc.DryRun || len(doc.Files) != 1 || doc.Bytes != 5 || doc.BytesRemoved != 0 || doc.Files[0].Path != "objects/"+
		name || doc.Files[0].Size != 5 ||
		doc.Files[0].Age < 24*3600 || doc.Files[0].Reason == "" || doc.Files[0].Removed {
		t.Errorf("%+v", doc)
	}
	code, out, errs := command(t, "", "gc", "--dry-run")
	if code != 0 || !strings.Contains(out, "objects/"+name[:12]+"  ") ||
		!strings.Contains(errs, "nothing was removed") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	if doc := garbage(t, "--yes"); doc.DryRun || doc.BytesRemoved != 5 || !doc.Files[0].Removed {
		t.Errorf("%+v", doc)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file is still there")
	}
}
