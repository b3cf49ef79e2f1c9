package gguf

import (
	"bytes"
	"errors"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// write writes a file whose tensors all have the same values.
func write(t *testing.T, metadata []KeyValue, tensors []TensorInfo, x []float32) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, metadata, tensors)
	for _, info := range tensors {
		if err == nil {
			err = w.WriteFloats(info.Name, x)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// infos describes the tensors of a file for a Writer.
func infos(f *File) []TensorInfo {
	var list []TensorInfo
	for _, x := range f.Tensors {
		list = append(list, TensorInfo{x.Name, x.Type, x.Shape})
	}
	return list
}

// The Writer's bytes are gguf-py's: metadata, F32, F16, BF16, and Q8_0.
func TestWriterIsGGUFPy(t *testing.T) {
	f := openTest(t, "written.gguf")
	got := write(t, f.Metadata.Entries(), infos(f), floats(t, f.Tensors[0]))
	want := readTest(t, "written.gguf")
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("byte %d of %d differs", i, len(want))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d bytes more than gguf-py writes", len(got)-len(want))
	}
}

// Metadata of all types comes back as it was, in its order.
func TestMetadataRoundTrip(t *testing.T) {
	metadata := openTest(t, "types.gguf").Metadata.Entries()
	slices.Reverse(metadata)
	metadata = append(metadata, KeyValue{"empty", []int32{}}, KeyValue{"words", []string{}}, KeyValue{alignmentKey, uint32(128)})
	raw := write(t, metadata, []TensorInfo{{"x", F32, []int{3}}, {"y", Q8_0, []int{1, 32}}, {"scalar", F32, nil}}[:1],
		[]float32{1, 2, 3})
	f, err := New(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Metadata.Entries(); !reflect.DeepEqual(got, metadata) {
		t.Errorf("the metadata became %v", got)
	}
	if f.Tensors[0].Offset%128 != 0 || len(raw)%128 != 0 {
		t.Errorf("the tensor begins at %d, the file ends at %d", f.Tensors[0].Offset, len(raw))
	}
}

// Parts give the same bytes as whole tensors.
func TestWriteInParts(t *testing.T) {
	x := make([]float32, 4*64)
	for i := range x {
		x[i] = float32(i) / 7
	}
	tensors := []TensorInfo{{"a", Q8_0, []int{4, 64}}, {"b", F16, []int{4, 64}}}
	var b bytes.Buffer
	w, err := NewWriter(&b, nil, tensors)
	for _, info := range tensors {
		for _, part := range [][]float32{x[:32], x[32:32], x[32:128], x[128:]} {
			if err == nil {
				err = w.WriteFloats(info.Name, part)
			}
		}
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), write(t, nil, tensors, x)) {
		t.Error("the bytes differ")
	}
}

// All binary16 and bfloat16 come back from float32 as they were; a NaN stays one.
func TestHalvesRoundTrip(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		if v := float16ToFloat32(h); v == v && float32ToFloat16(v) != h {
			t.Errorf("binary16 %#x became %#x", h, float32ToFloat16(v))
		} else if v != v && float32ToFloat16(v) != h&0x8000|0x7e00 {
			t.Errorf("the NaN %#x became %#x", h, float32ToFloat16(v))
		}
		if v := bfloat16ToFloat32(h); v == v && float32ToBfloat16(v) != h {
			t.Errorf("bfloat16 %#x became %#x", h, float32ToBfloat16(v))
		} else if v != v && float32ToBfloat16(v) != h|64 {
			t.Errorf("the NaN %#x became %#x", h, float32ToBfloat16(v))
		}
	}
}

// Between two neighbouring binary16, what is below the middle rounds down, what is
// above rounds up, and the middle goes to the even one.
func TestFloat16Rounding(t *testing.T) {
	for h := range uint16(0x7bff) {
		low, high := float16ToFloat32(h), float16ToFloat32(h+1)
		middle := low + (high-low)/2 // exact
		for _, c := range []struct {
			v    float32
			want uint16
		}{
			{math.Nextafter32(middle, low), h}, {middle, h + h&1}, {math.Nextafter32(middle, high), h + 1},
		} {
			if got, minus := float32ToFloat16(c.v), float32ToFloat16(-c.v); got != c.want || minus != c.want|0x8000 {
				t.Fatalf("%v became %#x and, negative, %#x, where %#x was expected", c.v, got, minus, c.want)
			}
		}
	}
}

func TestRefusedValues(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		typ   Type
		v     float32
		words string // "" if the value is written
	}{
		{F16, 65504, ""}, {F16, 65519.996, ""}, {F16, inf, ""}, {F16, -inf, ""}, {F16, nan, ""},
		{F16, 65520, `tensor "x" is F16, which cannot hold 65520, its element 40`},
		{F16, -1e9, `tensor "x" is F16, which cannot hold -1e+09, its element 40`},
		{BF16, 3.3895e38, ""}, {BF16, inf, ""}, {BF16, nan, ""},
		{BF16, math.MaxFloat32, `tensor "x" is BF16, which cannot hold 3.4028235e+38, its element 40`},
		{F32, nan, ""}, {F32, math.MaxFloat32, ""},
		{Q8_0, 8e6, ""}, {Q8_0, 1e-45, ""},
		{Q8_0, 65520 * 127, `tensor "x" is Q8_0, which cannot hold 8.32104e+06, its element 40`},
		{Q8_0, nan, `tensor "x" is Q8_0, which cannot hold NaN, its element 40`},
		{Q8_0, -inf, `tensor "x" is Q8_0, which cannot hold -Inf, its element 40`},
	} {
		x := make([]float32, 64)
		x[40] = c.v
		w, err := NewWriter(&bytes.Buffer{}, nil, []TensorInfo{{"x", c.typ, []int{64}}})
		if err != nil {
			t.Fatal(err)
		}
		switch err = w.WriteFloats("x", x); {
		case c.words != "":
			wantError(t, err, "gguf_unwritable", c.words)
			wantError(t, w.Close(), "gguf_unwritable", c.words)
		case err != nil:
			t.Errorf("%s of %v: %v", c.typ, c.v, err)
		}
	}
}

