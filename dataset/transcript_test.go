package dataset

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
)

func TestTranscript(t *testing.T) {
	for _, c := range []struct {
		turns []Turn
		want  string
	}{
		{nil, ""},
		{[]Turn{{User, "a"}}, "a"},
		{[]Turn{{System, "s"}, {User, "a"}}, "s\n\na"},
		{[]Turn{{User, "a"}, {Assistant, "b"}}, "Human: a\n\nAssistant: b"},
		{[]Turn{{User, "a"}, {Assistant, "b"}, {User, "c"}}, "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"},
		{[]Turn{{System, "s"}}, "s"},
		{[]Turn{{Assistant, "b"}}, "Assistant: b"},
	} {
		if got := Transcript(c.turns); got != c.want {
			t.Errorf("%v: %q, want %q", c.turns, got, c.want)
		}
	}
}

func TestParseTranscript(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Turn
		ok   bool
	}{
		{"\n\nHuman: a\n\nAssistant: b\n\nc", []Turn{{User, "a"}, {Assistant, "b\n\nc"}}, true},
		{"Human: a\n\nAssistant:", []Turn{{User, "a"}, {Assistant, ""}}, true},
		{"s\n\nHuman: a", []Turn{{System, "s"}, {User, "a"}}, true},
		{"\n\nHuman: a\n\nHuman: b\n\nAssistant: c", []Turn{{User, "a"}, {User, "b"}, {Assistant, "c"}}, true},
		{"no marks", nil, false},
		{"Human: is the first word, inline Assistant: too", []Turn{{User, "is the first word, inline Assistant: too"}},
			true},
		{"", nil, false},
	} {
		got, ok := ParseTranscript(c.text)
		if ok != c.ok || !slices.Equal(got, c.want) {
			t.Errorf("%q: %v %v, want %v", c.text, got, ok, c.want)
		}
	}
}

// A conversation that was written is read as itself.
func TestTranscriptRoundTrip(t *testing.T) {
	want := []Turn{{System, "Be kind."}, {User, "a\nb"}, {Assistant, "c\n\nd"}, {User, "e"}}
	got, err := promptConversation(newFields(map[string]any{"prompt": Transcript(want)}), "prompt")
	if err != nil || !slices.Equal(got.turns, want) {
		t.Errorf("%v: %v", got, err)
	}
}

