package reward

import "github.com/trimtab/trimtab/tensor"

// PairStats is what the pairs of one ranking came to.
type PairStats struct {
	Loss    float64 // mean over pairs of −log σ(better − worse)
	Pairs   int     // untied pairs
	Correct int     // pairs whose better response scored strictly higher
	Margin  float64 // sum over pairs of better − worse
}

// RankingLoss is the loss of InstructGPT, equation 1, for one prompt with K ranked
// responses, and its gradient:
//
//	L = −1/P · Σ log σ(s_w − s_l)      over the P pairs that are not tied
//	∂L/∂s_w = −1/P · Σ σ(s_l − s_w)     ∂L/∂s_l = +1/P · Σ σ(s_l − s_w)
//
// scores, dscores are (K); rank 1 is best and equal ranks are tied. dscores
// is overwritten; it may be nil. A ranking with no untied pair has no loss.
func RankingLoss(dscores, scores []float32, ranks []int) PairStats {
	var o PairStats
	gradient := make([]float64, len(scores))
	for i := range scores {
		for j := i + 1; j < len(scores); j++ {
			if ranks[i] != ranks[j] {
				o.addPair(gradient, scores, i, j, ranks[i] < ranks[j])
			}
		}
	}
	weight := 1 / float64(max(o.Pairs, 1))
	o.Loss *= weight
	for i := range dscores {
		dscores[i] = float32(gradient[i] * weight)
	}
	return o
}

// addPair counts the pair (i, j), of which i is the better if first.
func (o *PairStats) addPair(gradient []float64, scores []float32, i, j int, first bool) {
	w, l := i, j
	if !first {
		w, l = j, i
	}
	d := scores[w] - scores[l]
	o.Loss -= float64(tensor.LogSigmoid1(d))
	push := float64(tensor.Sigmoid1(-d))
	gradient[w] -= push
	gradient[l] += push
	o.Pairs++
	o.Margin += float64(d)
	if d > 0 {
		o.Correct++
	}
}
