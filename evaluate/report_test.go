package evaluate

import (
	"encoding/json"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/starter"
)

// The stored form of a report: its digest is in the record, so no byte may change.
func TestReportBytes(t *testing.T) {
	half := .5
	r := eval.Report{
		Models: map[string]eval.Scores{
			"sft": meanScores(nil),
			"ppo": {Gold: &half, KL: &half, Length: &half, Ended: &half},
		},
		RewardModel: &eval.RewardAccuracy{Pairs: 2, Accuracy: .5, High: 1},
		Wins:        &eval.Estimate{Value: .5, High: 1, N: 3},
		Samples:     []eval.SampleAnswers{{Prompt: "p", Set: "s", Answers: map[string]string{"ppo": "a"}}},
		Prompts:     3,
		Judge:       JudgeGold,
	}
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"models":{"ppo":{"gold":0.5,"kl":0.5,"length":0.5,"ended":0.5},"sft":{"length":0,"ended":0}},` +
		`"reward_model":{"pairs":2,"accuracy":0.5,"low":0,"high":1,"longer_wins":0,"matched_pairs":0,` +
		`"matched_accuracy":0,"matched_longer_wins":0},"ppo_over_sft":{"value":0.5,"low":0,"high":1,"n":3},` +
		`"samples":[{"prompt":"p","set":"s","answers":{"ppo":"a"}}],"prompts":3,"overlap":0,"judge":"gold"}`
	if string(body) != want {
		t.Errorf("the report is\n%s\nwant\n%s", body, want)
	}
}

// A set of its own is averaged where there are several, and what was not
// measured is nil.
func TestScores(t *testing.T) {
	reward := 2.
	answers := []judgedAnswer{
		{set: "a", tokens: 3, ended: true, verdict: &starter.Verdict{Gold: 1}},
		{set: "b", tokens: 5, verdict: &starter.Verdict{Gold: .5}, reward: &reward},
	}
	s := meanScores(answers)
	if *s.Gold != .75 || *s.Length != 4 || *s.Ended != .5 || *s.Reward != 1 || s.KL != nil {
		t.Errorf("the means are %+v", s)
	}
	sets := scoresBySet(answers)
	if len(sets) != 2 || *sets["a"].Length != 3 || sets["a"].Reward != nil {
		t.Errorf("the means by set are %+v", sets)
	}
	if sets := scoresBySet(answers[:1]); sets != nil {
		t.Errorf("one set gives %+v", sets)
	}
}

// The metrics are those of earlier builds: concise and ended are in the report alone.
func TestMetrics(t *testing.T) {
	one := 1.
	r := &eval.Report{Models: map[string]eval.Scores{
		"base": {Length: &one, Ended: &one},
		"ppo":  {Gold: &one, Concise: &one, KL: &one, Length: &one, Ended: &one},
	}}
	var names []string
	for _, m := range Metrics(r, []string{"base", "ppo"}) {
		names = append(names, m.Name)
	}
	got, _ := json.Marshal(names)
	if want := `["base/length","ppo/gold","ppo/kl","ppo/length","overlap"]`; string(got) != want {
		t.Errorf("the metrics are %s, want %s", got, want)
	}
	if _, ok := (trimtab.Report{Metrics: Metrics(r, nil)}).Value("overlap"); !ok {
		t.Error("there is no overlap without models")
	}
}
