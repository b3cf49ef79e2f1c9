package dataset

import (
	"strings"
)

// Turn is one part of a conversation.
type Turn struct {
	Role string // "user", "assistant" or "system"
	Text string
}

// The roles of a Turn.
const (
	User      = "user"
	Assistant = "assistant"
	System    = "system"
)

// roles of other tools, by what they are to us.
var roles = map[string]string{
	"user": User, "human": User, "prompter": User,
	"assistant": Assistant, "gpt": Assistant, "chatgpt": Assistant, "bot": Assistant, "model": Assistant,
	"system": System, "developer": System,
}

const (
	humanMark     = "Human:"
	assistantMark = "Assistant:"
	between       = "\n\n"
)

// Transcript is a conversation as one text. A single question stands for
// itself; of a longer conversation each turn is led by "Human: " or
// "Assistant: ", turns are parted by an empty line, and after a last turn of
// the user "Assistant:" asks for the answer. What the system says stands
// first, unmarked.
func Transcript(turns []Turn) string {
	var parts []string
	for len(turns) > 0 && turns[0].Role == System {
		parts, turns = append(parts, strings.TrimSpace(turns[0].Text)), turns[1:]
	}
	if len(turns) == 1 && turns[0].Role == User {
		return strings.Join(append(parts, turns[0].Text), between)
	}
	for _, t := range turns {
		mark := map[string]string{User: humanMark + " ", Assistant: assistantMark + " "}[t.Role]
		parts = append(parts, mark+strings.TrimSpace(t.Text))
	}
	if len(turns) > 0 && turns[len(turns)-1].Role == User {
		parts = append(parts, assistantMark)
	}
	return strings.Join(parts, between)
}

// ParseTranscript reads a text whose turns begin with "\n\nHuman:" and
// "\n\nAssistant:". It reports false when there is no such mark.
func ParseTranscript(s string) ([]Turn, bool) {
	rest := between + strings.TrimLeft(s, "\n")
	var turns []Turn
	role := System
	for {
		at, mark := nextMark(rest)
		if at < 0 {
			break
		}
		turns = appendTurn(turns, role, rest[:at])
		role, rest = map[string]string{humanMark: User, assistantMark: Assistant}[mark], rest[at+len(between)+len(mark):]
	}
	if role == System {
		return nil, false
	}
	return append(turns, Turn{role, strings.TrimSpace(rest)}), true
}

// appendTurn leaves out an empty beginning before the first mark.
func appendTurn(turns []Turn, role, text string) []Turn {
	if text = strings.TrimSpace(text); role == System && text == "" {
		return turns
	}
	return append(turns, Turn{role, text})
}

func nextMark(s string) (int, string) {
	h, a := strings.Index(s, between+humanMark), strings.Index(s, between+assistantMark)
	if h >= 0 && (a < 0 || h < a) {
		return h, humanMark
	}
	return a, assistantMark
}

// turnsOf reads a string, a message or a list of messages.
func turnsOf(name string, v any) ([]Turn, error) {
	switch v := v.(type) {
	case string:
		if turns, ok := ParseTranscript(v); ok && strings.Contains(v, between+humanMark) {
			return turns, nil
		}
		return []Turn{{User, v}}, nil
	case map[string]any:
		t, err := turnOf(name, v)
		return []Turn{t}, err
	case []any:
		turns := make([]Turn, 0, len(v))
		for i, message := range v {
			m, ok := message.(map[string]any)
			if !ok {
				return nil, faultf(`write messages as {"role": …, "content": …}`, "%s is %s, not a message", nth("field \""+name+"\" message", i), typeName(message))
			}
			t, err := turnOf(nth(name+" message", i), m)
			if err != nil {
				return nil, err
			}
			turns = append(turns, t)
		}
		if len(turns) == 0 {
			return nil, faultf("leave the record out", "field %q is an empty list", name)
		}
		return turns, nil
	}
	return nil, faultf("write it as a string or a list of messages", "field %q is %s, not a string or messages", name, typeName(v))
}

// turnOf reads {role, content}, {from, value} or {role, text}.
func turnOf(name string, m map[string]any) (Turn, error) {
	f := fieldsOf(m)
	theirs := f.optional("role", "from")
	role, ok := roles[strings.ToLower(theirs)]
	if !ok {
		return Turn{}, faultf("leave the record out, or write the turn as one of user, assistant or system", "%s has the role %q, which is not known", name, theirs)
	}
	for _, key := range []string{"content", "value", "text"} {
		if !f.exists(key) {
			continue
		}
		text, err := contentOf(name, f.byName[key])
		return Turn{role, text}, err
	}
	return Turn{}, f.missing("content")
}

// contentOf reads a string, or parts of type text.
func contentOf(name string, v any) (string, error) {
	parts, ok := v.([]any)
	if !ok {
		return stringOf(name, v)
	}
	var b strings.Builder
	for _, part := range parts {
		m, _ := part.(map[string]any)
		text, ok := m["text"].(string)
		if !ok {
			return "", faultf("leave the record out: only text can be learned from", "%s holds a part that is not text", name)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}
