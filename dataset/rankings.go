package dataset

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

// rankingItems reads one record; records of several votes give one ranking
// for each vote that is not a tie, and message trees one for each question
// with ranked answers.
func rankingItems(f fields) ([]trimtab.Item, error) {
	split, err := splitOf(f)
	if err != nil {
		return nil, err
	}
	base := trimtab.Ranking{Labeller: labellerOf(f), Guideline: f.optional("guideline"), Split: split, Group: groupOf(f)}
	switch {
	case f.exists("chosen") || f.exists("rejected"):
		return one(pairItem(base, f))
	case f.exists("responses") && f.exists("votes"):
		return voteItems(base, f)
	case f.exists("responses"):
		return one(rankedItem(base, f))
	case f.exists("response1") && f.exists("response2"):
		return annotatorItems(base, f)
	case f.exists("completions"):
		return one(completionsItem(base, f))
	case f.exists("summaries"):
		return one(summariesItem(base, f))
	case f.exists("best") && f.exists("sample0"):
		return one(bestItem(base, f))
	}
	if root, ok := f.byName["prompt"].(map[string]any); ok && root["replies"] != nil {
		return treeItems(base, f, root)
	}
	return nil, f.missing("chosen")
}

// promptText is the prompt of a ranking.
func promptText(f fields) (string, error) {
	name := f.first("prompt", "instruction", "question", "conversations", "messages", "context")
	if name == "" {
		return "", f.missing("prompt")
	}
	turns, err := asked(f, name)
	return Transcript(turns), err
}

func responsesOf(texts ...string) []trimtab.Response {
	out := make([]trimtab.Response, len(texts))
	for i, text := range texts {
		out[i] = trimtab.Response{Bytes: []byte(text)}
	}
	return out
}

// pairItem is chosen over rejected, after a prompt or after the beginning that both share.
func pairItem(r trimtab.Ranking, f fields) (trimtab.Ranking, error) {
	for _, name := range []string{"chosen", "rejected"} {
		if !f.exists(name) {
			return r, f.missing(name)
		}
	}
	chosen, rejected := f.byName["chosen"], f.byName["rejected"]
	var better, worse string
	var err error
	if f.first("prompt", "instruction", "question", "conversations", "messages", "context") != "" {
		better, worse, err = afterPrompt(&r, f, chosen, rejected)
	} else {
		better, worse, err = afterCommon(&r, chosen, rejected)
	}
	if err == nil && better == worse {
		err = faultf("leave the record out", "chosen and rejected are the same")
	}
	r.Responses, r.Ranks = responsesOf(better, worse), []int{1, 2}
	return r, err
}

// afterPrompt takes the last turn of each answer, which may repeat the prompt before it.
func afterPrompt(r *trimtab.Ranking, f fields, chosen, rejected any) (better, worse string, err error) {
	if r.Prompt, err = promptText(f); err != nil {
		return
	}
	if better, err = lastTurn("chosen", chosen); err != nil {
		return
	}
	worse, err = lastTurn("rejected", rejected)
	return
}

func lastTurn(name string, v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	turns, err := turnsOf(name, v)
	if err != nil {
		return "", err
	}
	last := turns[len(turns)-1]
	if last.Role != Assistant {
		return "", faultf("end it with the answer of the assistant", "field %q does not end with a turn of the assistant", name)
	}
	return last.Text, nil
}

// afterCommon finds the prompt in what chosen and rejected both begin with:
// their turns, or, of plain strings, their words.
func afterCommon(r *trimtab.Ranking, chosen, rejected any) (better, worse string, err error) {
	c, cok := conversation(chosen)
	j, jok := conversation(rejected)
	if cok && jok {
		last := len(c) - 1
		if last < 1 || len(j) != len(c) || !slices.Equal(c[:last], j[:last]) || c[last].Role != Assistant || j[last].Role != Assistant {
			return "", "", faultf("give the prompt in a column of its own", "chosen and rejected differ before their last answer")
		}
		r.Prompt = Transcript(c[:last])
		return c[last].Text, j[last].Text, nil
	}
	if better, err = stringOf("chosen", chosen); err != nil {
		return
	}
	if worse, err = stringOf("rejected", rejected); err != nil {
		return
	}
	at := commonWords(better, worse)
	if r.Prompt = strings.TrimSpace(better[:at]); r.Prompt == "" {
		return "", "", faultf("add the column, or pass --map prompt=COLUMN", `field "prompt" is missing, and chosen and rejected have no beginning in common`)
	}
	return strings.TrimLeft(better[at:], " \n"), strings.TrimLeft(worse[at:], " \n"), nil
}

