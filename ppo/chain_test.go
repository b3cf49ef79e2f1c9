package ppo_test

import (
	"context"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/reward"
	"github.com/trimtab/trimtab/sft"
	"github.com/trimtab/trimtab/train"
)

const (
	end, newline, letterA, letters = 0, 1, 2, 4 // letters A to D are tokens 2 to 5
	vocab                          = letterA + letters
)

// runAll runs a stage that New made, in the training loop.
func runAll(t *testing.T, tr train.Trainer, err error) (last trimtab.Report) {
	t.Helper()
	if err == nil {
		_, err = train.Loop{Trainer: tr, Report: func(_ context.Context, _ int, r trimtab.Report,
			_ time.Duration) error {
			last = r
			return nil
		}}.Run(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// likesA is what the labellers want: the share of A among the letters of a response that ends.
func likesA(response []int32) float64 {
	count := 0.0
	for _, id := range response {
		if id == letterA {
			count++
		}
	}
	if response[len(response)-1] != end {
		return 0
	}
	return count / float64(len(response))
}

// prompt i asks with one letter, or two.
func prompt(i int) []int32 {
	p := []int32{end, int32(letterA + i%letters)}
	if i/letters%2 == 1 {
		p = append(p, int32(letterA+i/(2*letters)%letters))
	}
	return append(p, newline)
}

func demonstration(s *draw.Stream) (response []int32) {
	for range 2 + s.IntN(4) {
		response = append(response, int32(letterA+s.IntN(letters)))
	}
	return append(response, end)
}

// goldenChain pins the bytes of the chain's models: of every kernel, with and
// without fused instructions in Go's own code.
const goldenChain = "sha256:aaa6a1c5bbf7ef362a1bac84f4f35d62dc2590b4fc5329f825e24403fcd7ca42"

// digest of the little-endian bytes of the models' slabs.
func digest(models ...*model.Model) trimtab.Digest {
	var b []byte
	for _, m := range models {
		for _, w := range m.Slab {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(w))
		}
	}
	return trimtab.DigestOf(b)
}

// Supervised fine-tuning on random letters, a reward model from rankings that
// prefer the letter A, and PPO against it: the share of A rises.
func TestChain(t *testing.T) {
	src := draw.New(11, "chain")
	base := model.New(model.Config{Layers: 1, Width: 32, Heads: 2, Context: 16, Vocab: vocab}, false)
	base.Init(src)

	var examples []dataset.Sequence
	var demonstrations [][]int32
	for i := range 256 {
		p := prompt(i)
		tokens := append(p, demonstration(src.At(1, uint64(i)))...)
		examples = append(examples, dataset.Sequence{Tokens: tokens, PromptLen: len(p)})
		demonstrations = append(demonstrations, tokens)
	}
	sc := sft.Defaults()
	sc.Epochs, sc.Optim.LR = 8, 3e-3
	st, err := sft.New(sc, sft.Inputs{Seed: 1, Stage: "sft", Model: base, Examples: examples})
	runAll(t, st, err)
	sftModel := st.Result()

	prompts := make([][]int32, 96)
	for i := range prompts {
		prompts[i] = prompt(i)
	}
	options := model.SampleOptions{Temperature: 1, MaxNewTokens: 8, StopTokens: []int32{end},
		SuppressTokens: []int32{newline}}
	before := model.Generate(model.NewPass(nil), sftModel, prompts, options, draw.New(2, "before"), 0)

	var rankings []reward.Ranking
	for i := range 160 {
		p := prompt(i)
		group := [][]int32{p, p, p, p}
		var r reward.Ranking
		var shares []int
		src := draw.New(uint64(i), "collect")
		for _, s := range model.Generate(model.NewPass(nil), sftModel, group, options, src, 0) {
			r.Sequences = append(r.Sequences, append(p[:len(p):len(p)], s.Tokens...))
			shares = append(shares, int(-1000*likesA(s.Tokens)))
		}
		r.Ranks = trimtab.DenseRanks(shares)
		rankings = append(rankings, r)
	}
	rc := reward.Defaults()
	rc.Epochs, rc.Optim.LR = 4, 3e-3
	rt, err := reward.New(rc, reward.Inputs{Seed: 1, Stage: "reward", Model: sftModel, Rankings: rankings[:128],
		Demonstrations: demonstrations})
	runAll(t, rt, err)
	rm := rt.Result()
	if a := reward.Evaluate(model.NewPass(nil), rm, rankings[128:]).Accuracy(); a < .85 {
		t.Errorf("the reward model orders %.2f of the held-out pairs, want at least .85", a)
	}

	pc := ppo.Defaults()
	pc.Episodes, pc.Batch, pc.MaxNewTokens, pc.ScoreSamples, pc.KLCoef = 64*14, 64, 8, 128, .05
	pc.Policy.LR, pc.Value.LR, pc.Policy.Warmup = 3e-3, 3e-3, 2
	in := ppo.Inputs{Seed: 1, Stage: "ppo", Model: sftModel, Reference: sftModel, Value: rm,
		Scorer:     reward.NewScorer(model.NewPass(nil), rm),
		StopTokens: []int32{end}, SuppressTokens: []int32{newline}}
	for _, p := range prompts {
		in.Prompts = append(in.Prompts, ppo.Prompt{Tokens: p})
	}
	pt, err := ppo.New(pc, in)
	report := runAll(t, pt, err)
	policy := pt.Result()
	after := model.Generate(model.NewPass(nil), policy, prompts, options, draw.New(2, "after"), 0)

	was, is := eval.Mean(src, shares(before)), eval.Mean(src, shares(after))
	kl := eval.MeanKL(model.NewPass(nil), policy, sftModel, prompts, after, 1)
	t.Logf("share of A %.2f -> %.2f (%.2f to %.2f), KL %.2f, explained variance %.2f", was.Value, is.Value, is.Low,
		is.High, kl.K1, must(report.Value("val/explained_var")))
	if got := digest(sftModel, rm, policy, pt.ValueModel()); got != goldenChain {
		t.Errorf("the chain's models are %s, want %s: if the bytes are meant to change, raise Version in sft, reward "+
			"or ppo and write the new digest here", got, goldenChain)
	}
	if is.Value < was.Value+.2 || is.Low <= was.High {
		t.Errorf("the share of A went from %.2f to %.2f: want a clear rise", was.Value, is.Value)
	}
	if !(kl.K1 > .1 && kl.K1 < 30) || kl.K3 < 0 {
		t.Errorf("KL to the reference is %.2f (k3 %.2f)", kl.K1, kl.K3)
	}
}

func must(v float64, _ bool) float64 { return v }

func shares(samples []model.Sample) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = likesA(s.Tokens)
	}
	return out
}
