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

// pairColumns finds the columns of the better and the worse response. chosen or
// rejected alone is a record that lacks the other one; other names may mean something else.
func pairColumns(f fields) (names [2]string, ok bool) {
	for i, names := range pairNames {
		if (f.hasValue(names[0]) || f.hasValue(names[1])) && (i == 0 || f.exists(names[0]) && f.exists(names[1])) {
			return names, true
		}
	}
	return names, false
}

// pairItem is the better response over the worse, after a prompt or after the beginning that both share.
func pairItem(r trimtab.Ranking, f fields, names [2]string) (trimtab.Ranking, error) {
	for _, name := range names {
		if !f.exists(name) {
			return r, f.missingError(name)
		}
	}
	both := [2]any{f.byName[names[0]], f.byName[names[1]]}
	texts, err := pairTexts(&r, f, names, both)
	r.Responses, r.Ranks = newResponses(texts[:]...), []int{1, 2}
	return r, err
}

// pairTexts are the texts of two responses, and the prompt before them: that
// of the record, or what both begin with.
func pairTexts(r *trimtab.Ranking, f fields, names [2]string, both [2]any) (texts [2]string, err error) {
	if promptName(f) == "" {
		return splitSharedPrompt(r, names, both)
	}
	asking, err := promptTurns(f)
	if err != nil {
		return texts, err
	}
	var before [2]conversation
	for i, v := range both {
		if before[i], texts[i], err = splitLastAnswer(asking, names[i], v); err != nil {
			return texts, err
		}
	}
	if !slices.EqualFunc(before[0].turns, before[1].turns, sameTurn) {
		return texts, recordErrorf("leave the record out: a ranking compares answers to one and the same conversation",
			"%s and %s differ before their last answer", names[0], names[1])
	}
	r.Prompt, err = before[0].promptText()
	return texts, err
}

// splitLastAnswer reads a response that may hold turns before its last answer: those of
// the prompt again, and more. It returns the whole conversation before that answer.
func splitLastAnswer(asking conversation, name string, v any) (before conversation, text string, err error) {
	if s, ok := v.(string); ok {
		return asking, s, nil
	}
	c, err := parseTurns(name, v)
	if err != nil {
		return before, "", err
	}
	last := len(c.turns) - 1
	if c.turns[last].Role != Assistant {
		return before, "", recordErrorf("end it with the answer of the assistant",
			"field %q does not end with a turn of the assistant", name)
	}
	before, err = joinPrompt(asking, c.turns[:last], name)
	return before, c.turns[last].Text, err
}

// joinPrompt is the prompt and the turns after it, which may begin with the prompt itself.
func joinPrompt(asking conversation, turns []Turn, name string) (conversation, error) {
	if len(turns) == 0 {
		return asking, nil
	}
	theirs, rest := splitSystemTurns(turns)
	ours, question := splitSystemTurns(asking.turns)
	switch {
	case len(rest) >= len(question) && slices.EqualFunc(rest[:len(question)], question, sameTurn):
		if len(theirs) > 0 && len(ours) > 0 && !slices.Equal(theirs, ours) {
			return conversation{}, recordErrorf("leave one of them out",
				"the prompt and %s have different messages of the system", name)
		}
		if len(theirs) == 0 {
			theirs = ours
		}
		return conversation{turns: slices.Concat(theirs, question, rest[len(question):]), plain: asking.plain &&
			len(rest) == 1}, nil
	case len(theirs) == 0 && rest[0].Role == Assistant:
		return conversation{turns: slices.Concat(asking.turns, rest)}, nil
	}
	return conversation{}, recordErrorf("begin it with the prompt, or leave the prompt's column out with --map prompt="+
		NoColumn,
		"the turns of %s before its last answer do not begin with the prompt", name)
}

// sameTurn compares turns without the space around them, which a prompt of several turns does not keep.
func sameTurn(a, b Turn) bool {
	return a.Role == b.Role && strings.TrimSpace(a.Text) == strings.TrimSpace(b.Text)
}

// splitSystemTurns are the messages of the system that turns begin with, and the rest.
func splitSystemTurns(turns []Turn) (system, rest []Turn) {
	n := slices.IndexFunc(turns, func(t Turn) bool { return t.Role != System })
	if n < 0 {
		n = len(turns)
	}
	return turns[:n], turns[n:]
}

