package checkpoint

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/model"
)

// TestLoadFrozen: a frozen model computes what the model that was stored does, as F32 and as BF16, and a damaged file is
// refused.
func TestLoadFrozen(t *testing.T) {
	for _, dtype := range []string{"F32", "BF16"} {
		for _, family := range []string{"", "llama", "opt", "gpt_neox"} {
			s := open(t)
			_, words := someModel(t, false)
			c := model.Config{Family: family, Layers: 2, Width: 16, Heads: 2, Context: 32, Vocab: words.VocabSize()}.Complete()
			m := model.New(c, false)
			m.Init(draw.New(3, "frozen"))
			d, err := saveModel(s, m, words, dtype)
			if err != nil {
				t.Fatal(err)
			}
			want, _, err := LoadModel(s, d)
			if err != nil {
				t.Fatal(err)
			}
			got, tok, err := LoadFrozen(s, d)
			if err != nil || tok.Digest() != words.Digest() {
				t.Fatal(err)
			}
			if half := dtype == "BF16" && family != "opt"; got.IsFrozen() != half { // OPT's files hold two rows more
				t.Errorf("%q as %s: frozen %t", family, dtype, got.IsFrozen())
			}
			b := model.NewBatch([]int32{1, 7, 3, 9}, []int32{2})
			ps, other := model.NewPass(nil), model.NewPass(nil)
			if !slices.Equal(ps.Infer(got, b), other.Infer(want, b)) {
				t.Errorf("%q as %s computes something else", family, dtype)
			}
			damageWeights(t, s, d)
			if _, _, err := LoadFrozen(s, d); err == nil || trimtab.AsError(err).Type != "artifact_corrupt" {
				t.Errorf("a damaged file: %v", err)
			}
		}
	}
}

// damageWeights changes a byte of a stored model's weights.
func damageWeights(t *testing.T, s *Store, d trimtab.Digest) {
	t.Helper()
	entries, err := s.manifest(d)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(entries, func(e manifestEntry) bool { return strings.HasSuffix(e.name, weightsName) })
	path := s.path(objects, entries[i].digest)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-5] ^= 1
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
