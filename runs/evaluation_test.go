package runs

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/trimtab/trimtab/eval"
)

// The JSON of an evaluation lays the report out for readers, and comes back.
func TestEvaluationViewJSON(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	view := EvaluationView{
		Report: eval.Report{
			Models: map[string]eval.Scores{
				"sft": {Reward: number(-.5), Length: number(10), Ended: number(1)},
				"ppo": {Gold: number(.75), KL: number(1.5), Length: number(9.5)},
			},
			Wins:    &eval.Estimate{Value: .6, Low: .5, High: .7, N: 40},
			Samples: []eval.SampleAnswers{{Prompt: "p", Answers: map[string]string{"sft": "a"}}},
			Prompts: 40,
			Judge:   "gold",
		},
		RewardModel: &RewardModelView{
			RewardAccuracy:     eval.RewardAccuracy{Pairs: 3, Accuracy: .5, High: 1},
			LabellersAgreement: number(.73),
			Groups:             number(4),
		},
	}
	body, err := json.Marshal(view)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"judge":"gold","overlap":0,"ppo":{"gold":0.75,"kl":1.5,"length":9.5},` +
		`"ppo_over_sft":{"high":0.7,"low":0.5,"n":40,"value":0.6},"prompts":40,` +
		`"reward_model":{"accuracy":0.5,"groups":4,"high":1,"labellers_agreement":0.73,"longer_wins":0,"low":0,` +
		`"matched_accuracy":0,"matched_longer_wins":0,"matched_pairs":0,"pairs":3},` +
		`"samples":[{"answers":{"sft":"a"},"prompt":"p"}],"sft":{"ended":1,"length":10,"reward":-0.5}}`
	if string(body) != want {
		t.Errorf("it is\n%s\nwant\n%s", body, want)
	}
	var got EvaluationView
	if err := json.Unmarshal(body, &got); err != nil || !reflect.DeepEqual(got, view) {
		t.Errorf("it comes back as %+v, %v, want %+v", got, err, view)
	}

	empty, err := json.Marshal(EvaluationView{})
	if err != nil || string(empty) != "{}" {
		t.Errorf("no evaluation is %s, %v", empty, err)
	}
	if err := json.Unmarshal(empty, &got); err != nil {
		t.Error(err)
	}
}
