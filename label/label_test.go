package label

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
)

func ranking(prompt, labeller string, ranks []int, texts ...string) trimtab.Ranking {
	r := trimtab.Ranking{Prompt: prompt, Labeller: labeller, Ranks: ranks}
	for _, text := range texts {
		r.Responses = append(r.Responses, trimtab.Response{Bytes: []byte(text)})
	}
	return r
}

func TestPairs(t *testing.T) {
	rs := []trimtab.Ranking{
		ranking("p", "", []int{2, 1, 2}, "a", "bb", "ccc"),
		ranking("q", "", []int{1, 2}, "aaaa", "bbbb"),
	}
	pairs := Pairs(rs)
	if want := []Pair{{0, 1, 0}, {0, 1, 2}, {1, 0, 1}}; !slices.Equal(pairs, want) {
		t.Fatalf("pairs %v, want %v", pairs, want)
	}
	if got := LongerAccuracy(rs, pairs); got != .5 { // 1, 0, and ½ for equal lengths
		t.Errorf("longer wins %v, want .5", got)
	}
	if got := LengthMatched(rs, pairs); !slices.Equal(got, []Pair{{1, 0, 1}}) {
		t.Errorf("length-matched pairs %v", got)
	}
	if got := PairGroups(rs, pairs); !slices.Equal(got, []string{"p", "p", "q"}) {
		t.Errorf("groups %v", got)
	}
}

func TestLengthMatchedIsLessThanAQuarter(t *testing.T) {
	text := "aaaaaaaaaaaaaaaaaaaa"
	rs := []trimtab.Ranking{ranking("p", "", []int{1, 2, 3}, text[:18], text[:14], text[:15])}
	if got := LengthMatched(rs, Pairs(rs)); !slices.Equal(got, []Pair{{0, 0, 2}, {0, 1, 2}}) {
		t.Errorf("of lengths 18, 14, 15: %v", got)
	}
}

func TestMean(t *testing.T) {
	if Mean(nil) != 0 || Mean([]float64{1, 2}) != 1.5 {
		t.Error("mean")
	}
}

func TestAgree(t *testing.T) {
	for _, c := range []struct {
		a, b         []int
		same, common int
	}{
		{[]int{1, 2, 3}, []int{1, 2, 3}, 3, 3},
		{[]int{1, 2, 3}, []int{3, 2, 1}, 0, 3},
		{[]int{1, 2, 3}, []int{2, 1, 3}, 2, 3},
		{[]int{1, 1, 2}, []int{1, 2, 3}, 2, 2}, // a tie of either is no common pair
		{[]int{1, 2}, []int{1, 1}, 0, 0},
		{nil, nil, 0, 0},
	} {
		if same, common := AgreeingPairs(c.a, c.b); same != c.same || common != c.common {
			t.Errorf("%v, %v: %d of %d, want %d of %d", c.a, c.b, same, common, c.same, c.common)
		}
	}
}

// Labellers see the same responses in different orders, and not all see all.
func TestAgreements(t *testing.T) {
	total, each := Agreements([]trimtab.Ranking{
		ranking("p", "anna", []int{1, 2, 3}, "x", "y", "z"),
		ranking("p", "ben", []int{3, 1, 2}, "z", "x", "y"),  // the same order
		ranking("p", "cora", []int{1, 2, 3}, "z", "y", "x"), // the reverse
		ranking("p", "anna", []int{1, 2, 3}, "x", "z", "y"), // the same person again: compared with the others only
		ranking("p", "ben", []int{1, 2}, "x", "y"),          // other responses
		ranking("q", "ben", []int{1, 2, 3}, "x", "y", "z"),  // another prompt
	})
	want := []Agreement{{"anna", "ben", 5, 6}, {"anna", "cora", 1, 6}, {"ben", "cora", 0, 3}}
	if !slices.Equal(each, want) {
		t.Errorf("each two: %+v, want %+v", each, want)
	}
	if total.Same != 6 || total.Common != 15 || total.Share() != .4 {
		t.Errorf("total %+v", total)
	}
	if (Agreement{}).Share() != 0 {
		t.Error("share of nothing")
	}
}

