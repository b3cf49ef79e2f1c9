package dataset

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
)

// pairNames are the names that datasets use for the better and the worse of two
// responses.
var pairNames = [][2]string{{"chosen", "rejected"}, {"better", "worse"}, {"preferred", "dispreferred"},
	{"chosen_response", "rejected_response"}, {"response_j", "response_k"}}

// remedySamePrompt is the remedy of two responses to different prompts.
const remedySamePrompt = "leave the record out: a ranking compares answers to one and the same conversation"

// differBefore returns the error of two responses whose prompts differ.
func differBefore(names [2]string) error {
	return recordErrorf(remedySamePrompt, "%s and %s differ before their last answer", names[0], names[1])
}

// pairColumns finds the columns of the better and the worse response. chosen or
// rejected alone makes a record that lacks the other one; the rest of pairNames
// count only together, since one of them alone may mean something else.
func pairColumns(f fields) (names [2]string, ok bool) {
	for i, names := range pairNames {
		if (f.hasValue(names[0]) || f.hasValue(names[1])) && (i == 0 || f.exists(names[0]) && f.exists(names[1])) {
			return names, true
		}
	}
	return names, false
}

// pairItem returns the better response ranked above the worse one, after the
// prompt, or after the beginning that both share:
//
//	{"prompt": "Q", "chosen": "good", "rejected": "bad"}
//	{"chosen": "\n\nHuman: Q\n\nAssistant: good",
//	 "rejected": "\n\nHuman: Q\n\nAssistant: bad"}
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

// pairTexts returns the texts of two responses and sets the prompt before them:
// the record's, or what both begin with.
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
		return texts, differBefore(names)
	}
	r.Prompt, err = before[0].promptText()
	return texts, err
}

// splitLastAnswer reads a response that may hold turns before its last answer:
// those of the prompt again, and more. It returns the whole conversation before
// that answer, and the answer.
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

// joinPrompt combines the prompt with the turns of a response, which may begin
// with the prompt itself or continue it.
func joinPrompt(asking conversation, turns []Turn, name string) (conversation, error) {
	if len(turns) == 0 {
		return asking, nil
	}
	theirs, rest := splitSystemTurns(turns)
	ours, question := splitSystemTurns(asking.turns)
	switch {
	// The response repeats the prompt and may add turns.
	case len(rest) >= len(question) && slices.EqualFunc(rest[:len(question)], question, sameTurn):
		if len(theirs) > 0 && len(ours) > 0 && !slices.Equal(theirs, ours) {
			return conversation{}, recordErrorf("leave one of them out",
				"the prompt and %s have different system messages", name)
		}
		if len(theirs) == 0 {
			theirs = ours
		}
		return conversation{
			turns: slices.Concat(theirs, question, rest[len(question):]),
			plain: asking.plain && len(rest) == 1,
		}, nil
	// The response continues the prompt, with an answer of its own first.
	case len(theirs) == 0 && rest[0].Role == Assistant:
		return conversation{turns: slices.Concat(asking.turns, rest)}, nil
	}
	return conversation{}, recordErrorf(
		"begin it with the prompt, or leave the prompt's column out with --map prompt="+NoColumn,
		"the turns of %s before its last answer do not begin with the prompt", name)
}

// sameTurn compares turns without the white space around them, which the text
// of a prompt does not keep.
func sameTurn(a, b Turn) bool {
	return a.Role == b.Role && strings.TrimSpace(a.Text) == strings.TrimSpace(b.Text)
}

// splitSystemTurns separates the system messages at the start of turns from the
// rest.
func splitSystemTurns(turns []Turn) (system, rest []Turn) {
	n := slices.IndexFunc(turns, func(t Turn) bool { return t.Role != System })
	if n < 0 {
		n = len(turns)
	}
	return turns[:n], turns[n:]
}

