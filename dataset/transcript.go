package dataset

import (
	"strings"
)

// Turn is one message of a conversation.
type Turn struct {
	// Role is User, Assistant or System.
	Role string
	Text string
}

// The roles of a Turn.
const (
	User      = "user"
	Assistant = "assistant"
	System    = "system"
)

// roleAliases maps the names of roles in other tools to ours, in lower case.
var roleAliases = map[string]string{
	"user": User, "human": User, "prompter": User,
	"assistant": Assistant, "gpt": Assistant, "chatgpt": Assistant, "bot": Assistant, "model": Assistant,
	"system": System, "developer": System,
}

// The parts of a transcript.
const (
	humanPrefix     = "Human:"
	assistantPrefix = "Assistant:"
	turnSeparator   = "\n\n"
)

// Transcript writes a conversation as one text. A single question is its own
// text. In a longer conversation each turn begins with "Human:" or "Assistant:"
// and a space, turns are separated by an empty line, and after a last turn of
// the user "Assistant:" asks for the answer. System messages come first,
// without a prefix. White space around a turn is dropped.
//
// The form follows Anthropic's HH dataset. Models are trained on it and digests
// of items depend on it, so it must not change.
func Transcript(turns []Turn) string {
	var parts []string
	for len(turns) > 0 && turns[0].Role == System {
		parts, turns = append(parts, strings.TrimSpace(turns[0].Text)), turns[1:]
	}
	if len(turns) == 1 && turns[0].Role == User {
		return strings.Join(append(parts, turns[0].Text), turnSeparator)
	}
	for _, t := range turns {
		prefix := map[string]string{User: humanPrefix + " ", Assistant: assistantPrefix + " "}[t.Role]
		parts = append(parts, prefix+strings.TrimSpace(t.Text))
	}
	if len(turns) > 0 && turns[len(turns)-1].Role == User {
		parts = append(parts, assistantPrefix)
	}
	return strings.Join(parts, turnSeparator)
}

// ParseTranscript reads a text whose turns begin with "\n\nHuman:" and
// "\n\nAssistant:". It reports false if there is no such prefix. Text before
// the first one is a system message.
func ParseTranscript(s string) ([]Turn, bool) {
	rest := turnSeparator + strings.TrimLeft(s, "\n")
	var turns []Turn
	role := System
	for {
		at, prefix := nextTurnPrefix(rest)
		if at < 0 {
			break
		}
		turns = appendTurn(turns, role, rest[:at])
		role = map[string]string{humanPrefix: User, assistantPrefix: Assistant}[prefix]
		rest = rest[at+len(turnSeparator)+len(prefix):]
	}
	if role == System {
		return nil, false
	}
	return append(turns, Turn{role, strings.TrimSpace(rest)}), true
}

// appendTurn appends a turn, but for an empty text before the first prefix.
func appendTurn(turns []Turn, role, text string) []Turn {
	if text = strings.TrimSpace(text); role == System && text == "" {
		return turns
	}
	return append(turns, Turn{role, text})
}

// nextTurnPrefix finds the first prefix of a turn after an empty line. It
// returns the offset of that empty line, or -1.
func nextTurnPrefix(s string) (int, string) {
	human := strings.Index(s, turnSeparator+humanPrefix)
	assistant := strings.Index(s, turnSeparator+assistantPrefix)
	if human >= 0 && (assistant < 0 || human < assistant) {
		return human, humanPrefix
	}
	return assistant, assistantPrefix
}

// isTranscript reports whether a string is a conversation in the form of
// Anthropic's HH dataset rather than plain text: it begins with a prefix or
// ends by asking for the answer, and has a turn of the user after an empty
// line. Prefixes elsewhere are ordinary text.
func isTranscript(s string) bool {
	if !strings.Contains(s, turnSeparator+humanPrefix) {
		return false
	}
	begin := strings.TrimLeft(s, "\n")
	return strings.HasPrefix(begin, humanPrefix) || strings.HasPrefix(begin, assistantPrefix) ||
		strings.HasSuffix(strings.TrimRight(s, " \n"), turnSeparator+assistantPrefix)
}

// conversation is a list of turns and how it was given.
type conversation struct {
	turns []Turn
	// plain marks a text that was given as such and not as messages: nothing in
	// it is read as a turn.
	plain bool
}

// promptText returns the conversation as the text of a prompt. Messages that
// this form would lose, or that would read back as other turns, are an error:
// otherwise the text of a user could pose as a turn of the assistant.
func (c conversation) promptText() (string, error) {
	turns := c.turns
	for len(turns) > 0 && turns[0].Role == System {
		if startsWithPrefix(turns[0].Text) && !c.plain {
			return "", ambiguousTurn(turns[0])
		}
		turns = turns[1:]
	}
	// A single plain question is its own text, so nothing in it can be misread.
	if c.plain && len(turns) == 1 {
		return Transcript(c.turns), nil
	}
	for i, t := range c.turns {
		// Only the leading system messages have a place in the transcript.
		if i >= len(c.turns)-len(turns) && t.Role == System {
			return "", recordErrorf("put it first, or leave the record out",
				"a system message comes after the first turn, where a prompt cannot show who spoke")
		}
		if at, _ := nextTurnPrefix(t.Text); at >= 0 {
			return "", ambiguousTurn(t)
		}
	}
	// The one turn after a system message is written without a prefix of its own.
	if len(turns) == 1 && len(c.turns) > 1 && startsWithPrefix(turns[0].Text) {
		return "", ambiguousTurn(turns[0])
	}
	return Transcript(c.turns), nil
}

// startsWithPrefix reports whether a text, put into a transcript without a
// prefix, would be read as a turn. System messages, and a single question after
// them, have none.
func startsWithPrefix(s string) bool {
	at, _ := nextTurnPrefix(turnSeparator + strings.TrimSpace(s))
	return at == 0
}

// ambiguousTurn returns the error of a message that contains a prefix of turns.
func ambiguousTurn(t Turn) error {
	at, prefix := nextTurnPrefix(turnSeparator + strings.TrimSpace(t.Text))
	if at < 0 {
		prefix = humanPrefix
	}
	return recordErrorf("leave the record out", "a message of the %s contains a paragraph that begins with %q, "+
		"like the turns of a prompt: it would be read as another turn", t.Role, prefix)
}

// parseTurns reads the value of a column as a conversation: a string, a message
// or a list of messages.
func parseTurns(name string, v any) (conversation, error) {
	switch v := v.(type) {
	case string:
		// Datasets such as HH store whole conversations in one string.
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

// parseTurn reads one message: {role, content}, {from, value} or {role, text}.
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
		return Turn{}, recordErrorf("leave the record out: only text can be trained on", "%s calls a tool", name)
	}
	key := f.firstWithValue("content", "value", "text")
	// An empty message is a message: its turn counts in the conversation.
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

// parseContent reads the content of a message: a string, or a list of parts of
// type text. Images and other parts are refused.
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
			return "", recordErrorf("leave the record out: only text can be trained on",
				"%s holds a part that is not text", name)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}
