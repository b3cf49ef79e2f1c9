package runs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/workflows"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/encoding/protojson"
)

// record replays what just happened against the code that made it, for every
// workflow of the run. With TRIMTAB_RECORD set it also writes the histories
// there, for workflows/testdata.
func record(t *testing.T, b *bench, name, run string) {
	t.Helper()
	d, err := b.Show(b.ctx, run)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{name: workflows.RunID(run)}
	for _, st := range d.Stages {
		for n := 1; n <= st.Attempt; n++ {
			id := workflows.StageID(run, st.Name, n)
			ids[name+"-"+strings.ReplaceAll(strings.TrimPrefix(id, workflows.RunID(run)+"/"), "/", "-")] = id
		}
	}
	for file, id := range ids {
		h := b.history(id)
		r := worker.NewWorkflowReplayer()
		r.RegisterWorkflow(workflows.Run)
		r.RegisterWorkflow(workflows.Stage)
		if err := r.ReplayWorkflowHistory(nil, h); err != nil {
			t.Errorf("replay %s: %v", id, err)
		}
		if dir := os.Getenv("TRIMTAB_RECORD"); dir != "" {
			body, err := protojson.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file+".json"), body, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (b *bench) history(id string) *history.History {
	b.t.Helper()
	it := b.temporal.GetWorkflowHistory(b.ctx, id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	h := &history.History{}
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			b.t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	return h
}
