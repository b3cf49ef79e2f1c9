package ppo

import "github.com/trimtab/trimtab/tensor"

// PolicyLoss is the clipped surrogate of one token (Schulman et al. 2017,
// equation 7), with its gradient by the new log-probability:
//
//	ρ = exp(logp − old)
//	L = max(−A·ρ, −A·clip(ρ, 1−ε, 1+ε))
//
// clipped says that the second term was the larger, where the gradient is 0.
func PolicyLoss(logp, old, advantage float32, clip float64) (loss, dlogp, ratio float64, clipped bool) {
	a := float64(advantage)
	ratio = float64(tensor.Exp1(logp - old))
	plain := -a * ratio
	held := -a * min(max(ratio, 1-clip), 1+clip)
	if held > plain {
		return held, 0, ratio, true
	}
	return plain, plain, ratio, false // dρ/dlogp = ρ
}

// ValueLoss is the clipped squared error of one token (lm-human-preferences),
// with its gradient by the new value:
//
//	v̂ = old + clip(v − old, −ε, ε)
//	L = ½·max((v − R)², (v̂ − R)²)
//
// clipped says that the second term was the larger, where the gradient is 0.
func ValueLoss(v, old, ret float32, clip float64) (loss, dv float64, clipped bool) {
	plain := float64(v) - float64(ret)
	held := float64(old) + min(max(float64(v)-float64(old), -clip), clip) - float64(ret)
	if float64(held*held) > float64(plain*plain) {
		return held * held / 2, 0, true
	}
	return plain * plain / 2, plain, false
}
