package ppo

import (
	"math"

	"github.com/trimtab/trimtab"
)

// metrics of an iteration, under TRL's names. Every mean is over episodes or
// over response tokens, so that no padding can enter it.
//
//	objective/kl, kl3         mean over episodes of Σ k1, Σ k3 (kl.go)
//	objective/kl_coef         β of this iteration
//	objective/entropy         mean over episodes of Σ H(π)
//	objective/neg_logprob     mean over episodes of Σ −log π
//	objective/scores          mean score, standardised and after the EOS rule
//	objective/raw_scores      mean of what the scorer said
//	objective/non_score_reward, rlhf_reward   −β·kl, and that plus scores
//	response_length, missing_eos_rate, val/num_eos_tokens   over episodes
//	val/explained_var         1 − Var(R − V)/Var(R) over tokens, values as of sampling
//	loss/policy_avg, loss/value_avg, loss/ptx_avg   over tokens of all updates; ptx without its γ
//	policy/approxkl_avg       ½·(log ratio)² over tokens of all updates
//	policy/clipfrac_avg, val/clipfrac_avg   share of tokens where the clipped term was the larger
//	val/ratio, ratio_var      mean ratio, and the variance of the updates' mean ratios
//	lr, value/lr              of the iteration's last update
//	episode                   episodes so far
//
// TRL's eps (episodes a second) is a time; times are recorded apart from metrics.
func (t *Trainer) metrics(step int, beta float64, episodes []*episode, s updateStats) []trimtab.Metric {
	o := summarizeRollouts(episodes)
	m := []trimtab.Metric{
		{Name: "objective/kl", Value: o.kl},
		{Name: "objective/kl3", Value: o.kl3},
		{Name: "objective/kl_coef", Value: beta},
		{Name: "objective/entropy", Value: o.entropy},
		{Name: "objective/neg_logprob", Value: o.negLogprob},
		{Name: "objective/non_score_reward", Value: -beta * o.kl},
		{Name: "objective/rlhf_reward", Value: o.score - float64(beta*o.kl)},
		{Name: "objective/scores", Value: o.score},
		{Name: "objective/raw_scores", Value: o.rawScore},
		{Name: "objective/score_length_correlation", Value: o.correlation},
		{Name: "response_length", Value: o.length},
		{Name: "missing_eos_rate", Value: 1 - o.ended/float64(len(episodes))},
		{Name: "val/num_eos_tokens", Value: o.ended},
		{Name: "val/explained_var", Value: explainedVariance(episodes)},
		{Name: "loss/value_avg", Value: meanOver(s.valueLoss, s.valueTokens)},
		{Name: "val/clipfrac_avg", Value: meanOver(float64(s.valueClipped), s.valueTokens)},
		{Name: "value/grad_norm", Value: meanOver(s.valueGradNorm, s.valueUpdates)},
		{Name: "value/lr", Value: float64(s.valueLR)},
		{Name: "lr", Value: float64(s.policyLR)},
		{Name: "episode", Value: float64((step + 1) * t.config.Batch)},
	}
	if s.policyUpdates > 0 { // not in an iteration that teaches the value model only
		m = append(m, s.policyMetrics()...)
	}
	if s.ptxTokens > 0 {
		m = append(m, trimtab.Metric{Name: "loss/ptx_avg", Value: meanOver(s.ptxLoss, s.ptxTokens)})
	}
	return m
}

func (s updateStats) policyMetrics() []trimtab.Metric {
	return []trimtab.Metric{
		{Name: "loss/policy_avg", Value: meanOver(s.policyLoss, s.policyTokens)},
		{Name: "policy/approxkl_avg", Value: meanOver(s.approxKL, s.policyTokens)},
		{Name: "policy/clipfrac_avg", Value: meanOver(float64(s.policyClipped), s.policyTokens)},
		{Name: "policy/entropy_avg", Value: meanOver(s.entropy, s.policyTokens)},
		{Name: "policy/grad_norm", Value: meanOver(s.policyGradNorm, s.policyUpdates)},
		{Name: "val/ratio", Value: meanOver(s.ratioSum, s.policyTokens)},
		{Name: "val/ratio_var", Value: variance(s.meanRatios)},
	}
}

// rolloutStats holds means over the episodes of an iteration.
type rolloutStats struct {
	kl, kl3, entropy, negLogprob   float64 // of sums over tokens
	score, rawScore, length, ended float64 // ended is a count
	correlation                    float64 // of score and length
}

func summarizeRollouts(episodes []*episode) rolloutStats {
	var o rolloutStats
	for _, e := range episodes {
		for t := range e.logprobs {
			o.kl += K1(e.logprobs[t], e.refLogprobs[t])
			o.kl3 += K3(e.logprobs[t], e.refLogprobs[t])
			o.entropy += float64(e.entropies[t])
			o.negLogprob -= float64(e.logprobs[t])
		}
		o.score += float64(e.score)
		o.rawScore += float64(e.rawScore)
		o.length += float64(len(e.response()))
		if e.ended {
			o.ended++
		}
	}
	n := float64(len(episodes))
	for _, p := range []*float64{&o.kl, &o.kl3, &o.entropy, &o.negLogprob, &o.score, &o.rawScore, &o.length} {
		*p /= n
	}
	o.correlation = correlation(episodes, o.score, o.length)
	return o
}

// meanKL is objective/kl.
func meanKL(episodes []*episode) float64 { return summarizeRollouts(episodes).kl }

// correlation (Pearson) of score and length; 0 if one of them is constant.
func correlation(episodes []*episode, score, length float64) float64 {
	var xy, xx, yy float64
	for _, e := range episodes {
		x, y := float64(e.score)-score, float64(len(e.response()))-length
		xy += float64(x * y)
		xx += float64(x * x)
		yy += float64(y * y)
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / (math.Sqrt(xx) * math.Sqrt(yy))
}

// explainedVariance is 1 − Var(R − V)/Var(R) over response tokens; 0 if R is constant.
func explainedVariance(episodes []*episode) float64 {
	var returns, misses []float64
	for _, e := range episodes {
		for t, r := range e.returns {
			returns = append(returns, float64(r))
			misses = append(misses, float64(r)-float64(e.values[t]))
		}
	}
	v := variance(returns)
	if v == 0 {
		return 0
	}
	return 1 - variance(misses)/v
}

// variance, unbiased; of fewer than two values 0.
func variance(x []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	n := float64(len(x))
	mean, sum := 0.0, 0.0
	for _, v := range x {
		mean += v
	}
	mean /= n
	for _, v := range x {
		sum += float64((v - mean) * (v - mean))
	}
	return sum / (n - 1)
}

func meanOver(sum float64, n int) float64 { return sum / float64(max(n, 1)) }
