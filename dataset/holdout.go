package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
)

// HoldOut is a rule that decides for a unit, a prompt or a group, whether it is
// held out: its hash, of the seed and the unit, is below a bound. A unit is
// therefore on the same side in every dataset that the rule is applied to, and
// stays there when others are added.
type HoldOut struct {
	Seed  uint64
	Below uint64
}

// HoldOutShare returns the rule that holds out a share of all possible units,
// above 0 and below 1. Of a small number of units the share may be larger or
// smaller.
func HoldOutShare(seed uint64, share float64) HoldOut {
	return HoldOut{Seed: seed, Below: uint64(math.Ldexp(share, 64))}
}

// Hash returns the hash of a unit: the first 64 bits of a SHA-256 over the seed
// and the unit, as a number that is uniform over all uint64.
func (h HoldOut) Hash(unit string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "trimtab split %d\n%s", h.Seed, unit))
	return binary.BigEndian.Uint64(sum[:])
}

// IsTest reports whether a unit is held out.
func (h HoldOut) IsTest(unit string) bool { return h.Hash(unit) < h.Below }
