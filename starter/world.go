// Package starter makes the small world that the default run learns: people
// and animals with facts about them, instructions about those facts,
// documents as rude and as unhelpful as the internet's, demonstrations by
// people who differ, a judge who knows the truth, and labellers who differ
// and err. Everything it makes is simulated and says so.
//
// A world is a function of its seed. An instruction is one sentence:
//
//	Where does Anna live?            asked of a person's attribute
//	Is it true that Ben has a cat?   yes or no
//	Which is bigger, the fox or the cow?
//
// and what answers it is one sentence too ("Anna lives in Oakton."), around
// which people put courtesies, insults and filler.
//
// Documents, one text each, lines ended by "\n":
//
//	28 %  facts         sentences about one subject, in one line
//	26 %  worksheets    3 to 6 instructions, a line each, unanswered
//	36 %  answers       instruction, answer, instruction, answer …; 70 % open with a statement
//	10 %  gossip        facts with insults
//
// Since a bare instruction at the start of a document is mostly followed by
// another instruction, a model of these documents answers an instruction with
// an instruction: that is what alignment has to mend.
//
// What is held out: subjects are split 60/20/20 into those of demonstrations,
// those added for rankings and PPO, and those only tested; the last wording
// of each kind of instruction is in no demonstration and no training prompt.
// Test prompts, tagged "subjects" and "wordings", are combinations of subject
// and instruction that no training text holds (see Overlap), though the facts
// about every subject are stated in documents.
package starter

import (
	"fmt"
	"slices"

	"github.com/trimtab/trimtab/draw"
)

// Sizes of a world.
const (
	PeopleCount  = 24
	AnimalsCount = 16
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
	seed          uint64
	people        []string
	animals       []string
	facts         map[string]string      // subject/attribute -> value
	size          map[string]int         // animal -> place in the order of sizes, larger is bigger
	opposite      map[string]string      // word -> its opposite
	oppositeWords []string               // of counter, sorted
	parts         map[string]subjectPart // of every subject

	instructions    []instruction
	index           map[string]int         // text -> instructions
	pools           [poolCount]poolIndices // which of instructions may be used where
	strippedPhrases []phrase               // what the judge takes off an answer
}

// New makes the world of a seed.
func New(seed uint64) *World {
	w := &World{seed: seed, facts: map[string]string{}, size: map[string]int{}, opposite: map[string]string{},
		parts: map[string]subjectPart{}}
	w.people = sampleDistinct(w.stream("people"), names, PeopleCount)
	w.animals = sampleDistinct(w.stream("animals"), animals, AnimalsCount)
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

// Seed of the world.
func (w *World) Seed() uint64 { return w.seed }

// stream is the one stream of a named purpose, source a family of them.
func (w *World) stream(purpose string) *draw.Stream { return w.source(purpose).At(0) }
func (w *World) source(purpose string) draw.Source  { return draw.New(w.seed, "starter", purpose) }

func (w *World) addFacts(s *draw.Stream, subjects []string, attributes []attribute) {
	for _, n := range subjects {
		for _, a := range attributes {
			w.facts[n+"/"+a.name] = draw.Pick(s, a.values)
		}
	}
}

// fact is the value of attribute a of subject n.
func (w *World) fact(n string, a *attribute) string { return w.facts[n+"/"+a.name] }

// split gives 60 % of subjects to demonstrations, 20 % to rankings and PPO, 20 % to tests.
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

// bigger orders two animals by size.
func (w *World) bigger(x, y string) (string, string) {
	if w.size[x] > w.size[y] {
		return x, y
	}
	return y, x
}

// sampleDistinct is n different elements of list in a drawn order.
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
