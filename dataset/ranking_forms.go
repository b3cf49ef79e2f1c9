package dataset

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

// rankingItems reads a record as rankings. A record of several votes gives one
// ranking per vote that is not a tie, and a message tree one per question with
// ranked answers. Rankings whose ranks are all equal are dropped. Unambiguous
// forms are tried first.
func rankingItems(f fields) ([]trimtab.Item, error) {
	base, err := rankingMetadata(f)
	if err != nil {
		return nil, err
	}
	if data, ok := f.byName["data"].(map[string]any); ok && f.exists("annotations") {
		return annotatedItems(f, newFields(data))
	}
	if names, ok := pairColumns(f); ok {
		return unlessAllTied(pairItem(base, f, names))
	}
	switch root, _ := f.byName["prompt"].(map[string]any); {
	case f.hasValue("responses") && f.hasValue("votes"):
		return voteItems(base, f)
	case f.hasValue("responses"):
		return unlessAllTied(responsesItem(base, f))
	case findResponsePair(f) != nil:
		return pairwiseItems(base, f, findResponsePair(f))
	case f.hasValue("completions"):
		return unlessAllTied(completionsItem(base, f, "completions"))
	case f.hasValue("answers"):
		return unlessAllTied(completionsItem(base, f, "answers"))
	case f.hasValue("summaries"):
		return unlessAllTied(summariesItem(base, f))
	case f.hasValue("best") && f.exists("sample0"):
		return unlessAllTied(bestItem(base, f))
	case root["replies"] != nil:
		return treeItems(base, f, root)
	}
	return nil, f.missingError("chosen")
}

// rankingMetadata returns what all rankings of a record have in common.
func rankingMetadata(f fields) (r trimtab.Ranking, err error) {
	for _, part := range []struct {
		of   *string
		read func(fields) (string, error)
	}{
		{&r.Split, readSplit}, {&r.Group, readGroup}, {&r.Labeller, readLabeller},
		{&r.Guideline, func(f fields) (string, error) { return f.optional("guideline") }},
	} {
		if *part.of, err = part.read(f); err != nil {
			return r, err
		}
	}
	return r, nil
}

// unlessAllTied returns a ranking as the items of its record: none if all its
// ranks are equal.
func unlessAllTied(r trimtab.Ranking, err error) ([]trimtab.Item, error) {
	if err == nil && len(r.Ranks) == len(r.Responses) && len(r.Ranks) > 1 && slices.Max(r.Ranks) == 1 {
		return nil, nil
	}
	return singleItem(r, err)
}

// promptText returns the prompt of a ranking.
func promptText(f fields) (string, error) {
	c, err := promptTurns(f)
	if err != nil {
		return "", err
	}
	return c.promptText()
}

// promptTurns returns the conversation that a ranking's responses answer.
func promptTurns(f fields) (conversation, error) {
	name := promptName(f)
	if name == "" {
		return conversation{}, f.missingError("prompt")
	}
	return promptConversation(f, name)
}

// promptName returns the column of a ranking's prompt, or "".
func promptName(f fields) string {
	return f.firstWithValue("prompt", "instruction", "question", "conversations", "messages", "context")
}

// newResponses returns texts as responses without token ids.
func newResponses(texts ...string) []trimtab.Response {
	out := make([]trimtab.Response, len(texts))
	for i, text := range texts {
		out[i] = trimtab.Response{Bytes: []byte(text)}
	}
	return out
}

// commonPrefixLen returns the length of the longest common beginning that ends
// with a whole word, so that a prompt found this way does not take the first
// letters of both responses.
func commonPrefixLen(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	// Back to the end of a word, unless one text is the beginning of the other.
	for n > 0 && n < max(len(a), len(b)) && !strings.ContainsRune(" \n\t", rune(a[n-1])) {
		n--
	}
	// Two different characters may share their first bytes.
	for n > 0 && n < len(a) && !utf8.RuneStart(a[n]) {
		n--
	}
	return n
}

