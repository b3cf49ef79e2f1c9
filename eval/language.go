package eval

import (
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
)

// microTokens is about how many tokens go through a model at once.
const microTokens = 4096

// Likelihood is how well a model predicts text.
type Likelihood struct {
	Tokens     int     `json:"tokens"`
	NLL        float64 `json:"nll"` // mean −log p a token, in nats
	Perplexity float64 `json:"perplexity"`
}

// Perplexity measures m on texts, each from its second token on, given all tokens before.
func Perplexity(ps *model.Pass, m *model.Model, texts [][]int32) Likelihood {
	var l Likelihood
	starts := make([]int, len(texts))
	for i := range starts {
		starts[i] = 1
	}
	eachLogProb(ps, m, texts, starts, 1, func(_, _ int, logp float32) {
		l.NLL -= float64(logp)
		l.Tokens++
	})
	l.NLL /= float64(max(l.Tokens, 1))
	l.Perplexity = float64(tensor.Exp1(float32(min(l.NLL, 80))))
	return l
}

// Sample lets m answer prompts; token t of prompt i is drawn from src.At(i, t).
func Sample(ps *model.Pass, m *model.Model, prompts [][]int32, o model.SampleOptions, src draw.Source) []model.Sample {
	return model.Generate(ps, m, prompts, o, src, 0)
}

// Divergence is the mean over responses of the summed KL estimates.
type Divergence struct {
	K1       float64 `json:"k1"`        // Σ log π − log π_ref
	K3       float64 `json:"k3"`        // Σ e^d − 1 − d with d = log π_ref − log π
	PerToken float64 `json:"per_token"` // k1 of all responses over their tokens
	Tokens   int     `json:"tokens"`
}

// MeanKL measures how far policy is from ref on samples that policy drew for
// prompts at a temperature above 0.
func MeanKL(ps *model.Pass, policy, ref *model.Model, prompts [][]int32, samples []model.Sample,
	temperature float32) Divergence {
	seqs, starts := make([][]int32, len(samples)), make([]int, len(samples))
	own := make([][]float32, len(samples))
	for i, s := range samples {
		starts[i] = len(prompts[i])
		seqs[i] = append(append(make([]int32, 0, starts[i]+len(s.Tokens)), prompts[i]...), s.Tokens...)
		own[i] = make([]float32, len(s.Tokens))
	}
	eachLogProb(ps, policy, seqs, starts, 1/temperature, func(i, t int, logp float32) { own[i][t-starts[i]] = logp })
	var d Divergence
	eachLogProb(ps, ref, seqs, starts, 1/temperature, func(i, t int, logp float32) {
		gap := float64(logp) - float64(own[i][t-starts[i]])
		d.K1 -= gap
		d.K3 += float64(tensor.Exp1(float32(min(gap, 80)))) - 1 - gap
		d.Tokens++
	})
	d.PerToken = d.K1 / float64(max(d.Tokens, 1))
	d.K1 /= float64(max(len(samples), 1))
	d.K3 /= float64(max(len(samples), 1))
	return d
}

// eachLogProb calls each for token t of sequence i, t from starts[i] on, in order.
func eachLogProb(ps *model.Pass, m *model.Model, seqs [][]int32, starts []int, invTemp float32,
	each func(i, t int, logp float32)) {
	for from := 0; from < len(seqs); {
		to, tokens := from, 0
		for to < len(seqs) && (to == from || tokens+len(seqs[to]) <= microTokens) {
			tokens += len(seqs[to])
			to++
		}
		var inputs [][]int32
		var rows []model.HeadRow
		var at [][2]int
		first := 0
		for i := from; i < to; i++ {
			inputs = append(inputs, seqs[i][:max(len(seqs[i])-1, 0)])
			for t := starts[i]; t < len(seqs[i]); t++ {
				rows = append(rows, model.HeadRow{Row: first + t - 1, Target: seqs[i][t]})
				at = append(at, [2]int{i, t})
			}
			first += len(inputs[i-from])
		}
		ps.Infer(m, model.NewBatch(inputs...).ForHeads(rows))
		ps.LMHead(m, nil, rows, invTemp, func(k int, logp, _ float32) float32 {
			each(at[k][0], at[k][1], logp)
			return 0
		})
		from = to
	}
}
