package runs

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/tokenizer"
)

// A survey looks at so many items of a dataset, and at so many bytes of text:
// beyond it counts are scaled up.
const (
	surveyedItems = 5000
	surveyedTexts = 100_000
	surveyedBytes = 8 << 20
)

// corpus is a dataset as a survey sees it.
type corpus struct {
	name     string // of the dataset
	kind     trimtab.Kind
	items    []trimtab.Item // all, or some
	splits   map[string]int // of all
	complete bool           // items are all
}

// survey finds out what the stages of a plan will read.
type survey struct {
	s       *Service
	spec    recipes.Spec
	plan    trimtab.Plan
	corpora map[trimtab.Digest]*corpus
	known   recipes.Known
	models  []stageModel // beside the plan's stages, once known

	contexts []int // beside words: into how many tokens the stage's data has to fit
}

// stageModel is the tokenizer of a stage: its own, or one like it; nil is unknown.
type stageModel struct {
	tokenizer *tokenizer.Tokenizer
	exact     bool
	config    *model.Config
}

// survey looks at a plan's models and data. given are datasets that are not
// frozen yet, by the digest that stands for them in the plan.
func (s *Service) survey(ctx context.Context, spec recipes.Spec, plan trimtab.Plan,
	given map[trimtab.Digest]*corpus) (*survey, error) {
	v := &survey{s: s, spec: spec, plan: plan, corpora: given,
		models: make([]stageModel, len(plan.Stages)), contexts: make([]int, len(plan.Stages))}
	if v.corpora == nil {
		v.corpora = map[trimtab.Digest]*corpus{}
	}
	for i, st := range plan.Stages {
		for _, in := range st.Inputs {
			if _, have := v.corpora[in.Dataset]; in.Dataset == "" || have {
				continue
			}
			c, err := s.corpus(ctx, in.Dataset)
			if err != nil {
				return v, err
			}
			v.corpora[in.Dataset] = c
		}
		var err error
		if v.models[i], err = v.modelOf(i); err != nil {
			return v, err
		}
		if v.contexts[i], err = v.contextOf(i); err != nil {
			return v, err
		}
		v.known = append(v.known, v.stageKnown(i))
	}
	return v, nil
}

// corpus reads a frozen version.
func (s *Service) corpus(ctx context.Context, version trimtab.Digest) (*corpus, error) {
	gone, err := s.store.ErasedItems(ctx, version)
	if err != nil {
		return nil, err
	}
	if len(gone) > 0 {
		return nil, trimtab.NewError(trimtab.Conflict, "dataset_erased",
			"freeze the dataset again, without them, and use that version",
			"%d items of dataset version %s were erased, the first is %s", len(gone), version.Short(), gone[0])
	}
	row, err := s.store.ResolveDataset(ctx, string(version))
	if err != nil {
		return nil, err
	}
	c := &corpus{name: row.Dataset}
	if c.kind, c.splits, err = s.store.CountBySplit(ctx, version); err != nil {
		return nil, err
	}
	most := surveyedItems
	if c.kind == trimtab.KindText {
		most = surveyedTexts
	}
	if c.items, err = s.store.SampleItems(ctx, version, most, surveyedBytes); err != nil {
		return nil, err
	}
	c.complete = len(c.items) == c.count()
	return c, nil
}

// newCorpus is one of items at hand.
func newCorpus(name string, items []trimtab.Item) *corpus {
	c := &corpus{name: name, splits: map[string]int{}, items: items, complete: true}
	for _, it := range items {
		c.kind = it.Kind()
		c.splits[splitOf(it)]++
	}
	return c
}

func splitOf(it trimtab.Item) string {
	switch it := it.(type) {
	case trimtab.Prompt:
		return it.Split
	case trimtab.Demonstration:
		return it.Split
	case trimtab.Ranking:
		return it.Split
	}
	return ""
}

// count is the number of all items.
func (c *corpus) count() int {
	n := 0
	for _, k := range c.splits {
		n += k
	}
	return n
}

// versionsHolding is the number of items that are held out; the rest train.
func (c *corpus) heldOut() int { return c.splits[trimtab.SplitTest] }

// itemsAs are the items of a corpus as T.
func itemsAs[T trimtab.Item](c *corpus) []T {
	var list []T
	for _, it := range c.items {
		if t, ok := it.(T); ok {
			list = append(list, t)
		}
	}
	return list
}

