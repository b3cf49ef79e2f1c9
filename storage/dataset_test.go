package storage_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// samples has items of every kind, with what databases tend to lose.
var samples = map[trimtab.Kind][]trimtab.Item{
	trimtab.KindText: {trimtab.Text{Body: "one"}, trimtab.Text{Body: "two\r\n\t\\N \\. é 😀 \"quoted\" <b>"},
		trimtab.Text{Body: " spaces "}},
	trimtab.KindPrompts: {trimtab.Prompt{Text: "who?"}, trimtab.Prompt{Text: "who?", Split: "test"},
		trimtab.Prompt{Text: "who?", Split: "train", Tag: "subjects"}},
	trimtab.KindDemonstrations: {trimtab.Demonstration{Prompt: "who?", Response: "me"},
		trimtab.Demonstration{Prompt: "who?", Response: "me", Demonstrator: "ann", Split: "train"}},
	trimtab.KindRankings: {
		trimtab.Ranking{Prompt: "who?", Responses: []trimtab.Response{{Bytes: []byte("a")}, {Bytes: []byte("b")}},
			Ranks: []int{2, 1}, Labeller: "ann"},
		trimtab.Ranking{Prompt: "who?", Ranks: []int{1, 2, 2, 3}, Labeller: "bob", Guideline: "v1", Split: "train",
			Group: "g", Seconds: 12.5,
			Responses: []trimtab.Response{{Tokens: []int32{5, 0, 7}, Tokenizer: digest("tok"),
				Bytes: []byte("\x00\xff\xfe"), Model: digest("sft")},
				{Tokens: []int32{}, Bytes: []byte("a")}, {Bytes: []byte("a")}, {Tokens: []int32{1}, Bytes: []byte{}}}},
	},
}

func digests(items []trimtab.Item) []trimtab.Digest {
	ds := make([]trimtab.Digest, len(items))
	for i, it := range items {
		ds[i] = trimtab.DigestOf(it.Canonical())
	}
	return ds
}

func TestItemsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	s := storagetest.New(t)
	for kind, items := range samples {
		name := "sample-" + string(kind)
		counts, err := s.AddItems(t.Context(), name, kind, append(items, items[0]), nil, "ann")
		must(t, err)
		if counts != (storage.ImportCounts{Added: len(items), Present: 1}) {
			t.Errorf("%s: %+v", kind, counts)
		}
		counts, err = s.AddItems(t.Context(), name, kind, items, nil, "bob")
		must(t, err)
		if counts != (storage.ImportCounts{Present: len(items)}) {
			t.Errorf("%s again: %+v", kind, counts)
		}
		v, err := s.Freeze(t.Context(), name, "ann")
		must(t, err)
		got, err := s.Items(t.Context(), v.Digest)
		must(t, err)
		want := slices.SortedFunc(slices.Values(items), func(a, b trimtab.Item) int {
			return strings.Compare(string(trimtab.DigestOf(a.Canonical())), string(trimtab.DigestOf(b.Canonical())))
		})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %#v\nwant %#v", kind, got, want)
		}
		if v.Digest != trimtab.MerkleRoot(digests(items)) || v.Items != len(items) || v.Kind != kind ||
			v.CreatedAt.IsZero() {
			t.Errorf("%s: version %+v", kind, v)
		}
	}
}

func TestManyItems(t *testing.T) {
	t.Parallel()
	s := storagetest.New(t)
	r := rand.New(rand.NewPCG(1, 2))
	var items []trimtab.Item
	for range 500 {
		k := 2 + r.IntN(8)
		rank := trimtab.Ranking{Prompt: strings.Repeat("p", 1+r.IntN(9)), Labeller: "ann"}
		for i := range k {
			resp := trimtab.Response{Bytes: make([]byte, 1+r.IntN(4)), Tokens: []int32{r.Int32N(9)}}
			for j := range resp.Bytes {
				resp.Bytes[j] = byte(r.Uint32())
			}
			rank.Responses = append(rank.Responses, resp)
			rank.Ranks = append(rank.Ranks, i+1)
		}
		items = append(items, rank)
	}
	v, err := s.FreezeItems(t.Context(), "many", trimtab.KindRankings, items, "ann")
	must(t, err)
	got, err := s.Items(t.Context(), v.Digest) // checks the root
	must(t, err)
	if len(got) != len(items) {
		t.Errorf("%d items, want %d", len(got), len(items))
	}
}

