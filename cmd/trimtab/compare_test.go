package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

func numbers(values ...float64) []*runs.Number {
	var list []*runs.Number
	for _, v := range values {
		n := runs.Number(v)
		list = append(list, &n)
	}
	return list
}

// compared is a comparison with something of everything.
func compared() runs.Comparison {
	one, two := trimtab.DigestOf([]byte("one")), trimtab.DigestOf([]byte("two"))
	origin := "zzzzzzzzzz"
	c := runs.Comparison{Schema: "trimtab.comparison/v1",
		Verdict: "different: stage sft: differs from step 7 on, first in loss",
		Runs: []runs.ComparedRun{
			{ID: "aaaaaaaaaa", Name: "before", Status: trimtab.RunCompleted, Seed: 1, Numerics: "v1", SpecDigest: one,
				Seconds: 65, Builds: []string{"0123456789"}},
			{ID: "bbbbbbbbbb", Name: "af\x1b[2Jter", Status: trimtab.RunRunning, Seed: 1, Numerics: "v1",
				SpecDigest: two, Origin: &origin, Builds: []string{"abcdef0123", "123456abcd"}}},
		Spec: []runs.SpecDifference{{Path: "data.text",
			Values: []json.RawMessage{json.RawMessage(`"` + string(one) + `"`), nil}},
			{Path: "sft.learning_rate", Values: []json.RawMessage{json.RawMessage("0.001"), json.RawMessage("5e-4")}},
			{Path: "sft.gates", Values: []json.RawMessage{nil, json.RawMessage(`[{"metric":"loss","max":1}]`)}}},
		Data: []runs.DataDifference{{Input: "demonstrations", Stages: []string{"sft", "reward"},
			Values: []*runs.InputSource{{Name: "demos", Digest: one}, {Stage: "other"}}}},
		Stages: []runs.ComparedStage{
			{Name: "sft", Verdict: "differs from step 7 on, first in loss", Differs: true,
				Attempts: []*runs.ComparedAttempt{{Kind: "sft", Attempt: 1, Status: trimtab.AttemptCompleted},
					{Kind: "sft", Attempt: 2, Status: trimtab.AttemptRunning, Steps: 12}},
				Outputs: []runs.ComparedOutput{{Name: "model", Digests: []*trimtab.Digest{&one, nil}}},
				Metrics: []runs.ComparedMetric{{Name: "loss", Values: numbers(1.25, math.NaN()),
					Differences: append([]*runs.Number{nil}, numbers(math.NaN())...)},
					{Name: "epoch", Equal: true, Values: numbers(1, 1),
						Differences: append([]*runs.Number{nil}, numbers(0)...)}},
				Series: &runs.ComparedSeries{Steps: 12}},
			{Name: "ppo", Verdict: "only one run has this stage", Differs: true,
				Attempts: []*runs.ComparedAttempt{nil, {Kind: "ppo", Status: trimtab.AttemptQueued}}}},
		Scores: []runs.ComparedScore{{Model: "sft", Measure: "gold", Values: numbers(.5, .75),
			Differences: append([]*runs.Number{nil}, numbers(.25)...)},
			{Model: "reward model", Measure: "accuracy", Values: append(numbers(.6), nil),
				Low: append(numbers(.5), nil), High: append(numbers(.7), nil), Differences: []*runs.Number{nil, nil}}},
		Samples: []runs.ComparedSample{{Prompt: "Why\x1b[31m?",
			Answers: []map[string]string{{"ppo": "so\u202e", "base": " "},
				{"ppo": "no\nyes", "base": " ", "extra": "only here"}}}},
	}
	c.Stages[0].Series.First = &struct {
		Step   int            `json:"step"`
		Metric string         `json:"metric"`
		Values []*runs.Number `json:"values"`
	}{7, "loss", numbers(1.2345678901234567, 1.2345678901234569)}
	return c
}

