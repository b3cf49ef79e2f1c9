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

// Limits on how much of a dataset a survey reads. Counts of larger datasets are
// scaled up from that part.
const (
	// surveyedItems is the number of items other than texts.
	surveyedItems = 5000
	// surveyedTexts is the number of texts.
	surveyedTexts = 100_000
	// surveyedBytes is the size of the items in bytes, of whatever kind.
	surveyedBytes = 8 << 20
)

// corpus is a dataset as a survey knows it.
type corpus struct {
	// The dataset's name.
	name string
	kind trimtab.Kind
	// All items, or a part of them.
	items []trimtab.Item
	// Number of all items, by split.
	splits map[string]int
	// Whether items are all of them.
	complete bool
}

// survey is what the stages of a plan will read, found out without training
// anything. Its figures feed the cost estimate and preflight.
type survey struct {
	s    *Service
	spec recipes.Spec
	plan trimtab.Plan
	// By dataset version or stand-in; nil for data that is not known.
	corpora map[trimtab.Digest]*corpus
	// One for each stage of the plan, as the next two.
	known recipes.Known
	// The model that each stage starts from.
	models []stageModel

	// Tokens that the stage's data has to fit into; 0 if not known.
	contexts []int
}

// stageModel is the model that a stage starts from, as far as it is known
// before the run.
type stageModel struct {
	// The stage's tokenizer or a similar one; nil if not known.
	tokenizer *tokenizer.Tokenizer
	// The tokenizer is the very one that the stage will use.
	exact bool
	// Nil if not known.
	config *model.Config
}

