package dataset

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/trimtab/trimtab"
)

func read(t testing.TB, kind trimtab.Kind, name, body string, o ReadOptions) ReadResult {
	t.Helper()
	im, err := Read(kind, name, strings.NewReader(body), o)
	if err != nil && trimtab.AsError(err).Type != "dataset_empty" {
		t.Fatalf("%s: %v", name, err)
	}
	if im.Accepted != len(im.Items) {
		t.Errorf("%s: accepted %d of %d items", name, im.Accepted, len(im.Items))
	}
	return im
}

// show writes an item in one line.
func show(item trimtab.Item) string {
	switch x := item.(type) {
	case trimtab.Text:
		return x.Body
	case trimtab.Prompt:
		return x.Text + tail(x.Split, x.Tag)
	case trimtab.Demonstration:
		return x.Prompt + " → " + x.Response + tail(x.Split, x.Demonstrator)
	}
	r := item.(trimtab.Ranking)
	s := r.Prompt + " →"
	for i, resp := range r.Responses {
		s += fmt.Sprintf(" %d:%s", r.Ranks[i], resp.Bytes)
	}
	return s + tail(r.Split, r.Labeller, r.Group)
}

func tail(parts ...string) string {
	s := ""
	for _, p := range parts {
		if p != "" {
			s += " [" + p + "]"
		}
	}
	return s
}

