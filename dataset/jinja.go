package dataset

import (
	"fmt"
	"strings"

	"github.com/trimtab/trimtab/tokenizer"
)

// jinjaWhitespace are the characters that strings.TrimSpace removes, as the
// body of a Jinja string. Python's strip removes other ones.
const jinjaWhitespace = `\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006` +
	`\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000`

// ChatTemplate returns the form of prompts and answers as a Hugging Face chat
// template (Jinja, for tokenizer.apply_chat_template). The ids that it gives
// are those of EncodePrompt over Transcript, or of EncodeExample if the last
// message is the assistant's.
//
// The tokenizers library encodes the whole text at once and matches special
// tokens in it. Some conversations can therefore not be written so that they
// give those ids, and the template raises an exception for them: prompts that
// end in white space, answers that begin with two white-space characters or
// consist of white space, and messages that contain the name of a special
// token.
//
// It reports false if the tokens that begin and end a text have settings under
// which no template gives those ids.
func ChatTemplate(t *tokenizer.Tokenizer) ([]byte, bool) {
	if !t.MatchesVerbatim(t.BeginOfText()) || !t.MatchesVerbatim(t.EndOfText()) {
		return nil, false
	}
	var names []string
	for _, id := range t.Specials() {
		names = append(names, jinjaString(t.Piece(id)))
	}
	// A Replacer never replaces what it has inserted, so a token named END is safe.
	text := strings.NewReplacer(
		"SPACES", "'"+jinjaWhitespace+"'", "SPECIALS", strings.Join(names, ", "),
		"BEGIN", jinjaString(t.Piece(t.BeginOfText())), "END", jinjaString(t.Piece(t.EndOfText())),
		"HUMAN", humanPrefix, "ASSISTANT", assistantPrefix,
	).Replace(strings.Join(chatTemplate, ""))
	return []byte(text), true
}

// jinjaString returns s as a quoted Jinja string in ASCII, so that the template
// survives editors and terminals that guess an encoding.
func jinjaString(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range s {
		switch {
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || r > 0x7e && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// chatTemplate is the template with placeholders in capitals, statement by
// statement: white space between statements would be output.
var chatTemplate = []string{
	`{%- set space = SPACES -%}`,
	`{%- set ns = namespace(turns=[], lead=true, parts=[], rest=[]) -%}`,
	`{%- if not messages -%}{{- raise_exception('there are no messages') -}}{%- endif -%}`,

	// Each message becomes a role and a text, as in parseTurn.
	`{%- for message in messages -%}`,
	`{%- if message['role'] not in ['user', 'assistant', 'system'] -%}`,
	`{{- raise_exception('the role ' ~ message['role'] ~ ' is not one of user, assistant and system') -}}{%- endif -%}`,
	`{%- set one = namespace(text='') -%}`,
	`{%- if message['content'] is string -%}{%- set one.text = message['content'] -%}`,
	`{%- elif message['content'] is iterable and message['content'] is not mapping -%}`,
	`{%- for part in message['content'] -%}`,
	`{%- if part['type'] == 'text' and part['text'] is string -%}{%- set one.text = one.text ~ part['text'] -%}`,
	`{%- else -%}{{- raise_exception('a message holds a part that is no text') -}}{%- endif -%}`,
	`{%- endfor -%}`,
	`{%- else -%}{{- raise_exception('the content of a message is no text') -}}{%- endif -%}`,
	`{%- set ns.turns = ns.turns + [[message['role'], one.text]] -%}`,
	`{%- endfor -%}`,

	// A last message of the assistant is the answer; the others ask.
	`{%- set answered = ns.turns[-1][0] == 'assistant' -%}`,
	`{%- if answered and add_generation_prompt -%}`,
	`{{- raise_exception('the last message is the assistant\'s: there is nothing to answer') -}}{%- endif -%}`,
	`{%- if answered and ns.turns | length == 1 -%}`,
	`{{- raise_exception('the assistant answers nothing') -}}{%- endif -%}`,
	`{%- set asked = ns.turns[:-1] if answered else ns.turns -%}`,

	// The prompt, as Transcript writes it.
	`{%- for turn in asked -%}`,
	`{%- if turn[0] != 'system' -%}{%- set ns.lead = false -%}{%- endif -%}`,
	`{%- if ns.lead -%}{%- set ns.parts = ns.parts + [turn[1].strip(space)] -%}`,
	`{%- else -%}{%- set ns.rest = ns.rest + [turn] -%}{%- endif -%}`,
	`{%- endfor -%}`,
	`{%- if ns.rest | length == 1 and ns.rest[0][0] == 'user' -%}{%- set ns.parts = ns.parts + [ns.rest[0][1]] -%}`,
	`{%- else -%}`,
	`{%- for turn in ns.rest -%}`,
	`{%- if '\n\nHUMAN' in turn[1] or '\n\nASSISTANT' in turn[1] -%}`,
	`{{- raise_exception('a message holds a line that begins a turn: HUMAN or ASSISTANT after an empty line') -}}`,
	`{%- endif -%}`,
	`{%- set mark = {'user': 'HUMAN ', 'assistant': 'ASSISTANT ', 'system': ''}[turn[0]] -%}`,
	`{%- set ns.parts = ns.parts + [mark ~ turn[1].strip(space)] -%}`,
	`{%- endfor -%}`,
	`{%- if ns.rest and ns.rest[-1][0] == 'user' -%}{%- set ns.parts = ns.parts + ['ASSISTANT'] -%}{%- endif -%}`,
	`{%- endif -%}`,
	`{%- set prompt = ns.parts | join('\n\n') -%}`,
	`{%- set answer = ns.turns[-1][1] if answered else '' -%}`,

	// Refuse what would not give the ids that the model was trained on. The newline
	// after the prompt would merge with white space beside it.
	`{%- if prompt and prompt[-1] in space -%}`,
	`{{- raise_exception('the prompt ends in white space: take it off') -}}{%- endif -%}`,
	`{%- if answer and answer[0] in space and (answer | length == 1 or answer[1] in space) -%}`,
	`{{- raise_exception('the answer begins with white space: take it off') -}}{%- endif -%}`,
	`{%- for name in [SPECIALS] -%}`,
	`{%- if name in prompt ~ '\n' ~ answer -%}`,
	`{{- raise_exception('a message holds the special token ' ~ name) -}}{%- endif -%}`,
	`{%- endfor -%}`,

	`{{- BEGIN ~ prompt -}}`,
	`{%- if answered -%}{{- '\n' ~ answer ~ END -}}{%- elif add_generation_prompt -%}{{- '\n' -}}{%- endif -%}`,
}
