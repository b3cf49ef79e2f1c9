package dataset

import (
	"strings"

	"github.com/trimtab/trimtab"
)

func textItem(f fields) (trimtab.Text, error) {
	if f.exists("text") || f.first("messages", "conversations") == "" {
		s, err := f.text("text")
		return trimtab.Text{Body: s}, err
	}
	name := f.first("messages", "conversations")
	turns, err := turnsOf(name, f.byName[name])
	return trimtab.Text{Body: strings.TrimSuffix(Transcript(turns), between+assistantMark)}, err
}

func promptItem(f fields) (trimtab.Prompt, error) {
	split, err := splitOf(f)
	if err != nil {
		return trimtab.Prompt{}, err
	}
	name := f.first("prompt", "instruction", "question", "messages", "conversations", "context", "query", "input")
	if name == "" {
		return trimtab.Prompt{}, f.missing("prompt")
	}
	turns, err := asked(f, name)
	if err != nil {
		return trimtab.Prompt{}, err
	}
	for len(turns) > 0 && turns[len(turns)-1].Role == Assistant {
		turns = turns[:len(turns)-1]
	}
	if len(turns) == 0 {
		return trimtab.Prompt{}, faultf("leave the record out", "field %q has no turn of the user", name)
	}
	return trimtab.Prompt{Text: Transcript(turns), Split: split, Tag: f.optional("tag")}, nil
}

// asked is the conversation up to the answer, as column name has it: an
// instruction comes with its input, its system text and its history.
func asked(f fields, name string) ([]Turn, error) {
	if name != "instruction" {
		turns, err := turnsOf(name, f.byName[name])
		if n := len(turns) - 1; n > 0 && turns[n] == (Turn{Role: Assistant}) {
			turns = turns[:n] // "Assistant:" at the end of a transcript only asks
		}
		if system := f.optional("system"); err == nil && system != "" && turns[0].Role != System {
			turns = append([]Turn{{System, system}}, turns...)
		}
		return turns, err
	}
	text, err := f.text(name)
	if err != nil {
		return nil, err
	}
	if input := f.optional("input"); input != "" {
		text += "\n" + input
	}
	turns, err := history(f)
	return append(turns, Turn{User, text}), err
}

// history is the system text and the [question, answer] pairs before an instruction.
func history(f fields) ([]Turn, error) {
	var turns []Turn
	if s := f.optional("system"); s != "" {
		turns = append(turns, Turn{System, s})
	}
	if !f.has("history") {
		return turns, nil
	}
	list, err := f.list("history")
	if err != nil {
		return nil, err
	}
	for i, v := range list {
		pair, _ := v.([]any)
		if len(pair) != 2 {
			return nil, faultf("write history as [[question, answer], …]", "%s is not a pair", nth("history", i))
		}
		q, err := stringOf("history", pair[0])
		if err != nil {
			return nil, err
		}
		a, err := stringOf("history", pair[1])
		if err != nil {
			return nil, err
		}
		turns = append(turns, Turn{User, q}, Turn{Assistant, a})
	}
	return turns, nil
}

// demonstrationItems reads one record; conversations and instances give one
// demonstration for each answer.
func demonstrationItems(f fields) ([]trimtab.Item, error) {
	split, err := splitOf(f)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"label", "kto_tag"} {
		if v := f.byName[name]; v == false || strings.EqualFold(f.optional(name), "false") {
			return nil, faultf("import it as part of a ranking", "field %q is false: the completion is not one to learn from", name)
		}
	}
	answers, err := answersOf(f)
	if err != nil {
		return nil, err
	}
	items := make([]trimtab.Item, len(answers))
	for i, a := range answers {
		items[i] = trimtab.Demonstration{Prompt: a.prompt, Response: a.response, Demonstrator: f.optional("demonstrator"), Split: split}
	}
	return items, nil
}

type answer struct{ prompt, response string }

func answersOf(f fields) ([]answer, error) {
	switch {
	case f.has("instances"):
		return instances(f)
	case f.first("messages", "conversations") != "" && !f.exists("completion"):
		return spoken(f, f.first("messages", "conversations"))
	}
	for _, columns := range [][2]string{{"prompt", "completion"}, {"instruction", "output"}, {"question", "answer"}, {"input", "output"}} {
		if f.exists(columns[0]) && f.exists(columns[1]) {
			return answered(f, columns[0], columns[1])
		}
	}
	for _, columns := range [][2]string{{"instruction", "output"}, {"question", "answer"}} {
		if f.exists(columns[0]) {
			return nil, f.missing(columns[1])
		}
	}
	if f.exists("prompt") {
		return nil, f.missing("completion")
	}
	return nil, f.missing("prompt")
}

// answered is one question and its answer, in two columns.
func answered(f fields, question, reply string) ([]answer, error) {
	turns, err := asked(f, question)
	if err != nil {
		return nil, err
	}
	response, err := responseText(reply, f.byName[reply])
	return []answer{{Transcript(turns), response}}, err
}

// responseText reads an answer: a string, a message, or a list of one message.
func responseText(name string, v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	turns, err := turnsOf(name, v)
	if err != nil {
		return "", err
	}
	if len(turns) != 1 || turns[0].Role != Assistant {
		return "", faultf("give one message of the assistant", "field %q is not one message of the assistant", name)
	}
	return turns[0].Text, nil
}

// spoken is each answer of a conversation, asked by all that came before it.
func spoken(f fields, name string) ([]answer, error) {
	turns, err := asked(f, name)
	if err != nil {
		return nil, err
	}
	var out []answer
	for i, t := range turns {
		if t.Role == Assistant && i > 0 {
			out = append(out, answer{Transcript(turns[:i]), t.Text})
		}
	}
	if len(out) == 0 {
		return nil, faultf("leave the record out", "field %q has no answer of the assistant", name)
	}
	return out, nil
}

// instances are inputs and outputs of one instruction.
func instances(f fields) ([]answer, error) {
	instruction, err := f.text("instruction")
	if err != nil {
		return nil, err
	}
	list, err := f.list("instances")
	if err != nil {
		return nil, err
	}
	var out []answer
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, faultf(`write it as {"input": …, "output": …}`, "%s is %s, not an object", nth("instance", i), typeName(v))
		}
		one := map[string]any{"instruction": instruction}
		for _, name := range []string{"input", "output"} {
			if v, ok := m[name]; ok {
				one[name] = v
			}
		}
		if _, ok := one["output"]; !ok {
			return nil, fieldsOf(m).missing("output")
		}
		a, err := answered(fieldsOf(one), "instruction", "output")
		if err != nil {
			return nil, err
		}
		out = append(out, a...)
	}
	return out, nil
}