// addInput is the dataset that a stage reads under a name, or nil.
func (v *survey) input(i int, name string) *corpus {
	for _, in := range v.plan.Stages[i].Inputs {
		if in.Name == name && in.Dataset != "" {
			return v.corpora[in.Dataset]
		}
	}
	return nil
}

// dataNames are the inputs that are data.
var dataNames = []string{"text", "demonstrations", "prompts", "rankings"}

// modelOf is the tokenizer and the shape of the model that stage i begins with:
// that of the stage that makes it, or of a stored model. A pretrain stage with
// a tokenizer of its own trains it on its text; here it is trained on what was
// looked at, which is the same where that is all.
func (v *survey) modelOf(i int) (stageModel, error) {
	st := v.plan.Stages[i]
	if st.Kind == recipes.KindPretrain {
		return v.pretrainModel(i)
	}
	for _, in := range st.Inputs {
		switch {
		case slices.Contains(dataNames, in.Name):
			continue
		case in.Stage != "":
			return v.models[stageIndex(v.plan, in.Stage)], nil
		case in.Model == "":
			return stageModel{}, nil
		}
		return v.s.storedModel(in.Model)
	}
	return stageModel{}, nil
}

// contextOf is the context into which the data of stage i has to fit; 0 where
// it is not known. What ppo asks is read by the reward model too.
func (v *survey) contextOf(i int) (int, error) {
	shape := v.models[i].config
	if shape == nil {
		return 0, nil
	}
	for _, in := range v.plan.Stages[i].Inputs {
		if v.plan.Stages[i].Kind != recipes.KindPPO || in.Name != "reward" {
			continue
		}
		scorer := stageModel{}
		if in.Stage != "" {
			scorer = v.models[stageIndex(v.plan, in.Stage)]
		} else if in.Model != "" {
			var err error
			if scorer, err = v.s.storedModel(in.Model); err != nil {
				return 0, err
			}
		}
		if scorer.config != nil {
			return min(shape.Context, scorer.config.Context), nil
		}
	}
	return shape.Context, nil
}

func (v *survey) pretrainModel(i int) (stageModel, error) {
	c, shape := v.spec.Stages[i].Config.(*recipes.Pretrain), v.spec.Model.Config
	w := stageModel{config: &shape}
	if c.Tokenizer == "gpt2" {
		t, err := tokenizer.GPT2()
		if err == nil {
			w.tokenizer, w.exact, shape.Vocab = t, true, t.VocabSize()
		}
		return w, err
	}
	text := v.input(i, "text")
	if text == nil || text.kind != trimtab.KindText {
		return w, nil
	}
	var bodies []string
	for _, t := range itemsAs[trimtab.Text](text) {
		bodies = append(bodies, t.Body)
	}
	t, err := tokenizer.Train(bodies, shape.Vocab)
	if err == nil {
		return stageModel{tokenizer: t, exact: text.complete, config: &shape}, nil
	}
	if text.complete {
		return w, trimtab.NewError(trimtab.Invalid, "tokenizer_failed", "give more text, or lower model.vocab",
			"stage %s: train the tokenizer on %s: %w", v.plan.Stages[i].Name, text.name, err)
	}
	// a part of the text has fewer words; this is near enough
	for vocab := shape.Vocab / 2; vocab > 256 && w.tokenizer == nil; vocab /= 2 {
		w.tokenizer, _ = tokenizer.Train(bodies, vocab)
	}
	return w, nil
}

// storedModel is the tokenizer and the shape of a model in the store, or of a folder
// that is not imported yet.
func (s *Service) storedModel(ref trimtab.Digest) (stageModel, error) {
	if info, err := os.Stat(string(ref)); err == nil && info.IsDir() {
		f, err := checkpoint.Read(string(ref))
		if err != nil {
			return stageModel{}, err
		}
		return stageModel{tokenizer: f.Tokenizer, exact: true, config: &f.Model.Config}, nil
	}
	m, t, err := checkpoint.LoadModel(s.files, ref)
	if err != nil {
		return stageModel{}, err
	}
	return stageModel{tokenizer: t, exact: true, config: &m.Config}, nil
}

