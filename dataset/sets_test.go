package dataset

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
)

// TestPreferenceSets reads rows in the form of the sets that people have, each as it is. The better response of every
// row begins with "Better:", the worse ones with "Worse:"; rows without either are ties.
func TestPreferenceSets(t *testing.T) {
	for _, c := range []struct {
		file                string
		accepted, undecided int
		labellers           []string
	}{
		{"alpaca_farm.json", 2, 0, nil},
		{"arena.jsonl", 2, 2, nil},
		{"arena_conversations.json", 1, 0, nil},
		{"arena_kaggle.csv", 2, 1, nil},
		{"better_worse.jsonl", 1, 0, nil},
		{"excel.csv", 1, 0, nil},
		{"helpsteer2_preference.jsonl", 2, 1, nil},
		{"label_studio.csv", 2, 0, []string{"2", "2"}},
		{"label_studio.json", 3, 1, []string{"2", "bo@example.org", "2"}},
		{"label_studio_min.json", 2, 0, []string{"2", "2"}},
		{"nectar.jsonl", 1, 0, nil},
		{"output_label.csv", 2, 1, nil},
		{"pku_saferlhf.jsonl", 2, 0, nil},
		{"python.csv", 1, 0, nil},
		{"stack_exchange_paired.jsonl", 1, 0, nil},
		{"ultrafeedback.jsonl", 1, 0, nil},
	} {
		t.Run(c.file, func(t *testing.T) {
			f, err := os.Open(filepath.Join("testdata", "sets", c.file))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			im, err := Read(trimtab.KindRankings, c.file, f, ReadOptions{})
			if err != nil || len(im.Rejected) > 0 || im.Accepted != c.accepted || im.Undecided != c.undecided {
				t.Errorf("%d accepted, %d undecided, rejected %v: %v", im.Accepted, im.Undecided, im.Rejected, err)
			}
			var labellers []string
			for _, item := range im.Items {
				r := item.(trimtab.Ranking)
				if r.Labeller != "" {
					labellers = append(labellers, r.Labeller)
				}
				for i, resp := range r.Responses {
					want := map[bool]string{true: "Better: ", false: "Worse: "}[r.Ranks[i] == 1]
					if !strings.HasPrefix(string(resp.Bytes), want) {
						t.Errorf("rank %d is %q", r.Ranks[i], resp.Bytes)
					}
				}
				if !strings.HasPrefix(r.Prompt, "Name a ") &&
					!slices.Contains([]string{"How do I store bread?", "How do I boil an egg?",
						"How do I quit vi?", "Explain rain.", "Rewrite it politely.\nGo away.",
						"Rewrite it politely.\nShut the door."}, r.Prompt) {
					t.Errorf("prompt %q", r.Prompt)
				}
			}
			if !slices.Equal(labellers, c.labellers) {
				t.Errorf("labellers %q, want %q", labellers, c.labellers)
			}
		})
	}
	entries, err := os.ReadDir(filepath.Join("testdata", "sets"))
	if err != nil || len(entries) != 16 {
		t.Errorf("%d files in testdata/sets, of which 16 are read here: %v", len(entries), err)
	}
}

