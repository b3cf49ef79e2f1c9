package workflows

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/encoding/protojson"
)

// Histories that earlier builds recorded must replay: a run that is open when
// the program is updated continues. New ones are recorded by the tests of
// package runs, with TRIMTAB_RECORD naming a folder.
func TestRecordedHistoriesReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json.gz")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d histories, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json.gz"), func(t *testing.T) {
			r := worker.NewWorkflowReplayer()
			r.RegisterWorkflow(Run)
			r.RegisterWorkflow(Stage)
			if err := r.ReplayWorkflowHistory(nil, readHistory(t, file)); err != nil {
				t.Error(err)
			}
		})
	}
}

func readHistory(t *testing.T, file string) *history.History {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	h := &history.History{}
	if err := protojson.Unmarshal(body, h); err != nil {
		t.Fatal(err)
	}
	return h
}

// A replay must fail where the code does something else than the history says.
func TestReplayNoticesADifference(t *testing.T) {
	h := readHistory(t, "testdata/completed.json.gz")
	for _, e := range h.Events {
		if a := e.GetStartChildWorkflowExecutionInitiatedEventAttributes(); a != nil {
			a.WorkflowType.Name = "Stages"
			break
		}
	}
	r := worker.NewWorkflowReplayer()
	r.RegisterWorkflow(Run)
	r.RegisterWorkflow(Stage)
	if err := r.ReplayWorkflowHistory(nil, h); err == nil {
		t.Error("a changed history replays")
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]string{0: "1s", 1: "1s", 2: "2s", 6: "32s", 7: "1m0s", 100: "1m0s"} {
		if got := backoff(n).String(); got != want {
			t.Errorf("backoff(%d) = %s, want %s", n, got, want)
		}
	}
}
