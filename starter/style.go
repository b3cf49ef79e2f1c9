package starter

import (
	"strings"

	"github.com/trimtab/trimtab/draw"
)

// answer returns a plain answer to in. A wrong one has a value drawn at random,
// which now and then is the right one.
func (w *World) answer(s *draw.Stream, in *instruction, wrong bool) string {
	switch in.kind {
	case askPerson, askAnimal:
		return w.statement(s, in.subject, in.attr, wrong)
	case askYes, askNo:
		v := w.fact(in.subject, in.attr)
		if wrong {
			v = draw.Pick(s, in.attr.values)
		}
		return yesOrNo(v == in.other) + fill(in.attr.statements[0], in.subject, v)
	case askCompare:
		big, small := w.bigger(in.subject, in.other)
		if wrong {
			big, small = small, big
		}
		return fill(draw.Pick(s, compareAnswers), big, small)
	case askJob:
		does := in.subject
		if wrong {
			does = draw.Pick(s, jobs)
		}
		return fill(jobAnswer, in.subject, jobDescriptions[does])
	case askOpposite:
		v := w.opposite[in.subject]
		if wrong {
			v = draw.Pick(s, w.oppositeWords)
		}
		return fill(oppositeAnswer, in.subject, v)
	case askGreet:
		return fill(draw.Pick(s, greetings), in.subject, "")
	}
	return w.statement(s, in.subject, &personAttributes[s.IntN(len(personAttributes))], wrong)
}

// statement states attribute a of subject n in one of its wordings.
func (w *World) statement(s *draw.Stream, n string, a *attribute, wrong bool) string {
	v := w.fact(n, a)
	if wrong {
		v = draw.Pick(s, a.values)
	}
	return fill(draw.Pick(s, a.statements), n, v)
}

// yesOrNo returns how the answer to a yes-or-no question begins.
func yesOrNo(yes bool) string {
	if yes {
		return "Yes, "
	}
	return "No, "
}

// plainWords returns the number of words of the plainest true answer.
func (w *World) plainWords(in instruction) int {
	var answer string
	switch in.kind {
	case askPerson, askAnimal:
		answer = in.attr.statements[0]
	case askYes, askNo:
		answer = "Yes, " + in.attr.statements[0]
	case askCompare:
		answer = compareAnswers[0]
	case askJob:
		answer = fill(jobAnswer, in.subject, jobDescriptions[in.subject])
	case askOpposite:
		answer = oppositeAnswer
	case askGreet:
		answer = greetings[0]
	default:
		answer = personAttributes[0].statements[0]
	}
	return len(strings.Fields(answer))
}

// style is how often a writer is courteous, rude, long-winded and wrong.
type style struct{ courteous, rude, fills, wrong float64 }

var (
	answerStyle = style{courteous: .2, rude: .4, fills: .25, wrong: .15}
	gossipStyle = style{courteous: .1, rude: .6, fills: .3}
)

// decorate puts courtesies, insults and filler around a plain answer.
func (m style) decorate(s *draw.Stream, plain string) string {
	parts := []string{plain}
	switch u := s.Float64(); {
	case u < m.rude:
		parts = addAround(s, parts, rudeBefore, rudeAfter, .5, .7)
	case u < m.rude+m.courteous:
		parts = addAround(s, parts, courtesyBefore, courtesyAfter, .6, .5)
	}
	for p, i := m.fills, s.IntN(len(fillers)); s.Bool(p); p, i = p*.6, i+1 {
		parts = append(parts, fillers[i%len(fillers)])
	}
	return strings.Join(parts, " ")
}

// addAround adds a phrase in front with probability before, and one behind when
// the same draw is above 1-after or nothing was added in front, so that at
// least one is added.
func addAround(s *draw.Stream, parts, pre, post []string, before, after float64) []string {
	u := s.Float64()
	if u < before {
		parts = append([]string{draw.Pick(s, pre)}, parts...)
	}
	if u >= 1-after || u >= before {
		parts = append(parts, draw.Pick(s, post))
	}
	return parts
}
