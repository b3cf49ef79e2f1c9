package gguf

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trimtab/trimtab"
)

// openTest opens a file of testdata.
func openTest(t *testing.T, name string) *File {
	t.Helper()
	f, err := Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// readTest returns the bytes of a file of testdata.
func readTest(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func writeFile(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// floats decodes a tensor.
func floats(t *testing.T, x *Tensor) []float32 {
	t.Helper()
	v := make([]float32, x.Elements())
	if err := x.Floats(v); err != nil {
		t.Fatal(err)
	}
	return v
}

// firstDifference is the number of the first element whose bits differ; -1 if none.
func firstDifference(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// toFloats reads little-endian floats.
func toFloats(raw []byte) []float32 {
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}

// wantError checks the type of an error, and that its text has the words.
func wantError(t *testing.T, err error, typ, words string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, where %q was expected", words)
	}
	if e := trimtab.AsError(err); e.Type != typ || !strings.Contains(err.Error(), words) {
		t.Errorf("the error is %s: %v\nwhere %s with %q was expected", e.Type, err, typ, words)
	}
}

// Every type gives what gguf-py gives, bit for bit, whether the file is mapped or
// read, whole or by rows.
func TestFloats(t *testing.T) {
	raw := readTest(t, "types.gguf")
	unmapped, err := New(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	mapped := openTest(t, "types.gguf")
	want := toFloats(readTest(t, "types.f32"))
	seen := map[Type]bool{}
	for i, x := range mapped.Tensors {
		seen[x.Type] = true
		n := x.Elements()
		if x.Name != x.Type.String() {
			t.Errorf("tensor %s has the type %s", x.Name, x.Type)
		}
		got := floats(t, x)
		if d := firstDifference(got, want[:n]); d >= 0 {
			t.Errorf("%s: element %d is %v, not %v", x.Name, d, got[d], want[d])
		}
		if other := floats(t, unmapped.Tensors[i]); firstDifference(other, got) >= 0 {
			t.Errorf("%s: another result without a map", x.Name)
		}
		checkRows(t, x, got)
		want = want[n:]
	}
	if len(want) != 0 || len(seen) != len(readable) {
		t.Errorf("%d types were read, not %d; %d floats are left", len(seen), len(readable), len(want))
	}
}

// checkRows compares rows one at a time, from the last, and the last two, with the
// whole tensor.
func checkRows(t *testing.T, x *Tensor, whole []float32) {
	t.Helper()
	width := x.Shape[len(x.Shape)-1]
	rows := len(whole) / width
	for r := rows - 1; r >= 0; r-- {
		got := make([]float32, width)
		if err := x.Rows(got, r); err != nil || firstDifference(got, whole[r*width:(r+1)*width]) >= 0 {
			t.Errorf("%s: row %d differs: %v", x.Name, r, err)
		}
	}
	got := make([]float32, 2*width)
	if err := x.Rows(got, rows-2); err != nil || firstDifference(got, whole[(rows-2)*width:]) >= 0 {
		t.Errorf("%s: the last two rows differ: %v", x.Name, err)
	}
	wantError(t, x.Rows(got, rows-1), "internal", "rows of")
	wantError(t, x.Rows(got[:width-1], 0), "internal", "rows of")
	wantError(t, x.Rows(got, -1), "internal", "rows of")
	wantError(t, x.Floats(whole[1:]), "internal", "the destination")
}

// A NaN as a scale makes its block NaN, in every type that has scales.
func TestNaNScales(t *testing.T) {
	scale := map[Type]int{Q4_0: 0, Q4_1: 0, Q5_0: 0, Q5_1: 0, Q8_0: 0, Q2K: 80, Q3K: 108, Q4K: 0, Q5K: 0, Q6K: 208}
	for typ, at := range scale {
		info := types[typ]
		b, y := make([]byte, info.size), make([]float32, info.elements)
		binary.LittleEndian.PutUint16(b[at:], 0x7c01)
		info.dequantize(y, b)
		for i, v := range y {
			if v == v {
				t.Errorf("%s: element %d is %v", typ, i, v)
			}
		}
	}
	if v := math.Float32bits(float16ToFloat32(0xfc01)); v != 0xffc02000 {
		t.Errorf("the signalling NaN 0xfc01 became %#x", v)
	}
}

// Tensors larger than a chunk, of every length around the boundaries, come out as
// the parts put together, from many goroutines at a time.
func TestManyChunks(t *testing.T) {
	const rows, width = 7, 3 * chunkElements / 4
	x := make([]float32, rows*width)
	for i := range x {
		x[i] = float32(i%251) - 125.5
	}
	for _, typ := range writable {
		raw := write(t, nil, []TensorInfo{{"x", typ, []int{rows, width}}}, x)
		f, err := New(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, len(x))
		types[typ].dequantize(want, raw[f.Tensors[0].Offset:])
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				got := make([]float32, len(x))
				if err := f.Tensors[0].Floats(got); err != nil || firstDifference(got, want) >= 0 {
					t.Errorf("%s: Floats differs, %v", typ, err)
				}
				if err := f.Tensors[0].Rows(got[width:], 1); err != nil || firstDifference(got, want) >= 0 {
					t.Errorf("%s: Rows differs, %v", typ, err)
				}
			})
		}
		wait.Wait()
	}
}

// Every number type of the metadata is read as it was written by gguf-py.
func TestMetadata(t *testing.T) {
	m := openTest(t, "types.gguf").Metadata
	for key, want := range map[string]any{
		"general.architecture": "test",
		"test.uint8":           uint8(200), "test.int8": int8(-100), "test.uint16": uint16(60000),
		"test.int16": int16(-30000), "test.uint32": uint32(4000000000), "test.int32": int32(-2000000000),
		"test.uint64": uint64(18000000000000000000), "test.int64": int64(-9000000000000000000),
		"test.float32": float32(0.5), "test.float64": 0.1, "test.bool": true, "test.string": "größe",
		"test.uint8s": []uint8{200, 0, 200}, "test.int8s": []int8{-100, 0, -100},
		"test.uint16s": []uint16{60000, 0, 60000}, "test.int16s": []int16{-30000, 0, -30000},
		"test.uint32s":  []uint32{4000000000, 0, 4000000000},
		"test.int32s":   []int32{-2000000000, 0, -2000000000},
		"test.uint64s":  []uint64{18000000000000000000, 0, 18000000000000000000},
		"test.int64s":   []int64{-9000000000000000000, 0, -9000000000000000000},
		"test.float32s": []float32{0.5, 0, 0.5}, "test.float64s": []float64{0.1, 0, 0.1},
		"test.bools": []bool{true, false, true}, "test.strings": []string{"größe", "", "größe"},
	} {
		if v, err := m.Value(key); err != nil || !reflect.DeepEqual(v, want) {
			t.Errorf("%s is %#v, not %#v: %v", key, v, want, err)
		}
	}
	if keys := m.Keys(); len(keys) != 25 || keys[0] != "general.architecture" || keys[24] != "test.strings" {
		t.Errorf("the keys are %v", keys)
	}
}

// got makes a value and an error one value, to compare.
func got[T any](v T, err error) any {
	if err != nil {
		return err
	}
	return v
}

func TestGetters(t *testing.T) {
	m := openTest(t, "types.gguf").Metadata
	for i, c := range []struct{ got, want any }{
		{got(m.String("test.string")), "größe"},
		{got(m.Bool("test.bool")), true},
		{got(m.Uint("test.uint8")), uint64(200)},
		{got(m.Uint("test.uint64")), uint64(18000000000000000000)},
		{got(m.Int("test.int8")), int64(-100)},
		{got(m.Int("test.uint32")), int64(4000000000)},
		{got(m.Float("test.float32")), 0.5},
		{got(m.Float("test.float64")), 0.1},
		{got(m.Strings("test.strings")), []string{"größe", "", "größe"}},
		{got(m.Bools("test.bools")), []bool{true, false, true}},
		{got(m.Ints("test.uint8s")), []int64{200, 0, 200}},
		{got(m.Ints("test.int32s")), []int64{-2000000000, 0, -2000000000}},
		{got(m.Floats("test.float32s")), []float64{0.5, 0, 0.5}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("case %d: %v, not %v", i, c.got, c.want)
		}
	}
	for words, v := range map[string]any{
		`no key "test.absent"`: got(m.String("test.absent")),
		`"test.uint8" is "200", a uint8, where a string was expected`:                            got(m.String("test.uint8")),
		`"test.int8" is "-100", a int8, where an integer that is not negative`:                   got(m.Uint("test.int8")),
		`"test.uint64" is "18000000000000000000", a uint64`:                                      got(m.Int("test.uint64")),
		`"test.string" is "größe", a string, where a float was expected`:                         got(m.Float("test.string")),
		`"test.strings" is an array of 3 string, where an array of integers`:                     got(m.Ints("test.strings")),
		`element 0 of the metadata key "test.uint64s" is 18000000000000000000, which is out of`:  got(m.Ints("test.uint64s")),
		`"test.float32s" is an array of 3 float32, where an array of strings was expected`:       got(m.Strings("test.float32s")),
		`"test.bool" is "true", a bool, where an array of floats was expected`:                   got(m.Floats("test.bool")),
		`"test.bools" is an array of 3 bool, where a bool was expected`:                          got(m.Bool("test.bools")),
		`"test.uint16s" is an array of 3 uint16, where an integer that is not negative was expe`: got(m.Uint("test.uint16s")),
	} {
		err, _ := v.(error)
		wantError(t, err, "gguf_key", words)
	}
}

// Version 2 differs in its number alone.
func TestVersion2(t *testing.T) {
	raw := readTest(t, "types.gguf")
	raw[4] = 2
	f, err := New(bytes.NewReader(raw), int64(len(raw)))
	if err != nil || len(f.Tensors) != 13 {
		t.Fatal(err)
	}
}

func TestShapes(t *testing.T) {
	f := openTest(t, "types.gguf")
	for name, want := range map[string][]int{"F32": {3, 2, 5}, "Q5_1": {3, 64}, "Q6_K": {2, 256}} {
		x, err := f.Tensor(name)
		if err != nil || !slices.Equal(x.Shape, want) {
			t.Errorf("tensor %s: %v, %v", name, x, err)
		}
	}
	_, err := f.Tensor("Q9")
	wantError(t, err, "gguf_tensor_not_found", `no tensor "Q9"`)
}

func TestClose(t *testing.T) {
	f := openTest(t, "types.gguf")
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	x := f.Tensors[0]
	wantError(t, x.Floats(make([]float32, x.Elements())), "internal", "after its file was closed")
	if !f.Metadata.Has("test.bool") {
		t.Error("the metadata is gone")
	}
}

// A file that is cut short while it is open gives an error, not a crash, mapped or
// not.
func TestTruncatedWhileOpen(t *testing.T) {
	x := make([]float32, 1<<20)
	path := filepath.Join(t.TempDir(), "m.gguf")
	writeFile(t, path, write(t, nil, []TensorInfo{{"x", F32, []int{1 << 20}}}, x))
	mapped, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unmapped, err := New(file, 4<<20+128)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<16); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*File{mapped, unmapped} {
		wantError(t, f.Tensors[0].Floats(x), "gguf_corrupt", `tensor "x": the file has become shorter`)
		wantError(t, f.Tensors[0].Rows(x, 0), "gguf_corrupt", `tensor "x": the file has become shorter`)
	}
}

func TestOpenErrors(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "absent.gguf"))
	wantError(t, err, "file_not_found", "absent.gguf")
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("opening a folder: %v", err)
	}
	_, err = Open(filepath.Join("testdata", "big.gguf"))
	wantError(t, err, "gguf_unsupported", "big.gguf: the file is big-endian")
	_, err = Open(filepath.Join("testdata", "make.py"))
	wantError(t, err, "gguf_corrupt", "it is no GGUF file")
}

// Tensors of other types are in the file, and reading them is refused with a remedy.
func TestOtherTypes(t *testing.T) {
	raw := newTestFile().tensor("x", 20, 0, 32).data(make([]byte, 18)).bytes()
	f, err := New(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	err = f.Tensors[0].Floats(make([]float32, 32))
	wantError(t, err, "gguf_unsupported", `tensor "x" is IQ4_NL, which cannot be read here`)
	wantError(t, err, "gguf_unsupported", "llama-quantize to one of F32, F16, BF16, Q8_0, ")
}