// responsesItem reads K responses with ranks; lower is better, and equal ranks
// are ties.
//
//	{"prompt": "Q", "responses": ["x", "y", "z"], "rank": [2, 1, 2]}
func responsesItem(r trimtab.Ranking, f fields) (trimtab.Ranking, error) {
	var err error
	if r.Prompt, err = promptText(f); err != nil {
		return r, err
	}
	texts, err := textList(f, "responses")
	if err != nil {
		return r, err
	}
	name := f.firstWithValue("rank", "ranks")
	if name == "" {
		return r, f.missingError("rank")
	}
	list, err := f.list(name)
	if err != nil {
		return r, err
	}
	ranks := make([]float64, len(list))
	for i, v := range list {
		if ranks[i], err = parseNumber(nth(name, i), v); err != nil {
			return r, err
		}
	}
	r.Responses, r.Ranks = newResponses(texts...), trimtab.DenseRanks(ranks)
	return r, nil
}

// textList reads a list of responses.
func textList(f fields, name string) ([]string, error) {
	list, err := f.list(name)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(list))
	for i, v := range list {
		if texts[i], err = responseText(nth(name, i), v); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// scoreColumns say how good a completion is; higher is better, and the first
// that exists counts.
var scoreColumns = []string{"score", "overall_score", "fine-grained_score"}

// completionsItem reads a list of {completion, rank}, lower is better, or
// {response, score}, higher is better. The first element decides which of the
// two a record has; a missing one in a later element is an error.
//
//	{"prompt": "Q", "completions": [{"completion": "x", "rank": 1},
//	                                {"completion": "y", "rank": 2}]}
func completionsItem(r trimtab.Ranking, f fields, name string) (trimtab.Ranking, error) {
	var err error
	if r.Prompt, err = promptText(f); err != nil {
		return r, err
	}
	list, err := f.list(name)
	if err != nil {
		return r, err
	}
	var texts []string
	var ranks []float64
	by := "" // "rank", or the column of the score
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return r, recordErrorf(`write it as {"rank": …, "completion": …}`, "%s is %s, not an object",
				nth("completion", i), typeName(v))
		}
		c := newFields(m)
		if by == "" {
			by = c.firstWithValue(append([]string{"rank"}, scoreColumns...)...)
		}
		if by == "" {
			return r, recordErrorf("add it, lower is better, or a score, higher is better",
				"%s has no rank", nth("completion", i))
		}
		rank, err := parseNumber(by+" of "+nth("completion", i), c.byName[by])
		if err != nil {
			return r, err
		}
		if by != "rank" {
			// DenseRanks puts the lowest first.
			rank = -rank
		}
		text, err := completionText(nth("completion", i), c)
		if err != nil {
			return r, err
		}
		texts, ranks = append(texts, text), append(ranks, rank)
	}
	r.Responses, r.Ranks = newResponses(texts...), trimtab.DenseRanks(ranks)
	return r, nil
}

// completionText returns the text of one completion.
func completionText(name string, c fields) (string, error) {
	for _, key := range []string{"completion", "response", "answer", "text"} {
		if c.exists(key) {
			return responseText(name, c.byName[key])
		}
	}
	return "", recordErrorf(`write it as {"rank": …, "completion": …}`, "%s has no text (have: %s)",
		name, c.columnList())
}

// summariesItem reads a post, two summaries and the choice between them (the
// comparisons of Stiennon et al. 2020). The title, if there is one, comes first
// in the prompt.
//
//	{"info": {"title": "T", "post": "Q"}, "choice": 0,
//	 "summaries": [{"text": "x"}, {"text": "y"}]}
func summariesItem(r trimtab.Ranking, f fields) (trimtab.Ranking, error) {
	info, _ := f.byName["info"].(map[string]any)
	post := newFields(info)
	var err error
	name := post.firstWithValue("post", "article")
	if name == "" {
		return r, post.missingError("post")
	}
	if r.Prompt, err = post.text(name); err != nil {
		return r, err
	}
	title, err := post.optional("title")
	if err != nil {
		return r, err
	}
	if title != "" {
		r.Prompt = title + turnSeparator + r.Prompt
	}
	list, err := f.list("summaries")
	if err != nil {
		return r, err
	}
	choice, err := parseNumber("choice", f.byName["choice"])
	if err != nil {
		return r, err
	}
	texts := make([]string, len(list))
	for i, v := range list {
		m, _ := v.(map[string]any)
		if texts[i], err = newFields(m).text("text"); err != nil {
			return r, err
		}
	}
	return rankBestFirst(r, texts, choice, "choice")
}

