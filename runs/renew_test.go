package runs_test

import (
	"sync"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/workflows"
)

// A blocked run that is paused and resumed again and again, by two people at
// once, continues in new histories; no decision is lost between two of them.
func TestManyDecisions(t *testing.T) {
	b, _ := newNoopBench(t, 1)
	b.RenewAfter(10)
	id := b.launch(missing)
	b.await(id, trimtab.RunBlocked)
	first := b.runOf(id)
	const each = 40
	var made [2]int
	var wg sync.WaitGroup
	for who := range made {
		wg.Go(func() {
			do := []func() error{
				func() error { return b.Pause(b.ctx, id, "a look", "tester") },
				func() error { return b.Resume(b.ctx, id, "go on", "tester") },
			}[who]
			for made[who] < each && b.ctx.Err() == nil {
				err := do()
				if err == nil {
					made[who]++
				} else if trimtab.AsError(err).Type != "not_now" { // it is paused already, or not yet
					t.Errorf("decision %d: %v", made[who], err)
					return
				}
			}
		})
	}
	wg.Wait()
	if now := b.runOf(id); now == first {
		t.Error("after so many decisions the run is in its first history")
	}
	events, err := b.History(b.ctx, id, "")
	if err != nil {
		t.Fatal(err)
	}
	recorded := 0
	for _, e := range events {
		if e.Type == trimtab.EventDecision {
			recorded++
		}
	}
	if recorded != 2*each {
		t.Errorf("%d decisions are in the record, %d were accepted", recorded, 2*each)
	}
	b.rerun(runs.RerunRequest{Run: id, Stage: "reward", Sets: []string{"reward.gates=[]"}})
	d := b.await(id, trimtab.RunCompleted)
	for _, st := range d.Stages {
		want, status := 1, trimtab.AttemptCompleted
		if st.Name == "reward" { // its gate was lifted: what it made is judged anew
			want, status = 2, trimtab.AttemptReused
		}
		if st.Attempt != want || st.Status != status {
			t.Errorf("stage %s is at attempt %d, %s", st.Name, st.Attempt, st.Status)
		}
	}
	record(t, b, "renewed", id)
}

// runOf is Temporal's id of the history that a run is in.
func (b *bench) runOf(run string) string {
	b.t.Helper()
	d, err := b.temporal.DescribeWorkflowExecution(b.ctx, workflows.RunID(run), "")
	if err != nil {
		b.t.Fatal(err)
	}
	if _, ok := d.WorkflowExecutionInfo.GetSearchAttributes().GetIndexedFields()["RunID"]; !ok {
		b.t.Error("a history cannot be found by its run's id")
	}
	return d.WorkflowExecutionInfo.GetExecution().GetRunId()
}
