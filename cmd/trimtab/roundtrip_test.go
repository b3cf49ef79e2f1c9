package main

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/trimtab/trimtab/storage/storagetest"
)

// What is exported and imported again is frozen under the same digest.
func TestExportRoundTrip(t *testing.T) {
	folder := quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	for kind, lines := range map[string]string{
		"text":           "{\"text\": \"one  \\n two\"}\n{\"text\": \"ünï 生命 \\u202e\"}\n",
		"prompts":        "{\"prompt\": \"a\", \"split\": \"test\", \"tag\": \"subjects\"}\n{\"prompt\": \"b\"}\n",
		"demonstrations": "{\"prompt\": \"a\", \"completion\": \"b\", \"demonstrator\": \"d1\", \"split\": \"train\"}\n{\"prompt\": \"c\", \"completion\": \" d \"}\n",
		"rankings": "{\"prompt\": \"a\", \"responses\": [\"x\", \"y\", \"z\"], \"ranks\": [2, 1, 2], \"labeller\": \"w1\", \"group\": \"g\", \"split\": \"test\"}\n" +
			"{\"prompt\": \"b\", \"chosen\": \"x\", \"rejected\": \"y\"}\n",
	} {
		t.Run(kind, func(t *testing.T) {
			in, out := filepath.Join(folder, kind+".jsonl"), filepath.Join(folder, kind+"-out.jsonl")
			write(t, in, lines)
			first := imported(t, kind, "first-"+kind, in)
			if code, _, errs := command(t, "", "data", "export", "first-"+kind, "--to", out); code != 0 {
				t.Fatalf("export: %s", errs)
			}
			if again := imported(t, kind, "again-"+kind, out); again.Version != first.Version || first.Accepted != 2 {
				t.Errorf("%+v came back as %+v", first, again)
			}
		})
	}
}

func imported(t *testing.T, kind, name, file string) importDocument {
	t.Helper()
	code, out, errs := command(t, "", "data", "import", name, "--kind", kind, "--freeze", "-o", "json", file)
	var doc importDocument
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 0 {
		t.Fatalf("exit %d: %v\n%s%s", code, err, out, errs)
	}
	return doc
}