// conversation reads messages or a marked transcript.
func conversation(v any) ([]Turn, bool) {
	if s, ok := v.(string); ok {
		return ParseTranscript(s)
	}
	turns, err := turnsOf("", v)
	return turns, err == nil
}

// commonWords is the length of the longest common beginning that ends with a whole word.
func commonWords(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < max(len(a), len(b)) && !strings.ContainsRune(" \n\t", rune(a[n-1])) {
		n--
	}
	for n > 0 && n < len(a) && !utf8.RuneStart(a[n]) {
		n--
	}
	return n
}

// rankedItem is K responses with ranks, lower better.
func rankedItem(r trimtab.Ranking, f fields) (trimtab.Ranking, error) {
	var err error
	if r.Prompt, err = promptText(f); err != nil {
		return r, err
	}
	texts, err := textList(f, "responses")
	if err != nil {
		return r, err
	}
	name := f.first("rank", "ranks")
	if name == "" {
		return r, f.missing("rank")
	}
	list, err := f.list(name)
	if err != nil {
		return r, err
	}
	ranks := make([]float64, len(list))
	for i, v := range list {
		if ranks[i], err = number(nth(name, i), v); err != nil {
			return r, err
		}
	}
	r.Responses, r.Ranks = responsesOf(texts...), trimtab.DenseRanks(ranks)
	return r, nil
}

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
	votes, err := f.list("votes")
	if err != nil {
		return nil, err
	}
	var items []trimtab.Item
	for i, v := range votes {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, faultf(`write it as {"worker": …, "vote": …}`, "%s is %s, not an object", nth("vote", i), typeName(v))
		}
		vote := fieldsOf(m)
		ranks, err := voteRanks(nth("vote", i), vote.optional("vote"))
		if err != nil {
			return nil, err
		}
		if ranks != nil {
			r.Responses, r.Ranks, r.Labeller = responsesOf(texts...), ranks, labellerOf(vote)
			items = append(items, r)
		}
	}
	return items, nil
}

// voteRanks is the ranks of two responses; nil of a tie.
func voteRanks(name, vote string) ([]int, error) {
	switch strings.ToLower(vote) {
	case "a1", "1", "a", "first":
		return []int{1, 2}, nil
	case "a2", "2", "b", "second":
		return []int{2, 1}, nil
	case "equal", "tie", "0":
		return nil, nil
	}
	return nil, faultf("use 1, 2 or 0 for a tie", "%s is %q, which is not known", name, vote)
}

// annotatorItems is response1, response2 and the votes annotator1, annotator2 … of each: 1, 2, or 0 for a tie.
func annotatorItems(r trimtab.Ranking, f fields) ([]trimtab.Item, error) {
	var err error
	if r.Prompt, err = promptText(f); err != nil {
		return nil, err
	}
	first, err := f.text("response1")
	if err != nil {
		return nil, err
	}
	second, err := f.text("response2")
	if err != nil {
		return nil, err
	}
	var items []trimtab.Item
	votes := 0
	for _, name := range f.names {
		if !strings.HasPrefix(name, "annotator") || name == "annotator" {
			continue
		}
		votes++
		ranks, err := voteRanks("field \""+name+"\"", f.optional(name))
		if err != nil {
			return nil, err
		}
		if ranks != nil {
			r.Responses, r.Ranks, r.Labeller = responsesOf(first, second), ranks, name
			items = append(items, r)
		}
	}
	if votes == 0 {
		return nil, f.missing("annotator1")
	}
	return items, nil
}

