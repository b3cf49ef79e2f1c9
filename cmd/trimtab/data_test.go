package main

import (
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

func TestSummarize(t *testing.T) {
	version := storage.DatasetVersion{Kind: trimtab.KindRankings}
	s := summarize(version, storage.VersionSummary{Pairs: 8, Longer: 10, Labellers: 2, Common: 3, Agreed: 2})
	if want := "8 pairs by 2 labellers; longer wins 0.625; two labellers agree on 0.667 of 3 common pairs"; s.String() != want {
		t.Errorf("%s, want %s", s, want)
	}
	s = summarize(version, storage.VersionSummary{Pairs: 2, Longer: 1, Labellers: 1})
	if want := "2 pairs by 1 labeller; longer wins 0.250"; s.String() != want {
		t.Errorf("%s, want %s", s, want)
	}
	version.Erased = 1
	if got := summarize(version, storage.VersionSummary{Pairs: 2}); got != nil {
		t.Errorf("a version with erased items has %+v", got)
	}
	if got := summarize(storage.DatasetVersion{Kind: trimtab.KindText}, storage.VersionSummary{}); got != nil {
		t.Errorf("texts have %+v", got)
	}
}
