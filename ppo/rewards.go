package ppo

// Rewards fills the reward of each token of one response. Every token pays the
// KL penalty, by the estimator k1, and the last token also earns the score:
//
//	r_t = −β·(log π(y_t) − log π_ref(y_t))   + score at the last token
//
// (Ziegler et al. 2019, equation 2, spread over the tokens as in
// lm-human-preferences). rewards, logprobs and refLogprobs are (R), with R at
// least 1; rewards is overwritten. beta is the KL coefficient.
func Rewards(rewards, logprobs, refLogprobs []float32, beta float64, score float32) {
	for t := range rewards {
		rewards[t] = float32(-beta * K1(logprobs[t], refLogprobs[t]))
	}
	last := len(rewards) - 1
	rewards[last] = float32(float64(rewards[last]) + float64(score))
}

// computeRewards fills the rewards of all episodes from their scores and
// log-probabilities.
func computeRewards(episodes []*episode, klCoef float64) {
	for _, e := range episodes {
		Rewards(e.rewards, e.logprobs, e.refLogprobs, klCoef, e.score)
	}
}
