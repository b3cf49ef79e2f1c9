package tokenizer

import (
	"strings"
	"sync"
)

// pair is two neighbouring ids of a word, packed as left<<32 | right so that it
// is a cheap map key.
type pair uint64

// pairOf packs two neighbouring ids.
func pairOf(left, right int32) pair { return pair(uint32(left))<<32 | pair(uint32(right)) }

// mergeRule says what a pair becomes; the lowest rank is merged first.
type mergeRule struct{ rank, result int32 }

// maxMergedWord bounds the bytes of a word that is merged as one, so that a
// position fits into 32 bits. Longer words are merged in parts of this size.
const maxMergedWord = 1 << 30

// symbolList is a word while it is being merged: a doubly linked list of ids by
// position, and a heap of the positions where a merge applies. The slices are
// reused from word to word.
type symbolList struct {
	id         []int32   // by position; NoToken where a position was merged into an earlier one
	prev, next []int32   // positions of the neighbours; -1 and len(id) are the ends
	queue      siteQueue // positions whose pair has a merge; some are out of date
	batch      []int32   // positions of the rank that is being merged
}

// symbolListPool keeps the buffers of symbolList between words; Encode may run
// in many goroutines.
var symbolListPool = sync.Pool{New: func() any { return new(symbolList) }}

// appendMerged appends the ids of a word of any length, in O(n log n). A plain
// scan for the lowest rank would be quadratic, and a word can be a whole file
// without white space.
func (t *Tokenizer) appendMerged(ids []int32, word string) []int32 {
	for len(word) > maxMergedWord {
		ids = t.appendMerged(ids, word[:maxMergedWord])
		word = word[maxMergedWord:]
	}
	list := symbolListPool.Get().(*symbolList)
	list.reset(t, word)
	list.mergeAll(t)
	for pos := int32(0); int(pos) < len(list.id); pos = list.next[pos] {
		ids = append(ids, list.id[pos])
	}
	// The buffers of a huge word are left to the garbage collector.
	if cap(list.id) <= 1<<16 {
		symbolListPool.Put(list)
	}
	return ids
}

// reset loads the single bytes of word and queues every pair that has a merge.
func (c *symbolList) reset(t *Tokenizer, word string) {
	c.id = c.id[:0]
	c.prev = c.prev[:0]
	c.next = c.next[:0]
	c.queue = c.queue[:0]
	for i := range len(word) {
		c.id = append(c.id, t.bytes[word[i]])
		c.prev = append(c.prev, int32(i)-1)
		c.next = append(c.next, int32(i)+1)
	}
	for at := range len(word) - 1 {
		if r, ok := t.rules[pairOf(c.id[at], c.id[at+1])]; ok {
			c.queue = append(c.queue, mergeSiteOf(r.rank, int32(at)))
		}
	}
	c.queue.init()
}

// mergeAll merges rank by rank. All positions of one rank are taken from the
// queue before the first of them is merged: pairs that appear through a merge
// wait for their turn, whatever their rank. This is GPT-2's order, and decides
// words whose merges overlap.
func (c *symbolList) mergeAll(t *Tokenizer) {
	for len(c.queue) > 0 {
		rank := c.queue[0].rank()
		c.batch = c.batch[:0]
		for len(c.queue) > 0 && c.queue[0].rank() == rank {
			c.batch = append(c.batch, c.queue.pop().position())
		}
		m := t.merges[rank]
		for _, at := range c.batch {
			c.apply(t, m, at)
		}
	}
}

// apply merges the pair at a position, if it is still there: an earlier merge
// of the same rank may have taken one of its halves, as in "aaa".
func (c *symbolList) apply(t *Tokenizer, m merge, at int32) {
	next := c.next[at]
	if c.id[at] != m.left || int(next) >= len(c.id) || c.id[next] != m.right {
		return
	}
	after := c.next[next]
	c.id[at], c.id[next] = m.result, NoToken
	c.next[at] = after
	if int(after) < len(c.id) {
		c.prev[after] = at
		c.enqueue(t, at, after)
	}
	if before := c.prev[at]; before >= 0 {
		c.enqueue(t, before, at)
	}
}

// enqueue adds the pair of two neighbouring positions to the queue if it has a
// merge.
func (c *symbolList) enqueue(t *Tokenizer, left, right int32) {
	if r, ok := t.rules[pairOf(c.id[left], c.id[right])]; ok {
		c.queue.push(mergeSiteOf(r.rank, left))
	}
}

// mergeSite is a position where a merge applies, packed as rank<<32 | position:
// integer order is by rank, then from left to right.
type mergeSite uint64

// mergeSiteOf packs a rank and a position.
func mergeSiteOf(rank, position int32) mergeSite {
	return mergeSite(uint32(rank))<<32 | mergeSite(uint32(position))
}
func (e mergeSite) rank() int32     { return int32(e >> 32) }
func (e mergeSite) position() int32 { return int32(uint32(e)) }

// siteQueue is a binary heap with the smallest entry first. It is written out
// here since container/heap would box every entry.
type siteQueue []mergeSite

// init establishes the heap order in O(n).
func (q siteQueue) init() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.siftDown(i)
	}
}

// push adds an entry and moves it up to its place.
func (q *siteQueue) push(e mergeSite) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent] <= h[i] {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

// pop removes the smallest entry. The queue must not be empty.
func (q *siteQueue) pop() mergeSite {
	h := *q
	top, last := h[0], len(h)-1
	h[0] = h[last]
	*q = h[:last]
	q.siftDown(0)
	return top
}

// siftDown moves entry i below all smaller ones.
func (q siteQueue) siftDown(i int) {
	for {
		child := 2*i + 1
		if child >= len(q) {
			return
		}
		if child+1 < len(q) && q[child+1] < q[child] {
			child++
		}
		if q[i] <= q[child] {
			return
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}

// The bounds of a wordCache: words, and bytes of a word. They keep it at some
// megabytes. A full cache takes no more words: the frequent ones came early.
const (
	maxCachedWords   = 1 << 16 // words a cache holds; then it takes no more
	maxCachedWordLen = 48      // bytes of the longest word in it
)

// wordCache remembers the ids of words, which repeat a lot in text. It affects
// speed and never a result, and is safe for concurrent use.
type wordCache struct {
	mu    sync.RWMutex
	words map[string][]int32
}

func newWordCache() *wordCache { return &wordCache{words: make(map[string][]int32)} }

// get returns the ids of a word, which the caller must not change.
func (c *wordCache) get(word string) ([]int32, bool) {
	c.mu.RLock()
	ids, ok := c.words[word]
	c.mu.RUnlock()
	return ids, ok
}

// put stores a copy of both arguments: word is a part of a text that could be
// large, and ids is the end of the caller's slice.
func (c *wordCache) put(word string, ids []int32) {
	c.mu.Lock()
	if len(c.words) < maxCachedWords {
		c.words[strings.Clone(word)] = append([]int32(nil), ids...)
	}
	c.mu.Unlock()
}
