package ppo_test

import (
	"fmt"

	"github.com/trimtab/trimtab/ppo"
)

// A response of three tokens. The first is less likely under the policy than
// under the reference, and gets a little; the second is likelier, and pays; the
// last earns the score of 1.
func ExampleRewards() {
	logprobs := []float32{-1.2, -0.5, -2}
	refLogprobs := []float32{-1, -1.5, -2}
	rewards := make([]float32, 3)
	ppo.Rewards(rewards, logprobs, refLogprobs, 0.1, 1)
	fmt.Printf("%.2f\n", rewards)
	// Output:
	// [0.02 -0.10 1.00]
}

// With γ = λ = 1 the return of a token is the sum of the rewards from it on,
// and its advantage is that less the value.
func ExampleGAE() {
	rewards := []float32{0, -0.1, 1}
	values := []float32{0.5, 0.5, 0.5}
	advantages, returns := make([]float32, 3), make([]float32, 3)
	ppo.GAE(advantages, returns, rewards, values, 1, 1)
	fmt.Printf("returns    %.2f\n", returns)
	fmt.Printf("advantages %.2f\n", advantages)

	ppo.GAE(advantages, returns, rewards, values, 1, 0.95)
	fmt.Printf("λ = 0.95   %.3f\n", advantages)
	// Output:
	// returns    [0.90 0.90 1.00]
	// advantages [0.40 0.40 0.50]
	// λ = 0.95   [0.356 0.375 0.500]
}

// A ratio beyond 1+ε of a token with a positive advantage is clipped: the
// token has no gradient.
func ExamplePolicyLoss() {
	loss, dlogprob, ratio, clipped := ppo.PolicyLoss(-1, -1, 2, 0.2)
	fmt.Printf("loss %.1f, gradient %.1f, ratio %.1f, clipped %v\n", loss, dlogprob, ratio, clipped)
	loss, dlogprob, ratio, clipped = ppo.PolicyLoss(-0.5, -1, 2, 0.2)
	fmt.Printf("loss %.1f, gradient %.1f, ratio %.1f, clipped %v\n", loss, dlogprob, ratio, clipped)
	// Output:
	// loss -2.0, gradient -2.0, ratio 1.0, clipped false
	// loss -2.4, gradient 0.0, ratio 1.6, clipped true
}
