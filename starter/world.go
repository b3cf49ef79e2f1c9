// Package starter makes the small world that the default recipe trains on:
// people and animals with facts about them, instructions about those facts,
// documents as rude and as unhelpful as the internet's, demonstrations by
// people who differ, a judge who knows the truth, and labellers who differ and
// make mistakes. Everything here is simulated, and is recorded as such.
//
// A world is a function of its seed. An instruction is one sentence:
//
//	Where does Anna live?            an attribute of a person
//	Is it true that Ben has a cat?   yes or no
//	Which is bigger, the fox or the cow?
//
// and its answer is one sentence too ("Anna lives in Oakton."), around which
// people put courtesies, insults and filler.
//
// Documents, one text each, lines ended by "\n":
//
//	28 %  facts         sentences about one subject, in one line
//	26 %  worksheets    3 to 6 instructions, a line each, unanswered
//	36 %  answers       instruction, answer, instruction, answer …; 70 % open
//	                    with a statement
//	10 %  gossip        facts with insults
//
// Since a bare instruction at the start of a document is mostly followed by
// another instruction, a model of these documents answers an instruction with
// an instruction. That is what alignment has to correct.
//
// Held out are combinations of subject and instruction. Subjects are split
// 60/20/20 into those of demonstrations, those added for rankings and PPO, and
// those that are only tested; the last wording of each kind of instruction is
// in no demonstration and no training prompt. Test prompts, tagged "subjects"
// and "wordings", are combinations that no training text holds (see Overlap),
// though the facts about every subject are stated in documents.
//
// All texts are part of recorded datasets: a change to a list, a share or a
// draw changes the bytes of every world.
package starter

import (
	"fmt"
	"slices"

	"github.com/trimtab/trimtab/draw"
)

// The size of a world.
const (
	peopleCount = 24
	animalCount = 16
)

// subjectPart says in which texts a subject may be asked about.
type subjectPart int

const (
	demonstrated subjectPart = iota // demonstrations and everything below
	added                           // rankings and PPO
	tested                          // tests; asked about in documents only where not held out
)

// World is an invented world. It is immutable and safe for concurrent use.
type World struct {
	seed    uint64
	people  []string
	animals []string
	// facts maps "subject/attribute" to a value.
	facts map[string]string
	// size orders the animals: the larger number is the bigger animal.
	size map[string]int
	// opposite maps a word to its opposite; oppositeWords are its keys, sorted.
	opposite      map[string]string
	oppositeWords []string // of counter, sorted
	// parts is the part of every subject: people, animals, jobs and words.
	parts map[string]subjectPart

	instructions []instruction
	// index finds an instruction by its text.
	index map[string]int
	// pools lists, by place and kind, the instructions that may be used there.
	pools [poolCount]poolIndices
	// strippedPhrases are what the judge removes around an answer.
	strippedPhrases []phrase
}

// New makes the world of a seed. Each part draws from a stream of its own,
// named for its purpose, so that a change to one part leaves the others as they
// are.
func New(seed uint64) *World {
	w := &World{seed: seed, facts: map[string]string{}, size: map[string]int{}, opposite: map[string]string{},
		parts: map[string]subjectPart{}}
	w.people = sampleDistinct(w.stream("people"), names, peopleCount)
	w.animals = sampleDistinct(w.stream("animals"), animals, animalCount)
	w.addFacts(w.stream("facts of people"), w.people, personAttributes)
	w.addFacts(w.stream("facts of animals"), w.animals, animalAttributes)
	for place, i := range w.stream("sizes").Perm(len(w.animals)) {
		w.size[w.animals[i]] = place
	}
	for _, pair := range opposites {
		w.opposite[pair[0]], w.opposite[pair[1]] = pair[1], pair[0]
		w.oppositeWords = append(w.oppositeWords, pair[0], pair[1])
	}
	slices.Sort(w.oppositeWords)
	for _, subjects := range [][]string{w.people, w.animals, jobs, w.oppositeWords} {
		w.split(subjects)
	}
	w.enumerateInstructions()
	w.strippedPhrases = phrases()
	return w
}

// Seed returns the seed that the world was made from.
func (w *World) Seed() uint64 { return w.seed }

// stream returns the one stream of a purpose; source returns a family of them.
func (w *World) stream(purpose string) *draw.Stream { return w.source(purpose).At(0) }
func (w *World) source(purpose string) draw.Source  { return draw.New(w.seed, "starter", purpose) }

// addFacts draws a value for each attribute of each subject.
func (w *World) addFacts(s *draw.Stream, subjects []string, attributes []attribute) {
	for _, n := range subjects {
		for _, a := range attributes {
			w.facts[n+"/"+a.name] = draw.Pick(s, a.values)
		}
	}
}

// fact returns the value of attribute a of subject n.
func (w *World) fact(n string, a *attribute) string { return w.facts[n+"/"+a.name] }

// split assigns subjects to the parts: 60 % to demonstrations, 20 % to rankings
// and PPO, 20 % to tests.
func (w *World) split(subjects []string) {
	order := w.source("split " + subjects[0]).At(0).Perm(len(subjects))
	for place, i := range order {
		switch {
		case place < len(subjects)*6/10:
			w.parts[subjects[i]] = demonstrated
		case place < len(subjects)*8/10:
			w.parts[subjects[i]] = added
		default:
			w.parts[subjects[i]] = tested
		}
	}
}

// bigger returns two animals, the bigger one first.
func (w *World) bigger(x, y string) (string, string) {
	if w.size[x] > w.size[y] {
		return x, y
	}
	return y, x
}

// sampleDistinct returns n distinct elements of list in a drawn order.
func sampleDistinct(s *draw.Stream, list []string, n int) []string {
	if n > len(list) {
		panic(fmt.Sprintf("starter: %d of a list of %d", n, len(list)))
	}
	some := make([]string, n)
	for i, j := range s.Perm(len(list))[:n] {
		some[i] = list[j]
	}
	return some
}
