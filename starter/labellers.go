package starter

import (
	"fmt"
	"math"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/label"
)

// Guideline is the version of the instructions that the simulated labellers
// follow. It is recorded with every ranking.
const Guideline = "starter/1"

// The labellers of a world.
const (
	labellerCount = 5
	// weightSpread is the standard deviation of a weight, relative to its mean.
	weightSpread = .35
	// tieThreshold is the difference of worths that a labeller cannot see. It is
	// small, so that ties are rare.
	tieThreshold = .005
)

// meanWeights are those of followed, true, polite and concise that the
// labellers scatter around.
var meanWeights = [4]float64{1, 1.2, 1, .8}

// Labellers are simulated people who rank responses. To a labeller a response
// is worth w·(followed, true, polite, concise) + Noise·g, where w are the
// labeller's own weights and g is Gumbel noise drawn anew for each response. Of
// two responses a labeller then prefers one with a probability that is logistic
// in the difference of their worths: the model of Bradley and Terry (1952), and
// for K responses that of Plackett and Luce.
type Labellers struct {
	// Noise is the scale of the noise; TuneNoise sets it.
	Noise float64
	// weights are the labellers' own, in the order of meanWeights.
	weights [labellerCount][4]float64
	seed    uint64
}

// Labellers returns five labellers with weights drawn from seed.
func (w *World) Labellers(seed uint64) *Labellers {
	l := &Labellers{Noise: .4, seed: seed}
	s := l.source("weights").At(0)
	for i := range l.weights {
		for q, mean := range meanWeights {
			l.weights[i][q] = mean * max(.1, 1+float64(weightSpread*s.Normal()))
		}
	}
	return l
}

// source returns the family of streams for a purpose.
func (l *Labellers) source(purpose string) draw.Source {
	return draw.New(l.seed, "starter", "labellers", purpose)
}

// Name returns the name of labeller i, counted from 0.
func (l *Labellers) Name(i int) string { return fmt.Sprintf("labeller-%d", i+1) }

// utility returns what a response is worth to one labeller, with noise from s.
func (l *Labellers) utility(who int, v Verdict, s *draw.Stream) float64 {
	w := l.weights[who]
	u := float64(w[0]*v.Followed) + float64(w[1]*v.True) + float64(w[2]*v.Polite) + float64(w[3]*v.Concise)
	return u + float64(l.Noise*s.Gumbel())
}

// MeanUtility returns what a response is worth to the labellers on average,
// without noise: the score of an oracle that knows the world and the labellers.
// On many rankings no reward model does better. On few of them its accuracy is
// as much a matter of luck as any other's, so it is a reference and not a bound.
func (l *Labellers) MeanUtility(v Verdict) float64 {
	total := 0.
	for _, w := range l.weights {
		total += float64(w[0]*v.Followed) + float64(w[1]*v.True) + float64(w[2]*v.Polite) + float64(w[3]*v.Concise)
	}
	return total / labellerCount
}

// TuneNoise sets Noise, by bisection, so that two labellers agree on about a
// target share of the pairs within groups, and returns the share on which they
// do agree, measured with noise that was not tuned on. A group holds the
// verdicts of different responses to one prompt. InstructGPT's labellers agreed
// with each other on 72.6 % of pairs (Ouyang et al. 2022, section 3.4).
func (l *Labellers) TuneNoise(groups [][]Verdict, target float64) float64 {
	// More noise means less agreement. The scale spans three decades, so the
	// bisection is of its logarithm; 14 halvings leave a factor of 1.0004.
	low, high := .01, 10.
	for range 14 {
		l.Noise = math.Sqrt(low * high)
		if l.agreement(groups, "tune") > target {
			low = l.Noise
		} else {
			high = l.Noise
		}
	}
	return l.agreement(groups, "measure")
}

// agreement lets two labellers, drawn anew each time, rank each group four
// times and returns the share of pairs that both ordered in the same way.
func (l *Labellers) agreement(groups [][]Verdict, purpose string) float64 {
	src := l.source(purpose)
	same, common := 0, 0
	for g, group := range groups {
		for rep := range uint64(4) {
			s := src.At(uint64(g), rep)
			pair := s.Perm(labellerCount)
			a, b := l.rankGroup(pair[0], group, s), l.rankGroup(pair[1], group, s)
			n, of := label.AgreeingPairs(a, b)
			same, common = same+n, common+of
		}
	}
	if common == 0 {
		return 0
	}
	return float64(same) / float64(common)
}

// rankGroup returns the ranks that one labeller gives to a group.
func (l *Labellers) rankGroup(who int, group []Verdict, s *draw.Stream) []int {
	utilities := make([]float64, len(group))
	for i, v := range group {
		utilities[i] = l.utility(who, v, s)
	}
	return denseRanks(utilities)
}

// Rank lets one labeller, drawn by index, rank the responses to a prompt, which
// are presented in an order drawn as well. Equal texts are tied, and so are
// responses whose worth differs by tieThreshold at most. A ranking of equal
// texts alone is not valid; its Validate says so.
func (l *Labellers) Rank(index uint64, prompt string, responses []trimtab.Response,
	verdicts []Verdict) trimtab.Ranking {
	s := l.source("rank").At(index)
	who := s.IntN(labellerCount)
	r := trimtab.Ranking{Prompt: prompt, Labeller: l.Name(who), Guideline: Guideline, Split: trimtab.SplitTrain}
	worth := map[string]float64{} // by text, so that equal texts are tied
	var utilities []float64
	for _, i := range s.Perm(len(responses)) {
		text := string(responses[i].Bytes)
		u, seen := worth[text]
		if !seen {
			u = l.utility(who, verdicts[i], s)
			worth[text] = u
		}
		r.Responses = append(r.Responses, responses[i])
		utilities = append(utilities, u)
	}
	r.Ranks = denseRanks(utilities)
	return r
}

// denseRanks ranks utilities, the largest first. Utilities within tieThreshold
// of their neighbour in that order are tied.
func denseRanks(utilities []float64) []int {
	order := make([]int, len(utilities))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case utilities[i] > utilities[j]:
			return -1
		case utilities[i] < utilities[j]:
			return 1
		}
		return 0
	})
	out := make([]int, len(utilities))
	rank := 0
	for place, i := range order {
		if place == 0 || utilities[order[place-1]]-utilities[i] > tieThreshold {
			rank++
		}
		out[i] = rank
	}
	return out
}