// TestPreferences has every word for which of two responses is better.
func TestPreferences(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{`"response_0": "x", "response_1": "y", "better_response_id": 0`, "p → 1:x 2:y"},
		{`"response_0": "x", "response_1": "y", "better_response_id": 1.0`, "p → 2:x 1:y"},
		{`"response_0": "x", "response_1": "y", "better_response_id": "tie"`, ""},
		{`"response_a": "x", "response_b": "y", "winner": "model_b"`, "p → 2:x 1:y"},
		{`"response_a": "x", "response_b": "y", "winner": "A"`, "p → 1:x 2:y"},
		{`"response_a": "x", "response_b": "y", "winner": "response_b"`, "p → 2:x 1:y"},
		{`"response_a": "x", "response_b": "y", "winner": "bothbad"`, ""},
		{`"response_1": "x", "response_2": "y", "preference": 2`, "p → 2:x 1:y"},
		{`"response_1": "x", "response_2": "y", "preferred": "response_1"`, "p → 1:x 2:y"},
		{`"output_1": "x", "output_2": "y", "preference": 1.5`, ""},
		{`"output_1": "x", "output_2": "y", "label": "1"`, "p → 1:x 2:y"},
		{`"output_1": "x", "output_2": "y", "label": null, "preference": 2`, "p → 2:x 1:y"},
		{`"answer1": "x", "answer2": "y", "choice": "right"`, "p → 2:x 1:y"},
		{`"completion_a": "x", "completion_b": "y", "label": "b"`, "p → 2:x 1:y"},
		{`"response_1": "x", "response_2": "y", "preference_strength": -1`, "p → 1:x 2:y"},
		{`"response1": "x", "response2": "y", "overall_preference": 1`, "p → 2:x 1:y"},
		{`"chosen": null, "rejected": null, "better": "x", "worse": "y"`, "p → 1:x 2:y"},
		{`"responses": ["x", "y"], "votes": [{"worker": "w", "vote": 2}]`, "p → 2:x 1:y [w]"},
	} {
		im := read(t, trimtab.KindRankings, "x.jsonl", `{"prompt": "p", `+c.record+`}`, ReadOptions{})
		got := ""
		for _, item := range im.Items {
			got += show(item)
		}
		if got != c.want || len(im.Rejected) > 0 || im.Undecided != map[bool]int{true: 1, false: 0}[c.want == ""] {
			t.Errorf("%s gives %q, undecided %d, problems %v; want %q", c.record, got, im.Undecided, im.Rejected,
				c.want)
		}
	}
}

// TestNoPreference has records of two responses that do not say which one is better, or not clearly: none is guessed.
func TestNoPreference(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{`"response_a": "x", "response_b": "y"`,
			`fields "response_a" and "response_b" are two responses, and no field says which is better`},
		{`"response_0": "x", "response_1": "y", "safer_response_id": 1`, `no field says which is better`},
		{`"response_0": "x", "response_1": "y", "better_response_id": 2`,
			`field "better_response_id" is 2, which is not known`},
		{`"response_0": "x", "response_1": "y", "better_response_id": -1`,
			`field "better_response_id" is -1, which is not known`},
		{`"response_a": "x", "response_b": "y", "winner": "gpt-4"`, `field "winner" is "gpt-4", which is not known`},
		{`"response_a": "x", "response_b": "y", "winner": true`, `field "winner" is true, which is not known`},
		{`"output_1": "x", "output_2": "y", "preference": 1.3`, `field "preference" is 1.3, which is not known`},
		{`"output_1": "x", "output_2": "y", "label": "science"`, `field "label" is "science", which is not known`},
		{`"response_1": "x", "response_2": "y", "response_3": "z", "preference": 1`, `are more than two responses`},
		{`"response_a": "x", "response_b": "y", "winner_model_a": 1, "winner_model_b": 1`, `do not name one winner`},
		{`"completions": [{"completion": "x"}, {"completion": "y"}]`, `completion 1 has no rank`},
		{`"completions": [{"completion": "x", "rank": 1}, {"completion": "y"}]`,
			`field "rank of completion 2" is missing or null`},
		{`"answers": ["x", "y"]`, `completion 1 is a string, not an object`},
	} {
		im := read(t, trimtab.KindRankings, "x.jsonl", `{"prompt": "p", `+c.record+`}`, ReadOptions{})
		if len(im.Items) != 0 || len(im.Rejected) != 1 || !strings.Contains(im.Rejected[0].Reason, c.want) {
			t.Errorf("%s gives %v, problems %v; want %q", c.record, im.Items, im.Rejected, c.want)
			continue
		}
		if strings.Contains(im.Rejected[0].Remedy, "=response") || strings.Contains(im.Rejected[0].Remedy, "=winner") {
			t.Errorf("%s: the remedy proposes a response for the better one: %s", c.record, im.Rejected[0].Remedy)
		}
	}
}

