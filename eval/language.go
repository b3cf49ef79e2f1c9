package eval

import (
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/tensor"
)

// Likelihood is how well a model predicts text.
type Likelihood struct {
	Tokens     int     `json:"tokens"`     // predicted tokens
	NLL        float64 `json:"nll"`        // mean −log p of a token, in nats
	Perplexity float64 `json:"perplexity"` // e^NLL
}

// Perplexity measures m on texts. Every token of a text but the first is
// predicted from the tokens before it. Above an NLL of 80 nats the perplexity is
// held at e^80, since e^NLL would soon overflow a float32.
func Perplexity(ps *model.Pass, m *model.Model, texts [][]int32) Likelihood {
	var l Likelihood
	firsts := make([]int, len(texts))
	for i := range firsts {
		firsts[i] = 1
	}
	eachLogProb(ps, m, texts, firsts, 1, func(_, _ int, logprob float32) {
		l.NLL -= float64(logprob)
		l.Tokens++
	})
	l.NLL /= float64(max(l.Tokens, 1))
	l.Perplexity = float64(tensor.Exp1(float32(min(l.NLL, 80))))
	return l
}

// Divergence estimates KL(π‖π_ref) over sampled responses: the mean over
// responses of the estimates summed over each response's tokens, in nats.
type Divergence struct {
	K1       float64 `json:"k1"`        // by ppo.K1
	K3       float64 `json:"k3"`        // by ppo.K3
	PerToken float64 `json:"per_token"` // K1 of all responses, divided by their tokens
	Tokens   int     `json:"tokens"`    // of all responses
}

// MeanKL measures how far policy is from ref, on samples that policy drew for
// prompts. temperature is that of the sampling and must be above 0: the
// log-probabilities of both models are taken at it. samples[i] answers
// prompts[i]. Of a sample only Tokens is read.
func MeanKL(ps *model.Pass, policy, ref *model.Model, prompts [][]int32, samples []model.Sample,
	temperature float32) Divergence {
	n := len(samples)
	seqs := make([][]int32, n)       // prompt and response
	firsts := make([]int, n)         // index of the first response token
	logprobs := make([][]float32, n) // (R) of the response tokens under policy
	for i, s := range samples {
		firsts[i] = len(prompts[i])
		seqs[i] = append(append(make([]int32, 0, firsts[i]+len(s.Tokens)), prompts[i]...), s.Tokens...)
		logprobs[i] = make([]float32, len(s.Tokens))
	}
	invTemp := 1 / temperature
	eachLogProb(ps, policy, seqs, firsts, invTemp, func(i, t int, logprob float32) {
		logprobs[i][t-firsts[i]] = logprob
	})
	var d Divergence
	eachLogProb(ps, ref, seqs, firsts, invTemp, func(i, t int, refLogprob float32) {
		logprob := logprobs[i][t-firsts[i]]
		d.K1 += ppo.K1(logprob, refLogprob)
		d.K3 += ppo.K3(logprob, refLogprob)
		d.Tokens++
	})
	d.PerToken = d.K1 / float64(max(d.Tokens, 1))
	d.K1 /= float64(max(n, 1))
	d.K3 /= float64(max(n, 1))
	return d
}

// eachLogProb calls each with the log-probability under m of token t of
// sequence i, for all sequences in order and all t from firsts[i] on; firsts[i]
// is at least 1. invTemp is the inverse of the sampling temperature.
func eachLogProb(ps *model.Pass, m *model.Model, seqs [][]int32, firsts []int, invTemp float32,
	each func(i, t int, logprob float32)) {
	length := func(seq []int32) int { return len(seq) }
	from := 0 // index of the micro-batch's first sequence
	for micro := range dataset.MicroBatches(seqs, dataset.MicroBatchTokens, length) {
		b, targets := model.NextTokens(micro, firsts[from:from+len(micro)])
		i, t := from, firsts[from] // of the next target
		ps.Infer(m, b)
		for _, logprob := range ps.LogProbs(m, targets, invTemp).LogP {
			for t >= len(seqs[i]) { // the sequence is done, or has no targets
				i++
				t = firsts[i]
			}
			each(i, t, logprob)
			t++
		}
		from += len(micro)
	}
}
