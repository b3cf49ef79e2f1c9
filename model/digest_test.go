package model_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"

	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
)

// trained is the digest of three training steps and what is sampled after
// them. It is the same for every implementation of the kernels and under
// GOAMD64=v3. A change here changes the bytes of every model: raise the stage
// versions, and say why in docs/log.md.
const trained = "34e8ff7e5b46a804e5e23748bbcd010b1d77c7729d6a38579498b94ff849e9ff"

func TestDigest(t *testing.T) {
	everyKernel(t, func(t *testing.T) {
		c := model.Config{Layers: 2, Width: 24, Heads: 2, Context: 24, Vocab: 60}
		m := model.New(c, false)
		src := draw.New(1, "test", "digest")
		m.Init(src)
		a := optim.New(optim.Default(), len(m.Slab), m.DecayRanges())
		ps, g := model.NewPass(nil), m.NewGradient()
		for step := range 3 {
			clear(g)
			languageLoss(ps, m, g, model.NewBatch(randomBatch(src.At(0, uint64(step)), c, 4)...), 1)
			a.Step(m.Slab, m.FoldGradient(nil, g), step, 3)
		}
		h := sha256.New()
		floats := func(x []float32) {
			for _, v := range x {
				h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
			}
		}
		floats(m.Slab)
		for _, s := range model.Generate(ps, m, [][]int32{{1}, {2, 3}},
			model.SampleOptions{Temperature: .8, MaxNewTokens: 9, TopK: 30, TopP: .9}, src, 0) {
			floats(s.LogProbs)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != trained {
			t.Errorf("digest %s, want %s", got, trained)
		}
	})
}
