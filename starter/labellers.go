package starter

import (
	"fmt"
	"math"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/label"
)

// Guideline is the version of the instructions that simulated labellers follow.
const Guideline = "starter/1"

// TargetAgreement is how often two labellers are to agree on a pair of
// different texts: the paper's own labellers agreed on 72.6 %.
const TargetAgreement = .73

const (
	labellerCount = 5
	weightSpread  = .35 // standard deviation of a weight, relative to its mean
	tieThreshold  = .005
)

// meanWeights of followed, true, polite and concise.
var meanWeights = [4]float64{1, 1.2, 1, .8}

// Labellers are simulated people who rank responses. One finds a response
// worth w·(followed, true, polite, concise) + Noise·g, where w are his own
// weights and g is Gumbel noise drawn anew for each response, so that with
// two responses he prefers one with the logistic probability of Bradley and
// Terry.
type Labellers struct {
	Noise   float64 // scale of the noise; Tune sets it
	weights [labellerCount][4]float64
	seed    uint64
}

// Labellers returns five labellers whose weights are drawn from seed.
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

func (l *Labellers) source(purpose string) draw.Source {
	return draw.New(l.seed, "starter", "labellers", purpose)
}

// Name of the i-th labeller.
func (l *Labellers) Name(i int) string { return fmt.Sprintf("labeller-%d", i+1) }

// utility is what labeller who finds a response worth.
func (l *Labellers) utility(who int, v Verdict, s *draw.Stream) float64 {
	w := l.weights[who]
	u := float64(w[0]*v.Followed) + float64(w[1]*v.True) + float64(w[2]*v.Polite) + float64(w[3]*v.Concise)
	return u + float64(l.Noise*s.Gumbel())
}

// TuneNoise sets Noise, by bisection, so that two labellers agree on about target
// of the pairs within groups, and returns the share they do agree on,
// measured with noise that was not tuned on. A group is the verdicts of
// different responses to one prompt.
func (l *Labellers) TuneNoise(groups [][]Verdict, target float64) float64 {
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

// agreement lets two labellers rank each group, four times.
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

// rankGroup is the ranks that labeller who gives to group.
func (l *Labellers) rankGroup(who int, group []Verdict, s *draw.Stream) []int {
	utilities := make([]float64, len(group))
	for i, v := range group {
		utilities[i] = l.utility(who, v, s)
	}
	return denseRanks(utilities)
}

// Rank lets one labeller, drawn by index, rank the responses to a prompt as
// they are presented to him, in an order drawn as well. Equal texts are tied;
// so are responses that he finds worth the same within .005, which is rare.
// A ranking of equal texts only is not valid, as its Validate says.
func (l *Labellers) Rank(index uint64, prompt string, responses []trimtab.Response,
	verdicts []Verdict) trimtab.Ranking {
	s := l.source("rank").At(index)
	who := s.IntN(labellerCount)
	r := trimtab.Ranking{Prompt: prompt, Labeller: l.Name(who), Guideline: Guideline, Split: trimtab.SplitTrain}
	worth := map[string]float64{}
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

// denseRanks is the dense ranks of utilities, the largest first, with ties.
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
