package dataset

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
)

// textItem reads a record as a text. A conversation becomes its transcript,
// without a last request for an answer.
//
//	{"text": "Once upon a time …"}
func textItem(f fields) (trimtab.Text, error) {
	name := f.firstWithValue("messages", "conversations")
	if f.hasValue("text") || name == "" {
		s, err := f.text("text")
		return trimtab.Text{Body: s}, err
	}
	c, err := parseTurns(name, f.byName[name])
	if err != nil {
		return trimtab.Text{}, err
	}
	body, err := c.promptText()
	return trimtab.Text{Body: strings.TrimSuffix(body, turnSeparator+assistantPrefix)}, err
}

// promptItem reads a record as a prompt. Of a conversation, answers at the end
// are dropped: what is left ends with a question.
func promptItem(f fields) (p trimtab.Prompt, err error) {
	if p.Split, err = readSplit(f); err != nil {
		return p, err
	}
	if p.Tag, err = f.optional("tag"); err != nil {
		return p, err
	}
	name := f.firstWithValue("prompt", "instruction", "question", "messages", "conversations",
		"context", "query", "input")
	if name == "" {
		return p, f.missingError("prompt")
	}
	c, err := promptConversation(f, name)
	if err != nil {
		return p, err
	}
	for len(c.turns) > 0 && c.turns[len(c.turns)-1].Role == Assistant {
		c.turns = c.turns[:len(c.turns)-1]
	}
	if len(c.turns) == 0 {
		return p, recordErrorf("leave the record out", "field %q has no turn of the user", name)
	}
	p.Text, err = c.promptText()
	return p, err
}

// RoundTrips reports whether a prompt that is written into the column prompt of
// a JSON line is read back as itself. If not, the line needs the column
// "verbatim": true; export writes it.
func RoundTrips(kind trimtab.Kind, prompt string) bool {
	if !strings.Contains(prompt, turnSeparator+humanPrefix) {
		return true
	}
	f := newFields(map[string]any{"prompt": prompt})
	if kind == trimtab.KindPrompts {
		p, err := promptItem(f)
		return err == nil && p.Text == prompt
	}
	text, err := promptText(f)
	return err == nil && text == prompt
}

// readVerbatim reads the column verbatim: whether a prompt that is a string is
// plain text throughout, even if it contains prefixes of turns.
func readVerbatim(f fields) (bool, error) {
	switch v := f.byName["verbatim"].(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case string: // as a table has it
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true":
			return true, nil
		case "false", "":
			return false, nil
		}
	}
	return false, recordErrorf("write true or false, or leave it out with --map verbatim="+NoColumn,
		"field %q is %s, which does not say whether the prompt is text as it stands", "verbatim",
		quotedValue(f.byName["verbatim"]))
}

// promptConversation returns the conversation up to the answer, from column
// name. An instruction comes with its input, its system text and its history.
func promptConversation(f fields, name string) (c conversation, err error) {
	system, err := f.optional("system")
	if err != nil {
		return c, err
	}
	if name == "instruction" {
		return instructionConversation(f, system)
	}
	asText, err := readVerbatim(f)
	if err != nil {
		return c, err
	}
	if s, ok := f.byName[name].(string); ok && asText {
		c = conversation{turns: []Turn{{User, s}}, plain: true}
	} else if c, err = parseTurns(name, f.byName[name]); err != nil {
		return c, err
	}
	// "Assistant:" at the end of a transcript asks for an answer and is none.
	if n := len(c.turns) - 1; n > 0 && c.turns[n] == (Turn{Role: Assistant}) {
		c.turns = c.turns[:n]
	}
	// The conversation's own system message wins over the column's.
	if system != "" && c.turns[0].Role != System {
		c.turns = append([]Turn{{System, system}}, c.turns...)
	}
	return c, nil
}

