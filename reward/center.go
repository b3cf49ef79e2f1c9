package reward

import "github.com/trimtab/trimtab/model"

// Center shifts the bias of m's head so that seqs score 0 on average
// (InstructGPT section 3.5, on the labellers' demonstrations). The shift changes no comparison of two
// responses. Without sequences m keeps its bias.
//
// Hugging Face's classifiers have no bias of the score. Where it cannot be folded into the bias of the last norm,
// as in all families with RMS norms, a reward model does without: its bias becomes 0, so that other programs
// compute the same scores.
func Center(ps *model.Pass, m *model.Model, seqs [][]int32) {
	if m.Config.LastNormBias() == "" {
		_, bias := m.ScoreHead()
		bias[0] = 0
		return
	}
	if len(seqs) == 0 {
		return
	}
	// In float64 and in order, so that the mean does not depend on how the
	// scorer cuts the sequences into micro-batches.
	mean := 0.0
	for _, score := range NewScorer(ps, m).Scores(seqs) {
		mean += float64(score)
	}
	mean /= float64(len(seqs))
	_, bias := m.ScoreHead()
	bias[0] = float32(float64(bias[0]) - mean)
}
