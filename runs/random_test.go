package runs_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

var (
	modelRuns = flag.Int("model-runs", 5, "how many sequences of commands TestCommandsAsTheModelSays gives")
	dice      = flag.Uint64("dice", 1, "seed of the first of them")
)

// sequence is how many commands a sequence has.
const sequence = 12

// player gives the same commands to the service and to the model.
type player struct {
	*bench
	n     *noop
	m     *model
	r     *rand.Rand
	seed  uint64
	ids   []string // beside m.runs
	bound map[string]trimtab.Digest
	names map[trimtab.Digest]string

	setting int      // the newest of a stage
	restart int      // of the worker
	plans   []viewed // dry runs
	history []string // commands, for the report of a failure
}

// viewed is a plan that a dry run showed.
type viewed struct {
	token    string
	of       rerunOf
	snapshot string
}

// Random commands, against the service on real servers and against the model:
// the same are accepted, the same refused, and the runs come to the same states.
func TestCommandsAsTheModelSays(t *testing.T) {
	b, n := newNoopBench(t, 4)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	b.ctx = ctx
	count := map[string]int{}
	for i := range *modelRuns {
		p := &player{bench: b, n: n, r: rand.New(rand.NewPCG(*dice+uint64(i), 0)), bound: map[string]trimtab.Digest{},
			names: map[trimtab.Digest]string{}}
		p.play(t, count)
		if t.Failed() {
			t.Fatalf("with -dice %d -model-runs 1, the commands were\n%s", *dice+uint64(i), strings.Join(p.history, "\n"))
		}
	}
	t.Logf("commands and what came of them: %v", count)
}

func (p *player) play(t *testing.T, count map[string]int) {
	p.launch()
	p.compare()
	for range sequence {
		what, want, err := p.command()
		got := ""
		if err != nil {
			got = trimtab.AsError(err).Type
		}
		p.history = append(p.history, fmt.Sprintf("%-60s %s", what, got))
		count[strings.Fields(what)[0]+" "+got]++
		if got != want {
			t.Errorf("%s: %v, the model says %q", what, err, want)
			return
		}
		if err != nil {
			if code := trimtab.ExitCode(err); code != exitCodes[want] {
				t.Errorf("%s: exit code %d for %v", what, code, err)
			}
		}
		if p.compare(); t.Failed() {
			return
		}
	}
	p.end()
}

var exitCodes = map[string]int{"run_closed": 4, "not_now": 4, "nothing_changed": 4, "plan_stale": 4,
	"earlier_stage_changed": 2}

// launch begins a lineage of runs: pretrain, sft and evaluate, held at one of them.
func (p *player) launch() {
	p.t.Helper()
	sets := []string{"seed=" + p.n.seed()}
	spec, err := recipes.Load("instructgpt", "smallest", sets)
	p.do(err)
	spec.Stages = slices.DeleteFunc(spec.Stages,
		func(st recipes.Stage) bool { return !slices.Contains([]string{"pretrain", "sft", "evaluate"}, st.Name) })
	p.seed = spec.Seed
	p.m = &model{stages: spec.StageNames(), worker: true, cache: map[string]int{}, held: make([]bool, 3),
		fails: make([][]trimtab.Class, 3)}
	gated := p.r.IntN(2) == 0
	if gated {
		spec, err = recipes.Override(spec, []string{gateSet(true)})
		p.do(err)
	}
	if i := p.r.IntN(6); i < 3 {
		p.hold(i, true)
	}
	l, err := p.Launch(p.ctx, runs.LaunchRequest{Spec: spec, Actor: "tester", New: true})
	p.do(err)
	for _, st := range l.Run.Plan.Stages {
		var reads []int
		for _, in := range st.Inputs {
			if in.Stage != "" {
				reads = append(reads, slices.Index(p.m.stages, in.Stage))
			}
		}
		p.m.reads = append(p.m.reads, reads)
	}
	p.ids = append(p.ids, l.Run.ID)
	p.m.launch(make([]int, 3), gated, func(int) bool { return false })
	p.history = append(p.history, fmt.Sprintf("launch %s, gate %v, held %v", l.Run.ID, gated, p.m.held))
}

func gateSet(on bool) string {
	return map[bool]string{true: "sft.gates=[{metric: loss, max: 0.1}]", false: "sft.gates=[]"}[on]
}

// settings are the overrides by stage.
func settings(stage, n int) string {
	return []string{
		fmt.Sprintf("pretrain.tokens=%d", 16384+256*n), fmt.Sprintf("sft.num_train_epochs=%d", 1+n),
		fmt.Sprintf("evaluate.max_new_tokens=%d", 16+n),
	}[stage]
}

