package runs_test

import (
	"testing"

	"github.com/trimtab/trimtab"
)

func TestSmallestChain(t *testing.T) {
	b := newBench(t, 0)
	d := b.await(b.launch(), trimtab.RunCompleted, trimtab.RunBlocked)
	if d.Status != trimtab.RunCompleted {
		t.Fatalf("run is %s: %v", d.Status, d.Error)
	}
	for _, st := range d.Stages {
		t.Logf("%s: %s in %.2f s, %d steps, outputs %v, metrics %v", st.Name, st.Status, st.Seconds, st.Steps, st.Outputs, st.Metrics)
	}
	t.Logf("%v", d.Evaluation)
}
