package activities

import (
	"math"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
)

func TestCompareMetrics(t *testing.T) {
	was := []trimtab.Metric{{Name: "kl", Value: 0.1}, {Name: "loss", Value: 0}}
	for _, c := range []struct {
		is   []trimtab.Metric
		want string
	}{
		{[]trimtab.Metric{{Name: "loss", Value: math.Copysign(0, -1)}, {Name: "kl", Value: 9}},
			"step 3: metric loss is 0 in the record and -0 here"},
		{[]trimtab.Metric{was[0], was[1], {Name: "new", Value: 1}},
			"step 3: metric new is absent in the record and 1 here"},
		{was[1:], "step 3: metric kl is 0.1 in the record and absent here"},
		{[]trimtab.Metric{{Name: "kl", Value: 0.1 + 1e-17}, {Name: "loss", Value: 5e-324}},
			"step 3: metric loss is 0 in the record and 5e-324 here"},
	} {
		d, differ := compareMetrics(placeMetric, was, c.is)
		d.Step = new(3)
		if !differ || d.String() != c.want {
			t.Errorf("%v: %s", c.is, d)
		}
	}
	if _, differ := compareMetrics(placeMetric, was, []trimtab.Metric{was[1], was[0]}); differ {
		t.Error("the order of metrics counts")
	}
}

