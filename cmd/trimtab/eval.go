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

var tasks = []string{taskPerplexity, taskAccuracy, taskWinRate}

// evalFlags are those of eval.
type evalFlags struct {
	samplingFlags
	task, data, split, against string
	world                      uint64
	prompts                    int
}

func (a *app) evalCmd() *cobra.Command {
	var o evalFlags
	cmd := &cobra.Command{
		Use: "eval MODEL", Short: "measure a model: perplexity, reward accuracy, win rate", Args: argCount(1, 1),
		Long: `Measure a model. Accuracy and win rate come with 95 % bootstrap intervals.

  perplexity  of a language model on --data (text or demonstrations)
  accuracy    of a reward model on the pairs of --data (rankings), beside the rule that the
              longer response wins, by how much it does better (over_longer, paired), and on
              pairs of about the same length alone; whole groups are resampled, and counted
  winrate     of a language model against another (--against), on prompts of the starter world
              that no training text holds, judged by the world's gold judge`,
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
	f.StringVar(&o.split, "split", "", "only items of this split: train or test")
	f.StringVar(&o.against, "against", "", "the other model of winrate")
	f.Uint64Var(&o.world, "world", 1, "seed of the starter world, for winrate")
	f.IntVar(&o.prompts, "prompts", 200, "prompts of each held-out set, for winrate")
	o.register(cmd)
	_ = cmd.RegisterFlagCompletionFunc("task", cobra.FixedCompletions(tasks, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// unusedFlags are the flags that a task does not read.
var unusedFlags = map[string][]string{
	taskPerplexity: {"against", "world", "prompts", "seed", "greedy", "raw", "temperature", "top-k", "top-p",
		"max-tokens"},
	taskAccuracy: {"against", "world", "prompts", "greedy", "raw", "temperature", "top-k", "top-p", "max-tokens"},
	taskWinRate:  {"data", "split", "raw"},
}

// check refuses what cannot be measured, and flags that the task would pass over; given tells which were given.
func (o *evalFlags) check(given func(flag string) bool) error {
	if i := slices.IndexFunc(unusedFlags[o.task], given); i >= 0 {
		return usagef("leave it out", "--task %s does not read --%s", o.task, unusedFlags[o.task][i])
	}
	switch {
	case !slices.Contains(tasks, o.task):
		return usagef("give --task "+strings.Join(tasks, ", --task "), "--task is %q", o.task)
	case o.task == taskWinRate && o.against == "":
		return usagef("name the other model with --against", "winrate compares two models and one is given")
	case o.task != taskWinRate && o.data == "":
		return usagef("name a dataset with --data", "%s is measured on data and none is given", o.task)
	case o.split != "" && o.split != trimtab.SplitTrain && o.split != trimtab.SplitTest:
		return usagef("use train or test", "--split is %q", o.split)
	case o.prompts < 1:
		return usagef("give at least 1", "--prompts is %d", o.prompts)
	}
	return o.samplingFlags.check()
}

// evalDocument is the outcome of a measurement.
type evalDocument struct {
	Schema   string         `json:"schema"`
	Task     string         `json:"task"`
	Model    trimtab.Digest `json:"model"`
	Against  trimtab.Digest `json:"against,omitempty"`
	Data     trimtab.Digest `json:"data,omitempty"`
	Split    string         `json:"split,omitempty"`
	Measures []measure      `json:"measures"`
	LeftOut  int            `json:"left_out,omitempty"` // items that do not fit the model's context
	Cut      int            `json:"cut,omitempty"`      // texts that lost their end, where the context ends
}

// measure is a number with its 95 % interval, where it has one.
type measure struct {
	Name  string   `json:"name"`
	Value float64  `json:"value"`
	Low   *float64 `json:"low,omitempty"`
	High  *float64 `json:"high,omitempty"`
	N     int      `json:"n"` // things measured: tokens, pairs, prompts
	// Groups is how many independent things the interval rests on, where several of the n are of one.
	Groups int `json:"groups,omitempty"`
}

// interval is a measure over groups; of one there is no interval.
func interval(name string, value float64, by label.Interval, n int) measure {
	m := measure{Name: name, Value: value, N: n, Groups: by.Groups}
	if by.Groups > 1 {
		m.Low, m.High = &by.Low, &by.High
	}
	return m
}

func (a *app) eval(ctx context.Context, s *session, ref string, o evalFlags) error {
	x, m, t, err := loadModel(ctx, s, ref)
	if err != nil {
		return err
	}
	pool := tensor.NewPool(0)
	defer pool.Close()
	e := evaluation{ctx: ctx, s: s, o: o, pass: model.NewPass(pool), m: m, t: t,
		doc: evalDocument{Schema: "trimtab.eval/v1", Task: o.task, Model: x.Digest, Split: o.split}}
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

// evaluation is one measurement at work.
type evaluation struct {
	ctx  context.Context
	s    *session
	o    evalFlags
	pass *model.Pass
	m    *model.Model
	t    *tokenizer.Tokenizer
	doc  evalDocument
}

func (e *evaluation) requireHead(scalar bool) error {
	if e.m.Scalar == scalar {
		return nil
	}
	if scalar {
		return trimtab.NewError(trimtab.Invalid, "not_a_reward_model", "choose the model of a reward stage",
			"%s needs a reward model and this is a language model", e.o.task)
	}
	return trimtab.NewError(trimtab.Invalid, "not_a_language_model", "choose a model of another stage",
		"%s needs a language model and this is a reward model", e.o.task)
}

// items are those of --data, of the chosen split.
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

func (e *evaluation) wrongKind(v storage.DatasetVersion, want string) error {
	return trimtab.NewError(trimtab.Invalid, "wrong_kind", "choose another dataset",
		"%s is measured on %s, and %s holds %s", e.o.task, want, v.Dataset, v.Kind)
}

func nothingToMeasure(v storage.DatasetVersion) error {
	return trimtab.NewError(trimtab.Invalid, "nothing_to_measure",
		"check --split and the dataset with trimtab data show",
		"no item of %s can be measured", v.Dataset)
}

// perplexity is over documents, or over prompts with their responses. A
// document longer than the context is cut into windows, each read by itself.
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
			ids := append([]int32{e.t.BeginOfText()}, e.t.Encode(it.Body)...)
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

// countCut counts a text that does not fit whole.
func (e *evaluation) countCut(s dataset.Sequence) {
	if s.Cut {
		e.doc.Cut++
	}
}

// accuracy compares a reward model with people on untied pairs.
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
		longer := label.LongerPairAccuracy(rankings, of.pairs)
		add("accuracy"+of.name, of.pairs, hits)
		add("longer_wins"+of.name, of.pairs, longer)
		add("over_longer"+of.name, of.pairs, label.PairedDifferences(hits, longer))
	}
	return nil
}

// winRate lets two models answer the same held-out prompts and the gold judge choose.
func (e *evaluation) winRate() error {
	if err := e.requireHead(false); err != nil {
		return err
	}
	other, rival, rivalTokens, err := loadModel(e.ctx, e.s, e.o.against)
	if err != nil {
		return err
	}
	if rival.Scalar {
		return trimtab.NewError(trimtab.Invalid, "not_a_language_model", "choose another model for --against",
			"%s is a reward model", e.o.against)
	}
	e.doc.Against = other.Digest
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

// goldScores are the gold scores of a model's answers.
func (e *evaluation) goldScores(world *starter.World, prompts []trimtab.Prompt, m *model.Model,
	t *tokenizer.Tokenizer) ([]float64, error) {
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
		o.MaxNewTokens = min(o.MaxNewTokens, m.Config.Context-len(ids[i]))
	}
	gold := make([]float64, len(prompts))
	for i, s := range eval.Sample(e.pass, m, ids, o, draw.New(e.o.seed, "eval", "sample")) {
		v, ok := world.Judge(prompts[i].Text, t.Decode(s.Tokens), s.Stopped)
		if !ok {
			return nil, fmt.Errorf("judge: %q is not a prompt of world %d", prompts[i].Text, world.Seed())
		}
		gold[i] = v.Gold
	}
	return gold, nil
}

var measureColumns = []column[measure]{
	{name: "measure", full: func(m measure) string { return m.Name }},
	{name: "value", full: func(m measure) string { return formatExact(m.Value) },
		short: func(m measure) string { return formatMetric(m.Value) }, right: true},
	{name: "low", full: func(m measure) string { return optional(m.Low, formatExact) }, only: formatCSV},
	{name: "high", full: func(m measure) string { return optional(m.High, formatExact) }, only: formatCSV},
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
	{name: "groups", full: func(m measure) string { return positive(m.Groups) }, right: true},
}

func optional(v *float64, show func(float64) string) string {
	if v == nil {
		return ""
	}
	return show(*v)
}

func (a *app) printEval(doc evalDocument) error {
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	if err := printList(a, list[measure]{items: doc.Measures, columns: measureColumns}); err != nil {
		return err
	}
	if doc.Cut > 0 {
		a.note("%d texts were cut where the model's context ends", doc.Cut)
	}
	if doc.LeftOut > 0 {
		a.note("%d items were left out: their prompts do not fit the model's context", doc.LeftOut)
	}
	return nil
}
