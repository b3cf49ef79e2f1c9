package dataset

import (
	"bufio"
	"bytes"
	"container/heap"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/trimtab/trimtab"
)

// heldDigests is how many digests a distinct holds in memory: 2 MiB.
const heldDigests = 1 << 16

// distinct counts different digests in bounded memory: what is more than
// heldDigests lies sorted in a temporary file without a name.
type distinct struct {
	held [][32]byte
	most int // of held
	file *os.File
	runs []int64 // offsets in file at which a sorted run begins
	size int64
}

func newDistinct() *distinct { return &distinct{most: heldDigests} }

// add takes one digest.
func (d *distinct) add(digest trimtab.Digest) error {
	d.held = append(d.held, digest.Sum())
	if len(d.held) < d.most {
		return nil
	}
	return d.spill()
}

// spill writes what is held to the end of the file, sorted.
func (d *distinct) spill() (err error) {
	if d.file == nil {
		if d.file, err = os.CreateTemp("", "trimtab-digests-*"); err != nil {
			return spillError(err)
		}
		if err = os.Remove(d.file.Name()); err != nil { // it lives as long as it is open
			return spillError(err)
		}
	}
	sortSums(d.held)
	w := bufio.NewWriterSize(d.file, 1<<16)
	for i := range d.held {
		_, _ = w.Write(d.held[i][:]) // Flush has its error
	}
	d.runs = append(d.runs, d.size)
	d.size += int64(len(d.held)) * 32
	d.held = d.held[:0]
	return spillError(w.Flush())
}

func spillError(err error) error {
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "temporary_file", "make room in the temporary folder, or set TMPDIR to another one",
		"counting duplicates: %w", err)
}

// count is how many different digests were added.
func (d *distinct) count() (int, error) {
	sortSums(d.held)
	if d.file == nil {
		return len(slices.Compact(d.held)), nil
	}
	if len(d.held) > 0 {
		if err := d.spill(); err != nil {
			return 0, err
		}
	}
	return d.merge()
}

// merge counts over all runs at once.
func (d *distinct) merge() (int, error) {
	var open runHeap
	for i, from := range d.runs {
		to := d.size
		if i+1 < len(d.runs) {
			to = d.runs[i+1]
		}
		r := &run{r: bufio.NewReaderSize(io.NewSectionReader(d.file, from, to-from), 1<<12)}
		if _, err := io.ReadFull(r.r, r.next[:]); err != nil {
			return 0, spillError(fmt.Errorf("read it again: %w", err))
		}
		open = append(open, r)
	}
	heap.Init(&open)
	var n int
	var last [32]byte
	for len(open) > 0 {
		r := open[0]
		if n == 0 || r.next != last {
			n, last = n+1, r.next
		}
		switch _, err := io.ReadFull(r.r, r.next[:]); err {
		case nil:
			heap.Fix(&open, 0)
		case io.EOF:
			heap.Pop(&open)
		default:
			return 0, spillError(fmt.Errorf("read it again: %w", err))
		}
	}
	return n, nil
}

// close lets the file go.
func (d *distinct) close() {
	if d.file != nil {
		_ = d.file.Close() // nothing of it is wanted
	}
}

func sortSums(sums [][32]byte) {
	slices.SortFunc(sums, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
}

// run is a sorted part of the file.
type run struct {
	r    *bufio.Reader
	next [32]byte
}

// runHeap has the run with the smallest next digest first.
type runHeap []*run

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return bytes.Compare(h[i].next[:], h[j].next[:]) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
