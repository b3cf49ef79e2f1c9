package runs

import (
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/collect"
	"github.com/trimtab/trimtab/recipes"
)

// A launch warns about rankings of which none are held out, with a command that holds some out.
func TestUnmeasured(t *testing.T) {
	rankings := func(splits ...string) *corpus {
		var items []trimtab.Item
		for _, s := range splits {
			items = append(items, trimtab.Ranking{Prompt: "p", Split: s})
		}
		return newCorpus("votes", items)
	}
	collected := recipes.Stage{Name: "collect", Kind: recipes.KindCollect,
		Config: &recipes.Collect{Config: collect.Config{Prompts: 4}}}
	held := recipes.Stage{Name: "collect", Kind: recipes.KindCollect,
		Config: &recipes.Collect{Config: collect.Config{Prompts: 4, HeldOut: 2}}}
	for name, c := range map[string]struct {
		stages []recipes.Stage
		input  trimtab.Input
		data   *corpus
		want   string
	}{
		"none held out": {nil, trimtab.Input{Name: "rankings", Dataset: "d"}, rankings("", "train"),
			"`trimtab data split votes --share 0.2`"},
		"some held out": {nil, trimtab.Input{Name: "rankings", Dataset: "d"}, rankings("", "test"), ""},
		"not known":     {nil, trimtab.Input{Name: "rankings", Dataset: "d"}, nil, ""},
		"collected": {[]recipes.Stage{collected}, trimtab.Input{Name: "rankings", Stage: "collect"}, nil,
			"set collect.held_out above 0"},
		"collected, held": {[]recipes.Stage{held}, trimtab.Input{Name: "rankings", Stage: "collect"}, nil, ""},
	} {
		v := &survey{corpora: map[trimtab.Digest]*corpus{"d": c.data}, spec: recipes.Spec{Stages: c.stages}}
		for _, st := range c.stages {
			v.plan.Stages = append(v.plan.Stages, trimtab.PlannedStage{Name: st.Name, Kind: st.Kind})
		}
		v.spec.Stages = append(v.spec.Stages, recipes.Stage{Name: "reward", Kind: recipes.KindReward,
			Config: &recipes.Reward{}})
		v.plan.Stages = append(v.plan.Stages, trimtab.PlannedStage{Name: "reward", Kind: recipes.KindReward,
			Inputs: []trimtab.Input{c.input}})
		got := strings.Join(v.unmeasuredNotes(), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