func TestFreezing(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	texts := samples[trimtab.KindText]
	_, err := s.Freeze(ctx, "absent", "ann")
	wantError(t, err, trimtab.NotFound, "dataset_not_found")
	_, err = s.FreezeItems(ctx, "d", trimtab.KindText, nil, "ann")
	wantError(t, err, trimtab.Conflict, "dataset_empty")
	_, err = s.AddItems(ctx, "d", trimtab.KindText, texts[:2], nil, "ann")
	must(t, err)
	first, err := s.Freeze(ctx, "d", "ann")
	must(t, err)
	again, err := s.Freeze(ctx, "d", "bob")
	must(t, err)
	if first != again {
		t.Errorf("freezing twice: %+v, then %+v", first, again)
	}
	// copies count, and stay
	copies, err := s.FreezeItems(ctx, "d", trimtab.KindText, []trimtab.Item{texts[2], texts[0], texts[2]}, "ann")
	must(t, err)
	got, err := s.Items(ctx, copies.Digest)
	must(t, err)
	if copies.Items != 3 || len(got) != 3 || copies.Digest == first.Digest {
		t.Errorf("copies: %+v, %v", copies, got)
	}
	// the name means the newest freeze, even of an old version
	newest, err := s.ResolveDataset(ctx, "d")
	must(t, err)
	if newest != copies {
		t.Errorf("d is %+v, want %+v", newest, copies)
	}
	back, err := s.FreezeItems(ctx, "d", trimtab.KindText, texts[:2], "ann")
	must(t, err)
	newest, err = s.ResolveDataset(ctx, "d")
	must(t, err)
	if newest.Digest != first.Digest || back.Digest != first.Digest {
		t.Errorf("d is %+v, want %s again", newest, first.Digest)
	}
	d, err := s.Dataset(ctx, "d")
	must(t, err)
	if d.Items != 3 || len(d.Versions) != 2 || d.Versions[0].Digest != first.Digest ||
		d.Versions[1].Digest != copies.Digest {
		t.Errorf("dataset %+v", d)
	}
	events, err := s.History(ctx, "dataset/d", "")
	must(t, err)
	var types []trimtab.EventType
	for _, e := range events {
		types = append(types, e.Type)
	}
	want := []trimtab.EventType{
		trimtab.EventDatasetCreated,
		trimtab.EventItemsAdded,
		trimtab.EventDatasetFrozen,
		trimtab.EventItemsAdded,
		trimtab.EventDatasetFrozen,
		trimtab.EventDatasetFrozen,
	}
	if !slices.Equal(types, want) {
		t.Errorf("events %v, want %v", types, want)
	}
}