// TestColumns has a record of every format that is read.
func TestColumns(t *testing.T) {
	for _, c := range []struct {
		kind   trimtab.Kind
		record string
		want   []string
	}{
		{trimtab.KindText, `{"text": "a b"}`, []string{"a b"}},
		{trimtab.KindText, `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}`,
			[]string{"Human: hi\n\nAssistant: ho"}},
		{trimtab.KindPrompts, `{"prompt": "p", "split": "validation", "tag": "x"}`, []string{"p [test] [x]"}},
		{trimtab.KindPrompts, `{"prompt": [{"role": "user", "content": "p"}], "answer": "42"}`, []string{"p"}},
		{trimtab.KindPrompts,
			`{"data_source": "x", "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "p"}], "reward_model": {"style": "rule"}}`, []string{"Be brief.\n\np"}},
		{trimtab.KindPrompts,
			`{"messages": [{"role": "user", "content": [{"type": "text", "text": "p"}]}, {"role": "assistant", "content": "a"}]}`, []string{"p"}},
		{trimtab.KindPrompts, `{"instruction": "Add.", "input": "1 2", "output": "3"}`, []string{"Add.\n1 2"}},
		{trimtab.KindPrompts, `{"Question": "why?"}`, []string{"why?"}},
		{trimtab.KindPrompts, `{"input": "p"}`, []string{"p"}},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": "c", "demonstrator": "d", "split": "train"}`,
			[]string{"p → c [train] [d]"}},
		{trimtab.KindDemonstrations,
			`{"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "c"}]}`,
			[]string{"p → c"}},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": "c", "label": true}`, []string{"p → c"}},
		{trimtab.KindDemonstrations, `{"prompt": "\n\nHuman: p\n\nAssistant:", "completion": "c"}`, []string{"p → c"}},
		{trimtab.KindDemonstrations,
			`{"prompt": "\n\nHuman: p\n\nAssistant: q\n\nHuman: r\n\nAssistant:", "completion": "c", "system": "S"}`,
			[]string{"S\n\nHuman: p\n\nAssistant: q\n\nHuman: r\n\nAssistant: → c"}},
		{trimtab.KindDemonstrations,
			`{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}`,
			[]string{"a → b", "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: → d"}},
		{trimtab.KindDemonstrations,
			`{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "S"}`,
			[]string{"S\n\na → b"}},
		{trimtab.KindDemonstrations, `{"instruction": "i", "input": "", "output": "o", "history": [["q", "r"]]}`,
			[]string{"Human: q\n\nAssistant: r\n\nHuman: i\n\nAssistant: → o"}},
		{trimtab.KindDemonstrations, `{"question": "q", "answer": "a"}`, []string{"q → a"}},
		{trimtab.KindDemonstrations, `{"input": "q", "output": "a"}`, []string{"q → a"}},
		{trimtab.KindDemonstrations,
			`{"instruction": "i", "instances": [{"input": "", "output": "x"}, {"input": "j", "output": "y"}]}`,
			[]string{"i → x", "i\nj → y"}},
		{trimtab.KindRankings, `{"prompt": "p", "chosen": "a", "rejected": "b", "id": "debate_side/a1_a2"}`,
			[]string{"p → 1:a 2:b [debate]"}},
		{trimtab.KindRankings, `{"prompt": "p", "chosen": "", "rejected": "b"}`, []string{"p → 1: 2:b"}},
		{trimtab.KindRankings, `{"chosen": "The sky is blue.", "rejected": "The sky is bluish."}`,
			[]string{"The sky is → 1:blue. 2:bluish."}},
		{trimtab.KindRankings,
			`{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "b"}]}`, []string{"p → 1:a 2:b"}},
		{trimtab.KindRankings,
			`{"prompt": [{"role": "user", "content": "p"}], "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}`, []string{"p → 1:a 2:b"}},
		{trimtab.KindRankings, `{"chosen": "\n\nHuman: p\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: b"}`,
			[]string{"p → 1:a 2:b"}},
		{trimtab.KindRankings,
			`{"chosen": "\n\nHuman: p\n\nAssistant: q\n\nHuman: r\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: q\n\nHuman: r\n\nAssistant:"}`,
			[]string{"Human: p\n\nAssistant: q\n\nHuman: r\n\nAssistant: → 1:a 2:"}},
		{trimtab.KindRankings, `{"instruction": "i", "input": "j", "chosen": "a", "rejected": "b"}`,
			[]string{"i\nj → 1:a 2:b"}},
		{trimtab.KindRankings,
			`{"conversations": [{"from": "human", "value": "p"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}`, []string{"p → 1:a 2:b"}},
		{trimtab.KindRankings,
			`{"prompt": [{"role": "prompter", "text": "p"}], "responses": ["a", "b", "c"], "rank": [3, 0, 3], "annotator": "w3", "id": "51152/q0/w3"}`, []string{"p → 2:a 1:b 2:c [w3] [51152]"}},
		{trimtab.KindRankings, `{"prompt": "p", "responses": ["a", "b"], "ranks": [1.5, 0.5], "group": "g"}`,
			[]string{"p → 2:a 1:b [g]"}},
		{trimtab.KindRankings,
			`{"context": [{"role": "user", "content": "p"}], "completions": [{"rank": 1, "completion": [{"role": "assistant", "content": "a"}]}, {"rank": 0, "completion": [{"role": "assistant", "content": "b"}]}]}`, []string{"p → 2:a 1:b"}},
		{trimtab.KindRankings,
			`{"info": {"post": "long", "title": "T"}, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 1, "worker": "w", "split": "valid1"}`, []string{"T\n\nlong → 2:a 1:b [test] [w]"}},
		{trimtab.KindRankings,
			`{"query": "q", "sample0": "a", "sample1": "b", "sample2": "c", "sample3": "d", "best": 2}`,
			[]string{"q → 2:a 2:b 1:c 2:d"}},
		{trimtab.KindRankings,
			`{"instruction": "i", "input": "", "response1": "a", "response2": "b", "annotator1": 1, "annotator2": 0, "annotator3": 2}`,
			[]string{"i → 1:a 2:b [annotator1]", "i → 2:a 1:b [annotator3]"}},
		{trimtab.KindRankings,
			`{"prompt": "p", "responses": ["a", "b"], "gold": null, "votes": [{"worker": "w1", "vote": "a2"}, {"worker": "w2", "vote": "equal"}]}`, []string{"p → 2:a 1:b [w1]"}},
		{trimtab.KindRankings, `{"message_tree_id": "t", "prompt": {"text": "p", "role": "prompter", "replies": [
			{"text": "a", "role": "assistant", "rank": 1, "replies": [{"text": "q", "role": "prompter", "replies": [{"text": "x", "role": "assistant", "rank": 0, "replies": []}, {"text": "y", "role": "assistant", "rank": 1, "replies": []}]}]},
			{"text": "b", "role": "assistant", "rank": 0, "replies": []}, {"text": "c", "role": "assistant", "replies": []}]}}`,
			[]string{"p → 2:a 1:b [t]", "Human: p\n\nAssistant: a\n\nHuman: q\n\nAssistant: → 1:x 2:y [t]"}},
	} {
		im := read(t, c.kind, "x.json", "["+c.record+"]", ReadOptions{})
		var got []string
		for _, item := range im.Items {
			if err := item.Validate(); err != nil {
				t.Errorf("%s: %v", c.record, err)
			}
			got = append(got, show(item))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s\n gives %q\n want  %q; problems %v", c.record, got, c.want, im.Rejected)
		}
	}
}

