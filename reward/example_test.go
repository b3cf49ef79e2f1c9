package reward_test

import (
	"fmt"

	"github.com/trimtab/trimtab/reward"
)

// Three responses to one prompt, of which the last two are tied: two pairs are
// left. The model orders one of them as the labeller did.
func ExampleRankingLoss() {
	scores := []float32{1, 0, 2}
	ranks := []int{1, 2, 2}
	dscores := make([]float32, 3)
	stats := reward.RankingLoss(dscores, scores, ranks)
	fmt.Printf("loss %.3f over %d pairs, %d correct\n", stats.Loss, stats.Pairs, stats.Correct)
	fmt.Printf("gradient %.3f\n", dscores)
	// Output:
	// loss 0.813 over 2 pairs, 1 correct
	// gradient [-0.500 0.134 0.366]
}

// Two responses make it the Bradley–Terry loss of one comparison.
func ExampleRankingLoss_pair() {
	stats := reward.RankingLoss(nil, []float32{0, 0}, []int{1, 2})
	fmt.Printf("loss %.3f, margin %g, %d of %d correct\n", stats.Loss, stats.Margin, stats.Correct, stats.Pairs)
	// Output:
	// loss 0.693, margin 0, 0 of 1 correct
}