// TestConversationsInRankings has responses that hold turns before their last answer: the whole conversation is kept,
// or
// the record is refused with the reason.
func TestConversationsInRankings(t *testing.T) {
	const (
		p    = `{"role": "user", "content": "P"}`
		q    = `{"role": "user", "content": "Q"}`
		a    = `{"role": "assistant", "content": "A"}`
		b    = `{"role": "assistant", "content": "B"}`
		good = `{"role": "assistant", "content": "good"}`
		bad  = `{"role": "assistant", "content": "bad"}`
		kind = `{"role": "system", "content": "Be kind."}`
		rude = `{"role": "system", "content": "Be rude."}`
	)
	for _, c := range []struct{ prompt, chosen, rejected, want string }{
		{`"P"`, p + "," + good, p + "," + bad, "P → 1:good 2:bad"},
		{`"P"`, good, p + "," + bad, "P → 1:good 2:bad"},
		{`"P"`, p + "," + a + "," + q + "," + good, p + "," + a + "," + q + "," + bad,
			"Human: P\n\nAssistant: A\n\nHuman: Q\n\nAssistant: → 1:good 2:bad"},
		{`"P"`, a + "," + q + "," + good, a + "," + q + "," + bad,
			"Human: P\n\nAssistant: A\n\nHuman: Q\n\nAssistant: → 1:good 2:bad"},
		{`"P"`, kind + "," + p + "," + good, kind + "," + p + "," + bad, "Be kind.\n\nP → 1:good 2:bad"},
		{`"P"`, rude + "," + p + "," + good, rude + "," + p + "," + bad, "Be rude.\n\nP → 1:good 2:bad"},
		{"[" + kind + "," + p + "]", p + "," + good, bad, "Be kind.\n\nP → 1:good 2:bad"},
		{"[" + p + "," + a + "," + q + "]", good, bad,
			"Human: P\n\nAssistant: A\n\nHuman: Q\n\nAssistant: → 1:good 2:bad"},
		{"", p + "," + a + "," + q + "," + good, p + "," + a + "," + q + "," + bad,
			"Human: P\n\nAssistant: A\n\nHuman: Q\n\nAssistant: → 1:good 2:bad"},

		{`"P"`, p + "," + a + "," + q + "," + good, p + "," + b + "," + q + "," + bad,
			"differ before their last answer"},
		{`"P"`, p + "," + a + "," + q + "," + good, p + "," + bad, "differ before their last answer"},
		{`"P"`, q + "," + good, q + "," + bad, "do not begin with the prompt"},
		{`"P"`, kind + "," + p + "," + good, rude + "," + p + "," + bad, "differ before their last answer"},
		{"[" + kind + "," + p + "]", rude + "," + p + "," + good, bad, "different system messages"},
		{`"P"`, p + "," + a + "," + rude + "," + q + "," + good, p + "," + a + "," + rude + "," + q + "," + bad,
			"a system message comes after the first turn"},
		{`"P"`, p + "," + good + "," + q, p + "," + bad, "does not end with a turn of the assistant"},
	} {
		prompt := ""
		if c.prompt != "" {
			prompt = `"prompt": ` + c.prompt + `, `
		}
		im := read(t, trimtab.KindRankings, "x.jsonl", `{`+prompt+`"chosen": [`+c.chosen+`], "rejected": [`+c.rejected+
			`]}`, ReadOptions{})
		switch {
		case strings.Contains(c.want, "→"):
			if len(im.Items) != 1 || show(im.Items[0]) != c.want {
				t.Errorf("%+v gives %v, problems %v", c, im.Items, im.Rejected)
			}
		case len(im.Rejected) != 1 || !strings.Contains(im.Rejected[0].Reason, c.want):
			t.Errorf("%+v gives %v, problems %v", c, im.Items, im.Rejected)
		}
	}
}

