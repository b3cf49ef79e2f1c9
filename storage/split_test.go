package storage_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func pairOf(prompt, group string, n int) trimtab.Ranking {
	return trimtab.Ranking{Prompt: prompt, Group: group, Ranks: []int{1, 2}, Labeller: fmt.Sprint("w", n),
		Responses: []trimtab.Response{{Bytes: []byte("good")}, {Bytes: []byte("bad")}}}
}

func split(t *testing.T, s *storage.Store, name string, by storage.SplitBy, share float64,
	dry bool) (storage.SplitResult, error) {
	t.Helper()
	rule := dataset.HoldOutShare(1, share)
	return s.SplitDataset(t.Context(), name, storage.SplitRule{By: by, Share: share, Seed: 1, Below: rule.Below},
		rule.Hash, "ann", dry)
}

// sides reads a version, and makes sure that no prompt and no group is on both sides.
func sides(t *testing.T, s *storage.Store, v storage.DatasetVersion,
	groups bool) (train, test int, of map[string]string) {
	t.Helper()
	items, err := s.Items(t.Context(), v.Digest)
	must(t, err)
	of = map[string]string{}
	for _, item := range items {
		r := item.(trimtab.Ranking)
		units := []string{"prompt " + r.Prompt}
		if groups && r.Group != "" {
			units = append(units, "group "+r.Group)
		}
		for _, unit := range units {
			if was, ok := of[unit]; ok && was != r.Split {
				t.Errorf("%s is in %q and %q", unit, was, r.Split)
			}
			of[unit] = r.Split
		}
		switch r.Split {
		case trimtab.SplitTrain:
			train++
		case trimtab.SplitTest:
			test++
		default:
			t.Errorf("an item without a split: %+v", r)
		}
	}
	return train, test, of
}

func TestSplit(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	var items []trimtab.Item
	for i := range 400 {
		items = append(items, pairOf(fmt.Sprint("prompt ", i%100), "", i))
	}
	file := storage.ImportedFile{Name: "votes.jsonl", Digest: digest("file"), Bytes: 7, Items: 400}
	_, err := s.AddItems(ctx, "votes", trimtab.KindRankings, items, []storage.ImportedFile{file}, "ann")
	must(t, err)
	before, err := s.Freeze(ctx, "votes", "ann")
	must(t, err)

	look, err := split(t, s, "votes", storage.SplitByGroup, .2, true)
	must(t, err)
	d, err := s.Dataset(ctx, "votes")
	must(t, err)
	if len(d.Versions) != 1 || look.Version.Digest != "" {
		t.Errorf("a dry run froze something: %+v, %+v", d, look)
	}
	done, err := split(t, s, "votes", storage.SplitByGroup, .2, false)
	must(t, err)
	train, test, of := sides(t, s, done.Version, true)
	if train+test != 400 || test != done.HeldOut || test != look.HeldOut || done.Units != 100 ||
		test != 4*done.TestUnits || test < 40 || test > 120 {
		t.Errorf("%d for training and %d held out; told %+v, before %+v", train, test, done, look)
	}
	d, err = s.Dataset(ctx, "votes")
	must(t, err)
	if d.Items != 400 || len(d.Versions) != 2 || d.Versions[0].Digest != done.Version.Digest {
		t.Errorf("dataset %+v", d)
	}
	if _, err := s.Items(ctx, before.Digest); err != nil {
		t.Errorf("the version before: %v", err)
	}
	if got, _, err := s.Summary(ctx, done.Version.Digest); err != nil || got.HeldOut != test {
		t.Errorf("summary %+v, %v", got, err)
	}

	// The same files again bring nothing back; more of them goes where its prompts are.
	again, err := s.AddItems(ctx, "votes", trimtab.KindRankings, items, nil, "ann")
	must(t, err)
	same, err := s.Freeze(ctx, "votes", "ann")
	must(t, err)
	if again.Added != 0 || same.Digest != done.Version.Digest {
		t.Errorf("imported again: %+v, %s", again, same.Digest)
	}
	_, err = split(t, s, "votes", storage.SplitByGroup, .2, false)
	wantError(t, err, trimtab.Conflict, "dataset_split_already")
	_, err = s.AddItems(ctx, "votes", trimtab.KindRankings,
		[]trimtab.Item{pairOf("prompt 3", "", 1000), pairOf("prompt 4", "", 1001), pairOf("new", "", 1002)}, nil, "bob")
	must(t, err)
	_, err = split(t, s, "votes", storage.SplitByGroup, .3, false)
	wantError(t, err, trimtab.Conflict, "dataset_split_already")
	more, err := split(t, s, "votes", storage.SplitByGroup, .2, false)
	must(t, err)
	_, _, now := sides(t, s, more.Version, true)
	for unit, side := range of {
		if now[unit] != side {
			t.Errorf("%s was in %s, is in %s", unit, side, now[unit])
		}
	}
	if more.Version.Items != 403 || more.Items != 3 {
		t.Errorf("split again: %+v", more)
	}

	// Where the items came from is known as before, and whoever is erased is gone from both.
	held, err := s.VersionsFromFile(ctx, file.Digest)
	must(t, err)
	versions := map[trimtab.Digest]int{}
	for _, h := range held {
		versions[h.Version] = h.Items
	}
	if versions[before.Digest] != 400 || versions[done.Version.Digest] != 400 || versions[more.Version.Digest] != 400 {
		t.Errorf("the file is in %v", versions)
	}
	gone, err := s.Erase(ctx, "votes", []trimtab.Digest{trimtab.DigestOf(items[0].Canonical())}, "ann", "asked to",
		false)
	must(t, err)
	if len(gone.Items) != 2 || len(gone.Versions) != 3 {
		t.Errorf("erased %+v", gone)
	}
	left, err := s.Freeze(ctx, "votes", "ann")
	must(t, err)
	if left.Items != 402 {
		t.Errorf("without the erased item: %+v", left)
	}
}

