package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/label"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/starter"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// The tasks of eval.
const (
	taskPerplexity = "perplexity"
	taskAccuracy   = "accuracy"
	taskWinRate    = "winrate"
)

// tasks are the values of --task.
var tasks = []string{taskPerplexity, taskAccuracy, taskWinRate}

// evalFlags are the flags of eval.
type evalFlags struct {
	samplingFlags
	// task is one of tasks; data and split choose what it measures on, and
	// against the model to compare with.
	task, data, split, against string
	// world is the seed of the starter world that prompts come from.
	world uint64
	// prompts is the number of prompts of each held-out set.
	prompts int
}

// evalCmd is "trimtab eval".
func (a *app) evalCmd() *cobra.Command {
	var o evalFlags
	cmd := &cobra.Command{
		Use: "eval MODEL", Short: "measure a model: perplexity, reward accuracy, win rate", Args: argCount(1, 1),
		Long: `Measure a model. Accuracy and win rate come with 95 % bootstrap intervals.

  perplexity  of a language model on --data (text or demonstrations)
  accuracy    of a reward model on the ordered pairs of --data (rankings); next to it the
              accuracy of "the longer response wins" (longer_wins), the paired difference
              (over_longer), and the same on pairs of about equal length. Intervals
              resample whole groups, and the number of groups is reported
  winrate     of a language model against another (--against), on prompts of the starter
              world that occur in no training text, decided by the world's gold judge`,
		Example: `  trimtab eval my-assistant/sft --task perplexity --data demos
  trimtab eval my-assistant/reward --task accuracy --data votes --split test
  trimtab eval my-assistant/ppo --task winrate --against my-assistant/sft`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd.Flags().Changed); err != nil {
				return err
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error { return a.eval(ctx, s, args[0], o) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.task, "task", "", strings.Join(tasks, ", "))
	f.StringVar(&o.data, "data", "", "dataset to measure on")
	f.StringVar(&o.split, "split", "", "measure only items of this split: train or test")
	f.StringVar(&o.against, "against", "", "the model to compare with, for winrate")
	f.Uint64Var(&o.world, "world", 1, "seed of the starter world, for winrate")
	f.IntVar(&o.prompts, "prompts", 200, "number of prompts in each held-out set, for winrate")
	o.register(cmd)
	_ = cmd.RegisterFlagCompletionFunc("task", cobra.FixedCompletions(tasks, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// unusedFlags are the flags that a task ignores. Giving one is an error: the
// user expects it to have an effect.
var unusedFlags = map[string][]string{
	taskPerplexity: {"against", "world", "prompts", "seed", "greedy", "raw", "temperature", "top-k", "top-p",
		"max-tokens"},
	taskAccuracy: {"against", "world", "prompts", "greedy", "raw", "temperature", "top-k", "top-p", "max-tokens"},
	taskWinRate:  {"data", "split", "raw"},
}

// check rejects what cannot be measured, and flags that the task would
// ignore; given reports whether a flag was given. It runs before the model is
// loaded, which for a large one takes seconds.
func (o *evalFlags) check(given func(flag string) bool) error {
	// Before the task's own requirements: the flag may be a leftover of
	// another task.
	if i := slices.IndexFunc(unusedFlags[o.task], given); i >= 0 {
		return usagef("leave it out", "--task %s does not use --%s", o.task, unusedFlags[o.task][i])
	}
	switch {
	case !slices.Contains(tasks, o.task):
		return usagef("use --task "+strings.Join(tasks, ", --task "), "--task is %q", o.task)
	case o.task == taskWinRate && o.against == "":
		return usagef("name the other model with --against", "winrate compares two models, and only one is given")
	case o.task != taskWinRate && o.data == "":
		return usagef("name a dataset with --data", "%s is measured on a dataset, and none is given", o.task)
	case o.split != "" && o.split != trimtab.SplitTrain && o.split != trimtab.SplitTest:
		return usagef("use train or test", "--split is %q", o.split)
	case o.prompts < 1:
		return usagef("use 1 or more", "--prompts is %d", o.prompts)
	}
	return o.samplingFlags.check()
}

// evalDocument is the result of a measurement.
type evalDocument struct {
	Schema string         `json:"schema"`
	Task   string         `json:"task"`
	Model  trimtab.Digest `json:"model"`
	// Against is the other model of winrate.
	Against trimtab.Digest `json:"against,omitempty"`
	// Data is the dataset version that was measured on.
	Data  trimtab.Digest `json:"data,omitempty"`
	Split string         `json:"split,omitempty"`
	// Measures are the results; which there are depends on the task.
	Measures []measure `json:"measures"`
	// LeftOut is the number of items that do not fit the model's context.
	LeftOut int `json:"left_out,omitempty"`
	// Cut is the number of texts that were cut where the context ends.
	Cut int `json:"cut,omitempty"`
}

// measure is a measured number with its 95 % bootstrap interval, if it has
// one.
type measure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	// Low and High are null where there is no interval.
	Low  *float64 `json:"low,omitempty"`
	High *float64 `json:"high,omitempty"`
	// N is the number of things measured: tokens, pairs or prompts.
	N int `json:"n"`
	// Groups is the number of independent groups that the interval was
	// resampled over, where several of the N belong to one.
	Groups int `json:"groups,omitempty"`
}

// interval builds a measure with an interval over groups. A single group has
// none: nothing can be resampled.
func interval(name string, value float64, by label.Interval, n int) measure {
	m := measure{Name: name, Value: value, N: n, Groups: by.Groups}
	if by.Groups > 1 {
		m.Low, m.High = &by.Low, &by.High
	}
	return m
}

// eval loads the model, measures it and prints the document.
func (a *app) eval(ctx context.Context, s *session, ref string, o evalFlags) error {
	// Loading verifies every file of the model against its digest.
	art, m, t, err := loadModel(ctx, s, ref)
	if err != nil {
		return err
	}
	pool := tensor.NewPool(0)
	defer pool.Close()
	e := evaluation{ctx: ctx, s: s, o: o, pass: model.NewPass(pool), m: m, t: t,
		doc: evalDocument{Schema: "trimtab.eval/v1", Task: o.task, Model: art.Digest, Split: o.split}}
	switch o.task {
	case taskPerplexity:
		err = e.perplexity()
	case taskAccuracy:
		err = e.accuracy()
	case taskWinRate:
		err = e.winRate()
	}
	if err != nil {
		return err
	}
	return a.printEval(e.doc)
}

// evaluation is a measurement in progress.
type evaluation struct {
	// ctx ends the measurement's reading of the database.
	ctx context.Context
	s   *session
	o   evalFlags
	// pass holds the activations and the worker pool.
	pass *model.Pass
	// m and t are the model and its tokenizer.
	m *model.Model
	t *tokenizer.Tokenizer
	// doc is the result so far.
	doc evalDocument
}

// requireHead checks that the model has the head that the task needs: scalar
// for a reward model, logits for a language model.
func (e *evaluation) requireHead(scalar bool) error {
	if e.m.Scalar == scalar {
		return nil
	}
	if scalar {
		return trimtab.NewError(trimtab.Invalid, "not_a_reward_model", "choose the model of a reward stage",
			"%s needs a reward model, and this is a language model", e.o.task)
	}
	return trimtab.NewError(trimtab.Invalid, "not_a_language_model", "choose a model of another stage",
		"%s needs a language model, and this is a reward model", e.o.task)
}

// items reads the items of --data that are in the chosen split.
func (e *evaluation) items() (storage.DatasetVersion, []trimtab.Item, error) {
	v, err := e.s.store.ResolveDataset(e.ctx, e.o.data)
	if err != nil {
		return v, nil, err
	}
	e.doc.Data = v.Digest
	items, err := e.s.store.Items(e.ctx, v.Digest)
	if err != nil || e.o.split == "" {
		return v, items, err
	}
	return v, slices.DeleteFunc(items, func(it trimtab.Item) bool { return splitOf(it) != e.o.split }), nil
}

// splitOf is the split of an item; one without a split is in train.
func splitOf(it trimtab.Item) string {
	split := ""
	switch it := it.(type) {
	case trimtab.Prompt:
		split = it.Split
	case trimtab.Demonstration:
		split = it.Split
	case trimtab.Ranking:
		split = it.Split
	}
	if split == "" {
		return trimtab.SplitTrain
	}
	return split
}

// wrongKind is the error for a dataset of a kind that the task cannot use.
func (e *evaluation) wrongKind(v storage.DatasetVersion, want string) error {
	return trimtab.NewError(trimtab.Invalid, "wrong_kind", "choose another dataset",
		"%s is measured on %s, and %s holds %s", e.o.task, want, v.Dataset, v.Kind)
}

// nothingToMeasure is the error for a dataset of which no item fits.
func nothingToMeasure(v storage.DatasetVersion) error {
	return trimtab.NewError(trimtab.Invalid, "nothing_to_measure",
		"check --split and the dataset with trimtab data show",
		"no item of %s can be measured", v.Dataset)
}

// perplexity measures perplexity per token over documents, or over prompts
// with their responses. A document longer than the context is cut into
// windows that are read independently of one another: the first tokens of a
// window have little context, which raises the number.
func (e *evaluation) perplexity() error {
	if err := e.requireHead(false); err != nil {
		return err
	}
	v, items, err := e.items()
	if err != nil {
		return err
	}
	var texts [][]int32
	for _, it := range items {
		switch it := it.(type) {
		case trimtab.Text:
			// Documents begin as in pretraining, with the token that begins a
			// text.
			ids := append([]int32{e.t.BeginOfText()}, e.t.Encode(it.Body)...)
			// A window is as long as the context; the last one of a document
			// is shorter.
			texts = append(texts, slices.Collect(slices.Chunk(ids, e.m.Config.Context))...)
		case trimtab.Demonstration:
			if seq, ok := dataset.EncodeExample(e.t, it.Prompt, it.Response, e.m.Config.Context); ok {
				texts = append(texts, seq.Tokens)
				e.countCut(seq)
			} else {
				e.doc.LeftOut++
			}
		default:
			return e.wrongKind(v, "text or demonstrations")
		}
	}
	l := eval.Perplexity(e.pass, e.m, texts)
	if l.Tokens == 0 {
		return nothingToMeasure(v)
	}
	e.doc.Measures = []measure{{Name: "perplexity", Value: l.Perplexity, N: l.Tokens},
		{Name: "nats_per_token", Value: l.NLL, N: l.Tokens}}
	return nil
}

// countCut counts a sequence that was cut to fit the context.
func (e *evaluation) countCut(s dataset.Sequence) {
	if s.Cut {
		e.doc.Cut++
	}
}

// accuracy measures how often a reward model orders a pair as people did;
// pairs that people tied do not count, and equal scores are half a hit. The
// arithmetic is that of eval.MeasureReward, which the reward stage and
// evaluate use. Unlike there, every measure gets an interval here, each from
// a random stream under its own name, so that a new measure does not change
// the intervals of the others.
func (e *evaluation) accuracy() error {
	if err := e.requireHead(true); err != nil {
		return err
	}
	v, items, err := e.items()
	if err != nil {
		return err
	}
	var rankings []trimtab.Ranking
	var scores [][]float32
	scorer := reward.NewScorer(e.pass, e.m)
	for _, it := range items {
		r, ok := it.(trimtab.Ranking)
		if !ok {
			return e.wrongKind(v, "rankings")
		}
		seqs, ok := dataset.EncodeRanking(e.t, r, e.m.Config.Context)
		if !ok {
			e.doc.LeftOut++
			continue
		}
		ids := make([][]int32, len(seqs))
		for i, q := range seqs {
			ids[i] = q.Tokens
			e.countCut(q)
		}
		rankings, scores = append(rankings, r), append(scores, scorer.Scores(ids))
	}
	pairs := label.Pairs(rankings)
	if len(pairs) == 0 {
		return nothingToMeasure(v)
	}
	add := func(name string, of []label.Pair, values []float64) {
		by := label.Bootstrap(label.PairGroups(rankings, of), values, .95, 1000, draw.New(e.o.seed, "eval", name))
		e.doc.Measures = append(e.doc.Measures, interval(name, label.Mean(values), by, len(of)))
	}
	for _, of := range []struct {
		name  string
		pairs []label.Pair
	}{{"", pairs}, {"_length_matched", label.LengthMatched(rankings, pairs)}} {
		if len(of.pairs) == 0 {
			continue
		}
		hits := label.PairAccuracy(of.pairs, func(r, i int) float64 { return float64(scores[r][i]) })
		// The difference is paired: both rules are right or wrong about the
		// same pairs.
		longer := label.LongerPairAccuracy(rankings, of.pairs)
		add("accuracy"+of.name, of.pairs, hits)
		add("longer_wins"+of.name, of.pairs, longer)
		add("over_longer"+of.name, of.pairs, label.PairedDifferences(hits, longer))
	}
	return nil
}

// winRate samples answers of two models to the same held-out prompts, with
// the same seed, and has the gold judge of the starter world compare them
// prompt by prompt.
func (e *evaluation) winRate() error {
	if err := e.requireHead(false); err != nil {
		return err
	}
	other, rival, rivalTokens, err := loadModel(e.ctx, e.s, e.o.against)
	if err != nil {
		return err
	}
	// The rival may have another tokenizer: only texts are compared.
	if rival.Scalar {
		return trimtab.NewError(trimtab.Invalid, "not_a_language_model", "choose another model for --against",
			"%s is a reward model", e.o.against)
	}
	e.doc.Against = other.Digest
	// The prompts depend on the world's seed alone, so that any two models
	// can be compared on the same ones.
	world := starter.New(e.o.world)
	prompts := world.TestPrompts(e.o.prompts)
	ours, err := e.goldScores(world, prompts, e.m, e.t)
	if err != nil {
		return err
	}
	theirs, err := e.goldScores(world, prompts, rival, rivalTokens)
	if err != nil {
		return err
	}
	// One source for the bootstraps, which is not the one that sampled the
	// answers.
	src := draw.New(e.o.seed, "eval", "winrate")
	for _, one := range []struct {
		name string
		e    eval.Estimate
	}{{"win_rate", eval.WinRate(src, ours, theirs)}, {"gold", eval.Mean(src, ours)},
		{"gold_against", eval.Mean(src, theirs)}} {
		e.doc.Measures = append(e.doc.Measures, interval(one.name, one.e.Value,
			label.Interval{Low: one.e.Low, High: one.e.High, Groups: one.e.N}, one.e.N))
	}
	return nil
}

// goldScores are the gold judge's scores of a model's answers, in the order
// of prompts. The judge knows the facts of its world and needs the prompt to
// be one of that world's own: any other cannot be judged.
func (e *evaluation) goldScores(
	world *starter.World, prompts []trimtab.Prompt, m *model.Model, t *tokenizer.Tokenizer,
) ([]float64, error) {
	o := model.SampleOptions{Temperature: e.o.temperature, TopK: e.o.topK, TopP: e.o.topP, MaxNewTokens: e.o.maxTokens,
		StopTokens: t.StopTokens(), SuppressTokens: t.SuppressTokens()}
	if e.o.greedy {
		o.Temperature = 0
	}
	ids := make([][]int32, len(prompts))
	for i, p := range prompts {
		ids[i] = dataset.EncodePrompt(t, p.Text)
		if len(ids[i]) >= m.Config.Context {
			return nil, trimtab.NewError(trimtab.Invalid, "prompt_too_long", "choose a model with a longer context",
				"prompt %q takes %d tokens and the model's context is %d", p.Text, len(ids[i]), m.Config.Context)
		}
		// All prompts are sampled in one batch with one limit: that of the
		// longest.
		o.MaxNewTokens = min(o.MaxNewTokens, m.Config.Context-len(ids[i]))
	}
	gold := make([]float64, len(prompts))
	for i, s := range model.Generate(e.pass, m, ids, o, draw.New(e.o.seed, "eval", "sample"), 0) {
		v, ok := world.Judge(prompts[i].Text, t.Decode(s.Tokens), s.Stopped)
		if !ok {
			return nil, fmt.Errorf("judge: %q is not a prompt of world %d", prompts[i].Text, world.Seed())
		}
		gold[i] = v.Gold
	}
	return gold, nil
}

// measureColumns are the columns of eval; people see the interval in one
// column, CSV its two ends. "n" counts what was measured, "groups" what was
// resampled: with few groups an interval says little, however large n is.
var measureColumns = []column[measure]{
	{name: "measure", full: func(m measure) string { return m.Name }},
	{name: "value", full: func(m measure) string { return formatExact(m.Value) },
		short: func(m measure) string { return formatMetric(m.Value) }, right: true},
	{name: "low", full: func(m measure) string { return ifKnown(m.Low, formatExact) }, only: formatCSV},
	{name: "high", full: func(m measure) string { return ifKnown(m.High, formatExact) }, only: formatCSV},
	{name: "95 % interval", full: func(m measure) string {
		switch {
		case m.Groups == 1:
			return "none: one group"
		case m.Low == nil:
			return ""
		}
		return fmt.Sprintf("%.3f … %.3f", *m.Low, *m.High)
	}, only: formatTable},
	{name: "n", full: func(m measure) string { return fmt.Sprint(m.N) }, right: true},
	{name: "groups", full: func(m measure) string { return blankIfZero(m.Groups) }, right: true},
}

// printEval prints the measures, with notes on items that were cut or left
// out.
func (a *app) printEval(doc evalDocument) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	if err := printList(a, list[measure]{items: doc.Measures, columns: measureColumns}); err != nil {
		return err
	}
	if doc.Cut > 0 {
		a.note("%s cut to the model's context", plural(doc.Cut, "text"))
	}
	if doc.LeftOut > 0 {
		a.note("%s left out: the prompt does not fit the model's context", plural(doc.LeftOut, "item"))
	}
	return nil
}
