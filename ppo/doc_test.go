package ppo

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that doc.go names exists, and every detail names one, or says where it is pinned.
func TestDetailsNameTheirTests(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(doc), "# Details")
	details := regexp.MustCompile(`(?m)^//  \d+\. `).Split(list, -1)[1:]
	if len(details) < 28 {
		t.Fatalf("%d details found, want 28", len(details))
	}
	for i, d := range details {
		names := regexp.MustCompile(`Test\w+`).FindAllString(d, -1)
		if len(names) == 0 && !strings.Contains(d, "optim") && !strings.Contains(d, "There is no") {
			t.Errorf("detail %d names no test", i+1)
		}
		for _, name := range names {
			if !strings.Contains(source.String(), "func "+name+"(t *testing.T)") {
				t.Errorf("detail %d names %s, which does not exist", i+1, name)
			}
		}
	}
}
