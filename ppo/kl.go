package ppo

import "github.com/trimtab/trimtab/tensor"

// The three estimators of KL(π‖π_ref) from one token that π sampled, with
// d = log π_ref − log π (J. Schulman, "Approximating KL divergence"):
//
//	k1 = −d            unbiased, may be negative; the one in the reward
//	k2 = d²/2          biased, low variance
//	k3 = e^d − 1 − d   unbiased, never negative

// K1 is log π − log π_ref.
func K1(logp, ref float32) float64 { return float64(logp) - float64(ref) }

// K2 is half the square of the log ratio.
func K2(logp, ref float32) float64 {
	d := float64(ref) - float64(logp)
	return d * d / 2
}

// K3 is e^d − 1 − d. Below |d| = 1/32 its series is summed instead, since the
// difference would cancel; above d = 80, where a float32 would soon overflow,
// the exponential is held.
func K3(logp, ref float32) float64 {
	d := float64(ref) - float64(logp)
	if d > -1.0/32 && d < 1.0/32 {
		inner := 1 + float64(d/4*(1+d/5))
		return d * d / 2 * (1 + float64(d/3*inner))
	}
	return float64(tensor.Exp1(float32(min(d, 80)))) - 1 - d
}

// AdaptKLCoef is the proportional controller of Ziegler et al. 2019, section 2.2:
//
//	β ← β·(1 + clip(KL/target − 1, −0.2, 0.2)·n/horizon)
//
// kl is the mean over episodes of the summed k1, n the number of episodes.
func AdaptKLCoef(beta, kl, target float64, n, horizon int) float64 {
	gap := min(max(kl/target-1, -0.2), 0.2)
	return beta * (1 + float64(gap*float64(n)/float64(horizon)))
}