// Groups that share a prompt are one; the least that is held out is one unit, the most all but one.
func TestSplitOfFewUnits(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	for share, want := range map[float64][2]int{1e-9: {3, 1}, .999999999: {1, 3}} {
		var items []trimtab.Item
		for i := range 24 {
			items = append(items, pairOf(fmt.Sprint("p", i%8), fmt.Sprint("g", i%8/2), i))
		}
		name := fmt.Sprint("few", share)
		_, err := s.AddItems(ctx, name, trimtab.KindRankings, items, nil, "ann")
		must(t, err)
		done, err := split(t, s, name, storage.SplitByGroup, share, false)
		must(t, err)
		sides(t, s, done.Version, true)
		if done.Units != 4 || done.TestUnits != want[1] || done.HeldOut != 6*want[1] {
			t.Errorf("share %v: %+v", share, done)
		}
	}
	var chained []trimtab.Item // g0 and g1 share p1, g1 and g2 share p2; g9 is apart
	for i, of := range [][2]string{{"p0", "g0"}, {"p1", "g0"}, {"p1", "g1"}, {"p2", "g1"}, {"p2", "g2"}, {"p3", "g2"},
		{"p9", "g9"}, {"p8", ""}} {
		chained = append(chained, pairOf(of[0], of[1], i))
	}
	_, err := s.AddItems(ctx, "chained", trimtab.KindRankings, chained, nil, "ann")
	must(t, err)
	done, err := split(t, s, "chained", storage.SplitByGroup, .5, false)
	must(t, err)
	sides(t, s, done.Version, true)
	if done.Units != 3 {
		t.Errorf("chained groups: %+v", done)
	}

	_, err = s.AddItems(ctx, "one", trimtab.KindPrompts,
		[]trimtab.Item{trimtab.Prompt{Text: "p"}, trimtab.Prompt{Text: "p", Tag: "x"}}, nil, "ann")
	must(t, err)
	_, err = split(t, s, "one", storage.SplitByPrompt, .5, false)
	wantError(t, err, trimtab.Conflict, "dataset_one_unit")
	_, err = s.AddItems(ctx, "own", trimtab.KindPrompts, samples[trimtab.KindPrompts], nil, "ann")
	must(t, err)
	_, err = split(t, s, "own", storage.SplitByPrompt, .5, false)
	wantError(t, err, trimtab.Conflict, "dataset_has_splits")
	_, err = s.AddItems(ctx, "text", trimtab.KindText, samples[trimtab.KindText], nil, "ann")
	must(t, err)
	_, err = split(t, s, "text", storage.SplitByPrompt, .5, false)
	wantError(t, err, trimtab.Usage, "wrong_kind")
	_, err = split(t, s, "none", storage.SplitByPrompt, .5, false)
	wantError(t, err, trimtab.NotFound, "dataset_not_found")
	_, err = s.AddItems(ctx, "demos", trimtab.KindDemonstrations,
		[]trimtab.Item{trimtab.Demonstration{Prompt: "p0", Response: "x"},
			trimtab.Demonstration{Prompt: "p1", Response: "x"}}, nil, "ann")
	must(t, err)
	if done, err = split(t, s, "demos", storage.SplitByPrompt, .5, false); err != nil || done.HeldOut != 1 {
		t.Errorf("demonstrations: %+v, %v", done, err)
	}
}

