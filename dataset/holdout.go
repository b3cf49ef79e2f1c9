package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
)

// HoldOut is a rule that says of a unit, a prompt or a group, whether it is
// held out: if its number, which the seed and the unit give, is below a bound.
// A unit is on the same side in every dataset that the rule is applied to, and
// stays there when others are added.
type HoldOut struct {
	Seed  uint64
	Below uint64
}

// HoldOutShare is the rule that holds out that share of all possible units; of
// few units it may be more or less. share is above 0 and below 1.
func HoldOutShare(seed uint64, share float64) HoldOut {
	return HoldOut{Seed: seed, Below: uint64(math.Ldexp(share, 64))}
}

// Hash is the number of a unit.
func (h HoldOut) Hash(unit string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "trimtab split %d\n%s", h.Seed, unit))
	return binary.BigEndian.Uint64(sum[:])
}

// IsTest reports whether a unit is held out.
func (h HoldOut) IsTest(unit string) bool { return h.Hash(unit) < h.Below }
