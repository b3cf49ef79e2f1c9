package tensor

import (
	"runtime"
	"sync/atomic"
)

// Pool is a fixed set of workers over which a loop's tasks are spread. The caller of Run is worker 0; the others are
// goroutines that live until Close. Which worker runs which task varies from run to run and must not matter.
//
// A nil *Pool is valid and runs everything on the caller.
type Pool struct {
	wake    []chan struct{} // one for each background worker; a value starts it
	busy    atomic.Bool     // a Run or a Close is in progress
	pending atomic.Int64    // background workers that have not finished the Run
	done    chan struct{}   // receives a value when the last of them has
	spin    int             // how often to poll before sleeping; 0 with more workers than processors

	f        func(task, worker int)    // of the Run in progress
	tasks    int64                     // of the Run in progress
	next     atomic.Int64              // the next task to be taken
	panicked atomic.Pointer[taskPanic] // the first panic of the Run
}

// taskPanic holds the value that a task panicked with.
type taskPanic struct{ value any }

// NewPool returns a pool of that many workers; 0 means one for each processor that Go may use. Close it when it is no
// longer needed.
func NewPool(workers int) *Pool {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := &Pool{wake: make([]chan struct{}, workers-1), done: make(chan struct{}, 1)}
	if runtime.GOMAXPROCS(0) >= workers {
		p.spin = spins
	}
	for i := range p.wake {
		p.wake[i] = make(chan struct{}, 1)
		go p.serve(p.wake[i], i+1)
	}
	return p
}

// Workers returns the number of workers, at least 1.
func (p *Pool) Workers() int {
	if p == nil {
		return 1
	}
	return len(p.wake) + 1
}

// Run calls f(0, w) … f(tasks-1, w), each once, and returns when all have returned. No two calls of one Run that
// overlap in time have the same worker w, so that f may keep scratch memory by worker. It allocates nothing.
//
// A Run inside a task, or at the same time as another Run of the pool, does all its tasks on the calling goroutine,
// as worker 0: its scratch memory must then be the caller's own.
//
// If a task panics, the other workers still run theirs, and Run panics with its value.
func (p *Pool) Run(tasks int, f func(task, worker int)) {
	if p == nil || tasks <= 1 || len(p.wake) == 0 || !p.busy.CompareAndSwap(false, true) {
		for t := range tasks {
			f(t, 0)
		}
		return
	}
	p.f, p.tasks = f, int64(tasks)
	p.next.Store(0)
	helpers := min(len(p.wake), tasks-1)
	p.pending.Store(int64(helpers))
	for _, c := range p.wake[:helpers] {
		c <- struct{}{}
	}
	p.work(0)
	p.await(p.done)
	failed := p.panicked.Swap(nil)
	p.f = nil
	p.busy.Store(false)
	if failed != nil {
		panic(failed.value)
	}
}

// clearChunk is the number of values that a task of Clear takes.
const clearChunk = 1 << 16

// clearJob is a Clear or an AddAndClear that is running.
type clearJob struct {
	x, dst []float32
	run    func(task, worker int)
}

// clearJobs keeps finished jobs for reuse, so that clearing allocates nothing.
var clearJobs = freeList[clearJob]{alloc: func() *clearJob {
	c := new(clearJob)
	c.run = c.task
	return c
}}

// task does one chunk: dst += x, where there is a dst, and x = 0.
func (c *clearJob) task(task, _ int) {
	from, to := task*clearChunk, min(len(c.x), (task+1)*clearChunk)
	if c.dst != nil {
		Add(c.dst[from:to], c.x[from:to])
	}
	clear(c.x[from:to])
}

// Clear sets x to zero.
func (p *Pool) Clear(x []float32) { p.addAndClear(x, nil) }

// AddAndClear adds x to dst, which has the same length, and sets x to zero, in one pass over the memory.
func (p *Pool) AddAndClear(x, dst []float32) {
	sameLength("Pool.AddAndClear", len(x), len(dst))
	p.addAndClear(x, dst)
}

// addAndClear is AddAndClear, or Clear where dst is nil.
func (p *Pool) addAndClear(x, dst []float32) {
	c := clearJobs.get()
	c.x, c.dst = x, dst
	p.Run((len(x)+clearChunk-1)/clearChunk, c.run)
	c.x, c.dst = nil, nil
	clearJobs.put(c)
}

// Close ends the workers. It must not be called during a Run; a later Run does its tasks on the caller.
func (p *Pool) Close() {
	if p == nil || !p.busy.CompareAndSwap(false, true) {
		return
	}
	for _, c := range p.wake {
		close(c)
	}
	p.wake = nil
	p.busy.Store(false)
}

// serve is the loop of a background worker, until Close closes its channel.
func (p *Pool) serve(wake chan struct{}, worker int) {
	for p.await(wake) {
		p.work(worker)
		if p.pending.Add(-1) == 0 {
			p.done <- struct{}{}
		}
	}
}

// spins is the number of times a waiting worker polls before it sleeps, about 20 µs: loops follow each other closely,
// and waking a goroutine that has gone to sleep takes longer.
const spins = 5000

// await receives from c, polling for a while before it blocks, and reports whether c is open.
func (p *Pool) await(c chan struct{}) (open bool) {
	for range p.spin {
		select {
		case _, open = <-c:
			return open
		default:
		}
	}
	_, open = <-c
	return open
}

// work runs tasks until none is left.
func (p *Pool) work(worker int) {
	for p.task(worker) {
	}
}

// task runs the next task, if there is one, and reports whether there may be more. A panic is recorded, the first one
// of a Run, and does not end the worker.
func (p *Pool) task(worker int) (more bool) {
	defer func() {
		if v := recover(); v != nil {
			p.panicked.CompareAndSwap(nil, &taskPanic{v})
			more = true
		}
	}()
	t := p.next.Add(1) - 1
	if t >= p.tasks {
		return false
	}
	p.f(int(t), worker)
	return true
}
