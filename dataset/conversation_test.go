package dataset

import (
	"slices"
	"testing"
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
		{"Human: is the first word, inline Assistant: too", []Turn{{User, "is the first word, inline Assistant: too"}}, true},
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
	got, err := asked(fieldsOf(map[string]any{"prompt": Transcript(want)}), "prompt")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v: %v", got, err)
	}
}
