package gguf

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	realFile   = flag.String("gguf", "", "the GGUF file of a model, for TestRealFile")
	realFolder = flag.String("out", "", "where TestRealFile leaves what testdata/compare.py compares")
)

// TestRealFile decodes a whole model and rewrites it as F16 and as Q8_0.
// testdata/compare.py compares the results with those of gguf-py and llama.cpp.
func TestRealFile(t *testing.T) {
	if *realFile == "" || *realFolder == "" {
		t.Skip("compares with other programs: give -gguf FILE and -out FOLDER")
	}
	f, err := Open(*realFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	values := make([][]float32, len(f.Tensors))
	elements := 0
	for i, x := range f.Tensors {
		values[i] = make([]float32, x.Elements())
		clear(values[i]) // so that the time below is not that of getting memory
		elements += x.Elements()
	}
	start := time.Now()
	for i, x := range f.Tensors {
		if err := x.Floats(values[i]); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d tensors, %d elements: %v", len(values), elements, time.Since(start))
	writeFile(t, filepath.Join(*realFolder, "digests.txt"), []byte(digests(f, values)))
	for typ, number := range map[Type]uint32{F16: 1, Q8_0: 7} {
		start := time.Now()
		rewrite(t, f, values, typ, number)
		t.Logf("written as %s: %v", typ, time.Since(start))
	}
}

// digests has a line for each tensor: name, type, shape, SHA-256 of its floats.
func digests(f *File, values [][]float32) string {
	var lines strings.Builder
	for i, x := range f.Tensors {
		raw, _ := binary.Append(nil, binary.LittleEndian, values[i])
		fmt.Fprintf(&lines, "%s %s %v %x\n", x.Name, x.Type, x.Shape, sha256.Sum256(raw))
	}
	return lines.String()
}

// rewrite writes TYPE.gguf as llama-quantize would: tensors of one dimension stay
// F32, and general.file_type has the type's number (llama.cpp, enum llama_ftype).
func rewrite(t *testing.T, f *File, values [][]float32, typ Type, number uint32) {
	t.Helper()
	metadata := f.Metadata.Entries()
	for i, e := range metadata {
		if e.Key == "general.file_type" {
			metadata[i].Value = number
		}
	}
	tensors := infos(f)
	for i := range tensors {
		if tensors[i].Type = typ; len(tensors[i].Shape) == 1 {
			tensors[i].Type = F32
		}
	}
	file, err := os.Create(filepath.Join(*realFolder, typ.String()+".gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w, err := NewWriter(file, metadata, tensors)
	for i, info := range tensors {
		if err == nil {
			err = w.WriteFloats(info.Name, values[i])
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkFloats decodes 2²² elements of each type on all cores.
func BenchmarkFloats(b *testing.B) {
	const n = 1 << 22
	dst := make([]float32, n)
	for _, typ := range readable {
		info := types[typ]
		size := n / info.elements * info.size
		file := newTestFile().tensor("x", uint32(typ), 0, n).data(make([]byte, size)).bytes()
		for i := len(file) - size; i < len(file); i++ {
			file[i] = byte(i * 7 % 113)
		}
		f, err := New(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(typ.String(), func(b *testing.B) {
			b.SetBytes(4 * n)
			for b.Loop() {
				if err := f.Tensors[0].Floats(dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncode encodes 2²² elements as each type, on one core.
func BenchmarkEncode(b *testing.B) {
	const n = 1 << 22
	x, dst := make([]float32, n), make([]byte, 4*n)
	for i := range x {
		x[i] = float32(math.Sin(float64(i)))
	}
	for _, typ := range writable {
		b.Run(typ.String(), func(b *testing.B) {
			b.SetBytes(4 * n)
			for b.Loop() {
				encoders[typ](dst[:n/types[typ].elements*types[typ].size], x)
			}
		})
	}
}
