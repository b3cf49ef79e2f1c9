package ppo

import (
	"math"

	"github.com/trimtab/trimtab"
)

// metrics returns the statistics of an iteration under TRL's names. Every mean
// is over episodes or over response tokens; there is no padding to enter it.
//
//	objective/kl, kl3         mean over episodes of Σ k1, Σ k3 (kl.go), nats
//	objective/kl_coef         β of this iteration
//	objective/entropy         mean over episodes of Σ H(π), nats
//	objective/neg_logprob     mean over episodes of Σ −log π, nats
//	objective/scores          mean score, standardised and after the EOS rule
//	objective/raw_scores      mean of the scorer's own scores
//	objective/non_score_reward, rlhf_reward   −β·kl, and that plus scores
//	objective/score_length_correlation        Pearson's, over episodes
//	response_length           mean tokens of a response
//	missing_eos_rate          share of responses without a stop token
//	val/num_eos_tokens        number of responses with one
//	val/explained_var         1 − Var(R − V)/Var(R) over tokens, values as of sampling
//	loss/policy_avg, loss/value_avg, loss/ptx_avg   over tokens of all updates; ptx without its γ
//	policy/approxkl_avg       ½·(log ratio)² over tokens of all updates
//	policy/clipfrac_avg, val/clipfrac_avg   share of tokens where the clipped term was the larger
//	policy/entropy_avg        H(π) over tokens of all updates
//	policy/grad_norm, value/grad_norm       mean over updates, before clipping
//	val/ratio, ratio_var      mean ratio, and the variance of the updates' mean ratios
//	lr, value/lr              learning rates of the iteration's last update
//	episode                   episodes so far
//
// TRL's eps (episodes a second) is a time; times are recorded apart from
// metrics, because the same run must give the same metrics.
func (t *Trainer) metrics(step int, klCoef float64, episodes []*episode, rollouts rolloutStats,
	updates updateStats) []trimtab.Metric {
	metrics := []trimtab.Metric{
		{Name: "objective/kl", Value: rollouts.kl},
		{Name: "objective/kl3", Value: rollouts.kl3},
		{Name: "objective/kl_coef", Value: klCoef},
		{Name: "objective/entropy", Value: rollouts.entropy},
		{Name: "objective/neg_logprob", Value: rollouts.negLogprob},
		{Name: "objective/non_score_reward", Value: -klCoef * rollouts.kl},
		{Name: "objective/rlhf_reward", Value: rollouts.score - float64(klCoef*rollouts.kl)},
		{Name: "objective/scores", Value: rollouts.score},
		{Name: "objective/raw_scores", Value: rollouts.rawScore},
		{Name: "objective/score_length_correlation", Value: rollouts.correlation},
		{Name: "response_length", Value: rollouts.length},
		{Name: "missing_eos_rate", Value: 1 - rollouts.ended/float64(len(episodes))},
		{Name: "val/num_eos_tokens", Value: rollouts.ended},
		{Name: "val/explained_var", Value: explainedVariance(episodes)},
		{Name: "loss/value_avg", Value: meanOver(updates.valueLoss, updates.valueTokens)},
		{Name: "val/clipfrac_avg", Value: meanOver(float64(updates.valueClipped), updates.valueTokens)},
		{Name: "value/grad_norm", Value: meanOver(updates.valueGradNorm, updates.valueUpdates)},
		{Name: "value/lr", Value: float64(updates.valueLR)},
		{Name: "lr", Value: float64(updates.policyLR)},
		{Name: "episode", Value: float64((step + 1) * t.config.Batch)},
	}
	if updates.policyUpdates > 0 { // not in an iteration that updates the value model only
		metrics = append(metrics, updates.policyMetrics()...)
	}
	if updates.ptxTokens > 0 {
		ptxLoss := meanOver(updates.ptxLoss, updates.ptxTokens)
		metrics = append(metrics, trimtab.Metric{Name: "loss/ptx_avg", Value: ptxLoss})
	}
	return metrics
}

// policyMetrics returns the metrics of the policy's updates.
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

// rolloutStats holds means over the episodes of an iteration, as of sampling.
type rolloutStats struct {
	kl, kl3     float64 // of the sums over a response's tokens of k1 and k3
	entropy     float64 // of the sums over tokens
	negLogprob  float64 // of the sums over tokens
	score       float64
	rawScore    float64
	length      float64 // response tokens
	ended       float64 // number of episodes, not a mean
	correlation float64 // of score and length
}

// summarizeRollouts computes the means, summing over episodes and tokens in order.
func summarizeRollouts(episodes []*episode) rolloutStats {
	var s rolloutStats
	for _, e := range episodes {
		for t := range e.logprobs {
			s.kl += K1(e.logprobs[t], e.refLogprobs[t])
			s.kl3 += K3(e.logprobs[t], e.refLogprobs[t])
			s.entropy += float64(e.entropies[t])
			s.negLogprob -= float64(e.logprobs[t])
		}
		s.score += float64(e.score)
		s.rawScore += float64(e.rawScore)
		s.length += float64(len(e.response()))
		if e.ended {
			s.ended++
		}
	}
	n := float64(len(episodes))
	for _, sum := range []*float64{&s.kl, &s.kl3, &s.entropy, &s.negLogprob, &s.score, &s.rawScore, &s.length} {
		*sum /= n
	}
	s.correlation = correlation(episodes, s.score, s.length)
	return s
}

// correlation returns Pearson's coefficient of score and response length, given
// their means; 0 if either is constant. A large one says that the scorer
// rewards length.
func correlation(episodes []*episode, meanScore, meanLength float64) float64 {
	var covariance, scoreVariance, lengthVariance float64 // times the number of episodes
	for _, e := range episodes {
		score := float64(e.score) - meanScore
		length := float64(len(e.response())) - meanLength
		covariance += float64(score * length)
		scoreVariance += float64(score * score)
		lengthVariance += float64(length * length)
	}
	if scoreVariance == 0 || lengthVariance == 0 {
		return 0
	}
	return covariance / (math.Sqrt(scoreVariance) * math.Sqrt(lengthVariance))
}

// explainedVariance returns 1 − Var(R − V)/Var(R) over response tokens: 1 for a
// perfect value model, 0 for one that predicts a constant. It is 0 if all
// returns are equal.
func explainedVariance(episodes []*episode) float64 {
	var returns, residuals []float64
	for _, e := range episodes {
		for t, r := range e.returns {
			returns = append(returns, float64(r))
			residuals = append(residuals, float64(r)-float64(e.values[t]))
		}
	}
	v := variance(returns)
	if v == 0 {
		return 0
	}
	return 1 - variance(residuals)/v
}

// variance returns the unbiased variance of x, or 0 for fewer than two values.
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

// meanOver returns sum/n, and 0 for the empty sum.
func meanOver(sum float64, n int) float64 { return sum / float64(max(n, 1)) }
