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

// roleAliases of other tools, by what they are to us.
var roleAliases = map[string]string{
	"user": User, "human": User, "prompter": User,
	"assistant": Assistant, "gpt": Assistant, "chatgpt": Assistant, "bot": Assistant, "model": Assistant,
	"system": System, "developer": System,
}

const (
	humanPrefix     = "Human:"
	assistantPrefix = "Assistant:"
	turnSeparator   = "\n\n"
)

// Transcript is a conversation as one text. A single question stands for
// itself; of a longer conversation each turn is led by "Human: " or
// "Assistant: ", turns are parted by an empty line, and after a last turn of
// the user "Assistant:" asks for the answer. What the system says stands
// first, unmarked. Space around a turn is not kept.
func Transcript(turns []Turn) string {
	var parts []string
	for len(turns) > 0 && turns[0].Role == System {
		parts, turns = append(parts, strings.TrimSpace(turns[0].Text)), turns[1:]
	}
	if len(turns) == 1 && turns[0].Role == User {
		return strings.Join(append(parts, turns[0].Text), turnSeparator)
	}
	for _, t := range turns {
		mark := map[string]string{User: humanPrefix + " ", Assistant: assistantPrefix + " "}[t.Role]
		parts = append(parts, mark+strings.TrimSpace(t.Text))
	}
	if len(turns) > 0 && turns[len(turns)-1].Role == User {
		parts = append(parts, assistantPrefix)
	}
	return strings.Join(parts, turnSeparator)
}

// ParseTranscript reads a text whose turns begin with "\n\nHuman:" and
// "\n\nAssistant:". It reports false when there is no such mark.
func ParseTranscript(s string) ([]Turn, bool) {
	rest := turnSeparator + strings.TrimLeft(s, "\n")
	var turns []Turn
	role := System
	for {
		at, mark := nextTurnPrefix(rest)
		if at < 0 {
			break
		}
		turns = appendTurn(turns, role, rest[:at])
		role, rest = map[string]string{humanPrefix: User,
			assistantPrefix: Assistant}[mark], rest[at+len(turnSeparator)+len(mark):]
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

func nextTurnPrefix(s string) (int, string) {
	h, a := strings.Index(s, turnSeparator+humanPrefix), strings.Index(s, turnSeparator+assistantPrefix)
	if h >= 0 && (a < 0 || h < a) {
		return h, humanPrefix
	}
	return a, assistantPrefix
}

// isTranscript reports whether a text is a conversation in the form of the set
// Anthropic HH: it begins with a mark, or ends by asking for the answer, and
// has a turn of the user after an empty line. Marks elsewhere are text.
func isTranscript(s string) bool {
	if !strings.Contains(s, turnSeparator+humanPrefix) {
		return false
	}
	begin := strings.TrimLeft(s, "\n")
	return strings.HasPrefix(begin, humanPrefix) || strings.HasPrefix(begin, assistantPrefix) ||
		strings.HasSuffix(strings.TrimRight(s, " \n"), turnSeparator+assistantPrefix)
}

// conversation is turns, and where they come from.
type conversation struct {
	turns []Turn
	plain bool // a text of its own, not messages: whatever it holds is text
}

// promptText is the conversation as the text of a prompt. Messages that this form
// would lose or read as other turns are an error.
func (c conversation) promptText() (string, error) {
	turns := c.turns
	for len(turns) > 0 && turns[0].Role == System {
		if startsWithPrefix(turns[0].Text) && !c.plain {
			return "", ambiguousTurn(turns[0])
		}
		turns = turns[1:]
	}
	if c.plain && len(turns) == 1 {
		return Transcript(c.turns), nil
	}
	for i, t := range c.turns {
		if i >= len(c.turns)-len(turns) && t.Role == System {
			return "", recordErrorf("put it first, or leave the record out",
				"a message of the system stands after the first turn, where a prompt cannot say who spoke")
		}
		if at, _ := nextTurnPrefix(t.Text); at >= 0 {
			return "", ambiguousTurn(t)
		}
	}
	if len(turns) == 1 && len(c.turns) > 1 && startsWithPrefix(turns[0].Text) {
		return "", ambiguousTurn(turns[0])
	}
	return Transcript(c.turns), nil
}

// startsWithPrefix reports whether a text would be led by a mark that nobody gave it.
func startsWithPrefix(s string) bool {
	at, _ := nextTurnPrefix(turnSeparator + strings.TrimSpace(s))
	return at == 0
}

func ambiguousTurn(t Turn) error {
	at, mark := nextTurnPrefix(turnSeparator + strings.TrimSpace(t.Text))
	if at < 0 {
		mark = humanPrefix
	}
	return recordErrorf("leave the record out",
		"a message of the %s holds a paragraph that begins with %q, as turns of the prompt do: it would be read as "+
			"another turn", t.Role, mark)
}

// parseTurns reads a string, a message or a list of messages.
func parseTurns(name string, v any) (conversation, error) {
	switch v := v.(type) {
	case string:
		if turns, ok := ParseTranscript(v); ok && isTranscript(v) {
			return conversation{turns: turns}, nil
		}
		return conversation{turns: []Turn{{User, v}}, plain: true}, nil
	case map[string]any:
		t, err := parseTurn(name, v)
		return conversation{turns: []Turn{t}}, err
	case []any:
		turns := make([]Turn, 0, len(v))
		for i, message := range v {
			m, ok := message.(map[string]any)
			if !ok {
				return conversation{}, recordErrorf(`write messages as {"role": …, "content": …}`,
					"%s is %s, not a message", nth("field \""+name+"\" message", i), typeName(message))
			}
			t, err := parseTurn(nth(name+" message", i), m)
			if err != nil {
				return conversation{}, err
			}
			turns = append(turns, t)
		}
		if len(turns) == 0 {
			return conversation{}, recordErrorf("leave the record out", "field %q is an empty list", name)
		}
		return conversation{turns: turns}, nil
	}
	return conversation{}, recordErrorf("write it as a string or a list of messages",
		"field %q is %s, not a string or messages", name, typeName(v))
}

// parseTurn reads {role, content}, {from, value} or {role, text}.
func parseTurn(name string, m map[string]any) (Turn, error) {
	f := newFields(m)
	theirs, err := f.optional("role", "from")
	if err != nil {
		return Turn{}, err
	}
	role, ok := roleAliases[strings.ToLower(theirs)]
	if !ok {
		return Turn{}, recordErrorf("leave the record out, or write the turn as one of user, assistant or system",
			"%s has the role %q, which is not known", name, theirs)
	}
	if f.hasValue("tool_calls") || f.hasValue("function_call") {
		return Turn{}, recordErrorf("leave the record out: only text can be learned from", "%s calls a tool", name)
	}
	key := f.firstWithValue("content", "value", "text")
	for _, k := range []string{"content", "value", "text"} {
		if key == "" && f.exists(k) {
			key = k
		}
	}
	if key == "" {
		return Turn{}, recordErrorf("give it a text, or leave the record out", "%s has no text", name)
	}
	text, err := parseContent(name, f.byName[key])
	return Turn{role, text}, err
}

// parseContent reads a string, or parts of type text.
func parseContent(name string, v any) (string, error) {
	parts, ok := v.([]any)
	if !ok {
		return asString(name, v)
	}
	var b strings.Builder
	for _, part := range parts {
		m, _ := part.(map[string]any)
		text, ok := m["text"].(string)
		if !ok {
			return "", recordErrorf("leave the record out: only text can be learned from",
				"%s holds a part that is not text", name)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}
