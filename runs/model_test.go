package runs_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
)

// model is what a run's states ought to be: a reference for the service, in
// memory and without time. It stands where nothing moves by itself: at work in
// a stage that is held, paused, blocked, closed, or queued without a worker.
type model struct {
	stages  []string
	reads   [][]int // by stage: the earlier stages whose outputs it reads
	runs    []*modelRun
	held    []bool            // by stage, until it is released
	fails   [][]trimtab.Class // by stage: what its next segments end with
	worker  bool              // there is one
	cache   map[string]int    // by what an output follows from: the newest attempt that made it
	created int               // attempts, of all runs
}

// modelRun is one run of a lineage: the next one reruns it.
type modelRun struct {
	status   trimtab.RunStatus
	paused   bool
	block    int  // stage, or -1
	missed   bool // the block is a gate's
	revision int
	config   []int // by stage: its settings
	gated    bool  // stage 1 has a gate that it misses
	stages   []modelStage
	at       *segment // the attempt at work; nil when none is
}

type modelStage struct {
	attempts []modelAttempt
	done     bool
	skipped  bool
	reuse    bool
	output   string
}

type modelAttempt struct {
	id     int
	status trimtab.AttemptStatus
	reused bool
	output string
}

// segment is an attempt at work, which counts its troubles at a step; it waits where it is held.
type segment struct {
	stage, step, crashes, interruptions int
	waits                               bool
}

const gatedStage = 1

func (m *model) now() *modelRun { return m.runs[len(m.runs)-1] }

// launch adds a run; reuse names the stages that may be taken over.
func (m *model) launch(config []int, gated bool, reuse func(stage int) bool) {
	r := &modelRun{status: trimtab.RunQueued, block: -1, config: config, gated: gated,
		stages: make([]modelStage, len(m.stages))}
	for i := range r.stages {
		r.stages[i].reuse = reuse(i)
	}
	m.runs = append(m.runs, r)
	m.settle()
}

// cancelWithoutWorkflow lets the newest run go on until something holds it.
func (m *model) settle() {
	r := m.now()
	for m.worker && r.status.Open() && r.block < 0 {
		i := slices.IndexFunc(r.stages, func(s modelStage) bool { return !s.done && !s.skipped })
		switch {
		case i < 0:
			r.status = trimtab.RunCompleted
			return
		case r.paused:
			r.status = trimtab.RunPaused
			return
		}
		r.status = trimtab.RunRunning
		if r.at == nil {
			m.begin(r, i)
		} else if m.segment(r) {
			return // held
		}
	}
}

// begin makes an attempt of stage i, or takes over another's output.
func (m *model) begin(r *modelRun, i int) {
	st := &r.stages[i]
	m.created++
	a := modelAttempt{id: m.created, status: trimtab.AttemptRunning}
	key := m.key(r, i)
	if _, ok := m.cache[key]; ok && st.reuse {
		a.status, a.reused, a.output = trimtab.AttemptReused, true, key
		st.attempts = append(st.attempts, a)
		m.finished(r, i, key)
		return
	}
	st.attempts = append(st.attempts, a)
	r.at = &segment{stage: i}
}

// key is what an output follows from.
func (m *model) key(r *modelRun, i int) string {
	in := []string{fmt.Sprint(m.stages[i], r.config[i])}
	for _, j := range m.reads[i] {
		in = append(in, r.stages[j].output)
	}
	return "(" + strings.Join(in, " ") + ")"
}

// segment continues the attempt at work and reports whether it is held.
func (m *model) segment(r *modelRun) (held bool) {
	i, st := r.at.stage, &r.stages[r.at.stage]
	last := &st.attempts[len(st.attempts)-1]
	if list := m.fails[i]; len(list) > 0 && !r.at.waits {
		m.fails[i] = list[1:]
		switch list[0] {
		case trimtab.Internal:
			if r.at.crashes++; r.at.crashes < 3 {
				return false
			}
		case trimtab.Unavailable:
			r.at.interruptions++
			return false
		}
		last.status, r.at = trimtab.AttemptFailed, nil
		m.blocked(r, i, false)
		return false
	}
	if r.at.waits = m.held[i]; r.at.waits {
		return true
	}
	key := m.key(r, i)
	last.status, last.output, r.at = trimtab.AttemptCompleted, key, nil
	m.cache[key] = last.id
	m.finished(r, i, key)
	return false
}

// finished looks at the gate of a stage that has an output.
func (m *model) finished(r *modelRun, i int, output string) {
	r.stages[i].output = output
	if i == gatedStage && r.gated {
		m.blocked(r, i, true)
		return
	}
	r.stages[i].done = true
}

func (m *model) blocked(r *modelRun, i int, missed bool) {
	r.block, r.missed, r.status = i, missed, trimtab.RunBlocked
}

// interrupt stops the segment at work, with a checkpoint.
func (r *modelRun) interrupt() {
	if r.at == nil {
		return
	}
	r.at.waits = false
	if r.at.step == 0 {
		r.at.step, r.at.crashes, r.at.interruptions = 1, 0, 0
	}
}

