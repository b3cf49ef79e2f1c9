package tokenizer

import (
	"container/heap"
	"fmt"
	"maps"
	"slices"
)

// minVocab is the smallest vocabulary: the bytes and the special tokens.
const minVocab = 256 + 2

// maxTrainingWord is the longest word that is learned from in one piece, in
// bytes; longer ones are cut, so that learning stays linear in the text.
const maxTrainingWord = 256

// Train learns a vocabulary of exactly vocab ids (bytes, merges and special
// tokens together) from texts. Each merge is the most frequent pair of
// neighbours within the words of the texts; among equally frequent ones, the
// pair whose bytes are lexicographically greatest, left part first. The order
// of texts changes nothing. It fails if vocab is less than 258, or if the
// texts hold too few different words for so many pieces.
func Train(texts []string, vocab int) (*Tokenizer, error) {
	if vocab < minVocab {
		return nil, fmt.Errorf("a vocabulary of %d is too small: the bytes and the special tokens alone are %d", vocab,
			minVocab)
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

// trainer holds the words of the texts as ids, and for each pair how often it
// occurs and in which words.
type trainer struct {
	words     []trainingWord
	pieces    []string
	ids       map[string]int32 // by piece
	merges    []merge
	learned   map[pair]merge
	count     map[pair]int
	wordsWith map[pair][]int32 // indices of words; may name one twice, or one that has the pair no more
	queue     candidates       // holds every pair with a count at least as high as its true one
}

type trainingWord struct {
	ids   []int32
	count int
}

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

// add counts the pairs of a word in or out (sign), noting the word for the
// pairs that note accepts.
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

// step learns one merge; false means that no pair is left. A pair that spells
// a piece that is already there leads to that piece and adds none; one that
// has come back through such a piece keeps the merge it has.
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

// popBest takes the pair to merge from the queue.
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

// applyMerge merges p in every word that has it and brings the counts up to date.
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

func containsPair(ids []int32, m merge) bool {
	for i := range len(ids) - 1 {
		if ids[i] == m.left && ids[i+1] == m.right {
			return true
		}
	}
	return false
}

// mergePair merges in place, from left to right.
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

type candidate struct {
	pair  pair
	count int
}

// candidates is a heap, the pair to merge first on top.
type candidates struct {
	all []candidate
	l   *trainer
}

func (c *candidates) Len() int      { return len(c.all) }
func (c *candidates) Swap(i, j int) { c.all[i], c.all[j] = c.all[j], c.all[i] }
func (c *candidates) Push(x any)    { c.all = append(c.all, x.(candidate)) }
func (c *candidates) Pop() any {
	last := c.all[len(c.all)-1]
	c.all = c.all[:len(c.all)-1]
	return last
}

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