// splitSharedPrompt finds the prompt in what two responses both begin with: their
// turns, or, of plain strings, their words.
func splitSharedPrompt(r *trimtab.Ranking, names [2]string, both [2]any) (texts [2]string, err error) {
	c, cok := tryParseTurns(both[0])
	j, jok := tryParseTurns(both[1])
	if cok && jok {
		last := len(c) - 1
		if last < 1 || len(j) != len(c) || !slices.Equal(c[:last], j[:last]) || c[last].Role != Assistant ||
			j[last].Role != Assistant {
			return texts,
				recordErrorf("leave the record out: a ranking compares answers to one and the same conversation",
					"%s and %s differ before their last answer", names[0], names[1])
		}
		r.Prompt, err = conversation{turns: c[:last]}.promptText()
		return [2]string{c[last].Text, j[last].Text}, err
	}
	for i, v := range both {
		if texts[i], err = asString(names[i], v); err != nil {
			return texts, err
		}
	}
	at := commonPrefixLen(texts[0], texts[1])
	if r.Prompt = strings.TrimSpace(texts[0][:at]); r.Prompt == "" {
		return texts, recordErrorf("add the column, or pass --map prompt=COLUMN",
			`field "prompt" is missing, and %s and %s have no beginning in common`, names[0], names[1])
	}
	return [2]string{strings.TrimLeft(texts[0][at:], " \n"), strings.TrimLeft(texts[1][at:], " \n")}, nil
}

// tryParseTurns reads messages or a marked transcript.
func tryParseTurns(v any) ([]Turn, bool) {
	if s, ok := v.(string); ok {
		return ParseTranscript(s)
	}
	c, err := parseTurns("", v)
	return c.turns, err == nil
}

// responsePair is a record's two responses, by the names of their columns.
type responsePair struct {
	names     [2]string
	extraName string // that there must not be
	suffix    string // of the first: "0", "1" or "a"
}

// responsePairs are the names that two responses may have: numbered or lettered.
var responsePairs = func() (all []responsePair) {
	for _, stem := range []string{"response", "answer", "output", "completion", "text", "summary", "conversation"} {
		for _, line := range []string{"_", ""} {
			for _, ends := range [][3]string{{"0", "1", "2"}, {"1", "2", "3"}, {"a", "b", "c"}} {
				name := func(i int) string { return stem + line + ends[i] }
				all = append(all, responsePair{names: [2]string{name(0), name(1)}, extraName: name(2), suffix: ends[0]})
			}
		}
	}
	return all
}()

// findResponsePair finds two responses with numbered or lettered names; nil of none.
func findResponsePair(f fields) *responsePair {
	for i := range responsePairs {
		if f.exists(responsePairs[i].names[0]) && f.exists(responsePairs[i].names[1]) {
			return &responsePairs[i]
		}
	}
	return nil
}

// preferenceColumns are the columns that say which of two responses is better, the first that has something.
var preferenceColumns = []string{"better_response_id", "winner", "preference", "preferred", "label", "choice", "vote"}

// pairwiseItems reads two responses and the verdicts on them: one column, or a column for each annotator.
func pairwiseItems(r trimtab.Ranking, f fields, of *responsePair) ([]trimtab.Item, error) {
	if f.exists(of.extraName) {
		return nil, recordErrorf(`write them as a list with ranks: {"prompt": …, "responses": [ … ], "ranks": [ … ]}`,
			"fields %q, %q and %q are more than two responses", of.names[0], of.names[1], of.extraName)
	}
	name := f.firstWithValue(preferenceColumns...)
	if of.suffix != "0" && name == "better_response_id" {
		name = f.firstWithValue(preferenceColumns[1:]...)
	}
	if name == "" {
		if strength := f.firstWithValue("preference_strength", "overall_preference"); strength != "" {
			return strengthItem(r, f, of, strength)
		}
		if f.exists("winner_model_a") && f.exists("winner_model_b") {
			return oneHotItem(r, f, of)
		}
		if annotated := annotators(f); len(annotated) > 0 {
			return annotatorItems(r, f, of, annotated)
		}
		if name = selectedColumn(f); name == "" {
			return nil, recordErrorf("add one of "+strings.Join(preferenceColumns, ", ")+
				", or write the better response as chosen and the other one as rejected",
				"fields %q and %q are two responses, and no field says which is better (have: %s)", of.names[0],
				of.names[1], f.columnList())
		}
	}
	ranks, err := f.preference(fmt.Sprintf("field %q", name), f.byName[name], of)
	if err != nil || ranks == nil {
		return nil, err
	}
	return rankPair(r, f, of, ranks)
}

