package dataset

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
)

// pairNames are what sets call the better and the worse of two responses.
var pairNames = [][2]string{{"chosen", "rejected"}, {"better", "worse"}, {"preferred", "dispreferred"},
	{"chosen_response", "rejected_response"}, {"response_j", "response_k"}}

// pairOf finds the columns of the better and the worse response. chosen or
// rejected alone is a record that lacks the other one; other names may mean something else.
func pairOf(f fields) (names [2]string, ok bool) {
	for i, names := range pairNames {
		if (f.has(names[0]) || f.has(names[1])) && (i == 0 || f.exists(names[0]) && f.exists(names[1])) {
			return names, true
		}
	}
	return names, false
}

// pairItem is the better response over the worse, after a prompt or after the beginning that both share.
func pairItem(r trimtab.Ranking, f fields, names [2]string) (trimtab.Ranking, error) {
	for _, name := range names {
		if !f.exists(name) {
			return r, f.missing(name)
		}
	}
	both := [2]any{f.byName[names[0]], f.byName[names[1]]}
	texts, err := answersTo(&r, f, names, both)
	r.Responses, r.Ranks = responsesOf(texts[:]...), []int{1, 2}
	return r, err
}

// answersTo are the texts of two responses, and the prompt before them: that
// of the record, or what both begin with.
func answersTo(r *trimtab.Ranking, f fields, names [2]string, both [2]any) (texts [2]string, err error) {
	if promptName(f) == "" {
		return afterCommon(r, names, both)
	}
	asking, err := promptTurns(f)
	if err != nil {
		return texts, err
	}
	var before [2]conversation
	for i, v := range both {
		if before[i], texts[i], err = after(asking, names[i], v); err != nil {
			return texts, err
		}
	}
	if !slices.EqualFunc(before[0].turns, before[1].turns, sameTurn) {
		return texts, faultf("leave the record out: a ranking compares answers to one and the same conversation",
			"%s and %s differ before their last answer", names[0], names[1])
	}
	r.Prompt, err = before[0].prompt()
	return texts, err
}

// after reads a response that may hold turns before its last answer: those of
// the prompt again, and more. It returns the whole conversation before that answer.
func after(asking conversation, name string, v any) (before conversation, text string, err error) {
	if s, ok := v.(string); ok {
		return asking, s, nil
	}
	c, err := turnsOf(name, v)
	if err != nil {
		return before, "", err
	}
	last := len(c.turns) - 1
	if c.turns[last].Role != Assistant {
		return before, "", faultf("end it with the answer of the assistant", "field %q does not end with a turn of the assistant", name)
	}
	before, err = joined(asking, c.turns[:last], name)
	return before, c.turns[last].Text, err
}

// joined is the prompt and the turns after it, which may begin with the prompt itself.
func joined(asking conversation, turns []Turn, name string) (conversation, error) {
	if len(turns) == 0 {
		return asking, nil
	}
	theirs, rest := instructions(turns)
	ours, question := instructions(asking.turns)
	switch {
	case len(rest) >= len(question) && slices.EqualFunc(rest[:len(question)], question, sameTurn):
		if len(theirs) > 0 && len(ours) > 0 && !slices.Equal(theirs, ours) {
			return conversation{}, faultf("leave one of them out", "the prompt and %s have different messages of the system", name)
		}
		if len(theirs) == 0 {
			theirs = ours
		}
		return conversation{turns: slices.Concat(theirs, question, rest[len(question):]), plain: asking.plain && len(rest) == 1}, nil
	case len(theirs) == 0 && rest[0].Role == Assistant:
		return conversation{turns: slices.Concat(asking.turns, rest)}, nil
	}
	return conversation{}, faultf("begin it with the prompt, or leave the prompt's column out with --map prompt="+NoColumn,
		"the turns of %s before its last answer do not begin with the prompt", name)
}

// sameTurn compares turns without the space around them, which a prompt of several turns does not keep.
func sameTurn(a, b Turn) bool {
	return a.Role == b.Role && strings.TrimSpace(a.Text) == strings.TrimSpace(b.Text)
}

// instructions are the messages of the system that turns begin with, and the rest.
func instructions(turns []Turn) (system, rest []Turn) {
	n := slices.IndexFunc(turns, func(t Turn) bool { return t.Role != System })
	if n < 0 {
		n = len(turns)
	}
	return turns[:n], turns[n:]
}

