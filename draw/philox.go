package draw

import "math/bits"

// philox is Philox4x64 with 10 rounds: it returns the block of four numbers of counter c under key k. The constants
// are those of the paper.
func philox(k [2]uint64, c [4]uint64) [4]uint64 {
	for range 10 {
		h0, l0 := bits.Mul64(0xD2E7470EE14C6C93, c[0])
		h1, l1 := bits.Mul64(0xCA5A826395121157, c[2])
		c = [4]uint64{h1 ^ c[1] ^ k[0], l1, h0 ^ c[3] ^ k[1], l0}
		k[0] += 0x9E3779B97F4A7C15 // the golden ratio
		k[1] += 0xBB67AE8584CAA73B // sqrt(3)-1
	}
	return c
}
