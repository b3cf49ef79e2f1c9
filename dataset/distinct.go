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

// maxBufferedDigests is how many digests a digestCounter holds in memory: 2
// MiB.
const maxBufferedDigests = 1 << 16

// digestCounter counts distinct digests in bounded memory, exactly: an external
// merge sort. Full buffers are sorted and appended as runs to an unnamed
// temporary file, and count merges the runs.
type digestCounter struct {
	buffered [][32]byte
	// Digests in buffered before they are spilled.
	maxBuffered int
	file        *os.File
	// runs are the offsets in file at which a sorted run begins.
	runs []int64
	size int64 // of the file, bytes
}

// newDigestCounter returns an empty counter. The caller closes it.
func newDigestCounter() *digestCounter { return &digestCounter{maxBuffered: maxBufferedDigests} }

// add adds one digest.
func (d *digestCounter) add(digest trimtab.Digest) error {
	d.buffered = append(d.buffered, digest.Sum())
	if len(d.buffered) < d.maxBuffered {
		return nil
	}
	return d.spill()
}

// spill sorts the buffer and appends it to the file as a run. The file is
// unlinked as soon as it is open, so that no crash leaves it behind.
func (d *digestCounter) spill() (err error) {
	if d.file == nil {
		if d.file, err = os.CreateTemp("", "trimtab-digests-*"); err != nil {
			return spillError(err)
		}
		// The open file keeps its data without a name.
		if err = os.Remove(d.file.Name()); err != nil {
			return spillError(err)
		}
	}
	sortSums(d.buffered)
	w := bufio.NewWriterSize(d.file, 1<<16)
	for i := range d.buffered {
		// Flush has its error.
		_, _ = w.Write(d.buffered[i][:])
	}
	d.runs = append(d.runs, d.size)
	d.size += int64(len(d.buffered)) * 32
	d.buffered = d.buffered[:0]
	return spillError(w.Flush())
}

// spillError classifies an error of the temporary file, which the user can fix:
// usually a full disk.
func spillError(err error) error {
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "temporary_file",
		"make room in the temporary folder, or set TMPDIR to another one",
		"counting duplicates: %w", err)
}

// count returns the number of distinct digests that were added. It may be
// called once.
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

// merge reads all runs side by side, the smallest digest next, and counts how
// often it changes.
func (d *digestCounter) merge() (int, error) {
	var open runHeap
	for i, from := range d.runs {
		to := d.size
		if i+1 < len(d.runs) {
			to = d.runs[i+1]
		}
		r := &sortedRun{r: bufio.NewReaderSize(io.NewSectionReader(d.file, from, to-from), 1<<12)}
		if _, err := io.ReadFull(r.r, r.next[:]); err != nil {
			return 0, spillError(fmt.Errorf("reading it back: %w", err))
		}
		open = append(open, r)
	}
	heap.Init(&open)
	var n int
	var last [32]byte
	for len(open) > 0 {
		r := open[0]
		// Equal digests follow each other, in one run or in several.
		if n == 0 || r.next != last {
			n, last = n+1, r.next
		}
		switch _, err := io.ReadFull(r.r, r.next[:]); err {
		case nil:
			heap.Fix(&open, 0)
		case io.EOF:
			heap.Pop(&open)
		default:
			return 0, spillError(fmt.Errorf("reading it back: %w", err))
		}
	}
	return n, nil
}

// close releases the temporary file.
func (d *digestCounter) close() {
	if d.file != nil {
		_ = d.file.Close() // its content is not needed any more
	}
}

// sortSums sorts digests by their bytes.
func sortSums(sums [][32]byte) {
	slices.SortFunc(sums, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
}

// sortedRun is a run that is being merged, with its smallest digest left.
type sortedRun struct {
	r    *bufio.Reader
	next [32]byte
}

// runHeap is a container/heap with the run of the smallest next digest on top.
type runHeap []*sortedRun

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return bytes.Compare(h[i].next[:], h[j].next[:]) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is heap.Interface's.
func (h *runHeap) Push(x any) { *h = append(*h, x.(*sortedRun)) }

// Pop is heap.Interface's.
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
