package checkpoint

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/trimtab/trimtab"
)

func someRollouts() Rollouts {
	return Rollouts{Step: 3, First: 8, State: trimtab.DigestOf([]byte("state")), Arrays: someArrays()}
}

func saveRollouts(t *testing.T, s *Store, attempt string, r Rollouts) trimtab.Digest {
	t.Helper()
	d, err := s.SaveRollouts(attempt, r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRolloutsRoundTrip(t *testing.T) {
	s := open(t)
	d := saveRollouts(t, s, "attempt-7", someRollouts())
	if got, err := s.LoadRollouts("attempt-7", d); err != nil || !reflect.DeepEqual(got, someRollouts()) {
		t.Errorf("%+v, %v", got, err)
	}
	if again := saveRollouts(t, s, "attempt-8", someRollouts()); again != d {
		t.Error("the attempt is part of the bytes")
	}
	seen := map[trimtab.Digest]bool{d: true}
	for name, change := range map[string]func(r *Rollouts){
		"step": func(r *Rollouts) { r.Step++ }, "first": func(r *Rollouts) { r.First++ }, "state": func(r *Rollouts) { r.State = "" },
		"arrays": func(r *Rollouts) { r.Arrays = r.Arrays[1:] },
	} {
		r := someRollouts()
		change(&r)
		if d := saveRollouts(t, s, "attempt-7", r); seen[d] {
			t.Errorf("the %s is not part of the bytes", name)
		}
	}
	for range 2 { // the second time it is gone
		if err := s.RemoveRollouts("attempt-7", d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.LoadRollouts("attempt-7", d); typeOf(err) != "artifact_missing" {
		t.Errorf("removed rollouts: %v", err)
	}
	if _, err := s.LoadRollouts("attempt-8", d); err != nil {
		t.Errorf("of another attempt: %v", err)
	}
}

func TestRolloutsDamage(t *testing.T) {
	s := open(t)
	d := saveRollouts(t, s, "a", someRollouts())
	file := filepath.Join(s.dir, rollouts, "a", d.Hex())
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, harmed := range [][]byte{nil, whole[:len(whole)-1], append([]byte{whole[0] ^ 1}, whole[1:]...)} {
		if err := os.WriteFile(file, harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.LoadRollouts("a", d); typeOf(err) != "artifact_corrupt" {
			t.Errorf("damaged: %v", err)
		}
	}
	for _, meta := range []map[string]string{nil, {stepKey: "1"}, {stepKey: "-1", firstKey: "0"},
		{stepKey: "1", firstKey: "x"}} {
		if _, err := decodeRollouts(EncodeSafetensors(someArrays(), meta)); typeOf(err) != "artifact_corrupt" {
			t.Errorf("metadata %v: %v", meta, err)
		}
	}
	bad := someRollouts()
	bad.Arrays[0].Data[1] = float32(math.NaN())
	if _, err := s.SaveRollouts("a", bad); typeOf(err) != "not_a_number" {
		t.Errorf("NaN: %v", err)
	}
	if _, err := decodeRollouts(EncodeSafetensors(bad.Arrays,
		someRollouts().metadata())); typeOf(err) != "not_a_number" {
		t.Errorf("NaN in the file: %v", err)
	}
}

func TestRolloutsStayInTheirFolder(t *testing.T) {
	s := open(t)
	d := saveRollouts(t, s, "a", someRollouts())
	for _, name := range []string{"", "..", "../x", "/x", "a/../b", "a/"} {
		if _, err := s.SaveRollouts(name, someRollouts()); err == nil {
			t.Errorf("%q accepted for saving", name)
		}
		if _, err := s.LoadRollouts(name, d); err == nil {
			t.Errorf("%q accepted for loading", name)
		}
		if err := s.RemoveRollouts(name, d); err == nil {
			t.Errorf("%q accepted for removing", name)
		}
	}
	for _, d := range []trimtab.Digest{"", "sha256:..", "../a"} {
		if err := s.RemoveRollouts("a", d); err == nil {
			t.Errorf("digest %q accepted", d)
		}
	}
}

func FuzzDecodeRollouts(f *testing.F) {
	f.Add(EncodeSafetensors(someArrays(), someRollouts().metadata()))
	f.Add(EncodeSafetensors(nil, map[string]string{stepKey: "1", firstKey: "-1"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decodeRollouts(raw)
		if err != nil {
			return
		}
		again, err := decodeRollouts(EncodeSafetensors(r.Arrays, r.metadata()))
		if err != nil || again.Step != r.Step || again.First != r.First || len(again.Arrays) != len(r.Arrays) {
			t.Fatalf("%+v came back as %+v, %v", r, again, err)
		}
	})
}