// With one value a group the percentile interval is near the normal one;
// values that repeat within their group make it wider.
func TestBootstrap(t *testing.T) {
	src := draw.New(1, "bootstrap")
	var values []float64
	var single, grouped []string
	for i := range 400 {
		values = append(values, float64(i/10%2)) // runs of ten equal values
		single = append(single, string(rune('a'+i)))
		grouped = append(grouped, string(rune('a'+i/10)))
	}
	alone := Bootstrap(single, values, .95, 2000, src)
	low, high := alone.Low, alone.High
	if alone.Groups != 400 {
		t.Errorf("%d groups", alone.Groups)
	}
	if w := high - low; math.Abs(w-2*1.96*.5/20) > .012 || low > .5 || high < .5 {
		t.Errorf("interval %.3f to %.3f", low, high)
	}
	wide := Bootstrap(grouped, values, .95, 2000, src)
	if wide.High-wide.Low < 2*(high-low) || wide.Groups != 40 {
		t.Errorf("groups of ten equal values: %+v is not much wider than %.3f to %.3f", wide, low, high)
	}
	if again := Bootstrap(grouped, values, .95, 2000, src); again != wide {
		t.Error("the same source gave two intervals")
	}
	if i := Bootstrap(nil, nil, .95, 100, src); i != (Interval{}) {
		t.Error("interval of nothing")
	}
	if i := Bootstrap([]string{"a", "a"}, []float64{0, 1}, .95, 100, src); i != (Interval{.5, .5, 1}) {
		t.Errorf("interval of one group: %+v", i)
	}
}

// Two scorers that mostly err together: the paired interval of their difference
// is far narrower than the two intervals suggest, and holds it.
func TestPairedDifference(t *testing.T) {
	src, s := draw.New(1, "bootstrap"), draw.New(7, "scores").At(0)
	var groups []string
	var a, b []float64
	for i := range 200 {
		base := .45 + .5*float64(s.IntN(2)) // hard or easy, for both
		for range 5 {
			groups = append(groups, string(rune('a'+i)))
			hit := 0.
			if s.Bool(base) {
				hit = 1
			}
			other := hit
			if s.Bool(.1) { // b errs alone
				other = 0
			}
			a, b = append(a, hit), append(b, other)
		}
	}
	d := Bootstrap(groups, PairedDifferences(a, b), .95, 2000, src)
	ia, ib := Bootstrap(groups, a, .95, 2000, src), Bootstrap(groups, b, .95, 2000, src)
	if mean := Mean(PairedDifferences(a, b)); !(d.Low > 0 && d.Low < mean && mean < d.High) {
		t.Errorf("the difference is %.3f, its interval %+v", mean, d)
	}
	if ia.Low > ib.High {
		t.Fatalf("the intervals %+v and %+v do not overlap: the test shows nothing", ia, ib)
	}
	if w := d.High - d.Low; w > .6*(ia.High-ia.Low) {
		t.Errorf("the paired interval is %.3f wide, that of the first scorer %.3f", w, ia.High-ia.Low)
	}
}

// TestKnownSets repeats what is known of people's comparisons.
func TestKnownSets(t *testing.T) {
	dir := os.Getenv("TRIMTAB_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	for _, c := range []struct {
		file                string
		longer, matched     float64 // matched 0: not known
		agreement, interval bool
	}{
		{"preferences/ukp_strict_pairs.jsonl", .77, .58, false, true},
		{"preferences/hh_harmless_test.jsonl", .44, 0, false, false},
		{"preferences/pandalm_testset.jsonl", .667, 0, true, false}, // of single votes; of majorities .68
		{"preferences/ukp_all_votes.jsonl", 0, 0, true, false},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			f, err := os.Open(filepath.Join(dir, c.file))
			if err != nil {
				t.Skipf("no shared data (set TRIMTAB_SHARED to its folder): %v", err)
			}
			defer f.Close()
			im, err := dataset.Read(trimtab.KindRankings, c.file, f, dataset.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var rs []trimtab.Ranking
			for _, item := range im.Items {
				rs = append(rs, item.(trimtab.Ranking))
			}
			pairs := Pairs(rs)
			longer, matched := LongerAccuracy(rs, pairs), LengthMatched(rs, pairs)
			t.Logf("%d pairs, the longer wins %.3f; %d length-matched, the longer wins %.3f", len(pairs), longer,
				len(matched), LongerAccuracy(rs, matched))
			if c.longer != 0 && math.Abs(longer-c.longer) > .011 {
				t.Errorf("the longer wins %.3f, want %.2f", longer, c.longer)
			}
			if c.matched != 0 && math.Abs(LongerAccuracy(rs, matched)-c.matched) > .011 {
				t.Errorf("length-matched: the longer wins %.3f, want %.2f", LongerAccuracy(rs, matched), c.matched)
			}
			if c.agreement {
				total, each := Agreements(rs)
				t.Logf("people agree on %.3f of %d common pairs (%d pairs of labellers)", total.Share(), total.Common,
					len(each))
			}
			if c.interval {
				hits := PairAccuracy(pairs, func(r, i int) float64 { return float64(Length(rs[r].Responses[i])) })
				i := Bootstrap(PairGroups(rs, pairs), hits, .95, 1000, draw.New(1, "test"))
				t.Logf("95%% interval by %d debates: %.3f to %.3f", i.Groups, i.Low, i.High)
				if i.Low >= longer || i.High <= longer {
					t.Errorf("interval %+v does not hold %.3f", i, longer)
				}
			}
		})
	}
}