func (p *player) hold(stage int, on bool) {
	if on {
		p.n.hold(p.seed, p.m.stages[stage])
	} else {
		p.n.release(p.seed, p.m.stages[stage])
	}
	p.m.held[stage] = on
}

// command gives one, and says what the model makes of it.
func (p *player) command() (what, want string, err error) {
	id, stage := p.ids[len(p.ids)-1], p.r.IntN(3)
	if b := p.m.now().block; b >= 0 && p.r.IntN(2) == 0 {
		stage = b
	}
	name := p.m.stages[stage]
	m := p.m
	if !m.worker && (p.r.IntN(3) == 0 || m.now().status.Open()) {
		m.worker = true
		p.start()
		m.settle()
		return "start the worker", "", nil
	}
	switch roll := p.r.IntN(20); {
	case roll < 2:
		return "pause", m.pause(true), p.Pause(p.ctx, id, "", "tester")
	case roll < 4:
		return "resume", m.pause(false), p.Resume(p.ctx, id, "", "tester")
	case roll < 5:
		return "cancel", m.cancel(), p.Cancel(p.ctx, id, "", "tester")
	case roll < 7:
		return "approve " + name, m.approve(stage), p.Approve(p.ctx, id, name, "", "tester")
	case roll < 8:
		return "skip " + name, m.skip(stage), p.Skip(p.ctx, id, name, "", "tester")
	case roll < 9 && m.worker && p.restart < 5:
		p.restart++
		m.stop()
		p.stop()
		return "stop the worker", "", nil
	case roll < 11:
		on := !m.held[stage] && stage != m.working()
		p.hold(stage, on)
		m.settle()
		return fmt.Sprintf("hold %s %v", name, on), "", nil
	case roll < 13:
		return p.trouble(stage)
	case roll < 15:
		return p.dryRun()
	case roll < 16 && len(p.plans) > 0:
		return p.planned()
	}
	q := p.anyRerun()
	r := p.request(id, q)
	want = m.rerun(q)
	res, err := p.Rerun(p.ctx, r)
	if err == nil && res.NewRun {
		p.ids = append(p.ids, res.Run)
	}
	return fmt.Sprintf("rerun %+v", q), want, err
}

// trouble is what the next segments of a stage end with.
func (p *player) trouble(stage int) (what, want string, err error) {
	kinds := [][]trimtab.Class{{trimtab.Invalid}, {trimtab.Internal},
		{trimtab.Internal, trimtab.Internal, trimtab.Internal}, {trimtab.Unavailable}}
	list := kinds[p.r.IntN(len(kinds))]
	for _, class := range list {
		p.n.fail(p.seed, p.m.stages[stage], trimtab.NewError(class, "told_to_fail", "", "the test says so"))
	}
	p.m.fails[stage] = append(p.m.fails[stage], list...)
	return fmt.Sprintf("trouble at %s: %v", p.m.stages[stage], list), "", nil
}

// anyRerun changes nothing, the settings of a stage (to new ones, or to those of the beginning), or the gate.
func (p *player) anyRerun() rerunOf {
	q := rerunOf{stage: p.r.IntN(3), change: -1, force: p.r.IntN(3) == 0}
	if b := p.m.now().block; b >= 0 && p.r.IntN(2) == 0 {
		q.stage = b
	}
	switch p.r.IntN(5) {
	case 0:
	case 1:
		q.gate = true
	case 2:
		q.change = p.r.IntN(3)
	default:
		p.setting++
		q.change, q.setting = q.stage+p.r.IntN(3-q.stage), p.setting
	}
	return q
}

func (p *player) request(id string, q rerunOf) runs.RerunRequest {
	r := runs.RerunRequest{Run: id, Stage: p.m.stages[q.stage], Force: q.force, Actor: "tester", Reason: "by dice"}
	if q.change >= 0 {
		r.Sets = append(r.Sets, settings(q.change, q.setting))
	}
	if q.gate {
		r.Sets = append(r.Sets, gateSet(!p.m.now().gated))
	}
	return r
}

func (p *player) dryRun() (what, want string, err error) {
	q := p.anyRerun()
	r := p.request(p.ids[len(p.ids)-1], q)
	r.DryRun = true
	res, err := p.Rerun(p.ctx, r)
	if want = p.m.dry(q); want == "" {
		p.plans = append(p.plans, viewed{res.Plan, q, p.m.snapshot(q)})
	}
	return fmt.Sprintf("dry-run %+v", q), want, err
}