// afterCommon finds the prompt in what two responses both begin with: their
// turns, or, of plain strings, their words.
func afterCommon(r *trimtab.Ranking, names [2]string, both [2]any) (texts [2]string, err error) {
	c, cok := spokenTurns(both[0])
	j, jok := spokenTurns(both[1])
	if cok && jok {
		last := len(c) - 1
		if last < 1 || len(j) != len(c) || !slices.Equal(c[:last], j[:last]) || c[last].Role != Assistant || j[last].Role != Assistant {
			return texts, faultf("leave the record out: a ranking compares answers to one and the same conversation",
				"%s and %s differ before their last answer", names[0], names[1])
		}
		r.Prompt, err = conversation{turns: c[:last]}.prompt()
		return [2]string{c[last].Text, j[last].Text}, err
	}
	for i, v := range both {
		if texts[i], err = stringOf(names[i], v); err != nil {
			return texts, err
		}
	}
	at := commonWords(texts[0], texts[1])
	if r.Prompt = strings.TrimSpace(texts[0][:at]); r.Prompt == "" {
		return texts, faultf("add the column, or pass --map prompt=COLUMN",
			`field "prompt" is missing, and %s and %s have no beginning in common`, names[0], names[1])
	}
	return [2]string{strings.TrimLeft(texts[0][at:], " \n"), strings.TrimLeft(texts[1][at:], " \n")}, nil
}

// spokenTurns reads messages or a marked transcript.
func spokenTurns(v any) ([]Turn, bool) {
	if s, ok := v.(string); ok {
		return ParseTranscript(s)
	}
	c, err := turnsOf("", v)
	return c.turns, err == nil
}

// two is a record's two responses, by the names of their columns.
type two struct {
	names  [2]string
	third  string // that there must not be
	suffix string // of the first: "0", "1" or "a"
}

// twos are the names that two responses may have: numbered or lettered.
var twos = func() (all []two) {
	for _, stem := range []string{"response", "answer", "output", "completion", "text", "summary", "conversation"} {
		for _, line := range []string{"_", ""} {
			for _, ends := range [][3]string{{"0", "1", "2"}, {"1", "2", "3"}, {"a", "b", "c"}} {
				name := func(i int) string { return stem + line + ends[i] }
				all = append(all, two{names: [2]string{name(0), name(1)}, third: name(2), suffix: ends[0]})
			}
		}
	}
	return all
}()

// twoOf finds two responses with numbered or lettered names; nil of none.
func twoOf(f fields) *two {
	for i := range twos {
		if f.exists(twos[i].names[0]) && f.exists(twos[i].names[1]) {
			return &twos[i]
		}
	}
	return nil
}

// verdicts are the columns that say which of two responses is better, the first that has something.
var verdicts = []string{"better_response_id", "winner", "preference", "preferred", "label", "choice", "vote"}

// twoItems reads two responses and the verdicts on them: one column, or a column for each annotator.
func twoItems(r trimtab.Ranking, f fields, of *two) ([]trimtab.Item, error) {
	if f.exists(of.third) {
		return nil, faultf(`write them as a list with ranks: {"prompt": …, "responses": [ … ], "ranks": [ … ]}`,
			"fields %q, %q and %q are more than two responses", of.names[0], of.names[1], of.third)
	}
	name := f.first(verdicts...)
	if of.suffix != "0" && name == "better_response_id" {
		name = f.first(verdicts[1:]...)
	}
	if name == "" {
		if strength := f.first("preference_strength", "overall_preference"); strength != "" {
			return strengthItem(r, f, of, strength)
		}
		if f.exists("winner_model_a") && f.exists("winner_model_b") {
			return oneHotItem(r, f, of)
		}
		if annotated := annotators(f); len(annotated) > 0 {
			return annotatorItems(r, f, of, annotated)
		}
		if name = selection(f); name == "" {
			return nil, faultf("add one of "+strings.Join(verdicts, ", ")+", or write the better response as chosen and the other one as rejected",
				"fields %q and %q are two responses, and no field says which is better (have: %s)", of.names[0], of.names[1], f.have())
		}
	}
	ranks, err := f.verdict(fmt.Sprintf("field %q", name), f.byName[name], of)
	if err != nil || ranks == nil {
		return nil, err
	}
	return twoRanked(r, f, of, ranks)
}

// twoRanked is the ranking of two responses.
func twoRanked(r trimtab.Ranking, f fields, of *two, ranks []int) ([]trimtab.Item, error) {
	texts, err := answersTo(&r, f, of.names, [2]any{f.byName[of.names[0]], f.byName[of.names[1]]})
	r.Responses, r.Ranks = responsesOf(texts[:]...), ranks
	return one(r, err)
}

// strengthItem reads how much better the second response is: -3 … 3.
func strengthItem(r trimtab.Ranking, f fields, of *two, name string) ([]trimtab.Item, error) {
	x, err := number(name, f.byName[name])
	switch {
	case err != nil || x == 0:
		return nil, err
	case x < 0:
		return twoRanked(r, f, of, []int{1, 2})
	}
	return twoRanked(r, f, of, []int{2, 1})
}