// working is the stage whose segment waits, or -1.
func (m *model) working() int {
	if r := m.now(); r.at != nil && m.worker && r.status == trimtab.RunRunning {
		return r.at.stage
	}
	return -1
}

// Commands. Each gives the type of its refusal, or "".

func (r *modelRun) closed() string {
	if !r.status.Open() {
		return "run_closed"
	}
	return ""
}

func (m *model) pause(on bool) string {
	r := m.now()
	switch {
	case r.closed() != "":
		return r.closed()
	case r.paused == on:
		return "not_now"
	}
	if r.paused = on; on {
		r.interrupt()
	}
	m.settle()
	return ""
}

func (m *model) cancel() string {
	r := m.now()
	if r.closed() != "" {
		return r.closed()
	}
	if r.at != nil {
		attempts := r.stages[r.at.stage].attempts
		attempts[len(attempts)-1].status = trimtab.AttemptCancelled
	}
	r.status, r.at = trimtab.RunCancelled, nil
	return ""
}

func (m *model) approve(i int) string {
	r := m.now()
	switch {
	case r.closed() != "":
		return r.closed()
	case r.block != i || !r.missed:
		return "not_now"
	}
	r.stages[i].done, r.block = true, -1
	m.settle()
	return ""
}

func (m *model) skip(i int) string {
	r := m.now()
	switch {
	case r.closed() != "":
		return r.closed()
	case r.block != i || slices.ContainsFunc(m.reads, func(reads []int) bool { return slices.Contains(reads, i) }):
		return "not_now"
	}
	attempts := r.stages[i].attempts
	attempts[len(attempts)-1].status = trimtab.AttemptSkipped
	r.stages[i].skipped, r.block = true, -1
	m.settle()
	return ""
}

// rerunLaunch is a rerun of stage, with other settings of stage change (-1 is none) or another gate.
type rerunOf struct {
	stage, change int
	setting       int
	gate          bool // turn the gate
	force         bool
}

// spec is what the run's settings are after the overrides.
func (m *model) spec(q rerunOf) (config []int, gated bool) {
	r := m.now()
	config, gated = slices.Clone(r.config), r.gated != q.gate
	if q.change >= 0 {
		config[q.change] = q.setting
	}
	return config, gated
}

// dry refuses what cannot be, as far as it needs no answer from the run.
func (m *model) dry(q rerunOf) string {
	r := m.now()
	config, gated := m.spec(q)
	if !slices.Equal(config[:q.stage], r.config[:q.stage]) || gatedStage < q.stage && gated != r.gated {
		return "earlier_stage_changed"
	}
	changed := !slices.Equal(config, r.config) || q.stage <= gatedStage && gated != r.gated
	if attempts := r.stages[q.stage].attempts; !changed && !q.force && len(attempts) > 0 {
		switch attempts[len(attempts)-1].status {
		case trimtab.AttemptCompleted, trimtab.AttemptReused, trimtab.AttemptSkipped, trimtab.AttemptFailed:
			return "nothing_changed"
		}
	}
	return ""
}

// snapshot is what a plan stands on.
func (m *model) snapshot(q rerunOf) string {
	r := m.now()
	var b strings.Builder
	config, gated := m.spec(q)
	fmt.Fprint(&b, len(m.runs), r.status, r.revision, r.config, r.gated, config, gated, q.stage)
	for i, st := range r.stages {
		if n := len(st.attempts); n > 0 {
			fmt.Fprint(&b, " ", n, st.attempts[n-1].status)
		}
		if i < q.stage && !r.status.Open() && len(st.attempts) > 0 {
			fmt.Fprint(&b, " ", m.cache[m.key(r, i)])
		}
	}
	return b.String()
}

func (m *model) rerun(q rerunOf) string {
	if refusal := m.dry(q); refusal != "" {
		return refusal
	}
	r := m.now()
	config, gated := m.spec(q)
	switch {
	case !r.status.Open():
		m.launch(config, gated, func(stage int) bool { return stage != q.stage })
		return ""
	case r.block < 0 || q.stage > r.block:
		return "not_now"
	}
	if !slices.Equal(config, r.config) || gated != r.gated {
		r.revision++
	}
	r.config, r.gated, r.block = config, gated, -1
	for i := q.stage; i < len(r.stages); i++ {
		st := &r.stages[i]
		for j := range st.attempts {
			switch a := &st.attempts[j]; a.status {
			case trimtab.AttemptCompleted, trimtab.AttemptReused, trimtab.AttemptSkipped:
				a.status = trimtab.AttemptStale
			}
		}
		*st = modelStage{attempts: st.attempts, reuse: i > q.stage}
	}
	m.settle()
	return ""
}

// stop takes the worker away; what is at work there makes a checkpoint.
func (m *model) stop() {
	if r := m.now(); m.working() >= 0 {
		r.interrupt()
		r.at.interruptions++
	}
	m.worker = false
}