// approximationNotes says which numbers are not those that the run will count.
func (v *survey) approximationNotes() []string {
	var other, some bool
	for i, k := range v.known {
		other = other || len(k.Volumes) > 0 && !k.Tokenizer && v.plan.Stages[i].Kind != recipes.KindPretrain
		for _, vol := range k.Volumes {
			some = some || !vol.Whole
		}
	}
	var notes []string
	if other {
		notes = append(notes,
			"the run makes its own tokenizer, which is not known yet: lengths are those of one made from a part of "+
				"the text")
	}
	if some {
		notes = append(notes,
			fmt.Sprintf("of large datasets %d items, or %d MiB of text, were looked at, and the rest counted like them",
				surveyedItems, surveyedBytes>>20))
	}
	return notes
}

// reproduceStage is what is known of stage i.
func (v *survey) stageKnown(i int) recipes.StageKnown {
	w := v.models[i]
	k := recipes.StageKnown{Shape: w.config, Volumes: map[string]recipes.Volume{}, Tokenizer: w.exact}
	if w.tokenizer == nil || w.config == nil {
		return k
	}
	for _, name := range dataNames {
		c := v.input(i, name)
		if c == nil || string(c.kind) != name {
			continue
		}
		for _, vol := range v.volumes(i, c) {
			k.Volumes[vol.Items] = vol
		}
	}
	return k
}

// volumes are a corpus as stage i reads it.
func (v *survey) volumes(i int, c *corpus) []recipes.Volume {
	w := v.models[i]
	t, context := w.tokenizer, v.contexts[i]
	switch c.kind {
	case trimtab.KindDemonstrations:
		seqs, fit := dataset.FitDemonstrations(t, itemsAs[trimtab.Demonstration](c), trimtab.SplitTrain, context)
		vol := recipes.Volume{Fit: fit}
		addSequences(&vol, seqs)
		return []recipes.Volume{c.scaled(vol, trimtab.SplitTrain)}
	case trimtab.KindRankings:
		var vols []recipes.Volume
		for _, split := range []string{trimtab.SplitTrain, trimtab.SplitTest} {
			examples, _, fit := dataset.FitRankings(t, itemsAs[trimtab.Ranking](c), split, context)
			vol := recipes.Volume{Fit: fit}
			for _, seqs := range examples {
				addSequences(&vol, seqs)
			}
			vols = append(vols, c.scaled(vol, split))
		}
		return vols
	case trimtab.KindPrompts:
		return v.prompts(i, c)
	}
	vol := recipes.Volume{Fit: trimtab.Fit{Items: "text", Kept: len(c.items)}}
	for _, d := range itemsAs[trimtab.Text](c) {
		vol.Tokens += int64(len(d.Body)) / 3 // about; it matters for memory alone
	}
	return []recipes.Volume{c.scaled(vol, trimtab.SplitTrain)}
}

// prompts are those that the stage asks, with what room it leaves for an answer.
func (v *survey) prompts(i int, c *corpus) []recipes.Volume {
	w, context, all := v.models[i], v.contexts[i], itemsAs[trimtab.Prompt](c)
	src := func(purpose string) draw.Source {
		return draw.New(v.plan.Seed, v.plan.Stages[i].Name, purpose)
	}
	split := trimtab.SplitTrain
	want, pool := 0, false // how many are drawn, 0 is all, and whether they are drawn until so many fit
	full := math.MaxInt    // longer ones leave room for less than max_tokens
	var ids [][]int32
	var kept []trimtab.Prompt
	var fit trimtab.Fit
	switch o := v.spec.Stages[i].Config.(type) {
	case *recipes.PPO:
		want, pool = o.Pool, true
		ids, _, fit = dataset.DrawPrompts(w.tokenizer, canonicalOrder(all), src("pool"), context-o.MaxTokens,
			c.drawCount(want))
	case *recipes.Evaluate:
		split = trimtab.SplitTest
		ids, kept, fit = dataset.FitPrompts(w.tokenizer, all, split, context-o.MaxTokens)
		if o.Prompts > 0 { // the first of each set
			ids = firstPerTag(ids, kept, o.Prompts)
			fit.Kept = len(ids)
		}
	case *recipes.Collect:
		want = o.Prompts + o.HeldOut
		all = canonicalOrder(dataset.TrainPrompts(all))
		if n := c.drawCount(want); n > 0 && n < len(all) {
			var drawn []trimtab.Prompt
			for _, k := range dataset.EpochOrder(src("prompts"), len(all), 0)[:n] {
				drawn = append(drawn, all[k])
			}
			all = drawn
		}
		ids, _, fit = dataset.FitPrompts(w.tokenizer, all, split, context-1)
		full = context - o.MaxTokens
	}
	vol := recipes.Volume{Fit: fit}
	for _, tokens := range ids {
		vol.Tokens += int64(len(tokens))
		vol.Longest = max(vol.Longest, len(tokens))
		if len(tokens) > full {
			vol.Cut++
		}
	}
	vol = c.scaled(vol, split)
	have := vol.Kept + vol.LeftOut
	if pool {
		have = vol.Kept
	}
	return []recipes.Volume{drawnShare(vol, have, want)}
}

