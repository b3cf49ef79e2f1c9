package tokenizer

import (
	"strings"
	"sync"
)

// A pair is two neighbouring ids in one word: left<<32 | right.
type pair uint64

func pairOf(left, right int32) pair { return pair(uint32(left))<<32 | pair(uint32(right)) }

// A rule says that a pair becomes result; the lowest rank goes first.
type mergeRule struct{ rank, result int32 }

// maxMergedWord bounds the word that is merged as one, so that a place fits 32
// bits; longer ones are merged in parts of this many bytes.
const maxMergedWord = 1 << 30

// symbolList is a word under way: ids linked by place, and a heap of the places
// where a rule applies. Its slices are reused.
type symbolList struct {
	id         []int32 // by place; NoToken where a place was merged into an earlier one
	prev, next []int32 // places; -1 and len(id) are the ends
	queue      siteQueue
	batch      []int32
}

var symbolListPool = sync.Pool{New: func() any { return new(symbolList) }}

// appendMerged appends the ids of a word of any length in O(n log n).
func (t *Tokenizer) appendMerged(ids []int32, word string) []int32 {
	for len(word) > maxMergedWord {
		ids = t.appendMerged(ids, word[:maxMergedWord])
		word = word[maxMergedWord:]
	}
	c := symbolListPool.Get().(*symbolList)
	c.reset(t, word)
	c.mergeAll(t)
	for at := int32(0); int(at) < len(c.id); at = c.next[at] {
		ids = append(ids, c.id[at])
	}
	if cap(c.id) <= 1<<16 { // do not keep the memory of a monster
		symbolListPool.Put(c)
	}
	return ids
}

func (c *symbolList) reset(t *Tokenizer, word string) {
	c.id, c.prev, c.next, c.queue = c.id[:0], c.prev[:0], c.next[:0], c.queue[:0]
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

// mergeAll merges rank by rank. All places of one rank are taken from the queue
// before the first of them is merged, so that pairs that only come about then
// wait for their turn, whatever their rank: this is GPT-2's order.
func (c *symbolList) mergeAll(t *Tokenizer) {
	for len(c.queue) > 0 {
		rank := c.queue[0].rank()
		c.batch = c.batch[:0]
		for len(c.queue) > 0 && c.queue[0].rank() == rank {
			c.batch = append(c.batch, c.queue.pop().place())
		}
		m := t.merges[rank]
		for _, at := range c.batch {
			c.apply(t, m, at)
		}
	}
}

// apply merges the pair at a place, if it is still there.
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

func (c *symbolList) enqueue(t *Tokenizer, left, right int32) {
	if r, ok := t.rules[pairOf(c.id[left], c.id[right])]; ok {
		c.queue.push(mergeSiteOf(r.rank, left))
	}
}

// mergeSite orders places by rank, then from left to right: rank<<32 | place.
type mergeSite uint64

func mergeSiteOf(rank, place int32) mergeSite {
	return mergeSite(uint32(rank))<<32 | mergeSite(uint32(place))
}
func (e mergeSite) rank() int32  { return int32(e >> 32) }
func (e mergeSite) place() int32 { return int32(uint32(e)) }

// siteQueue is a binary heap, the smallest entry first.
type siteQueue []mergeSite

func (q siteQueue) init() {
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.siftDown(i)
	}
}

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

func (q *siteQueue) pop() mergeSite {
	h := *q
	top, last := h[0], len(h)-1
	h[0] = h[last]
	*q = h[:last]
	q.siftDown(0)
	return top
}

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

const (
	maxCachedWords   = 1 << 16 // words a cache holds; then it takes no more
	maxCachedWordLen = 48      // bytes of the longest word in it
)

// wordCache remembers the ids of words. It changes speed, never a result.
type wordCache struct {
	mu    sync.RWMutex
	words map[string][]int32
}

func newWordCache() *wordCache { return &wordCache{words: make(map[string][]int32)} }

func (c *wordCache) get(word string) ([]int32, bool) {
	c.mu.RLock()
	ids, ok := c.words[word]
	c.mu.RUnlock()
	return ids, ok
}

func (c *wordCache) put(word string, ids []int32) {
	c.mu.Lock()
	if len(c.words) < maxCachedWords {
		c.words[strings.Clone(word)] = append([]int32(nil), ids...)
	}
	c.mu.Unlock()
}