// rankPair is the ranking of two responses.
func rankPair(r trimtab.Ranking, f fields, of *responsePair, ranks []int) ([]trimtab.Item, error) {
	texts, err := pairTexts(&r, f, of.names, [2]any{f.byName[of.names[0]], f.byName[of.names[1]]})
	r.Responses, r.Ranks = newResponses(texts[:]...), ranks
	return singleItem(r, err)
}

// strengthItem reads how much better the second response is: -3 … 3.
func strengthItem(r trimtab.Ranking, f fields, of *responsePair, name string) ([]trimtab.Item, error) {
	x, err := parseNumber(name, f.byName[name])
	switch {
	case err != nil || x == 0:
		return nil, err
	case x < 0:
		return rankPair(r, f, of, []int{1, 2})
	}
	return rankPair(r, f, of, []int{2, 1})
}

// oneHotItem reads the columns winner_model_a, winner_model_b and winner_tie,
// of which one is 1. Prompt and responses may be JSON lists of turns.
func oneHotItem(r trimtab.Ranking, f fields, of *responsePair) ([]trimtab.Item, error) {
	var won [3]bool
	for i, name := range []string{"winner_model_a", "winner_model_b", "winner_tie"} {
		if i == 2 && !f.exists(name) {
			break
		}
		x, err := parseNumber(name, f.byName[name])
		if err != nil {
			return nil, err
		}
		if x != 0 && x != 1 {
			return nil, recordErrorf("use 1 for the one that holds and 0 for the others", "field %q is %v", name, x)
		}
		won[i] = x == 1
	}
	switch won {
	case [3]bool{false, false, true}:
		return nil, nil
	case [3]bool{true, false, false}, [3]bool{false, true, false}:
	default:
		return nil, recordErrorf("set one of the three to 1",
			"fields winner_model_a, winner_model_b and winner_tie do not name one winner")
	}
	names := []string{promptName(f), of.names[0], of.names[1]}
	for _, name := range names {
		if s, ok := f.byName[name].(string); ok && strings.HasPrefix(strings.TrimSpace(s), "[") {
			turn, err := singleTurn(name, s)
			if err != nil {
				return nil, err
			}
			f.byName[name] = turn
		}
	}
	if won[0] {
		return rankPair(r, f, of, []int{1, 2})
	}
	return rankPair(r, f, of, []int{2, 1})
}

// singleTurn is the one string of a JSON list; s itself if it is no such list.
func singleTurn(name, s string) (string, error) {
	v, err := parseValue([]byte(s))
	list, ok := v.([]any)
	if err != nil || !ok {
		return s, nil
	}
	if len(list) != 1 {
		return "", recordErrorf("leave the record out: a ranking compares answers to one and the same conversation",
			"field %q has %d turns", name, len(list))
	}
	return asString(name, list[0])
}

// annotators are the columns annotator1, annotator2 … that have something, in order of name.
func annotators(f fields) []string {
	var names []string
	for _, name := range f.names {
		if strings.HasPrefix(name, "annotator") && name != "annotator" && f.hasValue(name) {
			names = append(names, name)
		}
	}
	return names
}

// annotatorItems is two responses and a vote in each of the columns annotator1, annotator2 …
func annotatorItems(r trimtab.Ranking, f fields, of *responsePair, names []string) ([]trimtab.Item, error) {
	base, err := rankPair(r, f, of, []int{1, 2})
	if err != nil {
		return nil, err
	}
	var items []trimtab.Item
	for _, name := range names {
		ranks, err := f.preference(fmt.Sprintf("field %q", name), f.byName[name], of)
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
		return nil, recordErrorf("give ranks instead of votes", "votes need 2 responses, this record has %d",
			len(texts))
	}
	list, err := f.list("votes")
	if err != nil {
		return nil, err
	}
	r.Responses = newResponses(texts...)
	var items []trimtab.Item
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, recordErrorf(`write it as {"worker": …, "vote": …}`, "%s is %s, not an object", nth("vote", i),
				typeName(v))
		}
		vote := newFields(m)
		ranks, err := f.preference(nth("vote", i), vote.byName["vote"], &responsePair{suffix: "1"})
		if err != nil {
			return nil, err
		}
		if ranks == nil {
			continue
		}
		if r.Labeller, err = readLabeller(vote); err != nil {
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
	tieWords    = []string{"tie", "equal", "draw", "same", "neither", "both", "tie (bothbad)", "bothbad", "both_bad",
		"tie (both bad)"}
)

