package tensor

import "sync"

// Sizes of blocks. They decide only speed.
const (
	packBMinRows = 192     // rows of A that repay packing B where its rows lie as they are needed
	taskMinFMAs  = 1 << 18 // multiply-adds that make a task worth its start
	maxKC        = 384     // words along k of a block: a chain is continued in registers so long
	maxMR        = 12      // of A in a strip, and in AVX-512's tiles
	packedAWords = 1 << 17 // words of A that stay in the second cache, and
	packedBWords = 1 << 16 // of B
)

// job is a product in work: its tiles form a grid, one task each. Jobs are kept
// for reuse so that a product allocates nothing.
type job struct {
	product
	tileRows, tileCols int // of a tile
	gridCols           int // tiles in a row of the grid
	run                func(task, worker int)
}

// scratch is memory for one tile at a time: packed panels of B, a place for a
// piece of C narrower than the registers, and a block of A.
type scratch struct {
	packedB []float32 // (packedBWords)
	edge    [6 * 64]float32
	packedA []float32 // (packedAWords) and a strip
}

// freeList keeps values for reuse; unlike sync.Pool, it keeps them for good.
type freeList[T any] struct {
	mu    sync.Mutex
	free  []*T
	alloc func() *T
}

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

// matMul spreads the product over the workers.
func matMul(p *Pool, g *product) {
	if g.m == 0 || g.n == 0 {
		return
	}
	if g.k == 0 {
		g.initC()
		return
	}
	each := 4 // tasks a worker
	if g.bf16 {
		each = 2 // since each rounds its operands anew
	}
	tasks := min(each*p.Workers(), g.m*g.n*g.k/taskMinFMAs)
	if p.Workers() == 1 || tasks <= 1 {
		g.runSerial()
		return
	}
	j := jobs.get()
	j.product = *g
	j.tileRows, j.tileCols = g.grid(tasks - tasks%min(tasks, p.Workers())) // all end together
	j.gridCols = (g.n + j.tileCols - 1) / j.tileCols
	p.Run((g.m+j.tileRows-1)/j.tileRows*j.gridCols, j.run)
	j.product = product{}
	jobs.put(j)
}

// largeB is how many elements of B are better read once than by each
// worker, whose rows are few.
const largeB = 1 << 18

// grid is the size of the tiles that make about that many tasks. A tile should
// have as many rows as repay packing; but weights are read once where they can be.
func (g *product) grid(tasks int) (rows, cols int) {
	down := max(1, min(tasks, g.m/96))
	if g.n*g.k >= largeB && g.m < 8*packBMinRows {
		down = max(1, tasks/max(1, g.n/128))
	}
	for tasks%down != 0 {
		down--
	}
	right := max(1, min(tasks/down, g.n/64))
	return roundUp((g.m+down-1)/down, 12), roundUp((g.n+right-1)/right, panelColumns)
}

func roundUp(x, unit int) int { return (x + unit - 1) / unit * unit }

// initC is the product over no k.
func (g *product) initC() {
	for i := range g.m {
		g.start.row(g.c[i*g.ldc:i*g.ldc+g.n], i)
	}
}

// task computes one tile of the grid.
func (j *job) task(task, _ int) {
	t := j.product.subproduct(task/j.gridCols*j.tileRows, task%j.gridCols*j.tileCols, j.tileRows, j.tileCols)
	t.runSerial()
}

// subproduct is the product of a tile of C of at most that many rows and columns.
func (g *product) subproduct(i, j, rows, cols int) product {
	t := *g
	t.m, t.n = min(rows, g.m-i), min(cols, g.n-j)
	t.c, t.start = g.c[i*g.ldc+j:], g.start.part(i, j)
	t.a = g.a[i*g.aRow:]
	switch {
	case g.packed != nil:
		t.firstPanel += j / panelColumns
	case g.transB:
		t.b = g.b[j*g.ldb:]
	default:
		t.b = g.b[j:]
	}
	return t
}
