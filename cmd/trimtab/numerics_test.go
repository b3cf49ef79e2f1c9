package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFastestContract(t *testing.T) {
	s := numericsSpeeds{{Numerics: "v1", Speed: 93.8e9}, {Numerics: "v1-bf16", Speed: 29.8e9}}
	if got := s.fastest().Numerics; got != "v1" {
		t.Errorf("the fastest is %s", got)
	}
	if got, want := s.sentence(), "fastest numerics on this machine: v1 (matrix products: v1 93.8 GFLOP/s, v1-bf16 29.8 "+
		"GFLOP/s)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if s.of("v1-bf16") != 29.8e9 || s.of("v9") != 0 {
		t.Errorf("speeds by name: %v, %v", s.of("v1-bf16"), s.of("v9"))
	}
}

func TestMeasureSpeeds(t *testing.T) {
	s := measureNumericsSpeeds()
	for _, contract := range numericsNames {
		if !slices.ContainsFunc(s, func(c numericsSpeed) bool { return c.Numerics == contract && c.Speed > 0 }) {
			t.Errorf("%s was not measured: %v", contract, s)
		}
	}
}

func TestVersionLine(t *testing.T) {
	for _, c := range []struct {
		v    versionDocument
		want string
	}{
		{versionDocument{}, ""},
		{versionDocument{Revision: "1d14c96", Date: "2026-11-30T13:26:00Z"}, " (1d14c96, 2026-11-30T13:26:00Z)"},
		{versionDocument{Revision: "1d14c96", Modified: true}, " (1d14c96, modified)"},
	} {
		if got := c.v.commit(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.v, got, c.want)
		}
	}
}

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	if code := run([]string{"man", dir}, strings.NewReader(""), t.Output(), t.Output()); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	page, err := os.ReadFile(filepath.Join(dir, "trimtab-rerun.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`.TH "TRIMTAB-RERUN" "1"`, "--from-checkpoint", "EXAMPLE"} {
		if !strings.Contains(strings.ReplaceAll(string(page), `\-`, "-"), want) {
			t.Errorf("trimtab-rerun.1 lacks %q", want)
		}
	}
}
