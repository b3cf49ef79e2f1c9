package runs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/collect"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/tokenizer"
)

// A stage that draws some prompts is foreseen with those that it will draw,
// whatever order they are at hand in; of a large dataset, with its share. What
// ppo asks has to fit into the reward model's context too.
func TestDrawnPrompts(t *testing.T) {
	words, err := tokenizer.Train([]string{"what is it that is it"}, 260)
	if err != nil {
		t.Fatal(err)
	}
	var items, backwards []trimtab.Item
	for i := range 40 {
		items = append(items, trimtab.Prompt{Text: strings.Repeat("?", 1+i) + fmt.Sprint(i%7)})
	}
	items = append(items, trimtab.Prompt{Text: "held out", Split: trimtab.SplitTest})
	for i := range items {
		backwards = append(backwards, items[len(items)-1-i])
	}
	survey := func(st recipes.Stage, c *corpus, reward int) recipes.Volume {
		t.Helper()
		v := &survey{spec: recipes.Spec{Stages: []recipes.Stage{{}, st}}, models: make([]stageModel, 2),
			contexts: make([]int, 2)}
		v.plan = trimtab.Plan{Seed: 7, Stages: []trimtab.PlannedStage{{Name: "reward", Kind: recipes.KindReward},
			{Name: st.Name, Kind: st.Kind,
				Inputs: []trimtab.Input{{Name: "model", Model: "m"}, {Name: "reward", Stage: "reward"}}}}}
		v.models[0] = stageModel{tokenizer: words, exact: true, config: &model.Config{Context: reward}}
		v.models[1] = stageModel{tokenizer: words, exact: true, config: &model.Config{Context: 40}}
		var err error
		if v.contexts[1], err = v.contextOf(1); err != nil {
			t.Fatal(err)
		}
		return v.prompts(1, c)[0]
	}
	ppo := func(pool int) recipes.Stage {
		c := &recipes.PPO{NumPrompts: pool}
		c.MaxNewTokens = 10
		return recipes.Stage{Name: "ppo", Kind: recipes.KindPPO, Config: c}
	}
	collected := recipes.Stage{Name: "collect", Kind: recipes.KindCollect,
		Config: &recipes.Collect{Config: collect.Config{Prompts: 9, HeldOut: 3, MaxNewTokens: 20}}}

	all := canonicalOrder(dataset.TrainPrompts(itemsAs[trimtab.Prompt](newCorpus("asks", items))))
	if len(all) != 40 {
		t.Fatalf("%d prompts train", len(all))
	}
	// what a stage finds, a prompt after the other
	length := func(i int) int { return len(dataset.EncodePrompt(words, all[i].Text)) }
	counts := func(stage, purpose string, pool, n, most, full int) trimtab.Fit {
		fit := trimtab.Fit{Items: "prompts"}
		for k, i := range dataset.EpochOrder(draw.New(7, stage, purpose), len(all), 0) {
			if n > 0 && k == n || pool > 0 && fit.Kept == pool {
				break
			}
			switch {
			case length(i) > most:
				fit.LeftOut++
				continue
			case length(i) > full:
				fit.Cut++
			}
			fit.Kept++
		}
		return fit
	}
	for name, c := range map[string]struct {
		stage  recipes.Stage
		reward int
		want   trimtab.Fit
	}{
		"ppo, all":                {ppo(0), 40, counts("ppo", "pool", 0, 0, 30, 99)},
		"ppo, a pool":             {ppo(8), 40, counts("ppo", "pool", 8, 0, 30, 99)},
		"ppo, a narrow reward":    {ppo(0), 28, counts("ppo", "pool", 0, 0, 18, 99)},
		"ppo, a wide reward":      {ppo(0), 99, counts("ppo", "pool", 0, 0, 30, 99)},
		"collect, cut and longer": {collected, 40, counts("collect", "prompts", 0, 12, 39, 20)},
	} {
		for order, list := range map[string][]trimtab.Item{"as given": items, "backwards": backwards} {
			if got := survey(c.stage, newCorpus("asks", list), c.reward); got.Fit != c.want || !got.Whole {
				t.Errorf("%s, %s: %+v, want %+v", name, order, got, c.want)
			}
		}
		if c.want.LeftOut == 0 && c.want.Cut == 0 {
			t.Errorf("%s: %+v shows nothing", name, c.want)
		}
	}

	large := newCorpus("asks", items)
	large.complete, large.splits[trimtab.SplitTrain], large.splits[""] = false, 4000, 0
	if got := survey(ppo(50), large, 40); got.Kept != 50 || got.LeftOut < 10 || got.LeftOut > 30 || got.Whole {
		t.Errorf("a pool of 50 from many: %+v", got)
	}
	if got := survey(collected, large, 40); got.Kept+got.LeftOut < 11 || got.Kept+got.LeftOut > 13 || got.Cut == 0 {
		t.Errorf("12 of many: %+v", got)
	}
}
