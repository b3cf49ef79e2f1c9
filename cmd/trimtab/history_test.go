package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// recordingCalls are the functions that record an event, with the place of its type among their arguments.
var recordingCalls = map[string]int{"appendEvent": 4, "RecordEvent": 3}

// eventTypes are the constants of package trimtab that name event types, read in its source.
func eventTypes(t *testing.T) map[string]trimtab.EventType {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]trimtab.EventType{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		types[spec.Names[0].Name] = trimtab.EventType(value)
		return false
	})
	return types
}

// recordedTypes are the types of all events that are recorded, read in the source.
func recordedTypes(t *testing.T) []trimtab.EventType {
	t.Helper()
	named := eventTypes(t)
	var files []string
	for _, folder := range []string{"../../storage", "../../notary", "."} {
		found, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(found) == 0 {
			t.Fatalf("no source in %s: %v", folder, err)
		}
		files = append(files, found...)
	}
	var types []trimtab.EventType
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			var called string
			switch f := call.Fun.(type) {
			case *ast.Ident:
				called = f.Name
			case *ast.SelectorExpr:
				called = f.Sel.Name
			}
			at, records := recordingCalls[called]
			if !records || len(call.Args) <= at {
				return true
			}
			if id, passed := call.Args[at].(*ast.Ident); passed && id.Name == "typ" {
				return true // RecordEvent itself
			}
			constant, ok := call.Args[at].(*ast.SelectorExpr)
			if !ok || named[constant.Sel.Name] == "" {
				t.Errorf("%s records an event whose type is no constant of package trimtab", name)
				return true
			}
			typ := named[constant.Sel.Name]
			types = append(types, typ)
			return true
		})
	}
	slices.Sort(types)
	return slices.Compact(types)
}

func TestEveryEventHasASentence(t *testing.T) {
	types := recordedTypes(t)
	if len(types) < 15 {
		t.Errorf("found only %q in storage's source", types)
	}
	for _, typ := range types {
		if sentences[typ] == nil {
			t.Errorf("no sentence for events of type %s: add one to sentences", typ)
		}
	}
	for typ := range sentences {
		if !slices.Contains(types, typ) {
			t.Errorf("no code records an event of type %s", typ)
		}
	}
}

// digit is a digest whose digits are all d.
func digit(d string) string { return `"sha256:` + strings.Repeat(d, 64) + `"` }

// book is a run's events, each a second after the one before; a line is actor, type, stage, attempt and body.
func book(t *testing.T, lines ...[5]string) []storage.Event {
	t.Helper()
	at := time.Date(2026, 11, 27, 23, 59, 56, 0, time.UTC)
	var events []storage.Event
	for i, l := range lines {
		attempt, _ := strconv.Atoi(l[3])
		stream := "run-1"
		if strings.HasPrefix(l[1], "dataset") || strings.HasPrefix(l[1], "items") || strings.HasPrefix(l[1], "files") {
			stream = "dataset/demos"
		}
		if !json.Valid([]byte(l[4])) {
			t.Fatalf("%s: no JSON", l[4])
		}
		events = append(events, storage.Event{Sequence: int64(i + 1), Stream: stream,
			At:    at.Add(time.Duration(i) * time.Second),
			Actor: l[0], Type: trimtab.EventType(l[1]), Stage: l[2], Attempt: attempt, Body: json.RawMessage(l[4])})
	}
	return events
}

// counts are what of its data sft reads: of the demonstrations not all, the text by rows, the prompts as they are.
const counts = `[{"name":"data/demonstrations/kept","value":2},{"name":"data/demonstrations/cut","value":1},{"name":"data/demonstrations/left_out","value":9},` +
	`{"name":"data/text/kept","value":7},{"name":"data/text/cut","value":7},{"name":"data/text/left_out","value":0},` +
	`{"name":"data/prompts/kept","value":5},{"name":"data/prompts/cut","value":0},{"name":"data/prompts/left_out","value":0}]`

