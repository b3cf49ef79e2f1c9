package dataset

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
)

// sharedFile opens a file of the folder of real data, which is no part of the
// repository: TRIMTAB_SHARED, or ../shared/data beside it.
func sharedFile(t testing.TB, name string) io.Reader {
	t.Helper()
	dir := os.Getenv("TRIMTAB_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("no shared data (set TRIMTAB_SHARED to its folder): %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestSharedFiles imports the real files as they are.
func TestSharedFiles(t *testing.T) {
	for _, c := range []struct {
		kind                                      trimtab.Kind
		file                                      string
		accepted, duplicates, undecided, rejected int
		equal                                     int // two equal responses are ranked apart
	}{
		{trimtab.KindRankings, "preferences/hh_harmless_test.jsonl", 1784, 0, 0, 0, 0},
		{trimtab.KindRankings, "preferences/kwise_human.jsonl", 337, 0, 0, 0, 3},
		{trimtab.KindRankings, "preferences/oasst_en_100_trees.jsonl", 145, 0, 0, 0, 0},
		{trimtab.KindRankings, "preferences/pandalm_testset.jsonl", 1751, 196, 65, 6, 0},
		{trimtab.KindRankings, "preferences/ukp_all_votes.jsonl", 47725, 30, 108, 0, 5},
		{trimtab.KindRankings, "preferences/ukp_strict_pairs.jsonl", 8308, 113, 0, 0, 0},
		{trimtab.KindDemonstrations, "demonstrations/gsm8k_train.jsonl", 7473, 0, 0, 0, 0},
		{trimtab.KindDemonstrations, "demonstrations/self_instruct_seed_tasks.jsonl", 175, 0, 0, 0, 0},
		{trimtab.KindDemonstrations, "evaluation/gsm8k_test.jsonl", 1319, 0, 0, 0, 0},
		{trimtab.KindPrompts, "evaluation/HumanEval.jsonl.gz", 164, 0, 0, 0, 0},
		{trimtab.KindPrompts, "evaluation/HumanEval_go_v1.jsonl", 160, 0, 0, 0, 0},
		{trimtab.KindPrompts, "evaluation/mbgp.jsonl", 784, 0, 0, 0, 0},
		{trimtab.KindPrompts, "evaluation/TruthfulQA.csv", 813, 0, 0, 0, 0},
		{trimtab.KindText, "text/tinyshakespeare.txt", 1, 0, 0, 0, 0},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			im, err := Read(c.kind, c.file, sharedFile(t, c.file), ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := [5]int{im.Accepted, im.Duplicates, im.Undecided, len(im.Rejected) + im.Unlisted, im.Equal}
			if want := [5]int{c.accepted, c.duplicates, c.undecided, c.rejected, c.equal}; got != want {
				t.Errorf("accepted, duplicates, undecided, rejected, equal: %v, want %v", got, want)
				for _, p := range im.Rejected[:min(8, len(im.Rejected))] {
					t.Log(p.Error())
				}
			}
		})
	}
}

// TestSharedRows spot-checks what the numbers do not say.
func TestSharedRows(t *testing.T) {
	im, err := Read(trimtab.KindRankings, "pandalm_testset.jsonl", sharedFile(t, "preferences/pandalm_testset.jsonl"),
		ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, p := range im.Rejected {
		lines = append(lines, p.Line)
	}
	if want := []int{128, 129, 130, 132, 133, 135}; !slices.Equal(lines, want) {
		t.Errorf("rows with a response that is not a string: %v, want %v", lines, want)
	}
	im, err = Read(trimtab.KindRankings, "ukp.jsonl", sharedFile(t, "preferences/ukp_strict_pairs.jsonl"),
		ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	debates := map[string]bool{}
	for _, item := range im.Items {
		debates[item.(trimtab.Ranking).Group] = true
	}
	if len(debates) != 12 {
		t.Errorf("%d debates in 24 sides: %v", len(debates), debates)
	}
	for split, want := range map[string]int{"paragraph": 7222, "line": 0} {
		im, err = Read(trimtab.KindText, "shakespeare.txt", sharedFile(t, "text/tinyshakespeare.txt"),
			ReadOptions{Split: split})
		if err != nil || want != 0 && im.Accepted+im.Duplicates != want {
			t.Errorf("split by %s: %d texts and %d duplicates: %v", split, im.Accepted, im.Duplicates, err)
		}
	}
}