// instructionConversation returns an instruction with its input, after its
// system text and history: Alpaca's columns and those of its derivatives.
//
//	{"system": "S", "history": [["Q1", "A1"]], "instruction": "I", "input": "i"}
func instructionConversation(f fields, system string) (c conversation, err error) {
	text, err := f.text("instruction")
	if err != nil {
		return c, err
	}
	input, err := f.optional("input")
	if err != nil {
		return c, err
	}
	if input != "" {
		text += "\n" + input
	}
	if system != "" {
		c.turns = append(c.turns, Turn{System, system})
	}
	before, err := readHistory(f)
	c.turns = append(append(c.turns, before...), Turn{User, text})
	c.plain = len(before) == 0
	return c, err
}

// readHistory reads the [question, answer] pairs before an instruction.
func readHistory(f fields) ([]Turn, error) {
	if !f.hasValue("history") {
		return nil, nil
	}
	list, err := f.list("history")
	if err != nil {
		return nil, err
	}
	var turns []Turn
	for i, v := range list {
		pair, _ := v.([]any)
		if len(pair) != 2 {
			return nil, recordErrorf("write history as [[question, answer], …]", "%s is not a pair", nth("history", i))
		}
		q, err := asString("history", pair[0])
		if err != nil {
			return nil, err
		}
		a, err := asString("history", pair[1])
		if err != nil {
			return nil, err
		}
		turns = append(turns, Turn{User, q}, Turn{Assistant, a})
	}
	return turns, nil
}

// demonstrationItems reads a record as demonstrations: conversations and
// instances give one for each answer.
func demonstrationItems(f fields) ([]trimtab.Item, error) {
	split, err := readSplit(f)
	if err != nil {
		return nil, err
	}
	who, err := f.optional("demonstrator")
	if err != nil {
		return nil, err
	}
	if err := checkDesirable(f); err != nil {
		return nil, err
	}
	answers, err := readAnswers(f)
	if err != nil {
		return nil, err
	}
	items := make([]trimtab.Item, len(answers))
	for i, a := range answers {
		items[i] = trimtab.Demonstration{Prompt: a.prompt, Response: a.response, Demonstrator: who, Split: split}
	}
	return items, nil
}

// Labels of a completion that is, or is not, one to imitate, besides true,
// false and numbers.
var (
	desirableWords   = []string{"true", "t", "yes", "y", "good", "desirable", "chosen", "positive", "1", "1.0"}
	undesirableWords = []string{"false", "f", "no", "n", "bad", "undesirable", "rejected", "negative",
		"0", "0.0", "-1", "-1.0"}
)

// checkDesirable refuses a completion that its label calls undesirable, as
// datasets for KTO do: imitating it is the opposite of what the label says.
func checkDesirable(f fields) error {
	for _, name := range []string{"label", "kto_tag"} {
		if !f.hasValue(name) {
			continue
		}
		var word string
		switch v := f.byName[name].(type) {
		case bool:
			word = strconv.FormatBool(v)
		case string:
			word = strings.ToLower(strings.TrimSpace(v))
		case json.Number:
			word = v.String()
			// Numbers have several spellings (0.00, -1e0). Adding 0 turns -0 into 0.
			if number, err := v.Float64(); err == nil {
				word = strconv.FormatFloat(number+0, 'f', -1, 64)
			}
		}
		switch {
		case slices.Contains(undesirableWords, word):
			return recordErrorf("import it as part of a ranking",
				"field %q is %s: the completion is not one to train on", name, quotedValue(f.byName[name]))
		case !slices.Contains(desirableWords, word):
			remedy := fmt.Sprintf("write true or false, or pass --map %s=%s if it means something else", name, NoColumn)
			return recordErrorf(remedy, "field %q is %s, which does not say whether the completion is one to train on",
				name, quotedValue(f.byName[name]))
		}
	}
	return nil
}

// quotedValue shows a value in a message: a string in quotes, or its type.
func quotedValue(v any) string {
	if s, ok := v.(string); ok {
		return strconv.Quote(s)
	}
	return typeName(v)
}

// answer is a response and the prompt that it answers.
type answer struct{ prompt, response string }

// questionColumns are the pairs of columns that hold a question and its answer,
// in order of preference.
var questionColumns = [][2]string{
	{"prompt", "completion"},
	{"instruction", "output"},
	{"question", "answer"},
	{"input", "output"},
}

