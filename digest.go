package trimtab

import (
	"bytes"
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

// MerkleRoot is the root of the RFC 9162 tree (leaf prefix 0x00, node prefix
// 0x01) whose leaves are the item digests in ascending order, duplicates kept.
// It does not depend on the order of items.
func MerkleRoot(items []Digest) Digest {
	leaves := make([][]byte, len(items))
	sorted := slices.Clone(items)
	slices.Sort(sorted)
	for i, d := range sorted {
		raw, _ := hex.DecodeString(d.Hex())
		leaves[i] = sum(0, raw)
	}
	return DigestFromSum(merkle(leaves))
}

func merkle(leaves [][]byte) []byte {
	switch len(leaves) {
	case 0:
		s := sha256.Sum256(nil)
		return s[:]
	case 1:
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	return sum(1, merkle(leaves[:k]), merkle(leaves[k:]))
}

func sum(prefix byte, parts ...[]byte) []byte {
	s := sha256.Sum256(append([]byte{prefix}, bytes.Join(parts, nil)...))
	return s[:]
}
