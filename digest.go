package trimtab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Digest is "sha256:" and 64 lower-case hexadecimal digits.
type Digest string

const digestPrefix = "sha256:"

// DigestOf is the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return DigestFromSum(sum[:])
}

// DigestFromSum turns a finished SHA-256 sum into a Digest.
func DigestFromSum(sum []byte) Digest { return Digest(digestPrefix + hex.EncodeToString(sum)) }

// ParseDigest accepts a full digest, with or without its prefix.
func ParseDigest(s string) (Digest, error) {
	h := strings.TrimPrefix(s, digestPrefix)
	if b, err := hex.DecodeString(h); err != nil || len(b) != sha256.Size || h != strings.ToLower(h) {
		return "", fmt.Errorf("%q is not a digest: want sha256: and 64 hexadecimal digits", s)
	}
	return Digest(digestPrefix + h), nil
}

// Hex is the digest without its prefix; the name of a stored file.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// Short is the first 12 hexadecimal digits, for people.
func (d Digest) Short() string {
	h := d.Hex()
	return h[:min(12, len(h))]
}

// Sum is the digest's 32 bytes; it has no meaning for what is no digest.
func (d Digest) Sum() (sum [32]byte) {
	_, _ = hex.Decode(sum[:], []byte(d.Hex())[:min(2*len(sum), len(d.Hex()))])
	return sum
}

// MerkleRoot is the root of the RFC 9162 tree (leaf prefix 0x00, node prefix
// 0x01) whose leaves are the item digests in ascending order, duplicates kept.
// It does not depend on the order of items.
func MerkleRoot(items []Digest) Digest {
	var tree Merkle
	for _, d := range slices.Sorted(slices.Values(items)) {
		tree.Add(d)
	}
	return tree.Root()
}

// Merkle is MerkleRoot of items that are given one after the other, in
// ascending order, in memory of the logarithm of their number. The zero value
// has none.
type Merkle struct {
	n     int
	whole [][32]byte // roots of whole subtrees, the largest first
}

// Add takes the next item.
func (m *Merkle) Add(item Digest) {
	leaf := item.Sum()
	h := sha256.Sum256(append([]byte{0}, leaf[:]...))
	for n := m.n; n&1 == 1; n >>= 1 {
		last := len(m.whole) - 1
		h, m.whole = node(m.whole[last], h), m.whole[:last]
	}
	m.n, m.whole = m.n+1, append(m.whole, h)
}

// Len is how many items were added.
func (m *Merkle) Len() int { return m.n }

// Root is the root over what was added so far.
func (m *Merkle) Root() Digest {
	if m.n == 0 {
		return DigestOf(nil)
	}
	h := m.whole[len(m.whole)-1]
	for i := len(m.whole) - 2; i >= 0; i-- {
		h = node(m.whole[i], h)
	}
	return DigestFromSum(h[:])
}

func node(left, right [32]byte) [32]byte {
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}
