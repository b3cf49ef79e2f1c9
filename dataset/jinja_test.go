package dataset

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/tokenizer"
)

var update = flag.Bool("update", false, "write testdata/chat anew; then run gen_chat.py")

// The files of testdata/chat: Go writes the tokenizer, the template and the
// conversations, gen_chat.py adds what transformers makes of them.
const chatFolder = "testdata/chat"

// chatCase is a case of the template: what is said, and what transformers gives.
type chatCase struct {
	Messages []map[string]string `json:"messages"`
	Ask      bool                `json:"add_generation_prompt"`
	IDs      []int32             `json:"ids"`     // of apply_chat_template
	Refused  string              `json:"refused"` // or why it raised
}

func chatWords(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	words, err := tokenizer.Train([]string{strings.Repeat("Human: Where does Anna live?\n\nAssistant: Anna lives in "+
		"Oakton.\n\n\n  \n and \n\n more  space\n", 3)}, 300)
	if err != nil {
		t.Fatal(err)
	}
	return words
}

func said(turns ...string) []map[string]string {
	var list []map[string]string
	for i := 0; i < len(turns); i += 2 {
		list = append(list, map[string]string{"role": turns[i], "content": turns[i+1]})
	}
	return list
}

// conversations are the cases, without what transformers gives.
func conversations() []chatCase {
	var list []chatCase
	for _, turns := range [][]string{
		{"user", "Where does Anna live?"}, {"user", ""}, {"user", " Where?"}, {"user", "Where? "}, {"user", "Where?\n"},
		{"user", "\n\nWhere?"}, {"user", "a\n\n  b"},
		{"user", "Zoë, 漢字, 🦊, e\u0301, \u00a0x, \u2003y"}, {"user", "ends in a wide space\u3000"},
		{"user", "ends in \x1f"}, {"user", "<|endoftext|>"}, {"user", "say <|pad|> now"},
		{"user", "a\n\nHuman: b"}, {"user", "'tis {{ 7 * 7 }} {% if x %} \\n \\u0041"}, {"user", "a\r\nb\tc"},
		{"system", "Be brief.", "user", "Where?"}, {"system", " Be brief.\n", "user", " Where?"},
		{"system", "Be brief.", "system", "Be kind.", "user", "Where?"}, {"system", "Be brief."},
		{"system", "Be brief.", "user", ""}, {"user", "a", "assistant", "b", "user", "c"},
		{"user", " a ", "assistant", "\nb\n", "user", " c\u3000"}, {"user", "a\x1f", "assistant", "b", "user", "c"},
		{"user", "", "assistant", "", "user", ""}, {"system", "s", "user", "a", "assistant", "b", "user", "c"},
		{"user", "a", "system", " in between ", "user", "b"},
		{"user", "a", "user", "b"}, {"user", "a", "assistant", "b\n\nHuman: c", "user", "d"},
		{"assistant", "Hello.", "user", "a"},
		{"tool", "3"}, {},
	} {
		list = append(list, chatCase{Messages: said(turns...), Ask: true}, chatCase{Messages: said(turns...)})
	}
	for _, turns := range [][]string{
		{"user", "Where?", "assistant", "Oakton."}, {"user", "Where?", "assistant", " Oakton. "},
		{"user", "Where?", "assistant", "\nOakton.\n"}, {"user", "Where?", "assistant", "\n\nOakton."},
		{"user", "Where?", "assistant", "  Oakton."}, {"user", "Where?", "assistant", " "},
		{"user", "Where?", "assistant", ""}, {"user", "Where? ", "assistant", "Oakton."},
		{"system", "Be brief.", "user", "Where?", "assistant", "Oakton."},
		{"user", "a", "assistant", "b", "user", "c", "assistant", "d\n\n"},
		{"user", "a", "assistant", "b", "assistant", "c"},
		{"assistant", "Oakton."}, {"user", "Where?", "assistant", "<|endoftext|>"}, {"user", "", "assistant", "漢字 🦊"},
	} {
		list = append(list, chatCase{Messages: said(turns...)})
	}
	return append(list, chatCase{Messages: said("user", "Where?", "assistant", "Oakton."), Ask: true})
}

// trained is what Trimtab trains on, or continues, for a conversation.
func (c chatCase) trained(t *tokenizer.Tokenizer) []int32 {
	var turns []Turn
	for _, m := range c.Messages {
		turns = append(turns, Turn{Role: m["role"], Text: m["content"]})
	}
	last := len(turns) - 1
	if turns[last].Role == Assistant {
		seq, _ := EncodeExample(t, Transcript(turns[:last]), turns[last].Text, 1<<20)
		return seq.Tokens
	}
	ids := EncodePrompt(t, Transcript(turns))
	if !c.Ask {
		ids = ids[:len(ids)-1]
	}
	return ids
}

func TestChatTemplate(t *testing.T) {
	words := chatWords(t)
	text, ok := ChatTemplate(words)
	if !ok {
		t.Fatal("no template")
	}
	if *update {
		writeChat(t, words, text)
		return
	}
	for name, want := range map[string][]byte{"chat_template.jinja": text, "tokenizer.json": fastOf(words)} {
		if got, err := os.ReadFile(filepath.Join(chatFolder, name)); err != nil || string(got) != string(want) {
			t.Fatalf("%s is another one (%v): run the test with -update, and gen_chat.py", name, err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(chatFolder, "conversations.json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden []chatCase
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden) != len(conversations()) {
		t.Fatalf("%d conversations, want %d", len(golden), len(conversations()))
	}
	refused := 0
	for _, c := range golden {
		if c.Refused != "" {
			refused++
			continue
		}
		if want := c.trained(words); !slices.Equal(c.IDs, want) {
			t.Errorf("%v, asked %v:\ntransformers %v\ntrimtab      %v", c.Messages, c.Ask, c.IDs, want)
		}
	}
	if refused == 0 || refused > len(golden)/2 {
		t.Errorf("%d of %d conversations are refused", refused, len(golden))
	}
}

func fastOf(words *tokenizer.Tokenizer) []byte {
	files := words.Files()
	return files[slices.IndexFunc(files, func(f tokenizer.File) bool { return f.Name == "tokenizer.json" })].Data
}

func writeChat(t *testing.T, words *tokenizer.Tokenizer, template []byte) {
	cases, err := json.MarshalIndent(conversations(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"chat_template.jinja": template, "tokenizer.json": fastOf(words),
		"conversations.json": cases} {
		if err := os.WriteFile(filepath.Join(chatFolder, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