// specOfPlan does what an earlier dry run showed: the newest one, or any.
func (p *player) planned() (what, want string, err error) {
	v := p.plans[len(p.plans)-1]
	if p.r.IntN(3) == 0 {
		v = p.plans[p.r.IntN(len(p.plans))]
	}
	id := p.ids[len(p.ids)-1]
	r := p.request(id, v.of)
	r.Plan = v.token
	if refusal := p.m.dry(v.of); refusal == "earlier_stage_changed" {
		want = refusal
	} else if p.m.snapshot(v.of) != v.snapshot {
		want = "plan_stale"
	} else if want = p.m.rerun(v.of); want == "plan_stale" {
		want = "not_now"
	}
	res, err := p.Rerun(p.ctx, r)
	if err == nil && res.NewRun {
		p.ids = append(p.ids, res.Run)
	}
	return fmt.Sprintf("plan %s %+v", v.token, v.of), want, err
}

// compare waits until the run is where the model has it.
func (p *player) compare() {
	p.t.Helper()
	end := time.Now().Add(30 * time.Second)
	for {
		difference := p.difference()
		if difference == "" {
			return
		}
		if time.Now().After(end) || p.ctx.Err() != nil {
			p.t.Errorf("after %q: %s", p.history[len(p.history)-1], difference)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// difference is what the service shows otherwise than the model, of the newest two runs.
func (p *player) difference() string {
	for i := max(0, len(p.ids)-2); i < len(p.ids); i++ {
		if d := p.differs(p.ids[i], p.m.runs[i]); d != "" {
			return d
		}
	}
	working := -1
	for i, name := range p.m.stages {
		if p.n.working(p.seed, name) > 0 {
			working = i
		}
	}
	if want := p.m.working(); working != want {
		return fmt.Sprintf("stage %d is at work, the model has %d", working, want)
	}
	return ""
}

func (p *player) differs(id string, r *modelRun) string {
	run, err := p.Store().Run(p.ctx, id)
	p.do(err)
	attempts, err := p.Store().Attempts(p.ctx, id)
	p.do(err)
	if run.Status != r.status || run.Revision != r.revision {
		return fmt.Sprintf("run %s is %s at revision %d, the model has %s at %d", id, run.Status, run.Revision,
			r.status, r.revision)
	}
	total := 0
	for i, st := range r.stages {
		total += len(st.attempts)
		for number, want := range st.attempts {
			j := slices.IndexFunc(attempts, func(a storage.Attempt) bool {
				return a.Stage == p.m.stages[i] &&
					a.Number == number+1
			})
			if j >= 0 && !p.m.worker && want.status == trimtab.AttemptRunning &&
				attempts[j].Status == trimtab.AttemptRetrying {
				continue // the worker has shown that it stops, before it did
			}
			if j < 0 || attempts[j].Status != want.status {
				return fmt.Sprintf("attempt %d of %s of run %s is %+v, the model has it %s", number+1, p.m.stages[i],
					id, attempts, want.status)
			}
			if d := p.output(attempts[j], want); d != "" {
				return d
			}
		}
	}
	if total != len(attempts) {
		return fmt.Sprintf("run %s has %d attempts, the model %d", id, len(attempts), total)
	}
	return ""
}

// output holds that equal outputs have equal digests, and others others.
func (p *player) output(a storage.Attempt, want modelAttempt) string {
	if want.output == "" || len(a.Outputs) == 0 {
		if (want.output == "") != (len(a.Outputs) == 0) {
			return fmt.Sprintf("attempt %d of %s has the outputs %v, the model %q", a.Number, a.Stage, a.Outputs,
				want.output)
		}
		return ""
	}
	d := a.Outputs[0].Digest
	if p.bound[want.output] == "" && p.names[d] == "" {
		p.bound[want.output], p.names[d] = d, want.output
	}
	if p.bound[want.output] != d || p.names[d] != want.output {
		return fmt.Sprintf("attempt %d of %s has the output %s, which is that of %s and not of %s", a.Number, a.Stage,
			d.Short(), p.names[d], want.output)
	}
	return ""
}

// end leaves a worker and nothing at work.
func (p *player) end() {
	if !p.m.worker {
		p.start()
		p.m.worker = true
	}
	for _, id := range p.ids {
		run, err := p.Store().Run(p.ctx, id)
		p.do(err)
		if run.Status.Open() {
			p.do(p.Cancel(p.ctx, id, "the end", "tester"))
		}
	}
}
