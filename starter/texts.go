package starter

import (
	"fmt"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
)

// documentShare is the share of each kind of document, in percent, in the order
// of the package comment.
var documentShare = []float64{28, 26, 36, 10}

// openingStatementShare is the share of question-and-answer documents that open
// with a statement.
const openingStatementShare = .7

// Documents returns the first of the world's endless documents for pretraining
// that have so many words together. A document has about 31 words; a byte-level
// BPE of 1,024 ids makes about 1⅓ tokens of a word.
func (w *World) Documents(words int) []trimtab.Text {
	src := w.source("documents")
	var texts []trimtab.Text
	for n := 0; n < words; {
		body := w.document(src.At(uint64(len(texts))))
		texts = append(texts, trimtab.Text{Body: body})
		n += len(strings.Fields(body))
	}
	return texts
}

// document draws one document.
func (w *World) document(s *draw.Stream) string {
	switch s.Weighted(documentShare) {
	case 0:
		return strings.Join(w.factSheet(s), " ")
	case 1:
		return strings.Join(w.worksheet(s), "\n")
	case 2:
		return strings.Join(w.answers(s), "\n")
	}
	lines := w.about(s, 2+s.IntN(3))
	for i := range lines {
		lines[i] = gossipStyle.decorate(s, lines[i])
	}
	return strings.Join(lines, " ")
}

// factSheet returns 3 to 6 facts, mostly about one subject.
func (w *World) factSheet(s *draw.Stream) []string {
	n := 3 + s.IntN(4)
	if s.Bool(.8) {
		return w.about(s, n)
	}
	lines := make([]string, n)
	for i := range lines {
		lines[i] = w.anyFact(s)
	}
	return lines
}

// about returns up to n different facts about one subject.
func (w *World) about(s *draw.Stream, n int) []string {
	attributes := animalAttributes
	var subject string
	if s.Bool(.7) {
		attributes, subject = personAttributes, draw.Pick(s, w.people)
	} else {
		subject = draw.Pick(s, w.animals)
	}
	var lines []string
	for _, i := range s.Perm(len(attributes))[:min(n, len(attributes))] {
		lines = append(lines, w.statement(s, subject, &attributes[i], false))
	}
	return lines
}

// anyFact returns one fact about anything.
func (w *World) anyFact(s *draw.Stream) string {
	switch u := s.Float64(); {
	case u < .65:
		return w.statement(s, draw.Pick(s, w.people), &personAttributes[s.IntN(len(personAttributes))], false)
	case u < .86:
		return w.statement(s, draw.Pick(s, w.animals), &animalAttributes[s.IntN(len(animalAttributes))], false)
	case u < .91:
		n := draw.Pick(s, jobs)
		return fill(jobAnswer, n, jobDescriptions[n])
	case u < .95:
		n := draw.Pick(s, w.oppositeWords)
		return fill(oppositeAnswer, n, w.opposite[n])
	}
	p := s.Perm(len(w.animals))
	big, small := w.bigger(w.animals[p[0]], w.animals[p[1]])
	return fill(compareAnswers[1], big, small)
}

// worksheet returns 3 to 6 instructions without answers, mostly related to the
// first.
func (w *World) worksheet(s *draw.Stream) []string {
	first := w.drawInstruction(s, inDocuments)
	lines := []string{first.text}
	for range 2 + s.IntN(4) {
		next := w.drawInstruction(s, inDocuments)
		for tries := 0; tries < 30 && !s.Bool(.3) && next.kind != first.kind && next.subject != first.subject; tries++ {
			next = w.drawInstruction(s, inDocuments)
		}
		lines = append(lines, next.text)
	}
	return lines
}

// answers returns 1 to 4 instructions, each with an answer in the next line.
func (w *World) answers(s *draw.Stream) []string {
	var lines []string
	if s.Bool(openingStatementShare) {
		opening := w.anyFact(s)
		if s.Bool(.5) {
			opening += " " + w.anyFact(s)
		}
		lines = append(lines, opening)
	}
	for range 1 + s.IntN(4) {
		in := w.drawInstruction(s, inDocuments)
		lines = append(lines, in.text, answerStyle.decorate(s, w.answer(s, in, s.Bool(answerStyle.wrong))))
	}
	return lines
}

// The demonstrators of a world: their number, and the share of their answers
// that are wrong.
const (
	demonstratorCount     = 6
	demonstratorErrorRate = .03
)

// Demonstrations returns the first n answers of six demonstrators, who differ
// in courtesy, in padding and in how often they are rude.
func (w *World) Demonstrations(n int) []trimtab.Demonstration {
	people := make([]style, demonstratorCount)
	s := w.stream("demonstrators")
	for i := range people {
		people[i] = style{courteous: .1 + float64(.6*s.Float64()), fills: .2 + float64(.5*s.Float64()),
			rude: float64(.12 * s.Float64()), wrong: demonstratorErrorRate}
	}
	src := w.source("demonstrations")
	out := make([]trimtab.Demonstration, n)
	for i := range out {
		s := src.At(uint64(i))
		who := s.IntN(len(people))
		in := w.drawInstruction(s, inDemonstrations)
		out[i] = trimtab.Demonstration{
			Prompt:       in.text,
			Response:     people[who].decorate(s, w.answer(s, in, s.Bool(people[who].wrong))),
			Demonstrator: fmt.Sprintf("demonstrator-%d", who+1), Split: trimtab.SplitTrain,
		}
	}
	return out
}

// The tags of test prompts.
const (
	// TagSubjects marks demonstrated wordings about subjects that are not
	// demonstrated.
	TagSubjects = "subjects"
	// TagWordings marks demonstrated subjects in wordings that are not
	// demonstrated.
	TagWordings = "wordings"
)

// Prompts returns up to n different prompts to train on, for rankings and for
// PPO. A smaller n gives the beginning of what a larger one gives.
func (w *World) Prompts(n int) []trimtab.Prompt {
	return toPrompts(w.drawDistinct(w.stream("prompts"), inTraining, n), trimtab.SplitTrain, "")
}

// TestPrompts returns up to n different prompts of each tag, those of
// TagSubjects first. No training text contains any of them.
func (w *World) TestPrompts(n int) []trimtab.Prompt {
	return append(
		toPrompts(w.drawDistinct(w.stream(TagSubjects), inSubjects, n), trimtab.SplitTest, TagSubjects),
		toPrompts(w.drawDistinct(w.stream(TagWordings), inWordings, n), trimtab.SplitTest, TagWordings)...)
}

// toPrompts returns instructions as prompts of a split and tag.
func toPrompts(ins []*instruction, split, tag string) []trimtab.Prompt {
	out := make([]trimtab.Prompt, len(ins))
	for i, in := range ins {
		out[i] = trimtab.Prompt{Text: in.text, Split: split, Tag: tag}
	}
	return out
}

// Overlap counts the test prompts that occur verbatim anywhere in a training
// text. It is 0 for the texts of one world, and evaluations report it.
func Overlap(test []trimtab.Prompt, texts []trimtab.Text, demos []trimtab.Demonstration, prompts []trimtab.Prompt) int {
	var all strings.Builder
	for _, t := range texts {
		all.WriteString(t.Body + "\x00")
	}
	for _, d := range demos {
		all.WriteString(d.Prompt + "\x00" + d.Response + "\x00")
	}
	for _, p := range prompts {
		all.WriteString(p.Text + "\x00")
	}
	n := 0
	for _, p := range test {
		if strings.Contains(all.String(), p.Text) {
			n++
		}
	}
	return n
}
