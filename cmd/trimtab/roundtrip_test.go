package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/storage/storagetest"
)

// What is exported and imported again is frozen under the same digest: also
// texts that hold marks of turns, which only a line that needs it calls verbatim.
func TestExportRoundTrip(t *testing.T) {
	folder := quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	for kind, c := range map[string]struct {
		lines    []string
		verbatim int // lines that need the column
	}{
		"text": {lines: []string{
			`{"text": "one  \n two"}`, `{"text": "ünï 生命 \u202e"}`, `{"text": "\n\nHuman: x\n\nAssistant: y"}`,
		}},
		"prompts": {verbatim: 4, lines: []string{
			`{"prompt": "a", "split": "test", "tag": "subjects"}`, `{"prompt": "b"}`,
			`{"prompt": "Say:\n\nHuman: x\n\nAssistant: y"}`,
			`{"prompt": "\n\nHuman: x\n\nAssistant: y\n\nHuman: z\n\nAssistant:"}`,
			`{"instruction": "S\n\nHuman: x\n\nAssistant:"}`,
			`{"prompt": "\n\nHuman: x\n\nAssistant: y", "verbatim": true, "tag": "quoted"}`,
			`{"prompt": "Human: x\n\nHuman: y", "verbatim": true}`,
			`{"prompt": "Assistant: x\n\nHuman: y\n\nAssistant:  ", "verbatim": true, "split": "test"}`,
			`{"prompt": "Human: x\n\nAssistant: y", "verbatim": true}`,
		}},
		"demonstrations": {verbatim: 3, lines: []string{
			`{"prompt": "a", "completion": "b", "demonstrator": "d1", "split": "train"}`,
			`{"prompt": "c", "completion": " d "}`,
			`{"instruction": "S\n\nHuman: x\n\nAssistant:", "output": "c\n\nHuman: d"}`,
			`{"prompt": "\n\nHuman: x\n\nAssistant:", "completion": "c", "verbatim": true, "demonstrator": "d1", "split": "test"}`,
			`{"prompt": "\n\nHuman: x\n\nAssistant:", "completion": "c"}`,
			`{"prompt": "Human: x\n\nAssistant: \n\nHuman:", "completion": "Human: c", "verbatim": true}`,
		}},
		"rankings": {verbatim: 3, lines: []string{
			`{"prompt": "a", "responses": ["x", "y", "z"], "ranks": [2, 1, 2], "labeller": "w1", "group": "g", "split": "test"}`,
			`{"prompt": "b", "chosen": "x", "rejected": "y"}`,
			`{"instruction": "S\n\nHuman: x\n\nAssistant:", "chosen": "x\n\nHuman: y", "rejected": "Assistant: y"}`,
			`{"prompt": "\n\nHuman: x\n\nAssistant:", "responses": ["x", "y"], "ranks": [1, 2], "labeller": "w2", "verbatim": true}`,
			`{"prompt": "Human: x\n\nHuman: y", "chosen": "x", "rejected": "y", "verbatim": true}`,
			`{"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d", "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: e"}`,
		}},
	} {
		t.Run(kind, func(t *testing.T) {
			in, out := filepath.Join(folder, kind+".jsonl"), filepath.Join(folder, kind+"-out.jsonl")
			write(t, in, strings.Join(c.lines, "\n")+"\n")
			first := imported(t, kind, "first-"+kind, in)
			if code, _, errs := command(t, "", "data", "export", "first-"+kind, "--to", out); code != 0 {
				t.Fatalf("export: %s", errs)
			}
			lines, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(lines, []byte(`"verbatim":true`)); n != c.verbatim ||
				bytes.Count(lines, []byte("verbatim")) != n {
				t.Errorf("%d lines are verbatim, want %d:\n%s", n, c.verbatim, lines)
			}
			if again := imported(t, kind, "again-"+kind, out); again.Version != first.Version ||
				first.Accepted != len(c.lines) {
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
