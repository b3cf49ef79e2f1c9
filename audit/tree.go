package audit

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree computes the root of a Merkle tree over hashes that arrive one by one,
// in memory that grows with the logarithm of their number. The zero Tree is
// empty. tlog itself would need a reader of all stored hashes.
type Tree struct {
	size  int64
	stack []tlog.Hash // roots of the whole subtrees, largest first
}

// Leaf is the hash of an event's leaf in the tree.
func Leaf(event Hash) tlog.Hash { return tlog.RecordHash(event[:]) }

// Add appends the hash of an event.
func (t *Tree) Add(event Hash) { t.add(Leaf(event)) }

// add appends a leaf hash and returns the hashes of the subtrees that it
// completes, the smallest first.
func (t *Tree) add(h tlog.Hash) (completed []tlog.Hash) {
	for range bits.TrailingZeros64(^uint64(t.size)) { // subtrees of equal size become one
		h = tlog.NodeHash(t.stack[len(t.stack)-1], h)
		t.stack = t.stack[:len(t.stack)-1]
		completed = append(completed, h)
	}
	t.stack = append(t.stack, h)
	t.size++
	return completed
}

// Size returns the number of events in the tree.
func (t *Tree) Size() int64 { return t.size }

// Root returns the root of the tree; that of an empty tree is zero, as in
// tlog.
func (t *Tree) Root() Hash {
	if len(t.stack) == 0 {
		return Hash{}
	}
	h := t.stack[len(t.stack)-1]
	for i := len(t.stack) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.stack[i], h)
	}
	return Hash(h)
}

// HashChecker verifies the stored hashes of a tree in the order in which tlog
// numbers them: each leaf, followed by each subtree that it completes.
type HashChecker struct {
	t    Tree
	next int64 // index
	due  []tlog.Hash
}

// Next takes the hash at an index and returns what is wrong with it. It
// cannot know a leaf; compare the root at the end.
func (l *HashChecker) Next(index int64, hash []byte) error {
	if index != l.next {
		return fmt.Errorf("hash %d is missing", l.next)
	}
	var h tlog.Hash
	if len(hash) != len(h) {
		return fmt.Errorf("it has %d bytes, not %d", len(hash), len(h))
	}
	copy(h[:], hash)
	l.next++
	if len(l.due) > 0 {
		if l.due[0] != h {
			return fmt.Errorf("it is not the hash of the two below it: that is %s, stored is %s",
				Hash(l.due[0]), Hash(h))
		}
		l.due = l.due[1:]
		return nil
	}
	l.due = l.t.add(h)
	return nil
}

// Complete reports whether every subtree of the leaves so far was given.
func (l *HashChecker) Complete() bool { return len(l.due) == 0 }

// Size returns the number of leaves so far.
func (l *HashChecker) Size() int64 { return l.t.Size() }

// Root returns the root of the tree over these leaves.
func (l *HashChecker) Root() Hash { return l.t.Root() }