var wholeBook = [][5]string{
	{"ann", "run_created", "", "",
		`{"name":"first","origin":"","overrides":null,"plan":{},"reason":"","seed":"1","spec_digest":` + digit("a") +
			`}`},
	{"ann", "run_status", "", "", `{"error":null,"from":"queued","next":"","status":"running"}`},
	{"ann", "attempt_created", "sft", "1", `{"from_checkpoint":"","inputs":[{"name":"model","digest":` + digit("b") +
		`},{"name":"demonstrations","digest":` + digit("c") +
		`}],"outputs":null,"reason":"","reused_from":0,"status":"queued"}`},
	{"worker", "attempt_started", "sft", "1", `{"build":"1a2b3c4d5e6f","from":"queued","steps":4000,"token":1,"data":` +
		counts + `}`},
	{"worker", "steps_committed", "sft", "1", `{"checkpoint":{"digest":` + digit("d") +
		`,"step":2000},"from":0,"steps":2000,"until":2000}`},
	{"worker", "steps_committed", "sft", "1", `{"from":2000,"steps":1,"until":2001}`},
	{"worker", "steps_committed", "sft", "1", `{"checkpoint":{"digest":` + digit("e") +
		`,"step":3908},"from":2001,"steps":1907,"until":3908}`},
	{"trimtab", "attempt_status", "sft", "1",
		`{"error":{"type":"x","message":"the disk is full"},"from":"running","status":"retrying"}`},
	{"trimtab", "run_status", "", "",
		`{"error":{"type":"x","message":"the disk is full"},"from":"running","next":"","status":"waiting"}`},
	{"trimtab", "run_status", "", "",
		`{"error":{"type":"x","message":"the disk is full"},"from":"waiting","next":"1","status":"waiting"}`},
	{"trimtab", "run_status", "", "",
		`{"error":{"type":"x","message":"the disk is full"},"from":"waiting","next":"2","status":"waiting"}`},
	{"worker", "attempt_started", "sft", "1",
		`{"build":"9f8e7d6c5b4a","from":"retrying","kernels":"avx512","steps":4000,"token":2,"data":` + counts + `}`},
	{"worker", "checkpoint_damaged", "sft", "1", `{"digest":` + digit("e") +
		`,"error":{"message":"its bytes are others"},"gone":false,"step":3908}`},
	{"worker", "steps_committed", "sft", "1", `{"checkpoint":{"digest":` + digit("f") + `,"step":4000},"steps":0}`},
	{"trimtab", "artifact_made", "sft", "1", `{"digest":` + digit("1") +
		`,"kind":"model","name":"run-1/sft","parameters":1234567}`},
	{"worker", "attempt_completed", "sft", "1",
		`{"metrics":[{"name":"loss","value":1.25}],"outputs":[{"name":"model","digest":` + digit("1") + `}]}`},
	{"trimtab", "run_status", "", "",
		`{"error":{"message":"stage reward: accuracy is 0.5"},"from":"running","next":"","status":"blocked"}`},
	{"bob", "run_planned", "", "",
		`{"overrides":[{"set":"sft.optim.lr=0.0005"},{"data":"demos","kind":"demonstrations","digest":` + digit("2") +
			`}],"reason":"slower","revision":1,"stage":"sft"}`},
	{"bob", "attempt_status", "sft", "1", `{"error":null,"from":"completed","reason":"slower","status":"stale"}`},
	{"bob", "attempt_created", "sft", "2", `{"from_checkpoint":` + digit("d") +
		`,"inputs":[],"reason":"slower","reused_from":0,"status":"queued"}`},
	{"worker", "attempt_started", "sft", "2", `{"build":"9f8e7d6c5b4a","from":"queued","steps":1,"token":1}`},
	{"trimtab", "attempt_status", "sft", "2",
		`{"error":{"message":"not a number"},"from":"running","status":"failed"}`},
	{"trimtab", "attempt_created", "reward", "1", `{"inputs":[],"outputs":[{"name":"model","digest":` + digit("3") +
		`}],"reason":"","reused_from":7,"status":"reused"}`},
	{"bob", "decision", "reward", "1",
		`{"decision":"approve","details":{"decision":"approve","reason":"good enough"}}`},
	{"bob", "decision", "", "", `{"decision":"pause","details":{"decision":"pause","reason":""}}`},
	{"bob", "decision", "evaluate", "2", `{"decision":"skip","details":{"decision":"skip","reason":"not needed"}}`},
	{"worker", "evaluation_made", "evaluate", "1", `{"document":` + digit("4") + `}`},
	{"bob", "dataset_created", "", "", `{"kind":"demonstrations"}`},
	{"bob", "items_added", "", "", `{"added":12,"given":15,"root":` + digit("5") + `}`},
	{"bob", "dataset_frozen", "", "", `{"items":1000,"version":` + digit("6") + `}`},
	{"trimtab", "weather_told", "", "", `{"reason":"rain","clouds":3}`},
	{"trimtab", "run_status", "", "", `{"status":3,"next":"odd"}`},
	{"trimtab", "run_status", "", "", `{"error":null,"from":"running","next":"","status":"completed"}`},
	{"bob", "files_imported", "", "", `{"files":[{"name":"a.jsonl","digest":` + digit("7") +
		`,"bytes":9,"items":1200},{"name":"b.jsonl","digest":` + digit("8") + `,"bytes":9,"items":1}]}`},
	{"bob", "items_erased", "", "", `{"items":[` + digit("7") + `],"reason":"asked for","rows":1,"versions":[]}`},
	{"trimtab", "document_kept", "", "", `{"digest":` + digit("8") + `}`},
	{"bob", "model_exported", "", "", `{"digest":` + digit("9") + `}`},
	{"eve", "reproduced", "sft", "1", `{"identical":true,"kernels":"avx2","stages":[]}`},
	{"eve", "reproduced", "", "",
		`{"identical":false,"kernels":"avx2","stages":[{"stage":"sft"},{"stage":"ppo","first":"step 3: loss"}]}`},
	{"eve", "reproduced", "", "",
		`{"identical":false,"kernels":"avx2","stages":[{"stage":"ppo","result":"failed","error":{"message":"its input is gone"}}]}`},
	{"worker", "key_used", "", "", `{"verifier":"trimtab-1a2b3c4d+00+AA"}`},
	{"eve", "audit_verified", "", "", `{"events":1200,"head":1200,"problems":0}`},
	{"eve", "audit_verified", "", "", `{"events":1200,"head":1200,"problems":2}`},
	{"bob", "dataset_split", "", "", `{"by":"prompt","seed":7,"items":1000,"held_out":199}`},
	{"bob", "model_named", "", "", `{"name":"gpt2","digest":` + digit("9") + `,"before":` + digit("8") + `}`},
	{"ana_db", "decision_requested", "ppo", "1", `{"actor":"ana","decision":"skip","reason":"enough"}`},
	{"trimtab", "decision_refused", "ppo", "1",
		`{"decision":"skip","error":{"message":"the run is not blocked"},"request":46}`},
	{"ana_db", "decision_requested", "", "", `{"actor":"ana","decision":"cancel","reason":"enough"}`},
	{"ana", "decision", "", "", `{"decision":"cancel","details":{"reason":"enough"},"request":48}`},
	{"ben_db", "decision_requested", "sft", "2", `{"actor":"ben","decision":"rerun","reason":"x"}`},
}