// TestProblems has every way in which a record can be wrong, with the message.
func TestProblems(t *testing.T) {
	for _, c := range []struct {
		kind         trimtab.Kind
		record, want string
	}{
		{trimtab.KindDemonstrations, `{"prompt": "p", "response": "r"}`,
			`field "completion" is missing (have: prompt, response): rename it or pass --map completion=response`},
		{trimtab.KindDemonstrations, `{"question": "p", "Best Answer": "r"}`,
			`field "answer" is missing (have: Best Answer, question): rename it or pass --map "answer=Best Answer"`},
		{trimtab.KindDemonstrations, `{"completion": "c"}`,
			`field "prompt" is missing (have: completion): rename it or pass --map prompt=COLUMN`},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": 7}`,
			`field "completion" is the number 7, not a string or messages: write it as a string or a list of messages`},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": " "}`,
			`field "completion" is empty: fix the record or leave it out`},
		{trimtab.KindDemonstrations, `{"prompt": "", "completion": "c"}`,
			`field "prompt" is empty: give it a value, or leave the record out`},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": "a\u0000b"}`,
			`field "completion" holds a NUL character: fix the record or leave it out`},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": "c", "label": false}`,
			`field "label" is false: the completion is not one to train on: import it as part of a ranking`},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": "c", "split": "maybe"}`,
			`field "split" is "maybe": use train or test`},
		{trimtab.KindDemonstrations, `{"messages": [{"role": "user", "content": "p"}]}`,
			`field "messages" has no answer of the assistant: leave the record out`},
		{trimtab.KindDemonstrations, `{"messages": []}`, `field "messages" is an empty list: leave the record out`},
		{trimtab.KindDemonstrations, `{"messages": ["p"]}`,
			`field "messages" message 1 is a string, not a message: write messages as {"role": …, "content": …}`},
		{trimtab.KindDemonstrations, `{"messages": [{"role": "tool", "content": "p"}]}`,
			`messages message 1 has the role "tool", which is not known: leave the record out, or write the turn as one of user, assistant or system`},
		{trimtab.KindDemonstrations, `{"messages": [{"role": "user", "content": [{"type": "image"}]}]}`,
			`messages message 1 holds a part that is not text: leave the record out: only text can be trained on`},
		{trimtab.KindDemonstrations, `{"instruction": "i", "instances": [{"input": "x"}]}`,
			`field "output" is missing (have: input): rename it or pass --map output=COLUMN`},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": "a\ud800b"}`,
			`the record contains half of a \uD800-\uDFFF surrogate pair, which is not a character: write both halves of the pair, or leave the record out`},
		{trimtab.KindDemonstrations, "{\"prompt\": \"p\", \"completion\": \"a\xffb\"}",
			`the record is not valid UTF-8 (byte 0xff; it may be Latin-1 or Windows-1252): convert the file to UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`},
		{trimtab.KindDemonstrations, `["p", "c"]`,
			`the record is a list, not an object: write records as objects: {"prompt": …}`},
		{trimtab.KindDemonstrations, `{"prompt": "p", "completion": "c"`,
			`the JSON ends too early: the file seems truncated: download it again`},
		{trimtab.KindDemonstrations, `{"prompt": p}`,
			`the JSON is not valid: invalid character 'p' looking for beginning of value: fix the JSON or leave the line out`},
		{trimtab.KindDemonstrations, `{"prompt": "p"} {"prompt": "q"}`,
			`more text follows the JSON object: put one JSON object on a line`},
		{trimtab.KindText, `{"body": "x"}`, `field "text" is missing (have: body): rename it or pass --map text=body`},
		{trimtab.KindPrompts, `{"x": "x"}`,
			`field "prompt" is missing (have: x): rename it or pass --map prompt=COLUMN`},
		{trimtab.KindRankings, `{"prompt": "p", "chosen": "a"}`,
			`field "rejected" is missing (have: chosen, prompt): rename it or pass --map rejected=COLUMN`},
		{trimtab.KindRankings, `{"chosen": "a", "rejected": "b"}`,
			`field "prompt" is missing, and chosen and rejected have no beginning in common: add the column, or pass --map prompt=COLUMN`},
		{trimtab.KindRankings, `{"chosen": "\n\nHuman: p\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}`,
			`chosen and rejected differ before their last answer: leave the record out: a ranking compares answers to one and the same conversation`},
		{trimtab.KindRankings, `{"prompt": "p", "responses": ["a", "b"], "rank": [1]}`,
			`2 responses but 1 ranks: fix the record or leave it out`},
		{trimtab.KindRankings, `{"prompt": "p", "responses": ["a", "b"], "rank": [1, "x"]}`,
			`field "rank 2" is "x", not a number: write it as a number`},
		{trimtab.KindRankings, `{"prompt": "p", "responses": ["a", true], "rank": [1, 2]}`,
			`field "responses 2" is true, not a string or messages: write it as a string or a list of messages`},
		{trimtab.KindRankings, `{"prompt": "p", "responses": "a", "rank": [1, 2]}`,
			`field "responses" is a string, not a list: write it as a list: [ … ]`},
		{trimtab.KindRankings, `{"prompt": "p", "responses": ["a", "b\u0000"], "rank": [1, 2]}`,
			`response 2 holds a NUL character: fix the record or leave it out`},
		{trimtab.KindRankings,
			`{"prompt": "p", "responses": ["0","1","2","3","4","5","6","7","8","9"], "rank": [0,1,2,3,4,5,6,7,8,9]}`,
			`a ranking has 2 to 9 responses, this one has 10: fix the record or leave it out`},
		{trimtab.KindRankings, `{"instruction": "i", "response1": true, "response2": "b", "annotator1": 1}`,
			`field "response1" is true, not a string or messages: write it as a string or a list of messages`},
		{trimtab.KindRankings, `{"instruction": "i", "response1": "a", "response2": "b", "annotator1": 9}`,
			`field "annotator1" is 9, which is not known: use 1 for the first response, 2 for the second or 0 for a tie`},
		{trimtab.KindRankings, `{"query": [1, 2], "sample0": [3], "best": 0}`,
			`field "query" is a list, not a string: write it in quotes, or leave the record out`},
		{trimtab.KindRankings, `{"query": "q", "sample0": "a", "sample1": "b", "best": 4}`,
			`field "best" is 4, but there are 2 responses: count from 0`},
	} {
		im := read(t, c.kind, "demos.jsonl", "\n\n"+strings.ReplaceAll(c.record, "\n", " ")+"\n", ReadOptions{})
		if len(im.Items) != 0 || len(im.Rejected) != 1 {
			t.Errorf("%s: items %v, problems %v", c.record, im.Items, im.Rejected)
			continue
		}
		if got, want := im.Rejected[0].Error(), "demos.jsonl:3: "+c.want; got != want {
			t.Errorf("%s\n says %s\n want %s", c.record, got, want)
		}
	}
}