// Votes of 0 and 1 and never 2 say nothing: their owner is asked, and both answers work.
func TestAmbiguousVotes(t *testing.T) {
	body := `{"instruction": "p", "response1": "x", "response2": "y", "annotator1": 1}
{"instruction": "q", "response1": "x", "response2": "y", "annotator1": 0}`
	for _, c := range []struct {
		votes     string
		want      []string
		undecided int
	}{
		{ZeroBased, []string{"p → 2:x 1:y [annotator1]", "q → 1:x 2:y [annotator1]"}, 0},
		{OneBased, []string{"p → 1:x 2:y [annotator1]"}, 1},
	} {
		im := read(t, trimtab.KindRankings, "x.jsonl", body, ReadOptions{Votes: c.votes})
		var got []string
		for _, item := range im.Items {
			got = append(got, show(item))
		}
		if !slices.Equal(got, c.want) || im.Undecided != c.undecided {
			t.Errorf("%s: %q, %d undecided", c.votes, got, im.Undecided)
		}
	}
	_, err := Read(trimtab.KindRankings, "x.jsonl", strings.NewReader(body), ReadOptions{})
	e := trimtab.AsError(err)
	if e.Type != "votes_ambiguous" || !strings.Contains(e.Message, "0 (line 2) and 1 and never 2") ||
		!strings.Contains(e.Remedy, "--votes zero-based") {
		t.Errorf("error %v", err)
	}
	third := "\n" + `{"instruction": "r", "response1": "x", "response2": "y", "annotator1": 2}`
	if im := read(t, trimtab.KindRankings, "x.jsonl", body+third, ReadOptions{}); im.Accepted != 2 ||
		im.Undecided != 1 {
		t.Errorf("with a 2: %+v", im)
	}
	im, err := Read(trimtab.KindRankings, "x.jsonl", strings.NewReader(body+third), ReadOptions{Votes: ZeroBased})
	if err != nil || len(im.Rejected) != 1 || !strings.Contains(im.Rejected[0].Error(),
		"x.jsonl:3: field \"annotator1\" is 2, which is not known: use 0 for the first") {
		t.Errorf("a 2 among votes from 0: %v, %v", im.Rejected, err)
	}
	ids := `{"prompt": "p", "response_0": "x", "response_1": "y", "better_response_id": 0}` + "\n" +
		`{"prompt": "p", "response_0": "x", "response_1": "z", "better_response_id": 1}`
	if im := read(t, trimtab.KindRankings, "x.jsonl", ids, ReadOptions{}); im.Accepted != 2 {
		t.Errorf("ids that are numbered from 0: %+v", im)
	}
}

// Rankings that say nothing have one fate each: ties are undecided, equal responses ranked apart are left out and
// named, and no file is refused for them.
func TestNothingToLearnFrom(t *testing.T) {
	body := `{"prompt": "p", "responses": ["x", "y"], "ranks": [1, 1]}
{"prompt": "p", "responses": ["x", "y"], "votes": [{"vote": "tie"}, {"vote": 0}]}
{"prompt": "p", "completions": [{"rank": 2, "completion": "x"}, {"rank": 2, "completion": "y"}]}
{"instruction": "p", "response1": "x", "response2": "y", "annotator1": "equal"}
{"prompt": "p", "chosen": "x", "rejected": "x"}
{"prompt": "p", "responses": ["x", "x", "y"], "ranks": [1, 2, 3]}
{"prompt": "p", "responses": ["x", "x", "y"], "ranks": [1, 1, 2]}`
	im := read(t, trimtab.KindRankings, "x.jsonl", body, ReadOptions{})
	if im.Accepted != 1 || im.Undecided != 4 || im.Equal != 2 || len(im.Rejected) != 0 {
		t.Errorf("%d accepted, %d undecided, %d equal, rejected %v", im.Accepted, im.Undecided, im.Equal, im.Rejected)
	}
	if len(im.Contradictions) != 2 || im.Contradictions[0].Line != 5 || im.Contradictions[1].Line != 6 ||
		im.Contradictions[0].Reason != "two identical responses have different ranks; left out" {
		t.Errorf("contradictions %v", im.Contradictions)
	}
}