const useNumbers = "use 1 for the first response, 2 for the second or 0 for a tie"

// preference reads which of two responses is better: as ranks, or nil of a tie.
func (f fields) preference(name string, v any, of *responsePair) ([]int, error) {
	first, second := []int{1, 2}, []int{2, 1}
	word := ""
	switch v := v.(type) {
	case string:
		word = strings.ToLower(strings.TrimSpace(v))
	case json.Number:
		word = v.String()
	case []any: // what Label Studio writes into columns
		if m, ok := singleObject(v); ok {
			return f.preference(name, m["selected"], of)
		}
	}
	switch {
	case v == nil:
		return nil, recordErrorf("give it a value, or leave the record out", "%s is missing or null", name)
	case word == "":
		return nil, recordErrorf(useNumbers, "%s is %s, which is not known", name, quotedValue(v))
	case word == of.names[0] || slices.Contains(firstWords, word):
		return first, nil
	case word == of.names[1] || slices.Contains(secondWords, word):
		return second, nil
	case slices.Contains(tieWords, word):
		return nil, nil
	}
	x, err := parseNumber(name, word)
	if err != nil {
		return nil, recordErrorf(useNumbers, "%s is %q, which is not known", name, word)
	}
	base := 1.
	if of.suffix == "0" || f.votesMean == ZeroBased {
		base = 0
	}
	if of.suffix != "0" {
		f.votes.observe(x, f.line)
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
	return nil, recordErrorf(remedy, "%s is %s, which is not known", name, word)
}

// singleObject is the object of a list of one.
func singleObject(list []any) (map[string]any, bool) {
	if len(list) != 1 {
		return nil, false
	}
	m, ok := list[0].(map[string]any)
	return m, ok
}

// selectedColumn is a column with what was selected, as Label Studio writes it into tables; empty without one.
func selectedColumn(f fields) string {
	for _, name := range f.names {
		if list, ok := f.byName[name].([]any); ok {
			if m, ok := singleObject(list); ok && m["selected"] != nil {
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
	r, err := rankingMetadata(data)
	if err != nil {
		return nil, err
	}
	of := findResponsePair(data)
	if of == nil {
		return nil, recordErrorf("name them with --map answer1=LEFT --map answer2=RIGHT",
			"the task's data has no two texts that were compared (have: %s)", data.columnList())
	}
	list, err := f.list("annotations")
	if err != nil {
		return nil, err
	}
	var items []trimtab.Item
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, recordErrorf("leave the record out", "%s is %s, not an object", nth("annotation", i),
				typeName(v))
		}
		item, err := annotationItem(r, data, of, nth("annotation", i), newFields(m))
		if err != nil {
			return nil, err
		}
		items = append(items, item...)
	}
	return items, nil
}

// annotationItem is what one person selected; none of an annotation that was cancelled or selects nothing.
func annotationItem(r trimtab.Ranking, data fields, of *responsePair, name string, a fields) ([]trimtab.Item, error) {
	if a.byName["was_cancelled"] == true || !a.hasValue("result") {
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
		return nil, recordErrorf("export a project with a Pairwise tag", "%s has no result of the type pairwise", name)
	case len(selected) > 1:
		return nil, recordErrorf("leave the record out",
			"%s has %d results of the type pairwise: which is meant is not known", name, len(selected))
	}
	ranks, err := data.preference("what "+name+" selected", selected[0], of)
	if err != nil || ranks == nil {
		return nil, err
	}
	who, err := completedBy(a)
	if err != nil {
		return nil, err
	}
	r.Labeller = cmp.Or(who, r.Labeller)
	return rankPair(r, data, of, ranks)
}

// completedBy is the annotator: a number, or an object with an email address.
func completedBy(a fields) (string, error) {
	if m, ok := a.byName["completed_by"].(map[string]any); ok {
		return newFields(m).optional("email", "id")
	}
	return a.optional("completed_by")
}