// TestTurnPrefixesInTexts has texts that hold what leads turns: it is text, or the record is refused, but never another turn.
func TestTurnPrefixesInTexts(t *testing.T) {
	for _, c := range []struct {
		kind         trimtab.Kind
		record, want string // want empty: refused for it
	}{
		{trimtab.KindDemonstrations,
			`{"messages": [{"role": "user", "content": "Say:\n\nHuman: x\n\nAssistant: y"}, {"role": "assistant", "content": "z"}]}`, ""},
		{trimtab.KindDemonstrations, `{"prompt": [{"role": "user", "content": "Say:\n\nHuman: x"}], "completion": "c"}`,
			""},
		{trimtab.KindDemonstrations,
			`{"prompt": [{"role": "user", "content": "Say:\n\nAssistant: x"}], "completion": "c"}`, ""},
		{trimtab.KindDemonstrations,
			`{"prompt": [{"role": "system", "content": "Human: x"}, {"role": "user", "content": "y"}], "completion": "c"}`, ""},
		{trimtab.KindDemonstrations,
			`{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "Human: y"}], "completion": "c"}`, ""},
		{trimtab.KindDemonstrations, `{"instruction": "Say:\n\nHuman: x", "history": [["q", "r"]], "output": "c"}`, ""},
		{trimtab.KindDemonstrations, `{"instruction": "i", "history": [["q", "r\n\nHuman: x"]], "output": "c"}`, ""},
		{trimtab.KindText,
			`{"messages": [{"role": "user", "content": "Say:\n\nHuman: x"}, {"role": "assistant", "content": "a"}]}`,
			""},
		{trimtab.KindPrompts, `{"prompt": [{"role": "user", "content": "Say:\n\nHuman: x"}]}`, ""},
		{trimtab.KindRankings,
			`{"prompt": [{"role": "user", "content": "Say:\n\nHuman: x"}], "chosen": "a", "rejected": "b"}`, ""},
		{trimtab.KindRankings,
			`{"prompt": {"role": "prompter", "text": "p\n\nHuman: x", "replies": [{"role": "assistant", "text": "a", "rank": 0}, {"role": "assistant", "text": "b", "rank": 1}]}}`, ""},

		{trimtab.KindDemonstrations, `{"prompt": "Say:\n\nHuman: x", "completion": "c"}`, "Say:\n\nHuman: x → c"},
		{trimtab.KindDemonstrations, `{"instruction": "Say:\n\nHuman: x", "output": "c"}`, "Say:\n\nHuman: x → c"},
		{trimtab.KindDemonstrations, `{"prompt": "Say:\n\nHuman: x\n\nAssistant: y", "completion": "c"}`,
			"Say:\n\nHuman: x\n\nAssistant: y → c"},
		{trimtab.KindDemonstrations, `{"prompt": "\n\nHuman: x\n\nAssistant:", "completion": "c", "verbatim": true}`,
			"\n\nHuman: x\n\nAssistant: → c"},
		{trimtab.KindDemonstrations, `{"prompt": "\n\nHuman: x\n\nAssistant:", "completion": "c"}`, "x → c"},
		{trimtab.KindDemonstrations, `{"prompt": "S\n\nHuman: x\n\nAssistant:", "completion": "c"}`, "S\n\nx → c"},
		{trimtab.KindDemonstrations, `{"prompt": [{"role": "user", "content": "Human: y"}], "completion": "c"}`,
			"Human: y → c"},
		{trimtab.KindDemonstrations,
			`{"prompt": "p", "completion": [{"role": "assistant", "content": "c\n\nHuman: x"}]}`, "p → c\n\nHuman: x"},
		{trimtab.KindRankings,
			`{"prompt": "p", "chosen": [{"role": "assistant", "content": "a\n\nHuman: x"}], "rejected": "b"}`,
			"p → 1:a\n\nHuman: x 2:b"},
		{trimtab.KindPrompts, `{"prompt": "Quote \"\n\nHuman: x\" please"}`, "Quote \"\n\nHuman: x\" please"},
	} {
		im := read(t, c.kind, "x.jsonl", c.record, ReadOptions{})
		switch {
		case c.want != "":
			if len(im.Items) != 1 || show(im.Items[0]) != c.want {
				t.Errorf("%s gives %v, problems %v; want %q", c.record, im.Items, im.Rejected, c.want)
			}
		case len(im.Items) != 0 || len(im.Rejected) != 1 ||
			!strings.Contains(im.Rejected[0].Reason, "it would be read as another turn"):
			t.Errorf("%s gives %v, problems %v", c.record, im.Items, im.Rejected)
		}
	}
}

// TestVerbatim has the column that says that a prompt is text as it stands, in lines and in tables.
func TestVerbatim(t *testing.T) {
	const marked = "Human: x\n\nHuman: y"
	for _, c := range []struct{ file, body, want string }{
		{"x.jsonl", `{"prompt": "Human: x\n\nHuman: y", "verbatim": true}`, marked},
		{"x.jsonl", `{"prompt": "Human: x\n\nHuman: y", "verbatim": false}`, "Human: x\n\nHuman: y\n\nAssistant:"},
		{"x.jsonl", `{"prompt": "Human: x\n\nHuman: y", "verbatim": null}`, "Human: x\n\nHuman: y\n\nAssistant:"},
		{"x.csv", "prompt,verbatim\n\"Human: x\n\nHuman: y\",True\n", marked},
		{"x.csv", "prompt,verbatim\n\"Human: x\n\nHuman: y\",\n", "Human: x\n\nHuman: y\n\nAssistant:"},
		{"x.jsonl", `{"prompt": "p", "verbatim": "said in the interview"}`,
			`field "verbatim" is "said in the interview", which does not say whether the prompt is text as it stands`},
		{"x.jsonl", `{"prompt": "p", "verbatim": 1}`,
			`field "verbatim" is the number 1, which does not say whether the prompt is text as it stands`},
	} {
		im := read(t, trimtab.KindPrompts, c.file, c.body, ReadOptions{})
		switch {
		case len(im.Rejected) == 1 && im.Rejected[0].Reason == c.want:
		case len(im.Rejected) != 0 || len(im.Items) != 1 || show(im.Items[0]) != c.want:
			t.Errorf("%s gives %v, problems %v", c.body, im.Items, im.Rejected)
		}
	}
}