// TestLabels has the labels of sets for KTO.
func TestLabels(t *testing.T) {
	for _, label := range []string{`0`, `"0"`, `0.0`, `-0.0`, `-1`, `"-1"`, `false`, `"false"`, `"False"`, `"F"`,
		`"no"`, `"n"`, `"bad"`} {
		im := read(t, trimtab.KindDemonstrations, "x.jsonl", `{"prompt": "p", "completion": "c", "label": `+label+`}`,
			ReadOptions{})
		if im.Accepted != 0 || len(im.Rejected) != 1 ||
			!strings.Contains(im.Rejected[0].Reason, "the completion is not one to train on") {
			t.Errorf("label %s: %+v", label, im)
		}
	}
	for _, label := range []string{`1`, `1.0`, `"1"`, `true`, `"True"`, `"yes"`, `"good"`, `null`, `""`} {
		im := read(t, trimtab.KindDemonstrations, "x.jsonl", `{"prompt": "p", "completion": "c", "kto_tag": `+label+`}`,
			ReadOptions{})
		if im.Accepted != 1 {
			t.Errorf("label %s: %+v", label, im)
		}
	}
	for _, label := range []string{`"science"`, `3`, `[]`, `{}`, `"maybe"`, `0.5`} {
		im := read(t, trimtab.KindDemonstrations, "x.jsonl", `{"prompt": "p", "completion": "c", "label": `+label+`}`,
			ReadOptions{})
		if label == `[]` { // empty is absent
			if im.Accepted != 1 {
				t.Errorf("label %s: %+v", label, im)
			}
			continue
		}
		if im.Accepted != 0 || len(im.Rejected) != 1 || !strings.Contains(im.Rejected[0].Remedy, "--map label=-") {
			t.Errorf("label %s: %+v", label, im)
		}
		im = read(t, trimtab.KindDemonstrations, "x.jsonl", `{"prompt": "p", "completion": "c", "Label": `+label+`}`,
			ReadOptions{Map: map[string]string{"label": NoColumn}})
		if im.Accepted != 1 {
			t.Errorf("label %s, left out: %+v", label, im)
		}
	}
}

// TestNulls has merged sets, whose rows have every column and nothing in most of them.
func TestNulls(t *testing.T) {
	for _, c := range []struct {
		kind         trimtab.Kind
		record, want string
	}{
		{trimtab.KindDemonstrations,
			`{"prompt": null, "completion": null, "instruction": "Say hi.", "input": null, "output": "hi", "system": null, "history": null}`, "Say hi. → hi"},
		{trimtab.KindDemonstrations,
			`{"prompt": "", "completion": "", "instruction": "Say hi.", "input": "", "output": "hi", "messages": []}`,
			"Say hi. → hi"},
		{trimtab.KindDemonstrations,
			`{"prompt": null, "completion": null, "messages": [{"role": "user", "content": "p", "from": null, "value": null}, {"role": "assistant", "content": "c", "tool_calls": null}]}`, "p → c"},
		{trimtab.KindDemonstrations,
			`{"prompt": "p", "completion": "c", "messages": null, "conversations": null, "instances": null, "label": null, "split": null, "demonstrator": null}`, "p → c"},
		{trimtab.KindDemonstrations,
			`{"messages": [{"from": "human", "value": "p", "role": null, "content": null}, {"from": "gpt", "value": "c", "role": "", "content": ""}]}`, "p → c"},
		{trimtab.KindDemonstrations, `{"instruction": "i", "instances": [{"input": null, "output": "o"}]}`, "i → o"},
		{trimtab.KindText,
			`{"text": null, "messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]}`,
			"Human: p\n\nAssistant: a"},
		{trimtab.KindText, `{"text": "", "messages": [{"role": "user", "content": "p"}]}`, "p"},
		{trimtab.KindPrompts, `{"prompt": null, "question": "q", "tag": null, "split": null}`, "q"},
		{trimtab.KindRankings,
			`{"chosen": null, "rejected": null, "prompt": "p", "responses": ["x", "y"], "ranks": [1, 2], "votes": null}`, "p → 1:x 2:y"},
		{trimtab.KindRankings,
			`{"chosen": "", "rejected": "", "prompt": "p", "responses": ["x", "y"], "ranks": [1, 2], "votes": []}`,
			"p → 1:x 2:y"},
		{trimtab.KindRankings,
			`{"chosen": "x", "rejected": "y", "prompt": null, "instruction": "p", "responses": null, "votes": null, "group": null, "labeller": null, "annotator": "w"}`, "p → 1:x 2:y [w]"},
		{trimtab.KindRankings, `{"chosen": "x", "rejected": "", "prompt": "p", "responses": []}`, "p → 1:x 2:"},
		{trimtab.KindRankings, `{"Chosen": "x", "chosen": null, "rejected": "y", "prompt": "p"}`, "p → 1:x 2:y"},
	} {
		im := read(t, c.kind, "x.jsonl", c.record, ReadOptions{})
		if len(im.Items) != 1 || show(im.Items[0]) != c.want {
			t.Errorf("%s gives %v, problems %v; want %q", c.record, im.Items, im.Rejected, c.want)
		}
	}
	for _, c := range []struct {
		kind         trimtab.Kind
		record, want string
	}{
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": null}`,
			`field "completion" is null: give it a value, or leave the record out`},
		{trimtab.KindText, `{"text": null}`, `field "text" is null: give it a value, or leave the record out`},
		{trimtab.KindPrompts, `{"prompt": ""}`, `field "prompt" is empty: give it a value, or leave the record out`},
		{trimtab.KindRankings, `{"prompt": "p", "chosen": "x", "rejected": null}`,
			`field "rejected" is null: give it a value, or leave the record out`},
		{trimtab.KindRankings, `{"prompt": "p", "chosen": null, "rejected": null}`,
			`field "chosen" is null: give it a value, or leave the record out`},
		{trimtab.KindDemonstrations,
			`{"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}]}`,
			`messages message 2 calls a tool: leave the record out: only text can be trained on`},
		{trimtab.KindDemonstrations,
			`{"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": null}]}`,
			`messages message 2 has no text: give it a text, or leave the record out`},
		{trimtab.KindRankings, `{"prompt": "p", "chosen": "x", "rejected": "y", "worker": {"id": 3}}`,
			`field "worker" is an object, not a string: write it as a string, or leave it out with --map worker=-`},
		{trimtab.KindDemonstrations, `{"instruction": "i", "input": ["a"], "output": "o"}`,
			`field "input" is a list, not a string: write it as a string, or leave it out with --map input=-`},
	} {
		im := read(t, c.kind, "x.jsonl", c.record, ReadOptions{})
		if len(im.Rejected) != 1 || im.Rejected[0].Error() != "x.jsonl:1: "+c.want {
			t.Errorf("%s says %v; want %q", c.record, im.Rejected, c.want)
		}
	}
}