// oneHotItem reads the columns winner_model_a, winner_model_b and winner_tie,
// of which one is 1. Prompt and responses may be JSON lists of turns.
func oneHotItem(r trimtab.Ranking, f fields, of *two) ([]trimtab.Item, error) {
	var won [3]bool
	for i, name := range []string{"winner_model_a", "winner_model_b", "winner_tie"} {
		if i == 2 && !f.exists(name) {
			break
		}
		x, err := number(name, f.byName[name])
		if err != nil {
			return nil, err
		}
		if x != 0 && x != 1 {
			return nil, faultf("use 1 for the one that holds and 0 for the others", "field %q is %v", name, x)
		}
		won[i] = x == 1
	}
	switch won {
	case [3]bool{false, false, true}:
		return nil, nil
	case [3]bool{true, false, false}, [3]bool{false, true, false}:
	default:
		return nil, faultf("set one of the three to 1", "fields winner_model_a, winner_model_b and winner_tie do not name one winner")
	}
	names := []string{promptName(f), of.names[0], of.names[1]}
	for _, name := range names {
		if s, ok := f.byName[name].(string); ok && strings.HasPrefix(strings.TrimSpace(s), "[") {
			turn, err := onlyTurn(name, s)
			if err != nil {
				return nil, err
			}
			f.byName[name] = turn
		}
	}
	if won[0] {
		return twoRanked(r, f, of, []int{1, 2})
	}
	return twoRanked(r, f, of, []int{2, 1})
}

// onlyTurn is the one string of a JSON list; s itself if it is no such list.
func onlyTurn(name, s string) (string, error) {
	v, err := parseValue([]byte(s))
	list, ok := v.([]any)
	if err != nil || !ok {
		return s, nil
	}
	if len(list) != 1 {
		return "", faultf("leave the record out: a ranking compares answers to one and the same conversation", "field %q has %d turns", name, len(list))
	}
	return stringOf(name, list[0])
}

// annotators are the columns annotator1, annotator2 … that have something, in order of name.
func annotators(f fields) []string {
	var names []string
	for _, name := range f.names {
		if strings.HasPrefix(name, "annotator") && name != "annotator" && f.has(name) {
			names = append(names, name)
		}
	}
	return names
}

// annotatorItems is two responses and a vote in each of the columns annotator1, annotator2 …
func annotatorItems(r trimtab.Ranking, f fields, of *two, names []string) ([]trimtab.Item, error) {
	base, err := twoRanked(r, f, of, []int{1, 2})
	if err != nil {
		return nil, err
	}
	var items []trimtab.Item
	for _, name := range names {
		ranks, err := f.verdict(fmt.Sprintf("field %q", name), f.byName[name], of)
		if err != nil {
			return nil, err
		}
		if ranks != nil {
			one := base[0].(trimtab.Ranking)
			one.Ranks, one.Labeller = ranks, name
			items = append(items, one)
		}
	}
	return items, nil
}

// voteItems is two responses and people's votes for the first ("a1"), the second ("a2") or neither.
func voteItems(r trimtab.Ranking, f fields) ([]trimtab.Item, error) {
	var err error
	if r.Prompt, err = promptText(f); err != nil {
		return nil, err
	}
	texts, err := textList(f, "responses")
	if err != nil {
		return nil, err
	}
	if len(texts) != 2 {
		return nil, faultf("give ranks instead of votes", "votes need 2 responses, this record has %d", len(texts))
	}
	list, err := f.list("votes")
	if err != nil {
		return nil, err
	}
	r.Responses = responsesOf(texts...)
	var items []trimtab.Item
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, faultf(`write it as {"worker": …, "vote": …}`, "%s is %s, not an object", nth("vote", i), typeName(v))
		}
		vote := fieldsOf(m)
		ranks, err := f.verdict(nth("vote", i), vote.byName["vote"], &two{suffix: "1"})
		if err != nil {
			return nil, err
		}
		if ranks == nil {
			continue
		}
		if r.Labeller, err = labellerOf(vote); err != nil {
			return nil, err
		}
		r.Ranks = ranks
		items = append(items, r)
	}
	return items, nil
}

// The words of verdicts, beside the names of the two columns.
var (
	firstWords  = []string{"a", "a1", "first", "left", "model_a", "model a", "response_a", "assistant_a"}
	secondWords = []string{"b", "a2", "second", "right", "model_b", "model b", "response_b", "assistant_b"}
	tieWords    = []string{"tie", "equal", "draw", "same", "neither", "both", "tie (bothbad)", "bothbad", "both_bad", "tie (both bad)"}
)

const useNumbers = "use 1 for the first response, 2 for the second or 0 for a tie"

