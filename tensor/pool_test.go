package tensor

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestPoolRun: every task runs once, and no two at a time have one worker.
func TestPoolRun(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		p := NewPool(workers)
		if p.Workers() != workers {
			t.Errorf("%d workers, want %d", p.Workers(), workers)
		}
		for _, tasks := range []int{0, 1, 2, 3, 100} {
			done := make([]atomic.Int32, tasks)
			inUse := make([]atomic.Bool, workers)
			p.Run(tasks, func(task, worker int) {
				if inUse[worker].Swap(true) {
					t.Errorf("worker %d has two tasks", worker)
				}
				done[task].Add(1)
				inUse[worker].Store(false)
			})
			for i := range done {
				if n := done[i].Load(); n != 1 {
					t.Errorf("task %d ran %d times", i, n)
				}
			}
		}
		p.Close()
	}
}

// TestPoolSpreads: two tasks that wait for each other end, so both workers work.
func TestPoolSpreads(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	meet := make(chan bool)
	p.Run(2, func(task, _ int) {
		if task == 0 {
			meet <- true
			return
		}
		select {
		case <-meet:
		case <-time.After(10 * time.Second):
			t.Error("the other task never ran")
		}
	})
}

func TestPoolNested(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	var count atomic.Int32
	p.Run(10, func(int, int) {
		p.Run(10, func(_, worker int) {
			if worker != 0 {
				t.Errorf("a nested task has worker %d", worker)
			}
			count.Add(1)
		})
	})
	if count.Load() != 100 {
		t.Errorf("%d tasks ran of 100", count.Load())
	}
}

func TestPoolPanics(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	var count atomic.Int32
	caught := func() (v any) {
		defer func() { v = recover() }()
		p.Run(20, func(task, _ int) {
			count.Add(1)
			if task%2 == 1 {
				panic("odd task")
			}
		})
		return nil
	}()
	if caught != "odd task" || count.Load() != 20 {
		t.Errorf("caught %v after %d tasks", caught, count.Load())
	}
	p.Run(5, func(int, int) { count.Add(1) }) // still in order
	if count.Load() != 25 {
		t.Errorf("after the panic %d tasks ran of 5", count.Load()-20)
	}
}

func TestPoolNilAndClosed(t *testing.T) {
	closed := NewPool(4)
	closed.Close()
	closed.Close()
	for _, p := range []*Pool{nil, closed} {
		n := 0
		p.Run(7, func(task, worker int) {
			if task != n || worker != 0 {
				t.Errorf("task %d by worker %d, want %d by 0", task, worker, n)
			}
			n++
		})
		if n != 7 || p.Workers() != 1 {
			t.Errorf("%d tasks, %d workers", n, p.Workers())
		}
	}
	var none *Pool
	none.Close()
	if NewPool(0).Workers() < 1 {
		t.Error("no worker by default")
	}
}

func TestPoolClear(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	for _, n := range []int{0, 1, clearChunk, 2*clearChunk + 5} {
		x := make([]float32, n+1)
		for i := range x {
			x[i] = 1
		}
		p.Clear(x[:n])
		for i, v := range x {
			if (v != 0) != (i == n) {
				t.Fatalf("%d values: value %d is %g", n, i, v)
			}
		}
	}
}

func BenchmarkPoolRun(b *testing.B) {
	p := NewPool(0)
	defer p.Close()
	f := func(int, int) {}
	for b.Loop() {
		p.Run(8, f)
	}
}