// survey examines the models and the data of a plan, stage by stage. given
// holds datasets that are not frozen yet, by the digest that stands for
// them in the plan; it may be nil. On an error the survey is returned as far as
// it came.
func (s *Service) survey(ctx context.Context, spec recipes.Spec, plan trimtab.Plan,
	given map[trimtab.Digest]*corpus) (*survey, error) {
	v := &survey{
		s:        s,
		spec:     spec,
		plan:     plan,
		corpora:  given,
		models:   make([]stageModel, len(plan.Stages)),
		contexts: make([]int, len(plan.Stages)),
	}
	if v.corpora == nil {
		v.corpora = map[trimtab.Digest]*corpus{}
	}
	// The stages are surveyed in order, since a stage may start from the model of an
	// earlier one.
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

// corpus reads a frozen dataset version, all of it or a part. A version with
// erased items is Conflict "dataset_erased": its digest no longer describes its
// content.
func (s *Service) corpus(ctx context.Context, version trimtab.Digest) (*corpus, error) {
	erased, err := s.store.ErasedItems(ctx, version)
	if err != nil {
		return nil, err
	}
	if len(erased) > 0 {
		return nil, trimtab.NewError(trimtab.Conflict, "dataset_erased",
			"freeze the dataset again and use the new version",
			"%d items of dataset version %s were erased; the first is %s", len(erased), version.Short(), erased[0])
	}
	row, err := s.store.ResolveDataset(ctx, string(version))
	if err != nil {
		return nil, err
	}
	c := &corpus{name: row.Dataset}
	if c.kind, c.splits, err = s.store.CountBySplit(ctx, version); err != nil {
		return nil, err
	}
	// Texts are short paragraphs, of which training a tokenizer needs many.
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

// newCorpus returns a corpus of items in memory, which are complete.
func newCorpus(name string, items []trimtab.Item) *corpus {
	c := &corpus{name: name, splits: map[string]int{}, items: items, complete: true}
	for _, it := range items {
		c.kind = it.Kind()
		c.splits[splitOf(it)]++
	}
	return c
}

// splitOf returns the split of an item; texts have none.
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

// count returns the number of all items.
func (c *corpus) count() int {
	n := 0
	for _, k := range c.splits {
		n += k
	}
	return n
}

// heldOut returns the number of items in the test split; all others are for
// training.
func (c *corpus) heldOut() int { return c.splits[trimtab.SplitTest] }

// itemsAs returns the items of a corpus that are of type T.
func itemsAs[T trimtab.Item](c *corpus) []T {
	var list []T
	for _, it := range c.items {
		if t, ok := it.(T); ok {
			list = append(list, t)
		}
	}
	return list
}

// input returns the dataset that stage i reads under a name; nil if it reads
// none, or one that is not known.
func (v *survey) input(i int, name string) *corpus {
	for _, in := range v.plan.Stages[i].Inputs {
		if in.Name == name && in.Dataset != "" {
			return v.corpora[in.Dataset]
		}
	}
	return nil
}

// dataNames are the names of the inputs that are datasets; all others are
// models.
var dataNames = []string{"text", "demonstrations", "prompts", "rankings"}

// modelOf returns the tokenizer and the config of the model that stage i starts
// from: those of the stage that makes it, or of a stored model.
func (v *survey) modelOf(i int) (stageModel, error) {
	st := v.plan.Stages[i]
	if st.Kind == recipes.KindPretrain {
		return v.pretrainModel(i)
	}
	for _, in := range st.Inputs {
		// The first input that is not a dataset is the model that is trained or asked.
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

// contextOf returns the number of tokens into which the data of stage i has to
// fit; 0 where that is not known. In a ppo stage the reward model reads the
// same sequences, so the shorter of the two contexts counts.
func (v *survey) contextOf(i int) (int, error) {
	config := v.models[i].config
	if config == nil {
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
			return min(config.Context, scorer.config.Context), nil
		}
	}
	return config.Context, nil
}

// pretrainModel returns the tokenizer and the config of pretrain stage i. A stage
// that trains its own tokenizer does so on its whole text. Here one is trained on
// the part that the survey read, which gives the same tokenizer if that is all of
// it, and otherwise a similar one.
func (v *survey) pretrainModel(i int) (stageModel, error) {
	stage := v.spec.Stages[i].Config.(*recipes.Pretrain)
	config := v.spec.Model.Config
	m := stageModel{config: &config}
	if stage.Tokenizer == "gpt2" {
		t, err := tokenizer.GPT2()
		if err == nil {
			m.tokenizer, m.exact, config.Vocab = t, true, t.VocabSize()
		}
		return m, err
	}
	text := v.input(i, "text")
	if text == nil || text.kind != trimtab.KindText {
		return m, nil
	}
	var bodies []string
	for _, t := range itemsAs[trimtab.Text](text) {
		bodies = append(bodies, t.Body)
	}
	t, err := tokenizer.Train(bodies, config.Vocab)
	if err == nil {
		return stageModel{tokenizer: t, exact: text.complete, config: &config}, nil
	}
	if text.complete {
		return m, trimtab.NewError(trimtab.Invalid, "tokenizer_failed", "give more text, or lower model.vocab_size",
			"stage %s: train the tokenizer on %s: %w", v.plan.Stages[i].Name, text.name, err)
	}
	// A part of the text may have too few words for the vocabulary. A smaller one is
	// close enough for an estimate.
	for vocab := config.Vocab / 2; vocab > 256 && m.tokenizer == nil; vocab /= 2 {
		m.tokenizer, _ = tokenizer.Train(bodies, vocab)
	}
	return m, nil
}

// storedModel returns the tokenizer and the config of a stored model, or of a
// folder that is not imported yet, whose path then stands in place of the
// digest.
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

// approximationNotes says which figures of the survey are estimates, and why.
func (v *survey) approximationNotes() []string {
	var otherTokenizer, extrapolated bool
	for i, k := range v.known {
		if len(k.Volumes) > 0 && !k.Tokenizer && v.plan.Stages[i].Kind != recipes.KindPretrain {
			otherTokenizer = true
		}
		for _, vol := range k.Volumes {
			extrapolated = extrapolated || !vol.Whole
		}
	}
	var notes []string
	if otherTokenizer {
		notes = append(notes, "the run trains its own tokenizer, so lengths are estimated with one trained on a part "+
			"of the text")
	}
	if extrapolated {
		notes = append(notes, fmt.Sprintf("figures for large datasets are extrapolated from %d items, or %d MiB of "+
			"text",
			surveyedItems, surveyedBytes>>20))
	}
	return notes
}

// stageKnown returns what is known of stage i. Without a tokenizer nothing is
// known of its data.
func (v *survey) stageKnown(i int) recipes.StageKnown {
	m := v.models[i]
	k := recipes.StageKnown{Shape: m.config, Volumes: map[string]recipes.Volume{}, Tokenizer: m.exact}
	if m.tokenizer == nil || m.config == nil {
		return k
	}
	// An input of the wrong kind is reported by preflight and not measured.
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

// volumes measures a corpus as stage i reads it: items that fit and that are
// left out, tokens, and the longest sequence. The same functions prepare the
// data in the run, so complete data is measured exactly.
func (v *survey) volumes(i int, c *corpus) []recipes.Volume {
	t, context := v.models[i].tokenizer, v.contexts[i]
	switch c.kind {
	case trimtab.KindDemonstrations:
		seqs, fit := dataset.FitDemonstrations(t, itemsAs[trimtab.Demonstration](c), trimtab.SplitTrain, context)
		vol := recipes.Volume{Fit: fit}
		addSequences(&vol, seqs)
		return []recipes.Volume{c.scaled(vol, trimtab.SplitTrain)}
	case trimtab.KindRankings:
		// The held-out rankings are measured too: the stage evaluates on them.
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
		vol.Tokens += int64(len(d.Body)) / 3 // a rough figure, used for the memory estimate only
	}
	return []recipes.Volume{c.scaled(vol, trimtab.SplitTrain)}
}

// prompts measures the prompts that stage i draws. A prompt is cut off in none
// of the stages; Cut counts those that leave room for a shorter response only.
// Where the stage draws at random, the same draws are made here.
func (v *survey) prompts(i int, c *corpus) []recipes.Volume {
	t, context := v.models[i].tokenizer, v.contexts[i]
	all := itemsAs[trimtab.Prompt](c)
	source := func(purpose string) draw.Source {
		return draw.New(v.plan.Seed, v.plan.Stages[i].Name, purpose)
	}
	split := trimtab.SplitTrain
	want := 0                // prompts that the stage draws; 0 is all
	fitting := false         // want counts only those that fit, as drawing continues until there are enough
	maxLength := math.MaxInt // longer prompts leave room for fewer than max_new_tokens
	var ids [][]int32
	var kept []trimtab.Prompt
	var fit trimtab.Fit
	switch o := v.spec.Stages[i].Config.(type) {
	case *recipes.PPO:
		want, fitting = o.NumPrompts, true
		ids, _, fit = dataset.DrawPrompts(t, canonicalOrder(all), source("pool"), context-o.MaxNewTokens,
			c.drawCount(want))
	case *recipes.Evaluate:
		split = trimtab.SplitTest
		ids, kept, fit = dataset.FitPrompts(t, all, split, context-o.MaxNewTokens)
		if o.Prompts > 0 {
			ids = firstPerTag(ids, kept, o.Prompts)
			fit.Kept = len(ids)
		}
	case *recipes.Collect:
		want = o.Prompts + o.HeldOut
		all = canonicalOrder(dataset.TrainPrompts(all))
		if n := c.drawCount(want); n > 0 && n < len(all) {
			var drawn []trimtab.Prompt
			for _, k := range dataset.EpochOrder(source("prompts"), len(all), 0)[:n] {
				drawn = append(drawn, all[k])
			}
			all = drawn
		}
		// A prompt fits if there is room for one token; max_new_tokens is a limit only.
		ids, _, fit = dataset.FitPrompts(t, all, split, context-1)
		maxLength = context - o.MaxNewTokens
	}
	vol := recipes.Volume{Fit: fit}
	for _, tokens := range ids {
		vol.Tokens += int64(len(tokens))
		vol.Longest = max(vol.Longest, len(tokens))
		if len(tokens) > maxLength {
			vol.Cut++
		}
	}
	// First scale the part to the dataset, then the dataset to what is drawn of it.
	vol = c.scaled(vol, split)
	have := vol.Kept + vol.LeftOut
	if fitting {
		have = vol.Kept
	}
	return []recipes.Volume{drawnShare(vol, have, want)}
}

// drawCount returns how many prompts to draw for a stage that draws want of
// them. If the survey has only a part of the prompts all of that part is
// measured (0), and the result scaled.
func (c *corpus) drawCount(want int) int {
	if c.complete {
		return want
	}
	return 0
}

// drawnShare reduces a volume of have prompts to the want that a stage draws; a
// want of 0 is all.
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

// canonicalOrder returns prompts in the order of their digests, which is that
// of a frozen version. Draws by index depend on it.
func canonicalOrder(prompts []trimtab.Prompt) []trimtab.Prompt {
	// Each digest is computed once, not at every comparison.
	digests := make(map[trimtab.Prompt]trimtab.Digest, len(prompts))
	for _, p := range prompts {
		digests[p] = trimtab.DigestOf(p.Canonical())
	}
	list := slices.Clone(prompts)
	slices.SortStableFunc(list, func(a, b trimtab.Prompt) int { return cmp.Compare(digests[a], digests[b]) })
	return list
}

// firstPerTag returns at most so many prompts of each tag, in order.
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

// scaled turns the volume of the surveyed items of a split into one of all its
// items, in proportion to the number of items.
func (c *corpus) scaled(v recipes.Volume, split string) recipes.Volume {
	// Bytes are of both splits, as the stage reads the whole dataset before it splits.
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
	if seen == 0 { // the part has no item of this split: assume that all fit
		seen, v.Kept = 1, 1
	}
	scale := func(n int64) int64 { return int64(float64(n) * float64(all) / float64(seen)) }
	for _, n := range []*int{&v.Kept, &v.Cut, &v.LeftOut, &v.Equal} {
		*n = int(scale(int64(*n)))
	}
	for _, n := range []*int64{&v.Tokens, &v.Answers, &v.Texts, &v.Bytes} {
		*n = scale(*n)
	}
	return v
}

// sizeOf returns the number of bytes of an item's texts, and of its token IDs
// if the responses have any.
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
