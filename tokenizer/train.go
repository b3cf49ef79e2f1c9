package tokenizer

import (
	"container/heap"
	"fmt"
	"maps"
	"slices"
)

// minVocab is the size of the smallest vocabulary: the bytes and the two
// special tokens.
const minVocab = 256 + 2

// maxTrainingWord is the length in bytes beyond which a word is cut for
// training. It keeps training linear in the text: each merge rescans the words
// that hold its pair, so a single word of megabytes would make it quadratic.
const maxTrainingWord = 256

// Train learns a vocabulary of exactly vocab ids (bytes, merges and special
// tokens together) from texts. Each merge joins the most frequent pair of
// neighbours within the words of the texts (Sennrich et al. 2016, section 3.2);
// among equally frequent pairs, the one whose bytes are lexicographically
// greatest, left part first. That order is total, so the order of texts does
// not change the result. It fails if vocab is below 258, or if the texts have
// too few distinct words for that many pieces.
func Train(texts []string, vocab int) (*Tokenizer, error) {
	if vocab < minVocab {
		return nil, fmt.Errorf("a vocabulary of %d is too small: the bytes and the special tokens alone are %d",
			vocab, minVocab)
	}
	l := newTrainer(countWords(texts))
	for len(l.pieces) < vocab-2 {
		if !l.step() {
			return nil, fmt.Errorf("the texts give a vocabulary of %d at most, not %d: give more text, or ask for less",
				len(l.pieces)+2, vocab)
		}
	}
	n := int32(len(l.pieces))
	return newTokenizer(vocabulary{pieces: append(l.pieces, EndOfTextName, PadName), merges: l.merges,
		roles: rolesOf(n, n+1)})
}

// countWords counts the words of all texts. Training looks at each distinct
// word once, weighted by its count.
func countWords(texts []string) map[string]int {
	counts := make(map[string]int)
	for _, text := range texts {
		for len(text) > 0 {
			word := text[:wordLen(text)]
			text = text[len(word):]
			for len(word) > maxTrainingWord {
				counts[word[:maxTrainingWord]]++
				word = word[maxTrainingWord:]
			}
			counts[word]++
		}
	}
	return counts
}

// trainer holds the distinct words of the texts as ids, and for each pair of
// neighbours how often it occurs and in which words, so that a merge touches
// only the words that have its pair.
type trainer struct {
	words   []trainingWord
	pieces  []string
	ids     map[string]int32 // by piece
	merges  []merge
	learned map[pair]merge
	count   map[pair]int
	// wordsWith lists, by pair, indices of words. An index may occur twice, and
	// the word may have lost the pair since: it is checked when it is used.
	wordsWith map[pair][]int32
	// queue holds every pair with a count at least as high as its true one:
	// counts that fell are corrected when the pair comes to the top.
	queue candidates
}

// trainingWord is a distinct word as the ids that it is split into so far.
type trainingWord struct {
	ids   []int32
	count int
}

// newTrainer starts from words split into single bytes. The words are taken in
// sorted order, so that every training does the same work.
func newTrainer(counts map[string]int) *trainer {
	l := &trainer{ids: make(map[string]int32), learned: make(map[pair]merge), count: make(map[pair]int),
		wordsWith: make(map[pair][]int32)}
	for _, b := range byteByID {
		l.ids[string([]byte{b})] = int32(len(l.pieces))
		l.pieces = append(l.pieces, string([]byte{b}))
	}
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		w := trainingWord{count: counts[text]}
		for i := range len(text) {
			w.ids = append(w.ids, byteID[text[i]])
		}
		l.words = append(l.words, w)
		l.add(int32(len(l.words)-1), +1, func(pair) bool { return true })
	}
	l.queue.l = l
	for p := range l.count {
		l.queue.all = append(l.queue.all, candidate{p, l.count[p]})
	}
	heap.Init(&l.queue)
	return l
}

// add adds the pairs of a word to the counts, or takes them out again, as sign
// says. The word is noted under the pairs that note accepts; a pair that was
// there before the merge has it already.
func (l *trainer) add(word int32, sign int, note func(pair) bool) {
	w := l.words[word]
	for i := range len(w.ids) - 1 {
		p := pairOf(w.ids[i], w.ids[i+1])
		l.count[p] += sign * w.count
		if sign > 0 && note(p) {
			l.wordsWith[p] = append(l.wordsWith[p], word)
		}
	}
}

