package ppo

import "github.com/trimtab/trimtab/tensor"

// PolicyLoss is the clipped surrogate objective of one token (Schulman et al.
// 2017, 1707.06347, equation 7), as a loss, with its gradient by the new
// log-probability:
//
//	ρ = exp(logprob − oldLogprob)
//	L = max(−A·ρ, −A·clip(ρ, 1−ε, 1+ε))
//
// oldLogprob is that of the policy that sampled the token, A the advantage, ε
// the argument epsilon. clipped reports that the second term was the larger:
// the gradient is then 0.
func PolicyLoss(logprob, oldLogprob, advantage float32, epsilon float64) (
	loss, dlogprob, ratio float64, clipped bool) {
	a := float64(advantage)
	ratio = float64(tensor.Exp1(logprob - oldLogprob))
	unclippedLoss := -a * ratio
	clippedLoss := -a * min(max(ratio, 1-epsilon), 1+epsilon)
	if clippedLoss > unclippedLoss {
		return clippedLoss, 0, ratio, true
	}
	return unclippedLoss, unclippedLoss, ratio, false // dρ/dlogprob = ρ, so the gradient is the loss
}

// ValueLoss is the clipped squared error of the value of one token
// (lm-human-preferences), with its gradient by the new value:
//
//	v̂ = oldValue + clip(value − oldValue, −ε, ε)
//	L = ½·max((value − R)², (v̂ − R)²)
//
// oldValue is that of the value model when the token was sampled, R the return,
// ε the argument epsilon. clipped reports that the second term was the larger:
// the gradient is then 0.
func ValueLoss(value, oldValue, ret float32, epsilon float64) (loss, dvalue float64, clipped bool) {
	diff := float64(value) - float64(ret)
	change := min(max(float64(value)-float64(oldValue), -epsilon), epsilon)
	clippedDiff := float64(oldValue) + change - float64(ret)
	if float64(clippedDiff*clippedDiff) > float64(diff*diff) {
		return clippedDiff * clippedDiff / 2, 0, true
	}
	return diff * diff / 2, diff, false
}