// A bad record costs nothing but itself.
func TestGoodAroundBad(t *testing.T) {
	body := "\ufeff" + `{"prompt": "a", "completion": "b"}` + "\r\n" + // byte order mark, CRLF
		`{"prompt": "a", "completion": "b"}` + "\r\n" + // again
		`{"prompt": ` + "\r\n" +
		`{"prompt": "c", "completion": "` + strings.Repeat("x", MaxRecord) + `"}` + "\n" +
		`{"prompt": "d", "completion": "e"}` // no line end
	im := read(t, trimtab.KindDemonstrations, "d.jsonl", body, ReadOptions{})
	if im.Accepted != 2 || im.Duplicates != 1 || len(im.Rejected) != 2 {
		t.Fatalf("%d accepted, %d duplicates, problems %v", im.Accepted, im.Duplicates, im.Rejected)
	}
	if p := im.Rejected[1]; p.Line != 4 || p.Reason != "the line is longer than 8 MiB" {
		t.Errorf("long line: %v", p)
	}
	if show(im.Items[1]) != "d → e" {
		t.Errorf("last: %q", show(im.Items[1]))
	}
}

// A line without end is read in bounded memory.
func TestLongLineIsNotHeld(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Read(trimtab.KindText, "x.jsonl", io.LimitReader(endless{}, 200<<20), ReadOptions{})
	runtime.ReadMemStats(&after)
	if trimtab.AsError(err).Type != "dataset_empty" {
		t.Errorf("error %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("200 MiB in one line took %d MiB of memory", used>>20)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestArray(t *testing.T) {
	im := read(t, trimtab.KindText, "x.json",
		"\ufeff [\n{\"text\": \"a\"},\n\n{\"text\":\n 1},\n{\"text\": \"b\"}\n]\n", ReadOptions{})
	if im.Accepted != 2 || len(im.Rejected) != 1 || im.Rejected[0].Line != 4 {
		t.Errorf("array: %+v", im)
	}
	if im = read(t, trimtab.KindText, "x.json", "{\"text\": \"a\"}\n{\"text\": \"b\"}",
		ReadOptions{}); im.Accepted != 2 {
		t.Errorf("objects one after the other: %+v", im)
	}
	for _, cut := range []string{"[{\"text\": \"a\"},\n{\"te", "[{\"text\": \"a\"},\n", "[{\"text\": \"a\"}\n",
		"[{\"text\": \"a\"},\nxyz"} {
		im = read(t, trimtab.KindText, "x.json", cut, ReadOptions{})
		if im.Accepted != 1 || len(im.Rejected) != 1 || im.Rejected[0].Line != 2 {
			t.Errorf("%q: accepted %d, problems %v", cut, im.Accepted, im.Rejected)
		}
	}
	long := "[{\"text\": \"a\"},\n{\"text\": \"" + strings.Repeat("x", 3*MaxRecord) + "\"}]"
	if im = read(t, trimtab.KindText, "x.json", long, ReadOptions{}); im.Accepted != 1 || len(im.Rejected) != 1 ||
		!strings.Contains(im.Rejected[0].Reason, "longer than 8 MiB") {
		t.Errorf("long element: %v", im.Rejected)
	}
}

func TestTable(t *testing.T) {
	body := "\ufeffPrompt,completion,split\r\n\"a, \"\"b\"\"\nc\",d,test\r\nonly one\r\ne,,\r\nf,g,train\r\nh,\xff,\r\n"
	im := read(t, trimtab.KindDemonstrations, "x.csv", body, ReadOptions{})
	var got []string
	for _, item := range im.Items {
		got = append(got, show(item))
	}
	if want := []string{"a, \"b\"\nc → d [test]", "f → g [train]"}; !slices.Equal(got, want) {
		t.Errorf("items %q", got)
	}
	var problems []string
	for _, p := range im.Rejected {
		problems = append(problems, p.Error())
	}
	want := []string{
		"x.csv:4: the row does not have as many columns as the header: put fields that contain a comma in quotes",
		`x.csv:5: field "completion" is empty: give it a value, or leave the record out`,
		`x.csv:7: column "completion" is not valid UTF-8 (byte 0xff; it may be Latin-1 or Windows-1252): convert the file to UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`,
	}
	if !slices.Equal(problems, want) {
		t.Errorf("problems %q", problems)
	}
	if im = read(t, trimtab.KindDemonstrations, "x.tsv", "prompt\tcompletion\na \"b\t c\n",
		ReadOptions{}); im.Accepted != 1 {
		t.Errorf("tsv: %+v", im)
	}
	open := "text\nfine\n\"never closed " + strings.Repeat("x\n", MaxRecord)
	if im = read(t, trimtab.KindText, "x.csv", open, ReadOptions{}); im.Accepted != 1 || len(im.Rejected) != 1 ||
		!strings.Contains(im.Rejected[0].Error(), "quote that was left open") {
		t.Errorf("open quote: accepted %d, %v", im.Accepted, im.Rejected)
	}
	if im = read(t, trimtab.KindText, "x.csv", "text\na\nb\"c\n", ReadOptions{}); im.Accepted != 1 ||
		len(im.Rejected) != 1 || im.Rejected[0].Line != 3 {
		t.Errorf("bare quote: %+v", im)
	}
}

func TestPlainText(t *testing.T) {
	body := "\ufeffOne\r\ntwo\r\n\r\n\r\nThree\n \nFour\n"
	for split, want := range map[string][]string{
		"":          {"One\ntwo\n\n\nThree\n \nFour"},
		"document":  {"One\ntwo\n\n\nThree\n \nFour"},
		"paragraph": {"One\ntwo", "Three", "Four"},
		"line":      {"One", "two", "Three", "Four"},
	} {
		im := read(t, trimtab.KindText, "x.txt", body, ReadOptions{Split: split})
		var got []string
		for _, item := range im.Items {
			got = append(got, show(item))
		}
		if !slices.Equal(got, want) {
			t.Errorf("split %q: %q, want %q", split, got, want)
		}
	}
	if im := read(t, trimtab.KindPrompts, "x.txt", body, ReadOptions{}); im.Accepted != 4 {
		t.Errorf("prompts: %+v", im)
	}
	im := read(t, trimtab.KindText, "x.txt", "a\n\nb\x00\n\n\xff\n\nc\n", ReadOptions{Split: "paragraph"})
	if im.Accepted != 2 || len(im.Rejected) != 2 || im.Rejected[0].Line != 3 || im.Rejected[1].Line != 5 {
		t.Errorf("NUL and bad UTF-8: %v", im.Rejected)
	}
	im = read(t, trimtab.KindText, "x.txt", strings.Repeat("word\n", MaxRecord/5+10), ReadOptions{})
	if im.Accepted != 0 || len(im.Rejected) != 1 ||
		im.Rejected[0].Error() != "x.txt:1: the document is longer than 8 MiB: pass --split paragraph or --split line" {
		t.Errorf("long document: %v", im.Rejected)
	}
}

func TestMap(t *testing.T) {
	im := read(t, trimtab.KindDemonstrations, "x.jsonl", `{"prompt": "p", "response": "r"}`,
		ReadOptions{Map: map[string]string{"completion": "response"}})
	if im.Accepted != 1 || show(im.Items[0]) != "p → r" {
		t.Errorf("%+v", im)
	}
}

func TestGzip(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, `{"text": "a"}`)
	z.Close()
	if im := read(t, trimtab.KindText, "x.jsonl.gz", b.String(), ReadOptions{}); im.Accepted != 1 {
		t.Errorf("%+v", im)
	}
	if _, err := Read(trimtab.KindText, "x.jsonl.gz", strings.NewReader("no gzip"),
		ReadOptions{}); trimtab.AsError(err).Type != "dataset_unreadable" {
		t.Errorf("error %v", err)
	}
}

// TestWholeFileErrors are about no single record.
func TestWholeFileErrors(t *testing.T) {
	for _, c := range []struct {
		kind             trimtab.Kind
		name, body, want string
	}{
		{"songs", "x.jsonl", "", "dataset_kind_unknown"},
		{trimtab.KindText, "x.parquet", "", "dataset_format_unknown"},
		{trimtab.KindRankings, "x.txt", "a", "dataset_format_unknown"},
		{trimtab.KindText, "x.jsonl", "", "dataset_empty"},
		{trimtab.KindText, "x.csv", "", "dataset_empty"},
		{trimtab.KindText, "x.json", " ", "dataset_empty"},
		{trimtab.KindText, "x.json", "[]", "dataset_empty"},
		{trimtab.KindText, "x.jsonl", `{"a": 1}`, "dataset_empty"},
	} {
		_, err := Read(c.kind, c.name, strings.NewReader(c.body), ReadOptions{})
		if e := trimtab.AsError(err); err == nil || e.Type != c.want || e.Remedy == "" {
			t.Errorf("%s %q: error %v", c.name, c.body, err)
		}
	}
	if _, err := Read(trimtab.KindText, "x.txt", strings.NewReader("a"),
		ReadOptions{Split: "word"}); trimtab.AsError(err).Type != "dataset_split_unknown" {
		t.Errorf("split: %v", err)
	}
	for _, name := range []string{"x.jsonl", "x.json", "x.csv", "x.txt"} {
		start := map[string]string{"x.jsonl": `{"text": "a"}`, "x.json": `[{"text": "a"},`, "x.csv": "text\na",
			"x.txt": "a"}[name] + "\n"
		r := io.MultiReader(strings.NewReader(start), iotest.ErrReader(errors.New("disk on fire")))
		if _, err := Read(trimtab.KindText, name, r, ReadOptions{}); err == nil ||
			!strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("%s: a failed read gives the error %v", name, err)
		}
	}
}