// splitSharedPrompt finds the prompt in the shared beginning of two responses:
// their turns or, for plain strings, their words.
func splitSharedPrompt(r *trimtab.Ranking, names [2]string, both [2]any) (texts [2]string, err error) {
	better, betterOK := tryParseTurns(both[0])
	worse, worseOK := tryParseTurns(both[1])
	if betterOK && worseOK {
		last := len(better) - 1
		if last < 1 || len(worse) != len(better) || !slices.Equal(better[:last], worse[:last]) ||
			better[last].Role != Assistant || worse[last].Role != Assistant {
			return texts, differBefore(names)
		}
		r.Prompt, err = conversation{turns: better[:last]}.promptText()
		return [2]string{better[last].Text, worse[last].Text}, err
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

// tryParseTurns reads messages or a transcript, and reports false for anything
// else.
func tryParseTurns(v any) ([]Turn, bool) {
	if s, ok := v.(string); ok {
		return ParseTranscript(s)
	}
	c, err := parseTurns("", v)
	return c.turns, err == nil
}

// responsePair names the columns of a record's two responses.
type responsePair struct {
	names [2]string
	// extraName is the column of a third response, which must not exist: three
	// need ranks.
	extraName string
	// suffix is that of the first name: "0", "1" or "a". It shows how the
	// dataset counts, and so what a numeric vote means.
	suffix string
}

// responsePairs are all names that two responses may have, numbered or
// lettered.
var responsePairs = func() (all []responsePair) {
	for _, stem := range []string{"response", "answer", "output", "completion", "text", "summary", "conversation"} {
		for _, underscore := range []string{"_", ""} {
			for _, suffixes := range [][3]string{{"0", "1", "2"}, {"1", "2", "3"}, {"a", "b", "c"}} {
				name := func(i int) string { return stem + underscore + suffixes[i] }
				all = append(all, responsePair{
					names:     [2]string{name(0), name(1)},
					extraName: name(2),
					suffix:    suffixes[0],
				})
			}
		}
	}
	return all
}()

// findResponsePair finds two responses with numbered or lettered names; nil if
// there are none.
func findResponsePair(f fields) *responsePair {
	for i := range responsePairs {
		if f.exists(responsePairs[i].names[0]) && f.exists(responsePairs[i].names[1]) {
			return &responsePairs[i]
		}
	}
	return nil
}

// preferenceColumns may say which of two responses is better; the first with a
// value counts.
var preferenceColumns = []string{"better_response_id", "winner", "preference", "preferred", "label", "choice", "vote"}

// pairwiseItems reads two responses and the preferences between them, in one
// column or in one per annotator:
//
//	{"prompt": "Q", "response_a": "x", "response_b": "y", "winner": "a"}
//	{"prompt": "Q", "output_1": "x", "output_2": "y", "preference": 2}
//	{"prompt": "Q", "response_0": "x", "response_1": "y",
//	 "better_response_id": 1}
func pairwiseItems(r trimtab.Ranking, f fields, of *responsePair) ([]trimtab.Item, error) {
	if f.exists(of.extraName) {
		return nil, recordErrorf(`write them as a list with ranks: {"prompt": …, "responses": [ … ], "ranks": [ … ]}`,
			"fields %q, %q and %q are more than two responses", of.names[0], of.names[1], of.extraName)
	}
	name := f.firstWithValue(preferenceColumns...)
	// better_response_id counts from 0 (as in PKU-SafeRLHF) and says nothing about
	// responses with other suffixes.
	if of.suffix != "0" && name == "better_response_id" {
		name = f.firstWithValue(preferenceColumns[1:]...)
	}
	if name == "" {
		// Forms that need more than one column, or a column of any name.
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

// rankPair returns the ranking of two responses.
func rankPair(r trimtab.Ranking, f fields, of *responsePair, ranks []int) ([]trimtab.Item, error) {
	texts, err := pairTexts(&r, f, of.names, [2]any{f.byName[of.names[0]], f.byName[of.names[1]]})
	r.Responses, r.Ranks = newResponses(texts[:]...), ranks
	return singleItem(r, err)
}

// strengthItem reads by how much the second response is better, -3 … 3 (as in
// HelpSteer). 0 is a tie, and gives no item.
//
//	{"prompt": "Q", "response_1": "x", "response_2": "y",
//	 "preference_strength": -2}
func strengthItem(r trimtab.Ranking, f fields, of *responsePair, name string) ([]trimtab.Item, error) {
	strength, err := parseNumber(name, f.byName[name])
	switch {
	case err != nil || strength == 0:
		return nil, err
	case strength < 0:
		return rankPair(r, f, of, []int{1, 2})
	}
	return rankPair(r, f, of, []int{2, 1})
}

// oneHotItem reads the columns winner_model_a, winner_model_b and winner_tie,
// of which one is 1 (the form of Chatbot Arena). Prompt and responses may be
// JSON lists of turns, which must then hold one turn each.
//
//	prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie
//	"[""Q""]","[""x""]","[""y""]",1,0,0
func oneHotItem(r trimtab.Ranking, f fields, of *responsePair) ([]trimtab.Item, error) {
	var won [3]bool // the first response, the second, neither
	for i, name := range []string{"winner_model_a", "winner_model_b", "winner_tie"} {
		if i == 2 && !f.exists(name) {
			break
		}
		value, err := parseNumber(name, f.byName[name])
		if err != nil {
			return nil, err
		}
		if value != 0 && value != 1 {
			return nil, recordErrorf("use 1 for the one that holds and 0 for the others", "field %q is %v", name, value)
		}
		won[i] = value == 1
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

// singleTurn returns the one string of a JSON list, or s itself if it is not a
// list. A list of several turns is refused: each later response of such a
// record answers another conversation.
func singleTurn(name, s string) (string, error) {
	v, err := parseValue([]byte(s))
	list, ok := v.([]any)
	if err != nil || !ok {
		return s, nil
	}
	if len(list) != 1 {
		return "", recordErrorf(remedySamePrompt, "field %q has %d turns", name, len(list))
	}
	return asString(name, list[0])
}

// annotators returns the columns annotator1, annotator2 … that have a value, in
// the order of their names.
func annotators(f fields) []string {
	var names []string
	for _, name := range f.names {
		if strings.HasPrefix(name, "annotator") && name != "annotator" && f.hasValue(name) {
			names = append(names, name)
		}
	}
	return names
}

// annotatorItems reads two responses and a vote in each of the columns
// annotator1, annotator2 …: one ranking per annotator.
//
//	{"prompt": "Q", "text_1": "x", "text_2": "y",
//	 "annotator1": 1, "annotator2": 2}
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
			// Shares the responses, which nothing changes.
			vote := base[0].(trimtab.Ranking)
			vote.Ranks, vote.Labeller = ranks, name
			items = append(items, vote)
		}
	}
	return items, nil
}

// voteItems reads two responses and a list of votes for the first ("a1"), the
// second ("a2") or neither: one ranking per vote that is not a tie.
//
//	{"prompt": "Q", "responses": ["x", "y"],
//	 "votes": [{"worker": "w1", "vote": "a1"}, {"worker": "w2", "vote": "a2"}]}
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
		return nil, recordErrorf("give ranks instead of votes",
			"votes need 2 responses, this record has %d", len(texts))
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
			return nil, recordErrorf(`write it as {"worker": …, "vote": …}`, "%s is %s, not an object",
				nth("vote", i), typeName(v))
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

// Words for a preference, besides the names of the two columns.
var (
	firstWords  = []string{"a", "a1", "first", "left", "model_a", "model a", "response_a", "assistant_a"}
	secondWords = []string{"b", "a2", "second", "right", "model_b", "model b", "response_b", "assistant_b"}
	tieWords    = []string{"tie", "equal", "draw", "same", "neither", "both",
		"tie (bothbad)", "bothbad", "both_bad", "tie (both bad)"} // Chatbot Arena's "both are bad"
)

// useNumbers is the remedy of a preference that is not known.
const useNumbers = "use 1 for the first response, 2 for the second or 0 for a tie"

// preference reads which of two responses is better. It returns their ranks, or
// nil for a tie. Numbers are counted from 0 or 1 as the names of the columns or
// ReadOptions.Votes say; where neither does, they are noted for
// voteStats.checkAmbiguous, which sees the whole file.
func (f fields) preference(name string, v any, of *responsePair) ([]int, error) {
	first, second := []int{1, 2}, []int{2, 1}
	// Words and numbers are compared as strings: a table has no numbers.
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
	vote, err := parseNumber(name, word)
	if err != nil {
		return nil, recordErrorf(useNumbers, "%s is %q, which is not known", name, word)
	}
	base := 1. // the number of the first response
	if of.suffix == "0" || f.votesMean == ZeroBased {
		base = 0
	}
	// Responses named 0 and 1 leave no doubt about a vote of 0 or 1.
	if of.suffix != "0" {
		f.votes.observe(vote, f.line)
	}
	switch {
	case vote == base:
		return first, nil
	case vote == base+1:
		return second, nil
	// 1.5 lies between the two (AlpacaEval).
	case base == 1 && (vote == 0 || vote == 1.5):
		return nil, nil
	}
	remedy := useNumbers
	if base == 0 {
		remedy = "use 0 for the first response, 1 for the second or tie"
	}
	return nil, recordErrorf(remedy, "%s is %s, which is not known", name, word)
}

// singleObject returns the object in a list of one.
func singleObject(list []any) (map[string]any, bool) {
	if len(list) != 1 {
		return nil, false
	}
	m, ok := list[0].(map[string]any)
	return m, ok
}