// A scale whose inverse overflows gives zeros, as the stored scale is zero.
func TestTinyBlocks(t *testing.T) {
	x := make([]float32, 32)
	for i := range x {
		x[i] = math.Float32frombits(uint32(i) << 5) // subnormal
	}
	b := make([]byte, 34)
	if quantizeQ8_0(b, x) != fits || !bytes.Equal(b, make([]byte, 34)) {
		t.Errorf("the block is %v", b)
	}
}

func TestWriterErrors(t *testing.T) {
	x := []TensorInfo{{"x", F32, []int{8}}}
	tensor := func(name string, typ Type, shape ...int) []TensorInfo { return []TensorInfo{{name, typ, shape}} }
	for words, c := range map[string]struct {
		metadata []KeyValue
		tensors  []TensorInfo
	}{
		"a metadata key of 0 bytes":                                {[]KeyValue{{"", "a"}}, x},
		"a metadata key of 65536 bytes":                            {[]KeyValue{{strings.Repeat("a", 1<<16), "a"}}, x},
		`key "a" is given twice`:                                   {[]KeyValue{{"a", "1"}, {"a", "2"}}, x},
		`key "a" has a value of type int:`:                         {[]KeyValue{{"a", 1}}, x},
		`key "a" has a value of type []string`:                     {[]KeyValue{{"a", [][]string{}}}, x},
		`key "a" has a value of type <nil>`:                        {[]KeyValue{{"a", nil}}, x},
		`the name of tensor 0, "", cannot be written`:              {nil, tensor("", F32, 8)},
		`the name of tensor 1, "x", cannot be written`:             {nil, append(tensor("x", F32, 8), x...)},
		`the name of tensor 0, "` + strings.Repeat("y", 64):        {nil, tensor(strings.Repeat("y", 64), F32, 8)},
		`tensor "x" is Q4_K, which cannot be written: choose one`:  {nil, tensor("x", Q4K, 256)},
		`tensor "x" has rows of 16 elements, where Q8_0 needs`:     {nil, tensor("x", Q8_0, 2, 16)},
		`tensor "x" has 5 dimensions`:                              {nil, tensor("x", F32, 1, 1, 1, 1, 1)},
		`tensor "x" has the shape [-1], with a dimension below 1`:  {nil, tensor("x", F32, -1)},
		`tensor "x" has the shape [4294967296 4294967296], whose `: {nil, tensor("x", F32, 1<<32, 1<<32)},
	} {
		_, err := NewWriter(&bytes.Buffer{}, c.metadata, c.tensors)
		wantError(t, err, "gguf_unwritable", words)
	}
	_, err := NewWriter(&bytes.Buffer{}, []KeyValue{{alignmentKey, uint32(48)}}, x)
	wantError(t, err, "gguf_key", "48, which is not a power of two")
}

func TestWriterOrder(t *testing.T) {
	tensors := []TensorInfo{{"x", Q8_0, []int{2, 32}}, {"y", F32, []int{8}}}
	v := make([]float32, 96)
	for words, use := range map[string]func(w *Writer) error{
		`tensor "y" is written out of order`:                func(w *Writer) error { return w.WriteFloats("y", v[:8]) },
		`33 elements for tensor "x", of which 0 of 64 were`: func(w *Writer) error { return w.WriteFloats("x", v[:33]) },
		`96 elements for tensor "x", of which 0 of 64 were`: func(w *Writer) error { return w.WriteFloats("x", v) },
		`closed after 32 of 64 elements of tensor "x"`:      func(w *Writer) error { return w.WriteFloats("x", v[:32]) },
		`closed after 0 of 8 elements of tensor "y"`:        func(w *Writer) error { return w.WriteFloats("x", v[:64]) },
	} {
		w, err := NewWriter(&bytes.Buffer{}, nil, tensors)
		if err != nil {
			t.Fatal(err)
		}
		if err = use(w); err == nil {
			err = w.Close()
		}
		wantError(t, err, "internal", words)
	}
}

// failingWriter takes n bytes.
type failingWriter struct{ n int }

var errFull = errors.New("no space left")

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.n -= len(b); w.n < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// A full disk is an error, at whichever byte.
func TestWriterFails(t *testing.T) {
	x := make([]float32, 1<<16)
	for _, n := range []int{0, 100, 1 << 16, 1 << 17, 1<<18 + 63} {
		w, err := NewWriter(&failingWriter{n}, nil, []TensorInfo{{"x", F32, []int{1 << 16}}})
		if err == nil {
			err = errors.Join(w.WriteFloats("x", x), w.Close())
		}
		if !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// What is written is what is read, with dimensions in their order.
func TestShapesRoundTrip(t *testing.T) {
	x := make([]float32, 2*3*5*32)
	for i := range x {
		x[i] = float32(i)
	}
	raw := write(t, nil, []TensorInfo{{"x", F32, []int{2, 3, 5, 32}}}, x)
	path := filepath.Join(t.TempDir(), "x.gguf")
	writeFile(t, path, raw)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !slices.Equal(f.Tensors[0].Shape, []int{2, 3, 5, 32}) || firstDifference(floats(t, f.Tensors[0]), x) >= 0 {
		t.Errorf("the tensor became %v", f.Tensors[0].Shape)
	}
}
