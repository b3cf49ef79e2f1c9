package runs_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/tensor"
	"go.temporal.io/sdk/activity"
)

// noop are the activities of a worker whose stages do no arithmetic: a segment
// takes its fence, starts its attempt, makes two steps through the store and
// stores outputs that are a function of config, inputs and seed. Everything
// else is what a worker has. Steps wait, or fail, where a test says so.
type noop struct {
	*activities.Activities
	store *storage.Store
	files *checkpoint.Store

	mu      sync.Mutex
	prompts map[trimtab.Digest][]string // of datasets
	seeds   uint64                      // given out
	holds   map[string]chan struct{}    // by seed/stage: step 1 waits until it is closed
	waits   map[string]int              // by seed/stage: segments that wait so
	fails   map[string][]*trimtab.Error // by seed/stage: what the next segments end with
}

const noopSteps = 2

// newNoopBench is newBench with stages that do no arithmetic.
func newNoopBench(t *testing.T, slots int) (*bench, *noop) {
	t.Helper()
	b := newServers(t, t.TempDir(), 1)
	files, err := checkpoint.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	n := &noop{Activities: b.acts.(*activities.Activities), store: b.Store(), files: files, seeds: 1000,
		prompts: map[trimtab.Digest][]string{},
		holds:   map[string]chan struct{}{}, waits: map[string]int{}, fails: map[string][]*trimtab.Error{}}
	b.acts, b.slots, b.throttle = n, slots, 50*time.Millisecond
	b.start()
	t.Cleanup(n.releaseAll)
	return b, n
}

// versionsHolding gives the seed of a run to come that will stay at work at a stage until release.
func (n *noop) held(stage string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seeds++
	n.holds[key(n.seeds, stage)] = make(chan struct{})
	return fmt.Sprint(n.seeds)
}

// seed is one that no other run has.
func (n *noop) seed() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seeds++
	return fmt.Sprint(n.seeds)
}

// hold keeps the runs of a seed at work at a stage until release.
func (n *noop) hold(seed uint64, stage string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holds[key(seed, stage)] = make(chan struct{})
}

// working is how many segments of a stage wait.
func (n *noop) working(seed uint64, stage string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.waits[key(seed, stage)]
}

func (n *noop) waiting(seed uint64, stage string, change int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waits[key(seed, stage)] += change
}

func key(seed uint64, stage string) string { return fmt.Sprint(seed, "/", stage) }

func (n *noop) release(seed uint64, stage string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c, ok := n.holds[key(seed, stage)]; ok {
		close(c)
		delete(n.holds, key(seed, stage))
	}
}

func (n *noop) releaseAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, c := range n.holds {
		close(c)
		delete(n.holds, key)
	}
}

// fail has the next segments of a stage of the runs of a seed end so.
func (n *noop) fail(seed uint64, stage string, errs ...*trimtab.Error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fails[key(seed, stage)] = append(n.fails[key(seed, stage)], errs...)
}

// turn is what a segment has to wait for, and what it fails with.
func (n *noop) turn(seed uint64, stage string) (hold chan struct{}, fail *trimtab.Error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := key(seed, stage)
	if list := n.fails[k]; len(list) > 0 {
		n.fails[k], fail = list[1:], list[0]
	}
	return n.holds[k], fail
}

// Segment stands in for the one that trains.
func (n *noop) Segment(ctx context.Context, in activities.SegmentInput) (activities.SegmentResult, error) {
	res, err := n.segment(ctx, in)
	return res, activities.Wrap(err)
}

func (n *noop) segment(ctx context.Context, in activities.SegmentInput) (activities.SegmentResult, error) {
	work := context.WithoutCancel(ctx)
	if err := n.store.Lease(in.Attempt, in.Sequence).Acquire(work); err != nil {
		return activities.SegmentResult{}, err
	}
	if err := n.store.Lease(in.Attempt, in.Sequence).Start(work, noopSteps, "test", "avx2"); err != nil {
		return activities.SegmentResult{}, err
	}
	last, _, err := n.store.LatestCheckpoint(work, in.Attempt)
	if err != nil {
		return activities.SegmentResult{}, err
	}
	res := activities.SegmentResult{Checkpoint: last.Digest, Step: last.Step, Steps: noopSteps}
	hold, fail := n.turn(in.Seed, in.Stage.Name)
	if fail != nil {
		return res, fail
	}
	var reports []storage.StepReport
	for ; res.Step < noopSteps; res.Step++ {
		if res.Step == 1 && hold != nil {
			n.waiting(in.Seed, in.Stage.Name, 1)
			stopped := wait(ctx, hold)
			n.waiting(in.Seed, in.Stage.Name, -1)
			if stopped != nil {
				return n.stopped(work, in, res, reports, stopped)
			}
		}
		reports = append(reports, storage.StepReport{Step: res.Step, Report: n.report(work, in, res.Step)})
	}
	if err := n.checkpoint(work, in, &res, reports); err != nil {
		return res, err
	}
	res.Done = true
	res.Metrics = []trimtab.Metric{{Name: "loss", Value: 0.5}}
	res.Outputs, err = n.outputs(work, in)
	return res, err
}