// completionsItem is a list of {rank, completion}.
func completionsItem(r trimtab.Ranking, f fields) (trimtab.Ranking, error) {
	var err error
	if r.Prompt, err = promptText(f); err != nil {
		return r, err
	}
	list, err := f.list("completions")
	if err != nil {
		return r, err
	}
	var texts []string
	var ranks []float64
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return r, faultf(`write it as {"rank": …, "completion": …}`, "%s is %s, not an object", nth("completion", i), typeName(v))
		}
		rank, err := number(nth("rank of completion", i), m["rank"])
		if err != nil {
			return r, err
		}
		text, err := lastTurn(nth("completion", i), m["completion"])
		if err != nil {
			return r, err
		}
		texts, ranks = append(texts, text), append(ranks, rank)
	}
	r.Responses, r.Ranks = responsesOf(texts...), trimtab.DenseRanks(ranks)
	return r, nil
}

// summariesItem is a post, two summaries and the choice between them.
func summariesItem(r trimtab.Ranking, f fields) (trimtab.Ranking, error) {
	info, _ := f.byName["info"].(map[string]any)
	post := fieldsOf(info)
	var err error
	name := post.first("post", "article")
	if name == "" {
		return r, post.missing("post")
	}
	if r.Prompt, err = post.text(name); err != nil {
		return r, err
	}
	if title := post.optional("title"); title != "" {
		r.Prompt = title + between + r.Prompt
	}
	list, err := f.list("summaries")
	if err != nil {
		return r, err
	}
	choice, err := number("choice", f.byName["choice"])
	if err != nil {
		return r, err
	}
	texts := make([]string, len(list))
	for i, v := range list {
		m, _ := v.(map[string]any)
		if texts[i], err = fieldsOf(m).text("text"); err != nil {
			return r, err
		}
	}
	return bestOf(r, texts, choice, "choice")
}

// bestItem is sample0, sample1 … and the number of the best.
func bestItem(r trimtab.Ranking, f fields) (trimtab.Ranking, error) {
	var err error
	if r.Prompt, err = f.text("query"); err != nil {
		return r, err
	}
	var texts []string
	for _, name := range f.names {
		if !strings.HasPrefix(name, "sample") {
			continue
		}
		text, err := f.text(name)
		if err != nil {
			return r, err
		}
		texts = append(texts, text)
	}
	best, err := number("best", f.byName["best"])
	if err != nil {
		return r, err
	}
	return bestOf(r, texts, best, "best")
}

// bestOf ranks one of texts before all others.
func bestOf(r trimtab.Ranking, texts []string, best float64, name string) (trimtab.Ranking, error) {
	r.Responses, r.Ranks = responsesOf(texts...), make([]int, len(texts))
	for i := range texts {
		r.Ranks[i] = 2
		if float64(i) == best {
			r.Ranks[i] = 1
		}
	}
	if !slices.Contains(r.Ranks, 1) {
		return r, faultf("count from 0", "field %q is %v, but there are %d responses", name, best, len(texts))
	}
	return r, nil
}

// treeItems walks a tree of messages: each question whose answers have ranks is a ranking.
func treeItems(r trimtab.Ranking, f fields, root map[string]any) ([]trimtab.Item, error) {
	r.Group = cmp.Or(r.Group, f.optional("message_tree_id"))
	var items []trimtab.Item
	err := walk(root, nil, func(path []Turn, texts []string, ranks []float64) {
		r.Prompt, r.Responses, r.Ranks = Transcript(path), responsesOf(texts...), trimtab.DenseRanks(ranks)
		items = append(items, r)
	})
	return items, err
}

// walk calls found for each turn of the user with two or more ranked answers.
func walk(message map[string]any, before []Turn, found func([]Turn, []string, []float64)) error {
	turn, err := turnOf("message", message)
	if err != nil {
		return err
	}
	path := append(slices.Clone(before), turn)
	var texts []string
	var ranks []float64
	replies, _ := message["replies"].([]any)
	for i, v := range replies {
		reply, ok := v.(map[string]any)
		if !ok {
			return faultf("leave the record out", "%s is %s, not a message", nth("reply", i), typeName(v))
		}
		if rank, err := number("rank", reply["rank"]); err == nil && turn.Role == User {
			if text, ok := reply["text"].(string); ok {
				texts, ranks = append(texts, text), append(ranks, rank)
			}
		}
	}
	if len(texts) > 1 {
		found(path, texts, ranks)
	}
	for _, v := range replies {
		if err := walk(v.(map[string]any), path, found); err != nil {
			return err
		}
	}
	return nil
}