// readAnswers returns every prompt of a record with its response.
func readAnswers(f fields) ([]answer, error) {
	if f.hasValue("instances") {
		return readInstances(f)
	}
	if name := f.firstWithValue("messages", "conversations"); name != "" && !f.hasValue("completion") {
		return conversationAnswers(f, name)
	}
	for _, q := range questionColumns {
		if f.hasValue(q[0]) && f.hasValue(q[1]) {
			return questionAnswer(f, q[0], q[1])
		}
	}
	return nil, noAnswerError(f)
}

// noAnswerError says what a record without a question and answer lacks, by the
// columns that it has.
func noAnswerError(f fields) error {
	// An empty or broken conversation: parsing it says what is wrong.
	for _, name := range []string{"messages", "conversations"} {
		if f.exists(name) && !f.exists("completion") {
			_, err := parseTurns(name, f.byName[name])
			return err
		}
	}
	for _, q := range questionColumns {
		switch {
		case f.hasValue(q[0]):
			if q[0] == "input" {
				return f.missingError("prompt")
			}
			return f.missingError(q[1])
		case f.hasValue(q[1]) && f.exists(q[0]):
			return f.missingError(q[0])
		}
	}
	return f.missingError("prompt")
}

// questionAnswer reads one question and its answer from two columns.
//
//	{"prompt": "Q", "completion": "A"}
func questionAnswer(f fields, question, reply string) ([]answer, error) {
	c, err := promptConversation(f, question)
	if err != nil {
		return nil, err
	}
	prompt, err := c.promptText()
	if err != nil {
		return nil, err
	}
	response, err := responseText(reply, f.byName[reply])
	return []answer{{prompt, response}}, err
}

// responseText reads an answer: a string, a message, or a list of one message.
func responseText(name string, v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	c, err := parseTurns(name, v)
	if err != nil {
		return "", err
	}
	if len(c.turns) != 1 || c.turns[0].Role != Assistant {
		return "", recordErrorf("give one message of the assistant",
			"field %q is not one message of the assistant", name)
	}
	return c.turns[0].Text, nil
}

// conversationAnswers returns each answer of a conversation, prompted by all
// turns before it. Its size is quadratic in the length of the conversation,
// hence the limit MaxItems.
//
//	{"messages": [{"role": "user", "content": "Q"},
//	              {"role": "assistant", "content": "A"}]}
func conversationAnswers(f fields, name string) ([]answer, error) {
	c, err := promptConversation(f, name)
	if err != nil {
		return nil, err
	}
	var out []answer
	size := 0
	for i, t := range c.turns {
		// A conversation that the assistant opens has no prompt for its first turn.
		if t.Role != Assistant || i == 0 {
			continue
		}
		prompt, err := conversation{turns: c.turns[:i]}.promptText()
		if err != nil {
			return nil, err
		}
		if size += len(prompt) + len(t.Text); size > MaxItems {
			return nil, tooLargeError()
		}
		out = append(out, answer{prompt, t.Text})
	}
	if len(out) == 0 {
		return nil, recordErrorf("leave the record out", "field %q has no answer of the assistant", name)
	}
	return out, nil
}

// readInstances reads the inputs and outputs of one instruction (the form of
// Self-Instruct).
//
//	{"instruction": "I", "instances": [{"input": "i", "output": "A"}]}
func readInstances(f fields) ([]answer, error) {
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
			return nil, recordErrorf(`write it as {"input": …, "output": …}`, "%s is %s, not an object",
				nth("instance", i), typeName(v))
		}
		one := map[string]any{"instruction": instruction}
		for _, name := range []string{"input", "output"} {
			if v, ok := m[name]; ok {
				one[name] = v
			}
		}
		if one["output"] == nil {
			return nil, newFields(m).missingError("output")
		}
		a, err := questionAnswer(newFields(one), "instruction", "output")
		if err != nil {
			return nil, err
		}
		out = append(out, a...)
	}
	return out, nil
}