// bestItem reads sample0, sample1 … and the number of the best one (the files
// of Ziegler et al. 2019).
//
//	{"query": "Q", "sample0": "x", "sample1": "y", "best": 1}
func bestItem(r trimtab.Ranking, f fields) (trimtab.Ranking, error) {
	var err error
	if r.Prompt, err = f.text("query"); err != nil {
		return r, err
	}
	var texts []string
	for f.exists(fmt.Sprintf("sample%d", len(texts))) {
		text, err := f.text(fmt.Sprintf("sample%d", len(texts)))
		if err != nil {
			return r, err
		}
		texts = append(texts, text)
	}
	// A gap in the numbers would lose the samples after it.
	for _, name := range f.names {
		if digits, ok := strings.CutPrefix(strings.ToLower(name), "sample"); ok {
			if n, err := strconv.Atoi(digits); err == nil && n >= len(texts) {
				return r, recordErrorf("number the samples from 0 without gaps", "field %q is there, but not %q", name,
					fmt.Sprintf("sample%d", len(texts)))
			}
		}
	}
	best, err := parseNumber("best", f.byName["best"])
	if err != nil {
		return r, err
	}
	return rankBestFirst(r, texts, best, "best")
}

// rankBestFirst ranks one of texts above all others, which are tied.
func rankBestFirst(r trimtab.Ranking, texts []string, best float64, name string) (trimtab.Ranking, error) {
	r.Responses, r.Ranks = newResponses(texts...), make([]int, len(texts))
	for i := range texts {
		r.Ranks[i] = 2
		if float64(i) == best {
			r.Ranks[i] = 1
		}
	}
	if !slices.Contains(r.Ranks, 1) {
		return r, recordErrorf("count from 0", "field %q is %v, but there are %d responses", name, best, len(texts))
	}
	return r, nil
}

// treeItems walks a tree of messages (the form of OpenAssistant): each question
// whose answers have ranks is a ranking. The tree is the group, since its
// rankings share their beginnings.
//
//	{"message_tree_id": "t", "prompt": {"role": "prompter", "text": "Q",
//	 "replies": [{"role": "assistant", "text": "x", "rank": 0},
//	             {"role": "assistant", "text": "y", "rank": 1}]}}
func treeItems(r trimtab.Ranking, f fields, root map[string]any) ([]trimtab.Item, error) {
	id, err := f.optional("message_tree_id")
	if err != nil {
		return nil, err
	}
	r.Group = cmp.Or(r.Group, id)
	var items []trimtab.Item
	size := 0
	err = walkTree(root, nil, func(path []Turn, texts []string, ranks []float64) error {
		prompt, err := conversation{turns: path}.promptText()
		if err != nil {
			return err
		}
		r.Prompt = prompt
		r.Responses = newResponses(texts...)
		r.Ranks = trimtab.DenseRanks(ranks)
		// Each ranking repeats the path to it, so the size is not bounded by the file's.
		if size += len(prompt); size > MaxItems {
			return tooLargeError()
		}
		item, err := unlessAllTied(r, nil)
		items = append(items, item...)
		return err
	})
	return items, err
}

// walkTree calls found for each turn of the user with two or more ranked
// answers, depth first. The path is valid only until found returns.
func walkTree(message map[string]any, before []Turn, found func([]Turn, []string, []float64) error) error {
	turn, err := parseTurn("message", message)
	if err != nil {
		return err
	}
	// Siblings share the array behind before: each overwrites the last turn when
	// the branch before it is done.
	path := append(before, turn)
	var texts []string
	var ranks []float64
	replies, _ := message["replies"].([]any)
	for i, v := range replies {
		reply, ok := v.(map[string]any)
		if !ok {
			return recordErrorf("leave the record out", "%s is %s, not a message", nth("reply", i), typeName(v))
		}
		// A reply without a rank was not compared with the others.
		if rank, err := parseNumber("rank", reply["rank"]); err == nil && turn.Role == User {
			if text, ok := reply["text"].(string); ok {
				texts, ranks = append(texts, text), append(ranks, rank)
			}
		}
	}
	if len(texts) > 1 {
		if err := found(path, texts, ranks); err != nil {
			return err
		}
	}
	for _, v := range replies {
		if err := walkTree(v.(map[string]any), path, found); err != nil {
			return err
		}
	}
	return nil
}
