package ppo

// GAE fills advantages and returns of one response of T tokens by generalised
// advantage estimation (Schulman et al. 2015, 1506.02438, equations 11 and 16),
// from the last token back:
//
//	δ_t = r_t + γ·V_{t+1} − V_t       V_T = 0: a response is an episode of its own
//	A_t = δ_t + γ·λ·A_{t+1}
//	R_t = A_t + V_t
//
// All slices are (T); advantages and returns are overwritten. Sums are float64,
// rounded once a token. The conversions to float64 keep products from being
// fused with sums, so that every processor gives the same bits.
func GAE(advantages, returns, rewards, values []float32, gamma, lambda float64) {
	decay := gamma * lambda
	var nextValue, nextAdvantage float64 // V_{t+1}, A_{t+1}; 0 after the last token
	for t := len(rewards) - 1; t >= 0; t-- {
		value := float64(values[t])
		delta := float64(rewards[t]) + float64(gamma*nextValue) - value
		advantage := delta + float64(decay*nextAdvantage)
		advantages[t] = float32(advantage)
		returns[t] = float32(advantage + value)
		nextValue = value
		nextAdvantage = advantage
	}
}

// computeAdvantages fills the advantages and returns of all episodes. whitened
// begins as a copy of the advantages: returns come from the advantages before
// whitening, and the record keeps those too.
func computeAdvantages(episodes []*episode, gamma, lambda float64) {
	for _, e := range episodes {
		GAE(e.advantages, e.returns, e.rewards, e.values, gamma, lambda)
		copy(e.whitened, e.advantages)
	}
}
