package openlineage_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/openlineage"
	"github.com/trimtab/trimtab/openlineage/openlineagetest"
	"github.com/trimtab/trimtab/storage"
)

// d is a digest of which only the first digit is read.
func d(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

// record is a run in which sft failed, was rerun and read other data, reward was reused, and ppo was cancelled with the
// run.
func record() []storage.Event {
	at := time.Date(2026, 11, 28, 1, 2, 3, 456789000, time.FixedZone("east", 7200))
	plan := func(demos string) string {
		return `{"stages":[{"name":"sft","kind":"sft","inputs":[{"name":"model","model":"` + d("b") +
			`"},{"name":"demonstrations","dataset":"` + demos + `"}]},` +
			`{"name":"reward","kind":"reward","inputs":[{"name":"model","stage":"sft","output":"model"}]}]}`
	}
	sft := func(demos string) string {
		return `{"kind":"sft","inputs":[{"name":"model","digest":"` + d("b") +
			`"},{"name":"demonstrations","digest":"` + demos + `"}],"outputs":null,"reused_from":0,"status":"queued"}`
	}
	var events []storage.Event
	for i, l := range []struct {
		typ     trimtab.EventType
		stage   string
		attempt int
		body    string
	}{
		{"run_created", "", 0, `{"name":"mine","seed":"1","plan":` + plan(d("1")) + `}`},
		{"run_status", "", 0, `{"error":null,"from":"queued","next":"","status":"running"}`},
		{"attempt_created", "sft", 1, sft(d("1"))},
		{"attempt_status", "sft", 1,
			`{"error":{"type":"x","message":"no\u0000t\u001b[2J","remedy":"do"},"from":"queued","status":"failed"}`},
		{"run_status", "", 0, `{"error":{"message":"x"},"from":"running","next":"","status":"blocked"}`},
		{"run_planned", "", 0, `{"plan":` + plan(d("2")) + `,"stage":"sft","revision":1}`},
		{"attempt_status", "sft", 1, `{"error":null,"from":"failed","status":"stale"}`},
		{"run_status", "", 0, `{"error":null,"from":"blocked","next":"","status":"running"}`},
		{"attempt_created", "sft", 2, sft(d("2"))},
		{"attempt_started", "sft", 2, `{"build":"b1","from":"queued","steps":4,"token":1}`},
		{"steps_committed", "sft", 2, `{"from":0,"until":4,"steps":4}`},
		{"attempt_status", "sft", 2, `{"error":{"message":"away"},"from":"running","status":"retrying"}`},
		{"attempt_started", "sft", 2, `{"build":"b2","from":"retrying","steps":4,"token":2}`},
		{"attempt_completed", "sft", 2, `{"metrics":[],"outputs":[{"name":"model","digest":"` + d("5") + `"}]}`},
		{"attempt_created", "reward", 1, `{"kind":"reward","inputs":[{"name":"model","digest":"` + d("5") +
			`"}],"outputs":[{"name":"model","digest":"` + d("6") + `"}],"reused_from":9,"status":"reused"}`},
		{"attempt_created", "ppo", 1, `{"kind":"ppo","inputs":[],"outputs":null,"reused_from":0,"status":"queued"}`},
		{"attempt_started", "ppo", 1, `{"build":"b2","from":"queued","steps":4,"token":1}`},
		{"decision", "", 0, `{"decision":"cancel","details":{"reason":"enough"}}`},
		{"attempt_status", "ppo", 1, `{"error":null,"from":"running","status":"cancelled"}`},
		{"run_status", "", 0, `{"error":null,"from":"running","next":"","status":"cancelled"}`},
		{"attempt_started", "lost", 1, `{"build":"b2"}`},
		{"run_status", "", 0, `[]`},
	} {
		events = append(events, storage.Event{Sequence: int64(i + 1), Stream: "run-1",
			At: at.Add(time.Duration(i) * time.Second), Actor: "ann",
			Type: l.typ, Stage: l.stage, Attempt: l.attempt, Body: json.RawMessage(l.body)})
	}
	return events
}

var of = openlineage.RunInfo{ID: "run-1", Recipe: "instructgpt", Namespace: "trimtab://db",
	Names: map[trimtab.Digest]string{
		trimtab.Digest(d("1")): "demos", trimtab.Digest(d("b")): "gpt2"}}

const want = `23:02:04 instructgpt START [] []
23:02:05 instructgpt.sft START [models/gpt2 b, demos 1] []
23:02:06 instructgpt.sft FAIL [models/gpt2 b, demos 1] [] not: do
23:02:12 instructgpt.sft START [models/gpt2 b, ` + "sha256:2222222222222222222222222222222222222222222222222222222222222222" + ` 2] [] on b1
23:02:16 instructgpt.sft COMPLETE [models/gpt2 b, ` + "sha256:2222222222222222222222222222222222222222222222222222222222222222" + ` 2] [instructgpt/sft/model 5] on b2
23:02:17 instructgpt.reward START [instructgpt/sft/model 5] []
23:02:17 instructgpt.reward COMPLETE [instructgpt/sft/model 5] [instructgpt/reward/model 6]
23:02:19 instructgpt.ppo START [] [] on b2
23:02:21 instructgpt.ppo ABORT [] [] on b2
23:02:22 instructgpt ABORT [] []
`

func TestEvents(t *testing.T) {
	var parsed []openlineagetest.RunEvent
	var shown strings.Builder
	for _, e := range openlineage.Events(of, record()) {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		p, err := openlineagetest.Parse(line)
		if err != nil {
			t.Error(err)
		}
		parsed = append(parsed, p)
		datasets := func(list []openlineagetest.DatasetRef) string {
			var parts []string
			for _, x := range list {
				parts = append(parts, x.Name+" "+strings.TrimPrefix(x.Facets.Version.DatasetVersion, "sha256:")[:1])
			}
			return "[" + strings.Join(parts, ", ") + "]"
		}
		fmt.Fprintf(&shown, "%s %s %s %s %s", p.EventTime.Format("15:04:05"), p.Job.Name, p.EventType,
			datasets(p.Inputs), datasets(p.Outputs))
		if f := p.Run.Facets.ErrorMessage.Message; f != "" {
			shown.WriteString(" " + strings.NewReplacer("\x00", "", "\x1b[2J", "").Replace(f))
		}
		if v := p.Run.Facets.ProcessingEngine.Version; v != "" {
			shown.WriteString(" on " + v)
		}
		shown.WriteString("\n")
		if parent := p.Run.Facets.Parent; e.Subject.Stage != "" &&
			(parent.Run.RunID != openlineage.RunID("run-1", "", 0) || parent.Job.Name != "instructgpt") ||
			e.Subject.Stage == "" && parent.Run.RunID != "" {
			t.Errorf("%s has the parent %+v", p.Job.Name, parent)
		}
	}
	if shown.String() != want {
		t.Errorf("shown\n%s\nwant\n%s", shown.String(), want)
	}
	if err := openlineagetest.CheckComplete(parsed); err != nil {
		t.Error(err)
	}
}

// The events for the beginning of a record are the first events for all of it.
func TestEventsOfABeginning(t *testing.T) {
	all, whole := record(), openlineage.Events(of, record())
	for n := range all {
		if got := openlineage.Events(of, all[:n]); len(got) > 0 && !reflect.DeepEqual(got, whole[:len(got)]) {
			t.Errorf("the first %d events give %+v", n, got)
		}
	}
}

// An attempt that was taken for failed and completes after all has both events.
func TestFailedAndCompleted(t *testing.T) {
	all := record()
	events := append(all[:13:13], all[3], all[12], all[13], all[3])
	for i := range events[13:] {
		events[13+i].Stage, events[13+i].Attempt = "sft", 2
	}
	var types []string
	for _, e := range openlineage.Events(of, events) {
		if e.Subject == (openlineage.Subject{Stage: "sft", Attempt: 2}) {
			types = append(types, e.EventType)
		}
	}
	if got := strings.Join(types, " "); got != "START FAIL COMPLETE" {
		t.Errorf("got %s", got)
	}
}

func TestRunID(t *testing.T) {
	// the SHA-256 of run/abcdefghij/sft/2, but for version and variant
	const id = "fec5bfe5-2531-8abf-82d2-300d3472863b"
	ids := map[string]bool{}
	for _, id := range []string{openlineage.RunID("a", "", 0), openlineage.RunID("b", "", 0),
		openlineage.RunID("a", "sft", 1), openlineage.RunID("a", "sft", 2), openlineage.RunID("a", "ppo", 1)} {
		ids[id] = true
	}
	if len(ids) != 5 {
		t.Errorf("%v are not 5", ids)
	}
	if got := openlineage.RunID("abcdefghij", "sft", 2); got != id {
		t.Errorf("the id of run abcdefghij, sft, attempt 2 is %s", got)
	}
}
