package ppo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/tensor"
)

// shardConfigs switch on, between them, everything that looks at all episodes of an iteration together.
func shardConfigs() map[string]Config {
	plain := toyConfig()
	plain.ScoreSamples, plain.WhitenAdvantages = 0, WhitenNone
	penalty := toyConfig()
	penalty.MissingEOS, penalty.MissingEOSPenalty = EOSPenalty, .5
	penalty.WhitenRewards = WhitenUnbiased
	penalty.Temperature = .8
	return map[string]Config{"everything": fullConfig(), "nothing": plain, "penalty": penalty}
}

// stored is a shard that has gone through its arrays.
func stored(t testing.TB, s Shard) Shard {
	t.Helper()
	again, err := ShardFromArrays(s.Step, s.First, s.Arrays())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func shard(t testing.TB, tr *Trainer, step, from, to int) Shard {
	t.Helper()
	s, err := tr.Rollouts(context.Background(), step, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Shards of any cut, each made by a trainer of its own that has only read the
// state, and handed over in any order, end in the bytes of one worker: report,
// rollouts and state.
func TestShardsChangeNothing(t *testing.T) {
	for name, c := range shardConfigs() {
		for _, cut := range [][]int{{0, 12}, {0, 6, 12}, {0, 4, 8, 12}, {0, 1, 8, 12}, {0, 5, 5, 12},
			{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}} {
			t.Run(fmt.Sprint(name, cut), func(t *testing.T) {
				in := toyInputs()
				if name == "penalty" {
					in.Numerics = tensor.V1BF16
				}
				whole, shared, maker := newToy(t, c, in), newToy(t, c, in), newToy(t, c, in)
				for i := range whole.Steps() {
					restore(maker, stateOf(shared))
					before := stateOf(maker)
					var shards []Shard
					for k := range len(cut) - 1 {
						s := shard(t, maker, i, cut[k], cut[k+1])
						shards = append(shards, stored(t, s))
						if again := shard(t, maker, i, cut[k], cut[k+1]); !reflect.DeepEqual(s, again) {
							t.Fatalf("iteration %d: the same shard made twice differs", i)
						}
					}
					if !sameBits(before, stateOf(maker)) {
						t.Fatalf("iteration %d: making rollouts changed the state", i)
					}
					if cut[1] != 5 { // of equal First the order matters
						slices.Reverse(shards)
					}
					shared.in.Scorer = noScorer{}
					if i == 0 {
						shared.in.Scorer = &likesA{} // for the scale
					}
					got, err := shared.StepWithShards(context.Background(), i, shards)
					if err != nil {
						t.Fatal(err)
					}
					if want := step(t, whole, i); !sameReport(got, want) {
						t.Fatalf("iteration %d reports other numbers", i)
					}
					if !sameBits(stateOf(shared), stateOf(whole)) {
						t.Fatalf("iteration %d ends in another state", i)
					}
				}
			})
		}
	}
}

// noScorer panics if a response is scored: all of them are in the shards.
type noScorer struct{}

func (noScorer) Scores([][]int32) []float32 { panic("an episode of a shard was made again") }

// sameReport compares bit for bit, that is by what prints with all digits.
func sameReport(a, b trimtab.Report) bool {
	return reflect.DeepEqual(a, b) && fmt.Sprintf("%x", a.Metrics) == fmt.Sprintf("%x", b.Metrics)
}

// Episodes that no shard holds are made where the iteration is done.
func TestMissingShardsAreMade(t *testing.T) {
	whole, shared := newToy(t, fullConfig(), toyInputs()), newToy(t, fullConfig(), toyInputs())
	for i, spans := range [][][2]int{{{0, 4}}, {{8, 12}}, {{3, 5}, {7, 8}}, nil} {
		var shards []Shard
		for _, s := range spans {
			shards = append(shards, stored(t, shard(t, shared, i, s[0], s[1])))
		}
		got, err := shared.StepWithShards(context.Background(), i, shards)
		if err != nil {
			t.Fatal(err)
		}
		if want := step(t, whole, i); !sameReport(got, want) || !sameBits(stateOf(shared), stateOf(whole)) {
			t.Errorf("iteration %d with the shards %v ends in other bytes", i, spans)
		}
	}
}

func TestShardRange(t *testing.T) {
	tr := newToy(t, toyConfig(), toyInputs())
	for n := 1; n <= 12; n++ {
		at := 0
		for i := range n {
			from, to := tr.ShardRange(i, n)
			if from != at || to-from < 12/n || to-from > 12/n+1 {
				t.Errorf("shard %d of %d is %d to %d after %d", i, n, from, to, at)
			}
			at = to
		}
		if at != 12 {
			t.Errorf("%d shards hold %d episodes", n, at)
		}
	}
}

// A shard that is not of the step is an error, and never used.
func TestWrongShardsAreRefused(t *testing.T) {
	tr := newToy(t, toyConfig(), toyInputs())
	good := shard(t, tr, 1, 4, 8)
	set := func(change func(e *episode)) func() []Shard {
		return func() []Shard {
			s := stored(t, good)
			change(s.episodes[1])
			return []Shard{s}
		}
	}
	for want, made := range map[string]func() []Shard{
		"not of iteration 1":          func() []Shard { return []Shard{stored(t, shard(t, tr, 2, 4, 8))} },
		"episodes before 8 are there": func() []Shard { return []Shard{stored(t, good), shard(t, tr, 1, 7, 9)} },
		"beyond the iteration's 12":   func() []Shard { return []Shard{{Step: 1, First: 9, episodes: good.episodes}} },
		"number 0 answers prompt":     func() []Shard { return []Shard{{Step: 1, First: 3, episodes: good.episodes}} },
		"number 1 answers prompt":     set(func(e *episode) { e.prompt++ }),
		"has 6 tokens":                set(func(e *episode) { e.tokens = []int32{2, 2, 2, 2, 2, 2} }),
		"has 0 tokens":                set(func(e *episode) { e.tokens = nil }),
		"its first end-of-text":       set(func(e *episode) { e.tokens = []int32{toyEnd, 2} }),
		"nor after 5 tokens":          set(func(e *episode) { e.tokens = []int32{2, 2} }),
		"token 8 is never":            set(func(e *episode) { e.tokens = []int32{toyVocab, toyEnd} }),
		"token -1 is never":           set(func(e *episode) { e.tokens = []int32{-1, toyEnd} }),
		"token 1 is never":            set(func(e *episode) { e.tokens = []int32{toyNewline, toyEnd} }),
	} {
		before := stateOf(tr)
		_, err := tr.StepWithShards(context.Background(), 1, made())
		if e := trimtab.AsError(orNone(err)); e.Type != "wrong_rollouts" || e.Class != trimtab.Verification ||
			!strings.Contains(e.Message, want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if !sameBits(before, stateOf(tr)) {
			t.Fatal("the state has changed")
		}
	}
	if _, err := tr.StepWithShards(context.Background(), 1, []Shard{stored(t, good)}); err != nil {
		t.Error(err)
	}
	for _, s := range [][3]int{{-1, 0, 1}, {4, 0, 1}, {0, -1, 1}, {0, 2, 1}, {0, 0, 13}} {
		if _, err := tr.Rollouts(context.Background(), s[0], s[1], s[2]); err == nil ||
			trimtab.AsError(err).Type != "rollouts_out_of_range" {
			t.Errorf("rollouts %v: %v", s, err)
		}
	}
}

func orNone(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// Rollouts stop between their parts when the context ends.
func TestRolloutsStop(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	in := toyInputs()
	in.Scorer = killer{in.Scorer, cancel}
	tr := newToy(t, toyConfig(), in)
	if _, err := tr.Rollouts(ctx, 0, 0, 6); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while scoring: %v", err)
	}
	tr.in.Scorer = noScorer{}
	if _, err := tr.Rollouts(ctx, 0, 0, 6); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// someShard is arrays of a shard, changed.
func someShard(change func(a []tensor.NamedArray) []tensor.NamedArray) []tensor.NamedArray {
	s := Shard{episodes: []*episode{
		{prompt: 3, tokens: []int32{2, 0}, rawScore: .5, logprobs: []float32{-1, -2}, refLogprobs: []float32{-1.5, -2},
			entropies: []float32{1, 2}, values: []float32{.1, .2}},
		{prompt: 0, tokens: []int32{7}, rawScore: -.5, logprobs: []float32{-1}, refLogprobs: []float32{-1.5},
			entropies: []float32{1}, values: []float32{.3}},
	}}
	a := s.Arrays()
	if change != nil {
		a = change(a)
	}
	return a
}

func setFloat(array, at int, x float32) func(a []tensor.NamedArray) []tensor.NamedArray {
	return func(a []tensor.NamedArray) []tensor.NamedArray { a[array].Data[at] = x; return a }
}

var badShards = map[string]func(a []tensor.NamedArray) []tensor.NamedArray{
	"fewer arrays": func(a []tensor.NamedArray) []tensor.NamedArray { return a[:7] },
	"more arrays": func(a []tensor.NamedArray) []tensor.NamedArray {
		return append(a, tensor.NamedArray{Name: "x", Shape: []int{0}})
	},
	"another order":  func(a []tensor.NamedArray) []tensor.NamedArray { a[4], a[5] = a[5], a[4]; return a },
	"two dimensions": func(a []tensor.NamedArray) []tensor.NamedArray { a[3].Shape = []int{3, 1}; return a },
	"a short column": func(a []tensor.NamedArray) []tensor.NamedArray {
		a[7].Shape, a[7].Data = []int{2}, a[7].Data[:2]
		return a
	},
	"a long column": func(a []tensor.NamedArray) []tensor.NamedArray {
		a[2].Shape, a[2].Data = []int{3}, append(a[2].Data, 1)
		return a
	},
	"half a prompt":    setFloat(0, 0, .5),
	"prompt below":     setFloat(0, 0, -1),
	"prompt minus 0":   setFloat(0, 1, float32(math.Copysign(0, -1))),
	"prompt too large": setFloat(0, 0, 1<<24),
	"prompt NaN":       setFloat(0, 0, float32(math.NaN())),
	"no token":         setFloat(1, 0, 0),
	"too many":         setFloat(1, 0, 4),
	"too few":          setFloat(1, 0, 1),
	"half a length":    setFloat(1, 1, 1.5),
	"length overflows": setFloat(1, 0, float32(math.Inf(1))),
	"half a token":     setFloat(3, 1, 1.5),
}

func TestShardFromArraysRefuses(t *testing.T) {
	for name, change := range badShards {
		if s, err := ShardFromArrays(1, 2, someShard(change)); err == nil ||
			trimtab.AsError(err).Type != "wrong_rollouts" {
			t.Errorf("%s: %v, %v", name, s.episodes, err)
		}
	}
	s, err := ShardFromArrays(1, 2, someShard(nil))
	if err != nil || s.Step != 1 || s.First != 2 || !reflect.DeepEqual(s.Arrays(), someShard(nil)) {
		t.Errorf("%+v, %v", s, err)
	}
}

// FuzzShardFromArrays reads the arrays of any file as a shard: no panic, and what is
// taken comes out again as it was.
func FuzzShardFromArrays(f *testing.F) {
	f.Add(checkpoint.EncodeSafetensors(someShard(nil), nil))
	f.Add(checkpoint.EncodeSafetensors(Shard{}.Arrays(), nil))
	for _, change := range badShards {
		if a := someShard(change); len(a) > 0 && a[3].Shape[0] == len(a[3].Data) {
			f.Add(checkpoint.EncodeSafetensors(a, nil))
		}
	}
	tr, err := New(toyConfig(), toyInputs())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		arrays, _, err := checkpoint.DecodeSafetensors(raw)
		if err != nil {
			return
		}
		s, err := ShardFromArrays(1, 0, arrays)
		if err != nil {
			return
		}
		again := s.Arrays()
		for i := range arrays {
			if arrays[i].Name != again[i].Name || !slices.Equal(arrays[i].Shape, again[i].Shape) ||
				!sameBits(arrays[i].Data, again[i].Data) {
				t.Fatalf("%v came back as %v", arrays[i], again[i])
			}
		}
		if tr.checkShard(s, 1, 0) == nil { // what is used fits the trainer
			for _, e := range s.episodes {
				tr.copyEpisode(e)
			}
		}
	})
}
