// Package draw gives random numbers without state: every draw is a function of
// the seed, a purpose in words, and the place where it is needed.
//
//	src := draw.New(seed, "ppo", "sample")
//	u := src.At(step, row, token).Float64()
//
// There is nothing to save at a checkpoint and nothing to lose in a crash, and
// draws do not depend on the order in which they are made.
//
// The numbers are those of Philox4x64-10 (Salmon, Moraes, Dror & Shaw,
// "Parallel random numbers: as easy as 1, 2, 3", 2011), a keyed bijection of
// 256-bit counters that passes BigCrush and is pinned here by its authors' test
// vectors. The key is
//
//	k = first 128 bits of SHA-256("trimtab draw v1" || seed || len(name) || name …)
//
// numbers little-endian in 8 bytes. An index i0 … i(n-1) is taken three numbers
// at a time; each group but the last replaces the key by the first two words of
// philox(k, (2⁶⁴-1, i, i, i)). The last group, filled up with zeros, is the
// counter's upper part, its lowest word counts the blocks of the stream, and n
// is added to the key's second word, so that (1) and (1, 0) differ.
//
// Real numbers are made with basic float64 operations, a square root, and a
// logarithm written out here, so they are the same bits on every machine.
package draw

import (
	"crypto/sha256"
	"encoding/binary"
)

// Source is a family of streams, one for each index. It is a value: copy it, and use it from any number of
// goroutines.
type Source struct {
	key [2]uint64
}

// New returns the source of that seed and purpose. Sources of different names, or of the same letters divided into
// names differently, are unrelated.
func New(seed uint64, names ...string) Source {
	b := binary.LittleEndian.AppendUint64([]byte("trimtab draw v1"), seed)
	for _, n := range names {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(n)))
		b = append(b, n...)
	}
	h := sha256.Sum256(b)
	return Source{[2]uint64{binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])}}
}

// At returns the stream at an index of any length, always from its beginning.
func (s Source) At(index ...uint64) *Stream {
	key, counter := s.keyAndCounter(index)
	return &Stream{key: key, counter: counter}
}

// keyAndCounter returns the key and the first counter of an index, as the package comment describes them. It is apart
// from At so that At is inlined and its stream need not be allocated.
func (s Source) keyAndCounter(index []uint64) (key [2]uint64, counter [4]uint64) {
	key = s.key
	n := uint64(len(index))
	for len(index) > 3 {
		b := philox(key, [4]uint64{1<<64 - 1, index[0], index[1], index[2]})
		key = [2]uint64{b[0], b[1]}
		index = index[3:]
	}
	key[1] += n
	copy(counter[1:], index)
	return key, counter
}

// Stream is a sequence of numbers. It is not safe for concurrent use.
type Stream struct {
	key       [2]uint64
	counter   [4]uint64 // of the next block
	block     [4]uint64 // the current one
	remaining int       // numbers of block not yet given
}

// Uint64 returns the next 64 random bits.
func (s *Stream) Uint64() uint64 {
	if s.remaining == 0 {
		s.block = philox(s.key, s.counter)
		s.counter[0]++
		s.remaining = 4
	}
	s.remaining--
	return s.block[3-s.remaining]
}
