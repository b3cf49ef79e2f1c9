package eval

import "github.com/trimtab/trimtab/draw"

// Ranked is one labeller's ranking of K responses with what others say of
// them. All slices are (K); Oracle may be nil.
type Ranked struct {
	Ranks  []int     // 1 is best; equal ranks are tied
	Reward []float32 // of the reward model
	Length []int     // in tokens
	Oracle []float64 // of a judge without noise: how well rankings like these can be foretold
}

// Agreement is how often each predictor orders an untied pair as the labeller did.
type Agreement struct {
	Pairs  int      `json:"pairs"`
	Reward Estimate `json:"reward"`
	Longer Estimate `json:"longer"` // "the longer one wins", the baseline to beat
	Oracle Estimate `json:"oracle"` // the ceiling; zero without one
}

// RewardAccuracy compares the reward model, response length and the oracle
// with the labellers on untied pairs; a predictor's tie counts half. Intervals
// are over rankings.
func RewardAccuracy(src draw.Source, rankings []Ranked) Agreement {
	var pairs, reward, longer, oracle []float64
	haveOracle := len(rankings) > 0
	for _, r := range rankings {
		n, right := compare(r.Ranks, func(i int) float64 { return float64(r.Reward[i]) })
		pairs, reward = append(pairs, n), append(reward, right)
		_, right = compare(r.Ranks, func(i int) float64 { return float64(r.Length[i]) })
		longer = append(longer, right)
		if haveOracle = haveOracle && r.Oracle != nil; haveOracle {
			_, right = compare(r.Ranks, func(i int) float64 { return r.Oracle[i] })
			oracle = append(oracle, right)
		}
	}
	a := Agreement{Reward: Bootstrap(src, reward, pairs), Longer: Bootstrap(src, longer, pairs)}
	if haveOracle {
		a.Oracle = Bootstrap(src, oracle, pairs)
	}
	for _, n := range pairs {
		a.Pairs += int(n)
	}
	return a
}

// compare counts the untied pairs of a ranking and those that score orders alike.
func compare(ranks []int, score func(i int) float64) (pairs, right float64) {
	for i := range ranks {
		for j := range i {
			switch {
			case ranks[i] < ranks[j]:
				pairs++
				right += win(score(i), score(j))
			case ranks[j] < ranks[i]:
				pairs++
				right += win(score(j), score(i))
			}
		}
	}
	return pairs, right
}
