package starter

import (
	"math"

	"github.com/trimtab/trimtab/draw"
)

// instructionKind is a kind of instruction. Questions whose true answer is yes
// and those whose answer is no are two kinds, so that both are asked equally
// often: otherwise "no" would be the safe guess.
type instructionKind int

const (
	askPerson instructionKind = iota
	askAnimal
	askYes
	askNo
	askCompare
	askJob
	askOpposite
	askGreet
	askAbout
	kindCount
)

// kindShare is how often a kind is asked, in percent.
var kindShare = [kindCount]float64{36, 18, 5, 5, 8, 8, 8, 6, 6}

// instruction is one sentence that asks for one sentence.
type instruction struct {
	kind    instructionKind
	subject string
	// other is the value in a yes-or-no question, or the second animal of a
	// comparison.
	other string
	// attr is the attribute asked for, if there is one.
	attr *attribute
	text string
	// plain is the number of words of a plain answer.
	plain int
}

// instructionPool is a place where instructions are used.
type instructionPool int

const (
	inDocuments instructionPool = iota
	inDemonstrations
	inTraining // prompts for rankings and PPO
	inSubjects // test prompts
	inWordings // test prompts
	poolCount
)

// poolIndices are the indices of a pool's instructions, by kind.
type poolIndices [kindCount][]int

// The shares of the combinations of subject and instruction that are held out
// of documents as well: of subjects that are only tested, and, for the other
// subjects, of last wordings.
const (
	heldOutSubjectShare = 2. / 3
	heldOutWordingShare = 1. / 2
)

// enumerateInstructions lists every instruction of the world and decides where
// each may be used.
func (w *World) enumerateInstructions() {
	w.index = map[string]int{}
	h := holdout{w: w, stream: w.stream("held out"), heldOut: map[string]bool{}}
	for _, n := range w.people {
		for i := range personAttributes {
			a := &personAttributes[i]
			h.add(instruction{kind: askPerson, subject: n, attr: a}, a.questions, n+"/"+a.name)
			for _, v := range a.values {
				k := askNo
				if w.fact(n, a) == v {
					k = askYes
				}
				h.add(instruction{kind: k, subject: n, other: v, attr: a}, a.yesNo, n+"/"+a.name)
			}
		}
		h.add(instruction{kind: askGreet, subject: n}, greetWordings, n+"/greet")
		h.add(instruction{kind: askAbout, subject: n}, aboutWordings, n+"/about")
	}
	for _, n := range w.animals {
		for i := range animalAttributes {
			a := &animalAttributes[i]
			h.add(instruction{kind: askAnimal, subject: n, attr: a}, a.questions, n+"/"+a.name)
		}
		for _, o := range w.animals {
			if o != n {
				h.add(instruction{kind: askCompare, subject: n, other: o}, compareWordings, min(n, o)+"/"+max(n, o))
			}
		}
	}
	for _, n := range jobs {
		h.add(instruction{kind: askJob, subject: n}, jobWordings, n)
	}
	for _, n := range w.oppositeWords {
		h.add(instruction{kind: askOpposite, subject: n}, oppositeWordings, n)
	}
}

// holdout decides, combination by combination, what training texts never ask.
type holdout struct {
	w      *World
	stream *draw.Stream
	// heldOut is the decision by combination. All wordings of a combination
	// share it.
	heldOut map[string]bool
}

// add puts the wordings of in into the pools where they may be used.
func (h *holdout) add(in instruction, wordings []string, combination string) {
	w := h.w
	of := w.parts[in.subject]
	if in.kind == askCompare {
		of = max(of, w.parts[in.other])
	}
	held, seen := h.heldOut[combination]
	if !seen {
		p := heldOutWordingShare
		if of == tested {
			p = heldOutSubjectShare
		}
		held = h.stream.Bool(p)
		h.heldOut[combination] = held
	}
	in.plain = w.plainWords(in)
	for i, wording := range wordings {
		in.text = fill(wording, in.subject, in.other)
		at := len(w.instructions)
		w.instructions = append(w.instructions, in)
		w.index[in.text] = at
		for _, p := range allowedPools(of, held, i == len(wordings)-1) {
			w.pools[p][in.kind] = append(w.pools[p][in.kind], at)
		}
	}
}

// allowedPools returns where an instruction about a subject of a part may be
// used.
func allowedPools(of subjectPart, held, lastWording bool) []instructionPool {
	switch {
	case held && of == tested && !lastWording:
		return []instructionPool{inSubjects}
	case held && of == tested:
		return nil // new subject and new wording: neither test could separate the two causes
	case held && lastWording:
		return []instructionPool{inWordings}
	case of == tested || lastWording:
		return []instructionPool{inDocuments}
	case of == added:
		return []instructionPool{inDocuments, inTraining}
	}
	return []instructionPool{inDocuments, inTraining, inDemonstrations}
}

// drawInstruction draws an instruction of a pool: first its kind, by the shares
// of the kinds that the pool has, then one of that kind.
func (w *World) drawInstruction(s *draw.Stream, from instructionPool) *instruction {
	shares := kindShare
	for k := range shares {
		if len(w.pools[from][k]) == 0 {
			shares[k] = 0
		}
	}
	k := s.Weighted(shares[:])
	return &w.instructions[draw.Pick(s, w.pools[from][k])]
}

// drawDistinct draws up to n distinct instructions of a pool. When a kind is
// used up, the others continue by their shares.
func (w *World) drawDistinct(s *draw.Stream, from instructionPool, n int) []*instruction {
	left := w.pools[from]
	for k := range left {
		left[k] = append([]int(nil), left[k]...)
		draw.Shuffle(s, left[k])
	}
	var out []*instruction
	for len(out) < n {
		shares, sum := kindShare, 0.
		for k := range shares {
			if len(left[k]) == 0 {
				shares[k] = 0
			}
			sum = math.Max(sum, shares[k])
		}
		if sum == 0 {
			break
		}
		k := s.Weighted(shares[:])
		out = append(out, &w.instructions[left[k][0]])
		left[k] = left[k][1:]
	}
	return out
}
