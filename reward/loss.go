package reward

import "github.com/trimtab/trimtab/tensor"

// PairStats sums over the pairs of one ranking. A pair is two responses with
// different ranks, of which s_w scores the better and s_l the worse.
type PairStats struct {
	Loss    float64 // mean over pairs of −log σ(s_w − s_l)
	Pairs   int     // pairs that are not tied
	Correct int     // pairs with s_w > s_l; unlike label.Win, equal scores count as wrong
	Margin  float64 // sum over pairs of s_w − s_l
}

// RankingLoss is the reward model's loss for one prompt with K ranked
// responses (InstructGPT, 2203.02155, equation 1), with its gradient:
//
//	L = −1/P · Σ log σ(s_w − s_l)      over the P pairs that are not tied
//	∂L/∂s_w = −1/P · Σ σ(s_l − s_w)     ∂L/∂s_l = +1/P · Σ σ(s_l − s_w)
//
// With two responses it is the Bradley–Terry loss of one comparison. scores
// and dscores are (K), and so is ranks; rank 1 is best and equal ranks are
// tied. dscores is overwritten with the gradient, and may be nil. A ranking in
// which all responses are tied has loss and gradient 0.
func RankingLoss(dscores, scores []float32, ranks []int) PairStats {
	var stats PairStats
	gradient := make([]float64, len(scores)) // in float64, rounded once at the end
	for i := range scores {
		for j := i + 1; j < len(scores); j++ {
			switch {
			case ranks[i] < ranks[j]:
				stats.addPair(gradient, scores, i, j)
			case ranks[i] > ranks[j]:
				stats.addPair(gradient, scores, j, i)
			}
		}
	}
	weight := 1 / float64(max(stats.Pairs, 1))
	stats.Loss *= weight
	for i := range dscores {
		dscores[i] = float32(gradient[i] * weight)
	}
	return stats
}

// addPair adds loss and gradient of one pair: the responses with the indices
// better and worse.
func (s *PairStats) addPair(gradient []float64, scores []float32, better, worse int) {
	margin := scores[better] - scores[worse]
	s.Loss -= float64(tensor.LogSigmoid1(margin))
	g := float64(tensor.Sigmoid1(-margin)) // ∂ log σ(margin)/∂margin
	gradient[better] -= g
	gradient[worse] += g
	s.Pairs++
	s.Margin += float64(margin)
	// Equal scores count as wrong, where label.Win, which measures a finished
	// model, counts ½. The accuracy of a training step is recorded, and a stage
	// of the same Version has to give the same number.
	if margin > 0 {
		s.Correct++
	}
}