// TestTooLongLabels has the limits of names.
func TestTooLongLabels(t *testing.T) {
	long := strings.Repeat("é", trimtab.MostLabel)
	for _, c := range []struct {
		kind         trimtab.Kind
		field, start string
	}{
		{trimtab.KindRankings, "labeller", `{"prompt": "p", "chosen": "x", "rejected": "y"`},
		{trimtab.KindRankings, "guideline", `{"prompt": "p", "chosen": "x", "rejected": "y"`},
		{trimtab.KindRankings, "group", `{"prompt": "p", "chosen": "x", "rejected": "y"`},
		{trimtab.KindPrompts, "tag", `{"prompt": "p"`},
		{trimtab.KindDemonstrations, "demonstrator", `{"prompt": "p", "completion": "c"`},
	} {
		im := read(t, c.kind, "x.jsonl", c.start+`, "`+c.field+`": "`+long+`"}`, ReadOptions{})
		if im.Accepted != 1 {
			t.Errorf("%s of %d characters: %v", c.field, trimtab.MostLabel, im.Rejected)
		}
		for value, want := range map[string]string{
			long + "x": `field "` + c.field + `" has 501 characters: at most 500`,
			`a\u0000b`: `field "` + c.field + `" holds a NUL character`,
		} {
			im := read(t, c.kind, "x.jsonl", c.start+`, "`+c.field+`": "`+value+`"}`, ReadOptions{})
			if len(im.Rejected) != 1 || im.Rejected[0].Reason != want {
				t.Errorf("%s: %v, want %q", c.field, im.Rejected, want)
			}
		}
		if im := read(t, c.kind, "x.jsonl", c.start+`, "`+c.field+"\": \"a\xffb\"}",
			ReadOptions{}); len(im.Rejected) != 1 {
			t.Errorf("%s that is not UTF-8: %+v", c.field, im)
		}
	}
}