var wholeNotes = map[int64]runs.EventNote{1: {Recipe: "instructgpt"},
	23: {ReusedFrom: &runs.AttemptRef{Run: "run-0", Stage: "reward", Attempt: 2}},
	18: {Recipe: "instructgpt", Changes: []runs.SpecDifference{
		{Path: "sft.learning_rate", StoredPath: "sft.optim.lr", // as the event has it, which is of an older build
			Values: []json.RawMessage{json.RawMessage("0.001"), json.RawMessage("0.0005")}},
		{Path: "data.demonstrations", Values: []json.RawMessage{nil, json.RawMessage(digit("2"))}}}}}

const wholeText = `2026-11-27
23:59:56  ann            launched from recipe instructgpt as first with seed 1
23:59:57  ann            the run started
23:59:58  ann            sft was queued with model bbbbbbbbbbbb, demonstrations cccccccccccc
23:59:59  worker 1a2b3c  sft started on build 1a2b3c with 4,000 steps; 2 of 11 demonstrations read; 9 left out (the prompt fills the context); 1 demonstration cut where the context ends
2026-11-28
00:00:02  worker 1a2b3c  sft: steps 0 to 3,907 committed in 3 parts, checkpoint eeeeeeeeeeee
00:00:03  trimtab        sft was interrupted and will be resumed: the disk is full
00:00:04  trimtab        the run is waiting: the disk is full
00:00:06  trimtab        the run is still waiting: the disk is full (2 times)
00:00:07  worker 9f8e7d  sft resumed on build 9f8e7d (avx512) with 4,000 steps
00:00:08  worker 9f8e7d  sft: checkpoint eeeeeeeeeeee before step 3,908 is damaged and was skipped: its bytes are others
00:00:09  worker 9f8e7d  sft: checkpoint ffffffffffff before step 4,000
00:00:10  trimtab        sft produced model 111111111111, 1.23 M parameters
00:00:11  worker 9f8e7d  sft completed: loss 1.25; model 111111111111
00:00:12  trimtab        the run is blocked: stage reward: accuracy is 0.5
00:00:13  bob            replanned the run from sft: sft.learning_rate 0.001 -> 0.0005, demonstrations=demos (222222222222); reason: slower
00:00:14  bob            sft was superseded by a rerun; reason: slower
00:00:15  bob            sft attempt 2 was queued to resume from checkpoint dddddddddddd; reason: slower
00:00:16  worker 9f8e7d  sft attempt 2 started on build 9f8e7d with 1 step
00:00:17  trimtab        sft attempt 2 failed: not a number
00:00:18  trimtab        reward is unchanged and reuses the output of attempt 2 of run run-0: model 333333333333
00:00:19  bob            approved reward, which missed its gate: good enough
00:00:20  bob            paused the run
00:00:21  bob            skipped evaluate attempt 2: not needed
00:00:22  worker         evaluate wrote report 444444444444
00:00:23  bob            created dataset demos of kind demonstrations
00:00:24  bob            added 12 items to dataset demos, 3 already present
00:00:25  bob            froze dataset demos as 666666666666, 1,000 items
00:00:26  trimtab        weather_told: clouds 3, reason rain
00:00:27  trimtab        run_status: next odd, status 3
00:00:28  trimtab        the run completed
00:00:29  bob            imported into dataset demos: a.jsonl (777777777777, 1,200 items), b.jsonl (888888888888, 1 item)
00:00:30  bob            erased the text of 1 item of dataset demos; reason: asked for
00:00:31  trimtab        stored document 888888888888
00:00:32  bob            exported model 999999999999
00:00:33  eve            reproduced sft on avx2: identical
00:00:34  eve            recomputed the run on avx2: ppo differs: step 3: loss
00:00:35  eve            recomputed the run on avx2: ppo failed: its input is gone
00:00:36  worker         began to sign tree heads with key trimtab-1a2b3c4d
00:00:37  eve            verified the record of 1,200 events: nothing was changed
00:00:38  eve            verified the record of 1,200 events: 2 problems found
00:00:39  bob            split dataset demos by prompt with seed 7: 199 of 1,000 items held out
00:00:40  bob            moved the name gpt2 from model 888888888888 to 999999999999
00:00:42  trimtab        refused to skip ppo: the run is not blocked
00:00:44  ana            cancelled the run, as database role ana_db: enough
00:00:45  ben_db         requested on behalf of ben: rerun sft attempt 2; reason: x
`

