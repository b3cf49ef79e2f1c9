package gguf

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/plainfile"
)

// File is an open GGUF file. Its tensors can be read until it is closed, by any
// number of goroutines. Metadata stays valid after that.
type File struct {
	Metadata *Metadata
	Tensors  []*Tensor // in the order of the file

	mu     sync.RWMutex // held for reading while tensors are read
	closed bool
	mapped []byte      // the whole file; nil if it is not mapped
	reader io.ReaderAt // the whole file
	file   *os.File    // closed with the File; nil for one that is the caller's
}

// Open opens a file and checks all of it but the values of its tensors. On Linux
// it is mapped into memory: opening is fast whatever the size, and what is read
// needs no copy. Errors: file_not_found, gguf_corrupt, gguf_unsupported, gguf_key,
// and those of the system.
func Open(path string) (*File, error) {
	file, err := plainfile.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, trimtab.NewError(trimtab.NotFound, "file_not_found", "give the path of a GGUF file",
			"there is no file %s", path)
	}
	if err != nil {
		return nil, err
	}
	f, err := openFile(file)
	if err != nil {
		file.Close()
		return nil, annotate(err, "%s", path)
	}
	return f, nil
}

// openFile maps an open file, or else keeps it for reading, and parses it.
func openFile(file *os.File) (*File, error) {
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	mapped, err := mapFile(file, st.Size())
	if err != nil { // a file system without maps, or none on this system
		mapped = nil
	}
	f, err := New(file, st.Size())
	if err != nil {
		_ = unmapFile(mapped)
		return nil, err
	}
	f.mapped, f.file = mapped, file
	return f, nil
}

// New reads a file of the given size, in bytes, from r, which has to be safe for
// concurrent use, as an io.ReaderAt is. Errors: gguf_corrupt, gguf_unsupported,
// gguf_key, and those of r.
func New(r io.ReaderAt, size int64) (*File, error) {
	metadata, tensors, err := parse(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{Metadata: metadata, Tensors: tensors, reader: r}
	for _, t := range tensors {
		t.file = f
	}
	return f, nil
}

// Close releases the file, after waiting for the reads that have begun. Closing
// it again does nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	err := unmapFile(f.mapped)
	if f.mapped = nil; f.file != nil {
		err = errors.Join(err, f.file.Close())
	}
	return err
}

// Tensor returns the tensor of a name. Error: gguf_tensor_not_found.
func (f *File) Tensor(name string) (*Tensor, error) {
	for _, t := range f.Tensors {
		if t.Name == name {
			return t, nil
		}
	}
	return nil, trimtab.NewError(trimtab.Invalid, "gguf_tensor_not_found",
		"convert the model again with a current converter", "the file has no tensor %.80q", name)
}

// Tensor is one tensor of a file.
type Tensor struct {
	Name   string
	Type   Type
	Shape  []int // row-major, as PyTorch has it: ggml's dimensions reversed; empty for a scalar
	Offset int64 // of the data in the file, bytes
	Size   int64 // of the data, bytes

	elements int
	file     *File
}

// Elements returns the number of elements, the product of the shape.
func (t *Tensor) Elements() int { return t.elements }

// chunkElements is the number of elements that a goroutine decodes at a time: a
// multiple of all block lengths, of which the bytes and the floats stay in the
// second-level cache.
const chunkElements = 1 << 14

// Floats decodes the tensor into dst, which has Elements elements, in row-major
// order, on all cores. It computes what ggml's dequantize_row functions compute,
// bit for bit. Errors: gguf_unsupported if the type cannot be read; those of the
// system; gguf_corrupt if the file has become shorter since it was opened.
func (t *Tensor) Floats(dst []float32) error {
	if len(dst) != t.elements {
		return internalError("tensor %.80q has %d elements, the destination %d", t.Name, t.elements, len(dst))
	}
	unlock, err := t.lock()
	if err != nil {
		return err
	}
	defer unlock()
	chunks := (t.elements + chunkElements - 1) / chunkElements
	errs := make([]error, min(chunks, runtime.GOMAXPROCS(0)))
	var next atomic.Int64
	var wait sync.WaitGroup
	for w := range errs {
		wait.Go(func() { errs[w] = t.decodeChunks(dst, &next) })
	}
	wait.Wait()
	return cmp.Or(errs...)
}

// decodeChunks decodes chunks until none is left; next counts those that are taken.
func (t *Tensor) decodeChunks(dst []float32, next *atomic.Int64) error {
	var buffer []byte
	for {
		from := int(next.Add(1)-1) * chunkElements
		if from >= len(dst) {
			return nil
		}
		if err := t.decode(dst[from:min(from+chunkElements, len(dst))], from, &buffer); err != nil {
			return err
		}
	}
}

// Rows decodes the rows from number first on into dst, whose length is a multiple
// of the last dimension, on the calling goroutine alone. A row consists of the
// elements that differ in the last index. Errors are those of Floats.
func (t *Tensor) Rows(dst []float32, first int) error {
	width := rowLength(t.Shape)
	rows := t.elements / width
	if len(dst)%width != 0 || first < 0 || first > rows || len(dst)/width > rows-first {
		return internalError("tensor %.80q has %d rows of %d elements, not %d elements from row %d on", t.Name, rows,
			width, len(dst), first)
	}
	unlock, err := t.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var buffer []byte
	for from := 0; from < len(dst); from += chunkElements {
		part := dst[from:min(from+chunkElements, len(dst))]
		if err := t.decode(part, first*width+from, &buffer); err != nil {
			return err
		}
	}
	return nil
}

// lock keeps the file open until unlock is called, if the tensor can be read.
func (t *Tensor) lock() (unlock func(), err error) {
	if !t.Type.CanDequantize() {
		return nil, unsupportedError("convert it with llama-quantize to one of "+joinTypes(readable),
			"tensor %.80q is %s, which cannot be read here", t.Name, t.Type)
	}
	t.file.mu.RLock()
	if t.file.closed {
		t.file.mu.RUnlock()
		return nil, internalError("tensor %.80q is read after its file was closed", t.Name)
	}
	return t.file.mu.RUnlock, nil
}

// decode decodes the elements from number from on, the first of a block, into dst,
// which has room for whole blocks. It may use the buffer, and enlarge it.
func (t *Tensor) decode(dst []float32, from int, buffer *[]byte) error {
	info := types[t.Type]
	offset := t.Offset + int64(from/info.elements)*int64(info.size)
	n := len(dst) / info.elements * info.size
	if t.file.mapped != nil {
		return t.decodeMapped(dst, t.file.mapped[offset:offset+int64(n)])
	}
	if cap(*buffer) < n {
		*buffer = make([]byte, n)
	}
	src := (*buffer)[:n]
	got, err := t.file.reader.ReadAt(src, offset)
	switch {
	case got == n: // with io.EOF, or without
	case err == io.EOF:
		return t.shrunkError()
	default:
		return fmt.Errorf("reading tensor %.80q at byte %d: %w", t.Name, offset, err)
	}
	info.dequantize(dst, src)
	return nil
}

// decodeMapped decodes bytes of the map. Where the file has been cut short since it
// was opened, reading them is a fault of the memory, which becomes an error here.
func (t *Tensor) decodeMapped(dst []float32, src []byte) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // what the runtime adds to a fault
			err = t.shrunkError()
		default:
			panic(r)
		}
	}()
	types[t.Type].dequantize(dst, src)
	return nil
}

func (t *Tensor) shrunkError() error {
	return corruptError("tensor %.80q: the file has become shorter, or unreadable, since it was opened", t.Name)
}
