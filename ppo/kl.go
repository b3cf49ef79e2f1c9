package ppo

import "github.com/trimtab/trimtab/tensor"

// The three estimators of KL(π‖π_ref) from one token that was sampled from π,
// with d = log π_ref − log π (J. Schulman, "Approximating KL Divergence",
// joschu.net/blog/kl-approx.html). They take the token's log-probability under
// π and under π_ref, in nats:
//
//	k1 = −d            unbiased, may be negative; the one in the reward
//	k2 = d²/2          biased, low variance
//	k3 = e^d − 1 − d   unbiased, never negative

// K1 is log π − log π_ref.
func K1(logprob, refLogprob float32) float64 { return float64(logprob) - float64(refLogprob) }

// K2 is half the square of the log ratio.
func K2(logprob, refLogprob float32) float64 {
	d := float64(refLogprob) - float64(logprob)
	return d * d / 2
}

// K3 is e^d − 1 − d. Below |d| = 1/32 the first terms of its series are summed
// instead, because the difference would cancel:
//
//	d²/2·(1 + d/3·(1 + d/4·(1 + d/5)))
//
// The exponent is held at 80, since e^d overflows a float32 soon above.
func K3(logprob, refLogprob float32) float64 {
	d := float64(refLogprob) - float64(logprob)
	if d > -1.0/32 && d < 1.0/32 {
		inner := 1 + float64(d/4*(1+d/5))
		return d * d / 2 * (1 + float64(d/3*inner))
	}
	return float64(tensor.Exp1(float32(min(d, 80)))) - 1 - d
}

// AdaptKLCoef returns the next KL coefficient by the proportional controller of
// Ziegler et al. 2019 (1909.08593, section 2.2), which is
// lm-human-preferences' AdaptiveKLController:
//
//	β ← β·(1 + clip(KL/target − 1, −0.2, 0.2)·n/horizon)
//
// kl is the measured KL of n episodes, the mean over episodes of Σ k1; target
// is in the same unit. The larger the horizon, in episodes, the slower β moves.
func AdaptKLCoef(beta, kl, target float64, n, horizon int) float64 {
	proportionalError := min(max(kl/target-1, -0.2), 0.2)
	return beta * (1 + float64(proportionalError*float64(n)/float64(horizon)))
}
