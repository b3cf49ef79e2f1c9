package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestBench(t *testing.T) {
	quiet(t)
	args := []string{"bench", "--shape", "0.9M-16x64", "--work", "score", "--runs", "1", "--workers", "1"}
	code, out, errs := command(t, "", append(args, "-o", "json")...)
	if code != 0 || !strings.Contains(errs, "measuring score at shape 0.9M-16x64") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var doc benchDocument
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if doc.Schema != "trimtab.bench/v1" || doc.Machine.Workers != 1 || len(doc.Work) != 1 {
		t.Fatalf("%+v", doc)
	}
	if w := doc.Work[0]; w.Work != "score" || w.Tokens != 1024 || w.Runs < 1 || w.Rate <= 0 || w.Speed <= 0 ||
		w.Heap <= 0 || len(w.Parts) == 0 {
		t.Errorf("%+v", w)
	}
}

func TestBenchTable(t *testing.T) {
	doc := benchDocument{Machine: benchMachine{Kernels: "portable", Workers: 2}, Work: []benchWork{
		{Work: "train", Runs: 5, Tokens: 10, Rate: 4, Speed: 2e9, Heap: 3e6,
			Parts: []benchPart{{"attention", 1, .25}, {"products", 3, .75}}},
		{Work: "score", Runs: 5, Tokens: 10, Rate: 8, Speed: 4e9, Heap: 2e6, Parts: []benchPart{{"products", 2, 1}}},
	}}
	var out strings.Builder
	if err := (&app{out: &out, format: formatTable}).printBench(doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"portable kernels, 2 workers; peak unknown: these kernels cannot measure it\n",
		"train     5      10         4      2.0        ?         ?  3 MB            0\n",
		"time by part   train    score\n",
		"attention     25.0 %\n",
		"products      75.0 %  100.0 %",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