// step learns one merge, and returns false if no pair is left. Two different
// pairs may spell the same bytes: the second leads to the piece that exists and
// adds none. A pair that reappears through such a piece keeps the merge it has.
func (l *trainer) step() bool {
	p, ok := l.popBest()
	if !ok {
		return false
	}
	if m, again := l.learned[p]; again {
		l.applyMerge(p, m)
		return true
	}
	left, right := p.parts()
	spelled := l.pieces[left] + l.pieces[right]
	id, known := l.ids[spelled]
	if !known {
		id = int32(len(l.pieces))
		l.ids[spelled] = id
		l.pieces = append(l.pieces, spelled)
	}
	m := merge{left, right, id}
	l.merges = append(l.merges, m)
	l.learned[p] = m
	l.applyMerge(p, m)
	return true
}

// popBest takes the next pair to merge from the queue. An entry whose count has
// fallen since is put back with the true one. Others that are out of date are
// dropped: their pair is gone, or is queued again with a higher count.
func (l *trainer) popBest() (pair, bool) {
	for l.queue.Len() > 0 {
		c := heap.Pop(&l.queue).(candidate)
		switch now := l.count[c.pair]; {
		case now == c.count && now > 0:
			return c.pair, true
		case now > 0 && now < c.count: // it has become rarer
			heap.Push(&l.queue, candidate{c.pair, now})
		}
	}
	return 0, false
}

// applyMerge merges p in every word that has it and brings the counts up to
// date. Only pairs with the new piece can have become more frequent, so only
// those enter the queue again.
func (l *trainer) applyMerge(p pair, m merge) {
	fresh := make(map[pair]bool)
	touches := func(q pair) bool {
		a, b := q.parts()
		if a != m.result && b != m.result {
			return false
		}
		fresh[q] = true
		return true
	}
	for _, word := range l.wordsWith[p] {
		w := &l.words[word]
		if !containsPair(w.ids, m) {
			continue
		}
		l.add(word, -1, nil)
		w.ids = mergePair(w.ids, m)
		l.add(word, +1, touches)
	}
	delete(l.wordsWith, p)
	delete(l.count, p)
	for q := range fresh { // any order: the queue's order is total
		heap.Push(&l.queue, candidate{q, l.count[q]})
	}
}

// containsPair reports whether the pair of m occurs in ids.
func containsPair(ids []int32, m merge) bool {
	for i := range len(ids) - 1 {
		if ids[i] == m.left && ids[i+1] == m.right {
			return true
		}
	}
	return false
}

// mergePair applies m to ids in place, from left to right.
func mergePair(ids []int32, m merge) []int32 {
	out := ids[:0]
	for i := 0; i < len(ids); i++ {
		if i+1 < len(ids) && ids[i] == m.left && ids[i+1] == m.right {
			out = append(out, m.result)
			i++
		} else {
			out = append(out, ids[i])
		}
	}
	return out
}

func (p pair) parts() (left, right int32) { return int32(p >> 32), int32(uint32(p)) }

// candidate is a pair with the count that it had when it was queued.
type candidate struct {
	pair  pair
	count int
}

// candidates is a container/heap with the pair to merge first on top.
type candidates struct {
	all []candidate
	l   *trainer
}

func (c *candidates) Len() int      { return len(c.all) }
func (c *candidates) Swap(i, j int) { c.all[i], c.all[j] = c.all[j], c.all[i] }

// Push is heap.Interface's.
func (c *candidates) Push(x any) { c.all = append(c.all, x.(candidate)) }

// Pop is heap.Interface's.
func (c *candidates) Pop() any {
	last := c.all[len(c.all)-1]
	c.all = c.all[:len(c.all)-1]
	return last
}

// Less orders pairs as Train promises: by count, then by the bytes of the left
// part, then by those of the right one, each time the greater first.
func (c *candidates) Less(i, j int) bool {
	x, y := c.all[i], c.all[j]
	if x.count != y.count {
		return x.count > y.count
	}
	xl, xr := x.pair.parts()
	yl, yr := y.pair.parts()
	if xl != yl {
		return c.l.pieces[xl] > c.l.pieces[yl]
	}
	return c.l.pieces[xr] > c.l.pieces[yr]
}
