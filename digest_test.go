package trimtab_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
)

// root is the tree as RFC 9162 defines it, by recursion.
func root(leaves [][32]byte) [32]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0][:]...))
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	left, right := root(leaves[:k]), root(leaves[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

func TestMerkleRoot(t *testing.T) {
	var items []trimtab.Digest
	for n := range 130 {
		sorted := slices.Sorted(slices.Values(items))
		var leaves [][32]byte
		var tree trimtab.Merkle
		for _, d := range sorted {
			leaves = append(leaves, d.Sum())
			tree.Add(d)
		}
		sum := root(leaves)
		want := trimtab.DigestFromSum(sum[:])
		if got := trimtab.MerkleRoot(items); got != want {
			t.Fatalf("%d items: root %s, want %s", n, got, want)
		}
		if got := tree.Root(); got != want || tree.Len() != n {
			t.Fatalf("%d items one by one: root %s of %d, want %s", n, got, tree.Len(), want)
		}
		items = append(items, trimtab.DigestOf(fmt.Appendf(nil, "%d", n*n%97))) // some twice
	}
}
