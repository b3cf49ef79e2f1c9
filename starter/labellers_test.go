package starter

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/label"
)

// candidates imitates what a fine-tuned model of this world says to prompts:
// K = 4 … 9 answers, half of them right, some to another question, some cut short.
func candidates(w *World, prompts int) (asked []string, texts [][]string, verdicts [][]Verdict) {
	source := w.source("candidates")
	for i, p := range w.Prompts(prompts) {
		s := source.At(uint64(i))
		in := &w.instructions[w.index[p.Text]]
		var group []string
		var found []Verdict
		for range 4 + s.IntN(6) {
			about := in
			if s.Bool(.25) {
				about = w.drawInstruction(s, inTraining)
			}
			voice := style{courteous: .4, rude: .08, fills: .4}
			text := voice.decorate(s, w.answer(s, about, s.Bool(.45)))
			if slices.Contains(group, text) {
				continue
			}
			v, _ := w.Judge(p.Text, []byte(text), s.Bool(.95))
			group, found = append(group, text), append(found, v)
		}
		asked, texts, verdicts = append(asked, p.Text), append(texts, group), append(verdicts, found)
	}
	return asked, texts, verdicts
}

// targetAgreement is how often the labellers of the paper agreed on a pair:
// 72.6 % (Ouyang et al. 2022).
const targetAgreement = .73

// TestAgreement tunes the labellers to the paper's agreement.
func TestAgreement(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		w := New(seed)
		_, _, verdicts := candidates(w, 400)
		l := w.Labellers(seed)
		got := l.TuneNoise(verdicts, targetAgreement)
		t.Logf("seed %d: noise %.3f, two labellers agree on %.1f%%; an oracle of their mean on %.1f%% of their pairs",
			seed, l.Noise, 100*got, 100*oracle(l, verdicts))
		if math.Abs(got-targetAgreement) > .015 {
			t.Errorf("seed %d: agreement %.3f, want %.2f", seed, got, targetAgreement)
		}
	}
}

// oracle is how often the labellers' mean without noise orders a pair as a noisy labeller does.
func oracle(l *Labellers, verdicts [][]Verdict) float64 {
	same, common := 0, 0
	for g, group := range verdicts {
		s := l.source("oracle").At(uint64(g))
		mean := make([]float64, len(group))
		for i, v := range group {
			mean[i] = meanWeights[0]*v.Followed + meanWeights[1]*v.True + meanWeights[2]*v.Polite + meanWeights[3]*v.Concise
		}
		n, of := label.AgreeingPairs(denseRanks(mean), l.rankGroup(s.IntN(labellerCount), group, s))
		same, common = same+n, common+of
	}
	return float64(same) / float64(common)
}

func responses(texts []string) []trimtab.Response {
	var out []trimtab.Response
	for _, text := range texts {
		out = append(out, trimtab.Response{Bytes: []byte(text)})
	}
	return out
}

func TestRank(t *testing.T) {
	w := New(1)
	asked, texts, verdicts := candidates(w, 120)
	l, again := w.Labellers(9), w.Labellers(9)
	labellers, moved, tied := map[string]int{}, 0, 0
	for i, prompt := range asked {
		r := l.Rank(uint64(i), prompt, responses(texts[i]), verdicts[i])
		if !reflect.DeepEqual(r, again.Rank(uint64(i), prompt, responses(texts[i]), verdicts[i])) {
			t.Fatal("the same draw gave two rankings")
		}
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		labellers[r.Labeller]++
		if string(r.Responses[0].Bytes) != texts[i][0] {
			moved++
		}
		if slices.Max(r.Ranks) < len(r.Ranks) {
			tied++
		}
	}
	if len(labellers) != labellerCount {
		t.Errorf("labellers at work: %v", labellers)
	}
	if moved < 80 {
		t.Errorf("the first response was presented elsewhere in only %d of %d", moved, len(asked))
	}
	if tied > 20 {
		t.Errorf("%d of %d rankings hold ties: they are to be rare", tied, len(asked))
	}
}

func TestEqualTextsAreTied(t *testing.T) {
	w := New(1)
	l := w.Labellers(1)
	same := Verdict{Followed: 1}
	r := l.Rank(3, "Say hello to Anna.", responses([]string{"Hello.", "No.", "Hello."}), []Verdict{same, {}, same})
	var ranks []int
	for i, resp := range r.Responses {
		if strings.HasPrefix(string(resp.Bytes), "Hello") {
			ranks = append(ranks, r.Ranks[i])
		}
	}
	if ranks[0] != ranks[1] || slices.Max(r.Ranks) != 2 {
		t.Errorf("equal texts are ranked %v in %v", ranks, r.Ranks)
	}
	if l.Rank(4, "x", responses([]string{"a", "a"}), []Verdict{same, same}).Validate() == nil {
		t.Error("a ranking of equal texts is valid")
	}
}

func TestDenseRanks(t *testing.T) {
	for _, c := range []struct {
		utilities []float64
		want      []int
	}{
		{[]float64{1, 3, 2}, []int{3, 1, 2}},
		{[]float64{1, 1.004, 0}, []int{1, 1, 2}},
		{[]float64{-1}, []int{1}},
	} {
		if got := denseRanks(c.utilities); !slices.Equal(got, c.want) {
			t.Errorf("ranks of %v: %v, want %v", c.utilities, got, c.want)
		}
	}
	var none Labellers
	if none.agreement(nil, "x") != 0 {
		t.Error("agreement on nothing")
	}
}
