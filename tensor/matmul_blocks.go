package tensor

import "sync"

// Block sizes of the products, in the terms of BLIS (Van Zee & van de Geijn, 2015): a micro-kernel holds a tile of MR
// rows and NR columns of C in registers and runs over KC words of k; a block of A has MC rows. They decide only speed.
const (
	packBMinRows = 192     // rows of A from which packing B repays itself, where B lies as the kernels need it
	taskMinFMAs  = 1 << 18 // multiply-adds that make a task worth its start
	maxKC        = 384     // words along k that a chain is continued for in registers
	maxMR        = 12      // rows of the tallest tile, and so of a micro-panel of A: those of AVX-512
	packedAWords = 1 << 17 // words of a block of A: half a megabyte, which stays in the second-level cache
	packedBWords = 1 << 16 // words of B packed at once
)

// job is a product that is being computed: its tiles form a grid, one task each. Jobs are reused, so that a product
// allocates nothing.
type job struct {
	product
	tileRows, tileCols int // size of a tile of C
	gridCols           int // tiles across
	run                func(task, worker int)
}

// scratch is memory for one tile at a time.
type scratch struct {
	packedB []float32       // (packedBWords) panels of B
	edge    [6 * 64]float32 // a piece of C that is narrower than the registers: 6 rows of up to 8 registers of 8
	packedA []float32       // (packedAWords) a block of A, and room for one more micro-panel
}

// freeList keeps values for reuse. Unlike sync.Pool it keeps them for good, so that a step that has run once allocates
// nothing. It is safe for concurrent use.
type freeList[T any] struct {
	mu    sync.Mutex
	free  []*T
	alloc func() *T
}

// get returns a value that nobody else holds, with unspecified contents.
func (l *freeList[T]) get() *T {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free)
	if n == 0 {
		return l.alloc()
	}
	v := l.free[n-1]
	l.free = l.free[:n-1]
	return v
}

// put gives a value back.
func (l *freeList[T]) put(v *T) {
	l.mu.Lock()
	l.free = append(l.free, v)
	l.mu.Unlock()
}

var (
	jobs = freeList[job]{alloc: func() *job {
		j := new(job)
		j.run = j.task
		return j
	}}
	scratches = freeList[scratch]{alloc: func() *scratch {
		return &scratch{packedB: Slab(packedBWords), packedA: Slab(packedAWords + maxMR*maxKC)}
	}}
)

// matMul computes g on the workers of pool. Work is split over tiles of C only, never over k, which would cut chains.
func matMul(pool *Pool, g *product) {
	if g.m == 0 || g.n == 0 {
		return
	}
	if g.k == 0 {
		g.initC()
		return
	}
	perWorker := 4
	if g.bf16 {
		perWorker = 2 // each task rounds its operands anew
	}
	tasks := min(perWorker*pool.Workers(), g.m*g.n*g.k/taskMinFMAs)
	if pool.Workers() == 1 || tasks <= 1 {
		g.runSerial()
		return
	}
	j := jobs.get()
	j.product = *g
	j.tileRows, j.tileCols = g.grid(tasks - tasks%min(tasks, pool.Workers())) // a multiple: workers end together
	j.gridCols = (g.n + j.tileCols - 1) / j.tileCols
	pool.Run((g.m+j.tileRows-1)/j.tileRows*j.gridCols, j.run)
	j.product = product{} // keeps no caller's memory alive
	jobs.put(j)
}

// largeB is the number of elements of B from which it is better to read B once, spread over the workers, than once by
// each worker, where C has few rows.
const largeB = 1 << 18

// grid returns the size of the tiles that make about that many tasks. A tile should have as many rows as repay packing
// B, but a large B under few rows is cut by columns, so that it is read once.
func (g *product) grid(tasks int) (rows, cols int) {
	down := max(1, min(tasks, g.m/96))
	if g.n*g.k >= largeB && g.m < 8*packBMinRows {
		down = max(1, tasks/max(1, g.n/128))
	}
	for tasks%down != 0 {
		down--
	}
	across := max(1, min(tasks/down, g.n/64))
	return roundUp((g.m+down-1)/down, maxMR), roundUp((g.n+across-1)/across, panelColumns)
}

// roundUp returns the smallest multiple of unit that is not below x.
func roundUp(x, unit int) int { return (x + unit - 1) / unit * unit }

// initC sets C to its start value: the product for k = 0.
func (g *product) initC() {
	for i := range g.m {
		g.initial.row(g.c[i*g.ldc:i*g.ldc+g.n], i)
	}
}

// task computes one tile of the grid.
func (j *job) task(task, _ int) {
	row, col := task/j.gridCols*j.tileRows, task%j.gridCols*j.tileCols
	t := j.product.tile(row, col, j.tileRows, j.tileCols)
	t.runSerial()
}

// tile returns the product of the tile of C that begins at row i and column j and has at most that many rows and
// columns. j is a multiple of panelColumns.
func (g *product) tile(i, j, rows, cols int) product {
	t := *g
	t.m, t.n = min(rows, g.m-i), min(cols, g.n-j)
	t.c = g.c[i*g.ldc+j:]
	t.initial = g.initial.tile(i, j)
	t.a = g.a[i*g.aRow:]
	if g.packed != nil {
		t.firstPanel += j / panelColumns
		return t
	}
	if g.transB {
		j *= g.ldb
	}
	if g.half {
		t.bHalf = g.bHalf[j:]
	} else {
		t.b = g.b[j:]
	}
	return t
}
