package runs_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// tooLong is a prompt that fills the context of the smallest run.
var tooLong = strings.Repeat("why ", 80)

// mixed puts data into the record of which some does not fit into a context of 64 tokens.
func (b *bench) mixed() {
	b.t.Helper()
	var demos, prompts, votes []trimtab.Item
	for i := range 9 {
		demos = append(demos, trimtab.Demonstration{Prompt: tooLong + strings.Repeat("?", i),
			Response: "I do not know."})
		prompts = append(prompts, trimtab.Prompt{Text: tooLong + strings.Repeat("?", i)},
			trimtab.Prompt{Text: "Who is it" + strings.Repeat("?", i)})
	}
	demos = append(demos, trimtab.Demonstration{Prompt: "Who?", Response: "I do."},
		trimtab.Demonstration{Prompt: "Why?", Response: strings.Repeat("because ", 80)})
	say := func(texts ...string) (list []trimtab.Response) {
		for _, text := range texts {
			list = append(list, trimtab.Response{Bytes: []byte(text)})
		}
		return list
	}
	same := strings.Repeat("so it is ", 60)
	for _, r := range []trimtab.Ranking{
		{Prompt: tooLong, Responses: say("Yes.", "No."), Ranks: []int{1, 2}},
		{Prompt: "Who?", Responses: say("Yes.", "No.", "Perhaps."), Ranks: []int{1, 2, 3}},
		{Prompt: "Why?", Responses: say(same+"a", same+"b", "No."), Ranks: []int{1, 2, 2}},
		{Prompt: "When?", Responses: say("Now.", "Then."), Ranks: []int{2, 1}, Split: trimtab.SplitTest},
		{Prompt: tooLong + "?", Responses: say("Now.", "Then."), Ranks: []int{2, 1}, Split: trimtab.SplitTest},
	} {
		votes = append(votes, r)
	}
	for name, items := range map[string][]trimtab.Item{"mixed-demos": demos, "mixed-prompts": prompts,
		"mixed-votes": votes} {
		if _, err := b.Store().FreezeItems(b.ctx, name, items[0].Kind(), items, "tester"); err != nil {
			b.t.Fatal(err)
		}
	}
}

// What the context cuts or leaves out is counted at launch, reported by the event
// of the stage's start, and a final metric; the launch knows what the stage finds.
func TestLengthIsReported(t *testing.T) {
	b := newBench(t, 0)
	b.mixed()
	spec := b.spec("sft.inputs={demonstrations: mixed-demos}",
		"reward.inputs={rankings: mixed-votes, demonstrations: mixed-demos}",
		"ppo.inputs={model: sft, prompts: mixed-prompts}", "ppo.total_episodes=32", "ppo.num_prompts=6",
		"collect.max_new_tokens=54")
	l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true})
	if err != nil {
		t.Fatal(err)
	}
	d := b.await(l.Run.ID, trimtab.RunCompleted)
	demos := trimtab.Fit{Items: "demonstrations", Kept: 2, Cut: 1, LeftOut: 9}
	want := map[string][]trimtab.Fit{
		"sft": {demos},
		"reward": {{Items: "rankings", Kept: 2, Cut: 2, LeftOut: 1, Equal: 1}, {Items: "held_out", Kept: 1, LeftOut: 1},
			demos},
	}
	for i, st := range d.Stages {
		switch st.Kind { // which prompts are drawn is up to the seed
		case recipes.KindPPO:
			if len(st.Data) != 1 || st.Data[0].Kept != 6 || st.Data[0].LeftOut == 0 || st.Data[0].LeftOut > 9 {
				t.Errorf("of a pool of 6 %s reads %+v", st.Name, st.Data)
			}
		case recipes.KindCollect:
			if len(st.Data) != 1 || st.Data[0].Kept != 32 || st.Data[0].Cut == 0 || st.Data[0].Cut == 32 {
				t.Errorf("%s asks %v: the test shows nothing", st.Name, st.Data)
			}
		}
		if w, ok := want[st.Name]; ok && !slices.Equal(st.Data, w) {
			t.Errorf("%s reads %+v, want %+v", st.Name, st.Data, w)
		}
		planned := l.Known[i].Counts(st.Kind)
		if st.Kind == recipes.KindPretrain {
			continue // its rows are laid out when it runs
		}
		if !slices.Equal(planned, st.Data) || len(planned) == 0 {
			t.Errorf("%s: the launch foresaw %+v, the stage found %+v", st.Name, planned, st.Data)
		}
		for _, f := range planned {
			if !l.Known[i].Exact(f.Items) {
				t.Errorf("%s: %s are not known exactly: %+v", st.Name, f.Items, l.Known[i])
			}
		}
		for _, m := range trimtab.FitMetrics(st.Data) {
			if v, ok := st.Metrics[m.Name]; !ok || v != m.Value {
				t.Errorf("%s: metric %s is %v", st.Name, m.Name, v)
			}
		}
	}
	events, err := b.History(b.ctx, d.ID, "sft")
	if err != nil {
		t.Fatal(err)
	}
	recorded := false
	for _, e := range events {
		var body struct{ Data []trimtab.Metric }
		if e.Type == trimtab.EventAttemptStarted && json.Unmarshal(e.Body, &body) == nil {
			recorded = recorded || slices.Equal(trimtab.Fits(body.Data), want["sft"])
		}
	}
	if !recorded {
		t.Error("no event says what sft reads")
	}
	lines, _, err := b.Logs(b.ctx, d.ID, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(lines, func(l storage.LogLine) bool {
		return strings.Contains(l.Message, "2 of 11 demonstrations read; 9 left out")
	}) {
		t.Errorf("the log does not say it: %v", lines)
	}
	declared(t, b, spec, d)
}

// declared checks that a stage's final metrics are those that its gates may name.
func declared(t *testing.T, b *bench, spec recipes.Spec, d runs.View) {
	t.Helper()
	for i, st := range d.Stages {
		names := spec.Measures(i, true)
		slices.Sort(names)
		if got := slices.Sorted(maps.Keys(st.Metrics)); !slices.Equal(got, names) {
			t.Errorf("%s measures\n%v\ndeclared is\n%v", st.Name, got, names)
		}
	}
}