// verdict reads which of two responses is better: as ranks, or nil of a tie.
func (f fields) verdict(name string, v any, of *two) ([]int, error) {
	first, second := []int{1, 2}, []int{2, 1}
	word := ""
	switch v := v.(type) {
	case string:
		word = strings.ToLower(strings.TrimSpace(v))
	case json.Number:
		word = v.String()
	case []any: // what Label Studio writes into columns
		if m, ok := onlyObject(v); ok {
			return f.verdict(name, m["selected"], of)
		}
	}
	switch {
	case v == nil:
		return nil, faultf("give it a value, or leave the record out", "%s is missing or null", name)
	case word == "":
		return nil, faultf(useNumbers, "%s is %s, which is not known", name, quotedValue(v))
	case word == of.names[0] || slices.Contains(firstWords, word):
		return first, nil
	case word == of.names[1] || slices.Contains(secondWords, word):
		return second, nil
	case slices.Contains(tieWords, word):
		return nil, nil
	}
	x, err := number(name, word)
	if err != nil {
		return nil, faultf(useNumbers, "%s is %q, which is not known", name, word)
	}
	base := 1.
	if of.suffix == "0" || f.votesMean == ZeroBased {
		base = 0
	}
	if of.suffix != "0" {
		f.votes.saw(x, f.line)
	}
	switch {
	case x == base:
		return first, nil
	case x == base+1:
		return second, nil
	case base == 1 && (x == 0 || x == 1.5):
		return nil, nil
	}
	remedy := useNumbers
	if base == 0 {
		remedy = "use 0 for the first response, 1 for the second or tie"
	}
	return nil, faultf(remedy, "%s is %s, which is not known", name, word)
}

// onlyObject is the object of a list of one.
func onlyObject(list []any) (map[string]any, bool) {
	if len(list) != 1 {
		return nil, false
	}
	m, ok := list[0].(map[string]any)
	return m, ok
}

// selection is a column with what was selected, as Label Studio writes it into tables; empty without one.
func selection(f fields) string {
	for _, name := range f.names {
		if list, ok := f.byName[name].([]any); ok {
			if m, ok := onlyObject(list); ok && m["selected"] != nil {
				return name
			}
		}
	}
	return ""
}

// annotatedItems reads a task of Label Studio: one ranking for each annotation
// of the type pairwise, of the two texts of its data.
func annotatedItems(f, data fields) ([]trimtab.Item, error) {
	data.votes, data.votesMean, data.line = f.votes, f.votesMean, f.line
	r, err := unranked(data)
	if err != nil {
		return nil, err
	}
	of := twoOf(data)
	if of == nil {
		return nil, faultf("name them with --map answer1=LEFT --map answer2=RIGHT",
			"the task's data has no two texts that were compared (have: %s)", data.have())
	}
	list, err := f.list("annotations")
	if err != nil {
		return nil, err
	}
	var items []trimtab.Item
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, faultf("leave the record out", "%s is %s, not an object", nth("annotation", i), typeName(v))
		}
		item, err := annotationItem(r, data, of, nth("annotation", i), fieldsOf(m))
		if err != nil {
			return nil, err
		}
		items = append(items, item...)
	}
	return items, nil
}

// annotationItem is what one person selected; none of an annotation that was cancelled or selects nothing.
func annotationItem(r trimtab.Ranking, data fields, of *two, name string, a fields) ([]trimtab.Item, error) {
	if a.byName["was_cancelled"] == true || !a.has("result") {
		return nil, nil
	}
	results, err := a.list("result")
	if err != nil {
		return nil, err
	}
	var selected []any
	for _, v := range results {
		m, _ := v.(map[string]any)
		value, _ := m["value"].(map[string]any)
		if m["type"] == "pairwise" {
			selected = append(selected, value["selected"])
		}
	}
	switch {
	case len(selected) == 0:
		return nil, faultf("export a project with a Pairwise tag", "%s has no result of the type pairwise", name)
	case len(selected) > 1:
		return nil, faultf("leave the record out", "%s has %d results of the type pairwise: which is meant is not known", name, len(selected))
	}
	ranks, err := data.verdict("what "+name+" selected", selected[0], of)
	if err != nil || ranks == nil {
		return nil, err
	}
	who, err := completedBy(a)
	if err != nil {
		return nil, err
	}
	r.Labeller = cmp.Or(who, r.Labeller)
	return twoRanked(r, data, of, ranks)
}

// completedBy is the annotator: a number, or an object with an email address.
func completedBy(a fields) (string, error) {
	if m, ok := a.byName["completed_by"].(map[string]any); ok {
		return fieldsOf(m).optional("email", "id")
	}
	return a.optional("completed_by")
}