func TestLogBook(t *testing.T) {
	events := book(t, wholeBook...)
	if got := formatHistory(historyLines(events, wholeNotes, false), time.UTC, 0); got != wholeText {
		t.Errorf("the history reads\n%s\nwant\n%s", got, wholeText)
	}
	seen := map[trimtab.EventType]bool{}
	for _, e := range events {
		seen[e.Type] = true
	}
	for typ := range sentences {
		if !seen[typ] {
			t.Errorf("wholeBook has no event of type %s", typ)
		}
	}
	if all := historyLines(events, wholeNotes, true); len(all) != len(events) ||
		all[4].sentence != "sft: steps 0 to 1,999 committed, checkpoint dddddddddddd" ||
		all[5].sentence != "sft: step 2,000 committed" {
		t.Errorf("all: %d entries of %d events, %+v", len(all), len(events), all[4:6])
	}
	// the lines break between words, and what is left out of nothing is nothing
	for _, width := range []int{60, 80, 160} {
		narrow := formatHistory(historyLines(events, wholeNotes, false), time.UTC, width)
		for line := range strings.SplitSeq(narrow, "\n") {
			if text.StringWidth(line) > width {
				t.Errorf("width %d: %q", width, line)
			}
		}
		if got, want := strings.Fields(narrow), strings.Fields(wholeText); !slices.Equal(got, want) {
			t.Errorf("width %d loses words:\n%s", width, narrow)
		}
	}
}

// What people and models write never moves the cursor.
func TestLogBookIsClean(t *testing.T) {
	events := book(t,
		[5]string{"ev\x1b[2Jil", "decision", "sft", "1",
			`{"decision":"approve","details":{"reason":"fine\u001b[31m\nann  approved all\u202e"}}`},
		[5]string{"ann", "decision", "sft", "1", `{"decision":"` + strings.Repeat("w", 200) + `","details":{}}`})
	got := formatHistory(historyLines(events, nil, false), time.UTC, 60)
	if strings.ContainsAny(got, "\x1b\u202e") || strings.Contains(got, "\nann  approved") ||
		!strings.Contains(got, `fine\x1b[31m\nann`) {
		t.Errorf("%q", got)
	}
	if n := strings.Count(got, "w"); n != 201 { // and the one of "which"
		t.Errorf("%d of 200 letters are left", n-1)
	}
}

// The other forms keep every event with its fields.
func TestHistoryDocuments(t *testing.T) {
	events := book(t, wholeBook...)
	var out bytes.Buffer
	a := &app{out: &out, format: formatJSONL}
	if err := a.printHistory(t.Context(), nil, events, false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(events) {
		t.Fatalf("%d lines of %d events", len(lines), len(events))
	}
	for i, line := range lines {
		var e eventRow
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Sequence != int64(i+1) ||
			e.Type != events[i].Type || !bytes.Equal(e.Body, events[i].Body) {
			t.Errorf("event %d is %s (%v)", i+1, line, err)
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234",
		-123: "-123"} {
		if got := withThousands(n); got != want {
			t.Errorf("grouped(%d) = %q, want %q", n, got, want)
		}
	}
}
