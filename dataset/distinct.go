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

// maxBufferedDigests is how many digests a distinct holds in memory: 2 MiB.
const maxBufferedDigests = 1 << 16

// digestCounter counts different digests in bounded memory: what is more than
// maxBufferedDigests lies sorted in a temporary file without a name.
type digestCounter struct {
	buffered    [][32]byte
	maxBuffered int // of held
	file        *os.File
	runs        []int64 // offsets in file at which a sorted run begins
	size        int64
}

func newDigestCounter() *digestCounter { return &digestCounter{maxBuffered: maxBufferedDigests} }

// add takes one digest.
func (d *digestCounter) add(digest trimtab.Digest) error {
	d.buffered = append(d.buffered, digest.Sum())
	if len(d.buffered) < d.maxBuffered {
		return nil
	}
	return d.spill()
}

// spill writes what is held to the end of the file, sorted.
func (d *digestCounter) spill() (err error) {
	if d.file == nil {
		if d.file, err = os.CreateTemp("", "trimtab-digests-*"); err != nil {
			return spillError(err)
		}
		if err = os.Remove(d.file.Name()); err != nil { // it lives as long as it is open
			return spillError(err)
		}
	}
	sortSums(d.buffered)
	w := bufio.NewWriterSize(d.file, 1<<16)
	for i := range d.buffered {
		_, _ = w.Write(d.buffered[i][:]) // Flush has its error
	}
	d.runs = append(d.runs, d.size)
	d.size += int64(len(d.buffered)) * 32
	d.buffered = d.buffered[:0]
	return spillError(w.Flush())
}

func spillError(err error) error {
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "temporary_file",
		"make room in the temporary folder, or set TMPDIR to another one",
		"counting duplicates: %w", err)
}

// count is how many different digests were added.
func (d *digestCounter) count() (int, error) {
	sortSums(d.buffered)
	if d.file == nil {
		return len(slices.Compact(d.buffered)), nil
	}
	if len(d.buffered) > 0 {
		if err := d.spill(); err != nil {
			return 0, err
		}
	}
	return d.merge()
}

// merge counts over all runs at once.
func (d *digestCounter) merge() (int, error) {
	var open runHeap
	for i, from := range d.runs {
		to := d.size
		if i+1 < len(d.runs) {
			to = d.runs[i+1]
		}
		r := &sortedRun{r: bufio.NewReaderSize(io.NewSectionReader(d.file, from, to-from), 1<<12)}
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
func (d *digestCounter) close() {
	if d.file != nil {
		_ = d.file.Close() // nothing of it is wanted
	}
}

func sortSums(sums [][32]byte) {
	slices.SortFunc(sums, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
}

// sortedRun is a sorted part of the file.
type sortedRun struct {
	r    *bufio.Reader
	next [32]byte
}

// runHeap has the run with the smallest next digest first.
type runHeap []*sortedRun

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return bytes.Compare(h[i].next[:], h[j].next[:]) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)        { *h = append(*h, x.(*sortedRun)) }
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