func TestManyProblemsAreCounted(t *testing.T) {
	im := read(t, trimtab.KindText, "x.jsonl", strings.Repeat("{}\n", MaxProblems+5)+`{"text": "a"}`, ReadOptions{})
	if len(im.Rejected) != MaxProblems || im.Unlisted != 5 || im.Accepted != 1 {
		t.Errorf("%d listed, %d not, %d accepted", len(im.Rejected), im.Unlisted, im.Accepted)
	}
}

// FuzzRead feeds any bytes in any format for any kind: no panic, and nothing
// accepted that is not valid.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"text": "a", "prompt": "p", "completion": "c"}`,
		`[{"prompt": "p", "chosen": [{"role": "user", "content": "x"}], "rejected": {"from": "gpt", "value": "y"}}]`,
		"prompt,completion\na,\"b\nc\"\n", "\ufeffa\r\n\r\nb\x00\xff",
		`{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}`,
		`{"prompt": {"role": "prompter", "text": "p", "replies": [{"role": "assistant", "text": "a", "rank": 1}, {"role": "assistant", "text": "b", "rank": 0, "replies": [3]}]}}`,
		`{"prompt": "p", "responses": ["a", "b"], "votes": [{"vote": "a1"}, 7]}`, `{"chosen": "é", "rejected": "è"}`,
		`{"prompt": "p", "system": "s", "chosen": "\ud83d\ude00", "rejected": "\ud83d"}`,
		`{"info": {"post": 1}, "summaries": [{}], "choice": null}`, `{"query": "q", "sample0": "a", "best": "x"}`,
		`{"response1": "a", "response2": "b", "instruction": "", "annotator1": 1}`,
		`{"context": [], "completions": [{"rank": {}, "completion": []}]}`,
		`{"instruction": "i", "history": [[1]], "instances": [null], "output": "o"}`, "[[[[", `{"a":"\u`,
	} {
		f.Add([]byte(seed), uint8(0), uint8(0))
		f.Add([]byte(seed), uint8(3), uint8(1))
	}
	names := []string{"x.jsonl", "x.json", "x.csv", "x.tsv", "x.txt"}
	f.Fuzz(func(t *testing.T, data []byte, kind, name uint8) {
		k := trimtab.Kinds[int(kind)%len(trimtab.Kinds)]
		im, _ := Read(k, names[int(name)%len(names)], bytes.NewReader(data),
			ReadOptions{Map: map[string]string{"text": "prompt"}})
		for _, item := range im.Items {
			if err := item.Validate(); err != nil || item.Kind() != k {
				t.Errorf("accepted %s: %v", item.Canonical(), err)
			}
		}
	})
}