// drawCount is how many of the corpus's prompts a stage draws of those that were
// looked at, where these are all; else all were looked at for what they are like.
func (c *corpus) drawCount(want int) int {
	if c.complete {
		return want
	}
	return 0
}

// drawnShare is the part of a volume that a stage draws, want of have; a want of 0 is all.
func drawnShare(v recipes.Volume, have, want int) recipes.Volume {
	if want == 0 || have <= want {
		return v
	}
	share := float64(want) / float64(have)
	for _, n := range []*int{&v.Kept, &v.Cut, &v.LeftOut} {
		*n = int(math.Round(share * float64(*n)))
	}
	v.Tokens = int64(share * float64(v.Tokens))
	return v
}

// canonicalOrder are prompts in the order in which a frozen version has them.
func canonicalOrder(prompts []trimtab.Prompt) []trimtab.Prompt {
	digests := make(map[trimtab.Prompt]trimtab.Digest, len(prompts))
	for _, p := range prompts {
		digests[p] = trimtab.DigestOf(p.Canonical())
	}
	list := slices.Clone(prompts)
	slices.SortStableFunc(list, func(a, b trimtab.Prompt) int { return cmp.Compare(digests[a], digests[b]) })
	return list
}

// firstPerTag are the first prompts of each tag.
func firstPerTag(ids [][]int32, prompts []trimtab.Prompt, most int) [][]int32 {
	var first [][]int32
	taken := map[string]int{}
	for i, p := range prompts {
		if taken[p.Tag]++; taken[p.Tag] <= most {
			first = append(first, ids[i])
		}
	}
	return first
}

// addSequences adds sequences to a volume.
func addSequences(v *recipes.Volume, seqs []dataset.Sequence) {
	for _, s := range seqs {
		v.Texts++
		v.Tokens += int64(len(s.Tokens))
		v.Answers += int64(len(s.Tokens) - s.PromptLen)
		v.Longest = max(v.Longest, len(s.Tokens))
	}
}

// scaled makes a volume of some items one of all.
func (c *corpus) scaled(v recipes.Volume, split string) recipes.Volume {
	for _, it := range c.items {
		v.Bytes += sizeOf(it)
	}
	if c.complete {
		v.Whole = true
		return v
	}
	all := c.count() - c.heldOut()
	if split == trimtab.SplitTest {
		all = c.heldOut()
	}
	seen := v.Kept + v.LeftOut
	if seen == 0 {
		seen, v.Kept = 1, 1
	}
	scale := func(n int64) int64 { return int64(float64(n) * float64(all) / float64(seen)) }
	for _, n := range []*int{&v.Kept, &v.Cut, &v.LeftOut, &v.Equal} {
		*n = int(scale(int64(*n)))
	}
	v.Tokens, v.Answers, v.Texts, v.Bytes = scale(v.Tokens), scale(v.Answers), scale(v.Texts), scale(v.Bytes)
	return v
}

// sizeOf is the bytes of an item's texts.
func sizeOf(it trimtab.Item) int64 {
	switch it := it.(type) {
	case trimtab.Text:
		return int64(len(it.Body))
	case trimtab.Prompt:
		return int64(len(it.Text))
	case trimtab.Demonstration:
		return int64(len(it.Prompt) + len(it.Response))
	case trimtab.Ranking:
		n := len(it.Prompt)
		for _, r := range it.Responses {
			n += len(r.Bytes) + 4*len(r.Tokens)
		}
		return int64(n)
	}
	return 0
}