const comparedText = `          before        af\x1b[2Jter
run       aaaaaaaaaa    bbbbbbbbbb
status    completed     running
seed      1             1
numerics  v1            v1
spec      7692c3ad3540  3fc4ccfe7458
build     012345        abcdef, 123456
took      1m05s         0.0s
reruns                  zzzzzzzzzz

different: stage sft: differs from step 7 on, first in loss

spec and data                        before              af\x1b[2Jter
sft.learning_rate                    0.001               5e-4
sft.gates                            (none)              [{metric:loss,max:1}]
demonstrations, read by sft, reward  demos 7692c3ad3540  what other makes

stage  before     af\x1b[2Jter                 compared
sft    completed  running, attempt 2, step 12  differs from step 7 on, first in loss
ppo               queued                       only one run has this stage

stage  metrics that differ  before              af\x1b[2Jter
sft    loss at step 7       1.2345678901234567  1.234567890123457
sft    loss                 1.25                NaN

model         score     before               af\x1b[2Jter
sft           gold      0.5                  0.75 (+0.25)
reward model  accuracy  0.6 (0.500 … 0.700)

  Why\x1b[31m?
    base   all           (nothing)
    ppo    before        so\u202e
    ppo    af\x1b[2Jter  no\nyes
    extra  af\x1b[2Jter  only here
`

func TestPrintComparison(t *testing.T) {
	show := func(format string) string {
		var out bytes.Buffer
		if err := (&app{out: &out, format: format}).printComparison(compared()); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := show(formatTable); got != comparedText {
		t.Errorf("printed\n%s\nwant\n%s", got, comparedText)
	}
	var doc struct {
		Schema string
		Stages []struct {
			Metrics []struct{ Values []any }
			Series  struct {
				First struct{ Step int } `json:"first_difference"`
			}
		}
	}
	if err := json.Unmarshal([]byte(show(formatJSON)), &doc); err != nil || doc.Schema != "trimtab.comparison/v1" ||
		doc.Stages[0].Metrics[0].Values[1] != "NaN" || doc.Stages[0].Series.First.Step != 7 {
		t.Errorf("json: %+v, %v", doc, err)
	}
	for _, want := range []string{"part,stage,name,aaaaaaaaaa,bbbbbbbbbb\n", "spec,,sft.learning_rate,0.001,5e-4\n",
		"metric,sft,loss,1.25,NaN\n", "score,,sft gold,0.5,0.75\n",
		"first_difference,sft,loss at step 7,1.2345678901234567,1.234567890123457\n"} {
		if got := show(formatCSV); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, width := range []int{60, 80} {
		for _, g := range []grid{stageGrid([]string{"before", "after"}, compared().Stages),
			comparisonGrid([]string{"before", "after"}, specRows(compared()), "spec and data")} {
			for line := range strings.SplitSeq(g.render(width), "\n") {
				if text.StringWidth(line) > width {
					t.Errorf("width %d: %q", width, line)
				}
			}
		}
	}
}

// Runs whose names are not distinct are labelled by their ids.
func TestLabels(t *testing.T) {
	list := func(names ...string) (all []runs.ComparedRun) {
		for i, name := range names {
			all = append(all, runs.ComparedRun{ID: strings.Repeat(string(rune('a'+i)), 12), Name: name})
		}
		return all
	}
	for _, c := range []struct{ names, want []string }{
		{[]string{"x", "y"}, []string{"x", "y"}}, {[]string{"x", "x"}, []string{"aaaaaaaaaa", "bbbbbbbbbb"}},
		{[]string{"x", ""}, []string{"aaaaaaaaaa", "bbbbbbbbbb"}},
		{[]string{strings.Repeat("n", 30), strings.Repeat("n", 31)}, []string{"aaaaaaaaaa", "bbbbbbbbbb"}},
	} {
		if got := runLabels(list(c.names...)); strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%q are labelled %q, want %q", c.names, got, c.want)
		}
	}
}