// Every field of a rollout is looked at, and the first in the order in which they are computed is named.
func TestCompareRollouts(t *testing.T) {
	rollout := func() trimtab.Rollout {
		one := func() []float32 { return []float32{1, 2} }
		return trimtab.Rollout{Index: 4, Prompt: "p", PromptIDs: []int32{1}, Tokens: []int32{2, 3}, Bytes: []byte("ab"),
			Score: 1, RawScore: 2, Ended: true,
			LogProbs: one(), RefLogProb: one(), KL: one(), Values: one(), Rewards: one(), Advantages: one(),
			Returns: one()}
	}
	changes := []struct {
		name   string
		change func(r *trimtab.Rollout)
		index  int
	}{
		{"prompt", func(r *trimtab.Rollout) { r.Prompt = "q" }, -1},
		{"prompt_tokens", func(r *trimtab.Rollout) { r.PromptIDs[0] = 0 }, 0},
		{"tokens", func(r *trimtab.Rollout) { r.Tokens = r.Tokens[:1] }, -1},
		{"bytes", func(r *trimtab.Rollout) { r.Bytes[1]++ }, 1},
		{"ended", func(r *trimtab.Rollout) { r.Ended = false }, -1},
		{"logprobs", func(r *trimtab.Rollout) { r.LogProbs[1] = 3 }, 1},
		{"ref_logprobs", func(r *trimtab.Rollout) { r.RefLogProb[1] = 3 }, 1},
		{"kl", func(r *trimtab.Rollout) { r.KL[0] = 3 }, 0},
		{"raw_score", func(r *trimtab.Rollout) { r.RawScore = 3 }, -1},
		{"score", func(r *trimtab.Rollout) { r.Score = 3 }, -1},
		{"values", func(r *trimtab.Rollout) { r.Values[1] = 3 }, 1},
		{"rewards", func(r *trimtab.Rollout) { r.Rewards[1] = 3 }, 1},
		{"advantages", func(r *trimtab.Rollout) { r.Advantages[1] = 3 }, 1},
		{"returns", func(r *trimtab.Rollout) { r.Returns[1] = 3 }, 1},
	}
	for i, c := range changes {
		is := rollout()
		for _, later := range changes[i:] {
			later.change(&is)
		}
		d, differ := compareRollouts([]trimtab.Rollout{rollout()}, []trimtab.Rollout{is})
		if !differ || d.Name != c.name || *d.Rollout != 4 || (d.Index == nil) != (c.index < 0) || d.Index != nil &&
			*d.Index != c.index {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
	if d, _ := compareRollouts(make([]trimtab.Rollout, 2),
		make([]trimtab.Rollout, 3)); d.Name != "number of rollouts" || d.Recorded != "2" || d.Here != "3" {
		t.Errorf("another number: %+v", d)
	}
	nul := rollout()
	nul.Prompt = "\x00"
	stored := nul
	stored.Prompt = "�"
	if d, differ := compareRollouts([]trimtab.Rollout{stored}, []trimtab.Rollout{nul}); differ {
		t.Errorf("what Postgres cannot hold: %+v", d)
	}
}

func TestCompareRankings(t *testing.T) {
	ranking := func(prompt string, ranks ...int) trimtab.Item {
		return trimtab.Ranking{Prompt: prompt, Ranks: ranks,
			Responses: []trimtab.Response{{Tokens: []int32{1, 2}}, {Tokens: []int32{3}}}}
	}
	a, b := ranking("a", 1, 2), ranking("b", 1, 2)
	other := ranking("b", 1, 2).(trimtab.Ranking)
	other.Responses[1].Tokens = []int32{4}
	for _, c := range []struct {
		was, is []trimtab.Item
		want    checkpoint.Mismatch
	}{
		{[]trimtab.Item{a, b}, []trimtab.Item{b, ranking("a", 2, 1)},
			checkpoint.Mismatch{Name: `the ranking of "a", ranks`, Index: 0, Want: "1", Got: "2"}},
		{[]trimtab.Item{a, b}, []trimtab.Item{a, other},
			checkpoint.Mismatch{Name: `the ranking of "b", response 2, tokens`, Index: 0, Want: "3", Got: "4"}},
		{[]trimtab.Item{a, b}, []trimtab.Item{a}, checkpoint.Mismatch{Name: `a ranking of "b"`, Index: -1,
			Want: "there", Got: "absent"}},
		{[]trimtab.Item{a}, []trimtab.Item{a, a}, checkpoint.Mismatch{Name: `a ranking of "a"`, Index: -1,
			Want: "absent", Got: "there"}},
	} {
		if d := compareRankings(c.was, c.is); d != c.want {
			t.Errorf("%+v, want %+v", d, c.want)
		}
	}
}

// A measure that came later is not held against an attempt that has none; one that is gone is.
func TestOnlyRecorded(t *testing.T) {
	was := []trimtab.Metric{{Name: "loss", Value: 1}, {Name: "held_out/accuracy", Value: .5}}
	kept := onlyRecorded(was, []trimtab.Metric{{Name: "held_out/accuracy", Value: .5},
		{Name: "held_out/groups", Value: 4}})
	if d, differ := compareMetrics(placeResult, was, append(was[:1:1], kept...)); differ {
		t.Errorf("differs: %+v", d)
	}
	kept = onlyRecorded(was, []trimtab.Metric{{Name: "held_out/groups", Value: 4}})
	if _, differ := compareMetrics(placeResult, was, append(was[:1:1], kept...)); !differ {
		t.Error("a measure that is gone is not noticed")
	}
}

func TestCompareJSON(t *testing.T) {
	for _, c := range []struct {
		was, is string
		want    checkpoint.Mismatch
	}{
		{`{"b":{"c":1.50},"a":1}`, `{"b":{"c":1.5},"a":1}`,
			checkpoint.Mismatch{Name: "b.c", Index: -1, Want: "1.50", Got: "1.5"}},
		{`{"b":[1,{"c":"x"}]}`, `{"b":[1,{"c":"y"}]}`,
			checkpoint.Mismatch{Name: "b.1.c", Index: -1, Want: `"x"`, Got: `"y"`}},
		{`{"b":[1]}`, `{"b":[1,2]}`, checkpoint.Mismatch{Name: "b", Index: -1, Want: "of 1 elements",
			Got: "of 2 elements"}},
		{`{"a":1}`, `{"a":1,"b":null}`, checkpoint.Mismatch{Name: "b", Index: -1, Want: "absent", Got: "null"}},
		{`{"a":{}}`, `{"a":[]}`, checkpoint.Mismatch{Name: "a", Index: -1, Want: "{}", Got: "[]"}},
		{`{"a":1}`, `{"a": 1}`, checkpoint.Mismatch{Name: "byte", Index: 5, Want: "49", Got: "32"}},
		{`{"a":1}`, `{`, checkpoint.Mismatch{Name: "byte", Index: -1, Want: "of 7 elements", Got: "of 1 elements"}},
	} {
		if d := compareJSON([]byte(c.was), []byte(c.is)); d != c.want {
			t.Errorf("%s %s: %+v, want %+v", c.was, c.is, d, c.want)
		}
	}
}
