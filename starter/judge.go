package starter

import (
	"slices"
	"strings"
)

// Verdict is what the gold judge finds in one response. All values are in 0 …
// 1. The JSON form is part of evaluation reports.
type Verdict struct {
	// Followed is 1 if the answer is of the kind that was asked for.
	Followed float64 `json:"followed"`
	// True is 1 if the answer followed and is true in this world.
	True float64 `json:"true"`
	// Polite is 0 with an insult, 1 with a courtesy and ½ with neither.
	Polite float64 `json:"polite"`
	// Concise is 1 for a short answer that ended by itself, falling to 0 with
	// its length.
	Concise float64 `json:"concise"`
	// Gold is .30 Followed + .30 True + .25 Polite + .15 Concise.
	Gold float64 `json:"gold"`
}

// The weights of the qualities in Gold. They sum to 1.
const (
	goldFollowed = .30
	goldTrue     = .30
	goldPolite   = .25
	goldConcise  = .15
)

// An answer is fully concise up to spareWords more words than the plainest
// answer has, and not at all from tooManyWords more. The unit is words, not
// tokens, so that the judge does not depend on a tokenizer.
const (
	spareWords   = 4
	tooManyWords = 15
)

// maxJudgedBytes is how much of a response the judge reads. No proper answer is
// a tenth as long.
const maxJudgedBytes = 4096

// Judge scores the response to a prompt of this world; ended says whether it
// reached its end-of-text token. It reports false for a prompt that is not one
// of the world's instructions. A response may be any bytes.
//
// Only the first line of a response is its answer, and nothing but courtesies,
// insults and filler may surround the one sentence of an answer. Each phrase
// counts once, so that "Gladly. Gladly." does not become an answer. An empty
// response gets 0 in everything.
func (w *World) Judge(prompt string, response []byte, ended bool) (Verdict, bool) {
	at, ok := w.index[prompt]
	if !ok {
		return Verdict{}, false
	}
	in := &w.instructions[at]
	whole := string(response[:min(len(response), maxJudgedBytes)])
	words := len(strings.Fields(whole))
	if words == 0 {
		return Verdict{}, true
	}
	line, _, _ := strings.Cut(whole, "\n")
	plain, courteous, rude := w.stripPhrases(line)
	v := Verdict{Polite: politeness(courteous, rude)}
	if followed, isTrue := w.matchAnswer(in, plain); followed {
		v.Followed = 1
		if isTrue {
			v.True = 1
		}
	}
	if ended {
		over := words - in.plain
		v.Concise = clamp01(float64(tooManyWords-over) / (tooManyWords - spareWords))
	}
	// The conversions keep the compiler from fusing a product with the sum, which
	// some processors would round differently.
	v.Gold = float64(goldFollowed*v.Followed) + float64(goldTrue*v.True) +
		float64(goldPolite*v.Polite) + float64(goldConcise*v.Concise)
	return v, true
}

// politeness scores the tone: an insult outweighs a courtesy.
func politeness(courteous, rude bool) float64 {
	switch {
	case rude:
		return 0
	case courteous:
		return 1
	}
	return .5
}

// clamp01 limits x to 0 … 1.
func clamp01(x float64) float64 { return max(0, min(1, x)) }

// phrase is a known courtesy, insult or filler.
type phrase struct {
	text            string
	courteous, rude bool
}

// phrases returns all that the judge removes around an answer.
func phrases() []phrase {
	var all []phrase
	for _, p := range slices.Concat(rudeBefore, rudeAfter) {
		all = append(all, phrase{text: p, rude: true})
	}
	for _, p := range slices.Concat(courtesyBefore, courtesyAfter) {
		all = append(all, phrase{text: p, courteous: true})
	}
	for _, p := range fillers {
		all = append(all, phrase{text: p})
	}
	return all
}

// stripPhrases removes the first occurrence of each known phrase from a line
// and reports the tone.
func (w *World) stripPhrases(line string) (plain string, courteous, rude bool) {
	line = strings.Join(strings.Fields(line), " ")
	for _, p := range w.strippedPhrases {
		before, after, found := strings.Cut(line, p.text)
		if !found {
			continue
		}
		line = before + " " + after
		courteous = courteous || p.courteous
		rude = rude || p.rude
	}
	for _, word := range rudeWords {
		rude = rude || strings.Contains(strings.ToLower(line), word)
	}
	return strings.Join(strings.Fields(line), " "), courteous, rude
}

// matchAnswer reports whether plain is an answer to in, and whether it is true.
func (w *World) matchAnswer(in *instruction, plain string) (followed, isTrue bool) {
	switch in.kind {
	case askPerson, askAnimal:
		return w.matchStatement(in.subject, in.attr, plain)
	case askYes, askNo:
		rest, yes := strings.CutPrefix(plain, "Yes, ")
		if !yes {
			var no bool
			if rest, no = strings.CutPrefix(plain, "No, "); !no {
				return false, false
			}
		}
		followed, isTrue = w.matchStatement(in.subject, in.attr, rest)
		return followed, isTrue && yes == (in.kind == askYes)
	case askCompare:
		return w.matchCompare(in, plain)
	case askJob:
		v, ok := extractValue(jobAnswer, in.subject, plain)
		known := slices.ContainsFunc(jobs, func(j string) bool { return jobDescriptions[j] == v })
		return ok && known, ok && v == jobDescriptions[in.subject]
	case askOpposite:
		v, ok := extractValue(oppositeAnswer, in.subject, plain)
		_, known := w.opposite[v]
		return ok && known, ok && v == w.opposite[in.subject]
	case askGreet:
		return w.matchGreeting(in, plain)
	}
	for i := range personAttributes {
		if followed, isTrue = w.matchStatement(in.subject, &personAttributes[i], plain); followed {
			return followed, isTrue
		}
	}
	return false, false
}

// matchStatement reports whether plain states attribute a of subject n, in any
// of its wordings, and whether the value is the true one.
func (w *World) matchStatement(n string, a *attribute, plain string) (followed, isTrue bool) {
	for _, template := range a.statements {
		if v, ok := extractValue(template, n, plain); ok && slices.Contains(a.values, v) {
			return true, v == w.fact(n, a)
		}
	}
	return false, false
}

// matchCompare reports whether plain compares the two animals, and rightly.
func (w *World) matchCompare(in *instruction, plain string) (followed, isTrue bool) {
	big, _ := w.bigger(in.subject, in.other)
	for _, pair := range [2][2]string{{in.subject, in.other}, {in.other, in.subject}} {
		for _, template := range compareAnswers {
			if plain == fill(template, pair[0], pair[1]) {
				return true, pair[0] == big
			}
		}
	}
	return false, false
}

// matchGreeting reports whether plain greets somebody. A greeting of somebody
// else followed the instruction and is not true.
func (w *World) matchGreeting(in *instruction, plain string) (followed, isTrue bool) {
	for _, template := range greetings {
		before, after, _ := strings.Cut(template, "{n}")
		who, ok := trimAffixes(plain, before, after)
		if ok && slices.Contains(w.people, who) {
			return true, who == in.subject
		}
	}
	return false, false
}

// extractValue returns what stands at {v} if plain is the template about n.
func extractValue(template, n, plain string) (string, bool) {
	before, after, _ := strings.Cut(fill(template, n, "{v}"), "{v}")
	return trimAffixes(plain, before, after)
}

// trimAffixes returns what stands between before and after.
func trimAffixes(s, before, after string) (string, bool) {
	s, ok := strings.CutPrefix(s, before)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, after)
}