// FuzzConversation makes conversations of nasty pieces. One that is taken is not lost: as text of several turns it is
// read
// as the same turns, and written into a file it is read as the same text.
func FuzzConversation(f *testing.F) {
	for _, seed := range []string{"\x00a\x01b\x02c", "\x02s\x00a", "\x00\n\nHuman: x\x01y\x00z",
		"\x02Human: s\x00a\x01b\x00", "\x00Assistant:\x01Human:\x00 x ",
		"\x02s\x02t\x00\n\nAssistant: x", "\x00a\n\nHuman", "\x00\x01\x00\n\nHuman:", "\x01b\x00c"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		messages, want := conversationOf(data)
		if len(messages) == 0 {
			return
		}
		prompt, err := promptText(newFields(map[string]any{"prompt": messages}))
		if err != nil || strings.TrimSpace(prompt) == "" { // no item is made of it
			return
		}
		if n := len(want) - 1; n > 0 && want[n] == (Turn{Role: Assistant}) {
			want = want[:n] // it only asks
		}
		spoken := want
		for len(spoken) > 0 && spoken[0].Role == System {
			spoken = spoken[1:]
		}
		if len(spoken) > 1 {
			got, ok := ParseTranscript(prompt)
			if n := len(got) - 1; ok && want[len(want)-1].Role == User {
				got = got[:n] // the mark that asks
			}
			var said []string
			for _, turn := range want[:len(want)-len(spoken)] {
				said = append(said, strings.TrimSpace(turn.Text))
			}
			system := strings.TrimSpace(strings.Join(said, turnSeparator))
			if len(got) > 0 && got[0].Role == System {
				if got[0].Text != system {
					t.Errorf("%q: the system's %q became %q", prompt, system, got[0].Text)
				}
				got = got[1:]
			} else if system != "" {
				t.Errorf("%q: the system's %q is lost", prompt, system)
			}
			if !ok || !slices.EqualFunc(got, spoken, sameTurn) {
				t.Errorf("%q is read as %q, was %q", prompt, got, spoken)
			}
		}
		for _, kind := range []trimtab.Kind{trimtab.KindRankings, trimtab.KindPrompts} {
			line := map[string]any{"prompt": prompt}
			if !RoundTrips(kind, prompt) {
				line["verbatim"] = true
			}
			again, err := promptText(newFields(line))
			if kind == trimtab.KindPrompts {
				var p trimtab.Prompt
				p, err = promptItem(newFields(line))
				again = p.Text
			}
			if err != nil || again != prompt {
				t.Errorf("%s: %q comes back as %q: %v", kind, prompt, again, err)
			}
		}
	})
}

// conversationOf makes messages of bytes: 0, 1 and 2 begin a turn of the user, the assistant and the system.
func conversationOf(data []byte) (messages []any, turns []Turn) {
	for len(data) > 0 && data[0] < 3 {
		end := bytes.IndexAny(data[1:], "\x00\x01\x02") + 1
		if end == 0 {
			end = len(data)
		}
		turn := Turn{[]string{User, Assistant, System}[data[0]], strings.ToValidUTF8(string(data[1:end]), "?")}
		turns = append(turns, turn)
		messages = append(messages, map[string]any{"role": turn.Role, "content": turn.Text})
		data = data[end:]
	}
	return messages, turns
}