func TestResolveDataset(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	_, err := s.AddItems(ctx, "d", trimtab.KindText, samples[trimtab.KindText], nil, "ann")
	must(t, err)
	_, err = s.ResolveDataset(ctx, "d")
	wantError(t, err, trimtab.Conflict, "dataset_not_frozen")
	v, err := s.Freeze(ctx, "d", "ann")
	must(t, err)
	for _, ref := range []string{"d", string(v.Digest), v.Digest.Hex(), "d@" + string(v.Digest), "d@sha256:" +
		v.Digest.Short(), "d@" + v.Digest.Short()} {
		got, err := s.ResolveDataset(ctx, ref)
		if err != nil || got != v {
			t.Errorf("%s is %+v, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"x", "", "d@sha256:000000", string(digest("x")), "d@%"} {
		_, err := s.ResolveDataset(ctx, ref)
		wantError(t, err, trimtab.NotFound, "dataset_not_found")
	}
	_, err = s.Items(ctx, digest("x"))
	wantError(t, err, trimtab.NotFound, "dataset_not_found")
	_, err = s.Dataset(ctx, "x")
	wantError(t, err, trimtab.NotFound, "dataset_not_found")
}

func TestItemsThatAreRefused(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	_, err := s.AddItems(ctx, "d", trimtab.KindText, samples[trimtab.KindText], nil, "ann")
	must(t, err)
	cases := map[string]struct {
		kind trimtab.Kind
		item trimtab.Item
	}{
		"empty":      {trimtab.KindText, trimtab.Text{}},
		"wrong kind": {trimtab.KindText, trimtab.Prompt{Text: "x"}},
		"nil":        {trimtab.KindText, nil},
		"all tied": {trimtab.KindRankings, trimtab.Ranking{Prompt: "x",
			Responses: samples[trimtab.KindRankings][0].(trimtab.Ranking).Responses, Ranks: []int{1, 1}}},
		"NUL in text": {trimtab.KindText, trimtab.Text{Body: "a\x00b"}},
	}
	for name, c := range cases {
		_, err := s.AddItems(ctx, "new", c.kind, []trimtab.Item{c.item}, nil, "ann")
		t.Log(name, err)
		wantError(t, err, trimtab.Invalid, "invalid_item")
	}
	_, err = s.AddItems(ctx, "new", trimtab.KindPrompts, []trimtab.Item{trimtab.Prompt{Text: "x", Tag: "\x00"}},
		nil, "ann")
	wantError(t, err, trimtab.Invalid, "invalid_item")
	_, err = s.AddItems(ctx, "d", trimtab.KindPrompts, samples[trimtab.KindPrompts], nil, "ann")
	wantError(t, err, trimtab.Conflict, "dataset_kind")
	for _, name := range []string{"", "a b", "a@b", "sha256:x", "a\nb", strings.Repeat("x", 201)} {
		_, err = s.AddItems(ctx, name, trimtab.KindText, samples[trimtab.KindText], nil, "ann")
		wantError(t, err, trimtab.Invalid, "invalid_record")
	}
	all, err := s.Datasets(ctx)
	must(t, err)
	if len(all) != 1 || all[0].Name != "d" {
		t.Errorf("a refused call left something: %+v", all)
	}
}

func TestChangedItemsAreNoticed(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	s, ctx := storagetest.Open(t, urls.App), t.Context()
	v, err := s.FreezeItems(ctx, "d", trimtab.KindText, samples[trimtab.KindText], "ann")
	must(t, err)
	owner, err := pgx.Connect(ctx, urls.Owner)
	must(t, err)
	defer owner.Close(ctx)
	_, err = owner.Exec(ctx, "update text_item set body = 'three' where body = 'one'")
	must(t, err)
	_, err = s.Items(ctx, v.Digest)
	wantError(t, err, trimtab.Verification, "dataset_digest_mismatch")
	_, err = s.AddItems(ctx, "other", trimtab.KindText, samples[trimtab.KindText], nil, "ann")
	wantError(t, err, trimtab.Verification, "replay_diverged")
	_, err = owner.Exec(ctx, "delete from text_item where body = 'three'")
	must(t, err)
	_, err = s.Items(ctx, v.Digest)
	wantError(t, err, trimtab.Verification, "dataset_digest_mismatch")
}

func TestAddingFromManySides(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	var items []trimtab.Item
	for i := range 300 {
		items = append(items, trimtab.Text{Body: strings.Repeat("x", i+1)})
	}
	var added, present int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			mine := slices.Clone(items)
			rand.New(rand.NewPCG(uint64(i), 0)).Shuffle(len(mine),
				func(a, b int) { mine[a], mine[b] = mine[b], mine[a] })
			c, err := s.AddItems(ctx, []string{"a", "b"}[i%2], trimtab.KindText, mine, nil, "ann")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			added, present = added+c.Added, present+c.Present
			mu.Unlock()
		})
	}
	wg.Wait()
	if added != 600 || present != 1200 {
		t.Errorf("added %d, present %d", added, present)
	}
}

func TestComparisonsFollowFromRankings(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	s, ctx := storagetest.Open(t, urls.App), t.Context()
	rankings := samples[trimtab.KindRankings]
	_, err := s.FreezeItems(ctx, "r", trimtab.KindRankings, rankings, "ann")
	must(t, err)
	auditor, err := pgx.Connect(ctx, urls.Auditor)
	must(t, err)
	defer auditor.Close(ctx)
	for _, it := range rankings {
		rows, err := auditor.Query(ctx, `select winner_position - 1, loser_position - 1 from comparison where ranking = $1
			order by least(winner_position, loser_position), greatest(winner_position, loser_position)`, trimtab.DigestOf(it.Canonical()))
		must(t, err)
		pairs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p [2]int, err error) {
			err = row.Scan(&p[0], &p[1])
			return p, err
		})
		must(t, err)
		if want := it.(trimtab.Ranking).Pairs(); !slices.Equal(pairs, want) {
			t.Errorf("pairs %v, want %v", pairs, want)
		}
	}
}