// What would bring a prompt into both parts is refused, and nothing is changed.
func TestSplitThatWouldTear(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	var items []trimtab.Item
	for i := range 40 {
		items = append(items, pairOf(fmt.Sprint("p", i), fmt.Sprint("g", i), i))
	}
	_, err := s.AddItems(ctx, "d", trimtab.KindRankings, items, nil, "ann")
	must(t, err)
	done, err := split(t, s, "d", storage.SplitByGroup, .5, false)
	must(t, err)
	_, _, of := sides(t, s, done.Version, true)
	var bridge []trimtab.Item // prompts of a training group and of a test group, in one new group
	for side := range map[string]bool{trimtab.SplitTrain: true, trimtab.SplitTest: true} {
		for i := range 40 {
			if prompt := fmt.Sprint("p", i); of["prompt "+prompt] == side {
				bridge = append(bridge, pairOf(prompt, "bridge", 100+i))
				break
			}
		}
	}
	_, err = s.AddItems(ctx, "d", trimtab.KindRankings, bridge, nil, "ann")
	must(t, err)
	_, err = split(t, s, "d", storage.SplitByGroup, .5, false)
	wantError(t, err, trimtab.Conflict, "dataset_split_torn")
	d, err := s.Dataset(ctx, "d")
	must(t, err)
	if len(d.Versions) != 1 || d.Items != 42 {
		t.Errorf("a refused split changed something: %+v", d)
	}
}

// Rows of a ranking that is not there, or of a response that is not, are refused as by a foreign key.
func TestPlacesNeedTheirRows(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	s, ctx := storagetest.Open(t, urls.App), t.Context()
	_, err := s.AddItems(ctx, "r", trimtab.KindRankings, samples[trimtab.KindRankings], nil, "ann")
	must(t, err)
	conn, err := pgx.Connect(ctx, urls.App)
	must(t, err)
	defer conn.Close(ctx)
	for what, sql := range map[string]string{
		"ranking":  "insert into ranking_response select $1, 1, response, 1 from ranking_response limit 1",
		"response": "insert into ranking_response select ranking, 9, $1, 1 from ranking_response limit 1",
	} {
		_, err := conn.Exec(ctx, sql, string(digest("nothing")))
		if err == nil {
			t.Errorf("a place of a %s that is not there was taken", what)
		}
		t.Log(err)
	}
}