// report has what the record of a stage of its kind must have.
func (n *noop) report(ctx context.Context, in activities.SegmentInput, step int) trimtab.Report {
	r := trimtab.Report{Metrics: []trimtab.Metric{{Name: "loss", Value: 1 / float64(1+step)}}}
	if in.Stage.Kind == "ppo" {
		one := []float32{1}
		r.Rollouts = []trimtab.Rollout{{Prompt: n.prompt(ctx, in, step), PromptIDs: []int32{int32(step)},
			Tokens: []int32{7}, Bytes: []byte("x"),
			LogProbs: one, RefLogProb: one, KL: one, Values: one, Rewards: one, Advantages: one, Returns: one}}
	}
	return r
}

// prompt is one of those to train on, another for each step.
func (n *noop) prompt(ctx context.Context, in activities.SegmentInput, step int) string {
	at := slices.IndexFunc(in.Inputs, func(i trimtab.Named) bool { return i.Name == "prompts" })
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.prompts[in.Inputs[at].Digest] == nil {
		all, _ := n.store.Items(ctx, in.Inputs[at].Digest) // without any the index below is out of range
		for _, item := range all {
			if p := item.(trimtab.Prompt); p.Split != trimtab.SplitTest {
				n.prompts[in.Inputs[at].Digest] = append(n.prompts[in.Inputs[at].Digest], p.Text)
			}
		}
	}
	return n.prompts[in.Inputs[at].Digest][step]
}

// wait is nil when hold is over, else it says why the segment has to stop.
func wait(ctx context.Context, hold chan struct{}) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		activity.RecordHeartbeat(ctx)
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-activity.GetWorkerStopChannel(ctx):
			return trimtab.NewError(trimtab.Unavailable, "worker_stopping", "", "the worker was asked to stop")
		case <-tick.C:
		}
	}
}

// stopped makes a checkpoint, as a segment does that is paused, cancelled or has to go.
func (n *noop) stopped(ctx context.Context, in activities.SegmentInput, res activities.SegmentResult,
	reports []storage.StepReport, why error) (activities.SegmentResult, error) {
	if len(reports) > 0 {
		if err := n.checkpoint(ctx, in, &res, reports); err != nil {
			return res, err
		}
	}
	if e := trimtab.AsError(why); e.Type == "worker_stopping" {
		return res, e
	}
	return res, nil
}

// findCheckpoint stores a state of one number and commits the reports with it.
func (n *noop) checkpoint(ctx context.Context, in activities.SegmentInput, res *activities.SegmentResult,
	reports []storage.StepReport) error {
	state := []tensor.NamedArray{{Name: "x", Shape: []int{1}, Data: []float32{float32(res.Step)}}}
	d, err := n.files.SaveState(checkpoint.AttemptName(in.Attempt), res.Step, state)
	if err != nil {
		return err
	}
	res.Checkpoint = d
	return n.store.Lease(in.Attempt, in.Sequence).Commit(ctx, reports,
		&storage.Checkpoint{Attempt: in.Attempt, Step: res.Step, Digest: d})
}

// outputs are a function of what the cache key is made of.
func (n *noop) outputs(ctx context.Context, in activities.SegmentInput) ([]trimtab.Named, error) {
	inputs := slices.Clone(in.Inputs)
	slices.SortFunc(inputs, func(a, b trimtab.Named) int { return cmp.Compare(a.Name, b.Name) })
	body, err := json.Marshal([]any{in.Stage.Kind, in.Stage.Name, in.Stage.Config, inputs, in.Seed})
	if err != nil {
		return nil, err
	}
	switch in.Stage.Kind {
	case "collect":
		r := trimtab.Ranking{Prompt: string(body), Labeller: "x", Ranks: []int{1, 2}}
		for i := range r.Ranks {
			r.Responses = append(r.Responses, trimtab.Response{Tokens: []int32{int32(i)},
				Tokenizer: trimtab.DigestOf(nil), Bytes: []byte{byte('a' + i)}})
		}
		v, err := n.store.FreezeItems(ctx, in.Run+"/"+in.Stage.Name, trimtab.KindRankings, []trimtab.Item{r}, "x")
		return []trimtab.Named{{Name: "rankings", Digest: v.Digest}}, err
	case "evaluate":
		report, err := json.Marshal(map[string]string{"of": string(body)})
		if err != nil {
			return nil, err
		}
		if err := n.store.PutEvaluation(ctx, in.Run, in.Attempt, report); err != nil {
			return nil, err
		}
		d, err := n.store.PutDocument(ctx, report)
		return []trimtab.Named{{Name: "evaluation", Digest: d}}, err
	}
	kind := "model"
	if in.Stage.Kind == "reward" {
		kind = "reward"
	}
	d, err := n.files.Put([]checkpoint.File{{Name: "model.txt", Data: body}})
	if err != nil {
		return nil, err
	}
	err = n.store.PutArtifact(ctx, storage.Artifact{Digest: d, Kind: kind, Name: in.Run + "/" + in.Stage.Name,
		Run: in.Run, Stage: in.Stage.Name, Attempt: in.Attempt}, "trimtab")
	return []trimtab.Named{{Name: "model", Digest: d}}, err
}
