package ppo

// GAE fills advantages and returns of one response of T tokens (Schulman et
// al. 2015, equations 11 and 16), from the last token back:
//
//	δ_t = r_t + γ·V_{t+1} − V_t       V_T = 0: a response is an episode of its own
//	A_t = δ_t + γ·λ·A_{t+1}
//	R_t = A_t + V_t
//
// All slices are (T). Sums are float64, rounded once a token.
func GAE(advantages, returns, rewards, values []float32, gamma, lambda float64) {
	decay := gamma * lambda
	var next, carried float64 // V_{t+1}, A_{t+1}
	for t := len(rewards) - 1; t >= 0; t-- {
		v := float64(values[t])
		delta := float64(rewards[t]) + float64(gamma*next) - v
		carried = delta + float64(decay*carried)
		advantages[t] = float32(carried)
		returns[t] = float32(carried + v)
		next = v
	}
}
