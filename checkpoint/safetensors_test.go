package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/trimtab/trimtab/tensor"
)

func someArrays() []tensor.NamedArray {
	return []tensor.NamedArray{
		{Name: "z", Shape: []int{2, 3}, Data: []float32{1, -2, 3.5, 0, float32(math.Copysign(0, -1)), 1e-40}},
		{Name: "a<b>\"é\u2028", Shape: []int{1}, Data: []float32{math.MaxFloat32}},
		{Name: "empty", Shape: []int{0, 7}, Data: []float32{}},
		{Name: "scalar", Shape: []int{}, Data: []float32{42}},
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	metadata := map[string]string{"format": "pt", "a": "1"}
	raw := EncodeSafetensors(someArrays(), metadata)
	got, meta, err := DecodeSafetensors(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, someArrays()) || !reflect.DeepEqual(meta, metadata) {
		t.Errorf("got %v, %v", got, meta)
	}
	if math.Signbit(float64(got[0].Data[4])) != true {
		t.Error("the sign of zero is lost")
	}
	if n := binary.LittleEndian.Uint64(raw); n%8 != 0 {
		t.Errorf("a header of %d bytes: the data are not aligned", n)
	}
	if again := EncodeSafetensors(got, meta); !bytes.Equal(again, raw) {
		t.Error("other bytes the second time")
	}
}

// The bytes as the format's README describes them.
func TestSafetensorsBytes(t *testing.T) {
	got := EncodeSafetensors([]tensor.NamedArray{{Name: "w", Shape: []int{2}, Data: []float32{1, 2}}},
		map[string]string{"format": "pt"})
	header := `{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	header += strings.Repeat(" ", 88-len(header))
	want := "\x58\x00\x00\x00\x00\x00\x00\x00" + header + "\x00\x00\x80\x3f\x00\x00\x00\x40"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestEncodeSafetensorsPanics(t *testing.T) {
	for name, arrays := range map[string][]tensor.NamedArray{
		"shape": {{Name: "w", Shape: []int{3}, Data: []float32{1, 2}}},
		"twice": {{Name: "w", Shape: []int{0}}, {Name: "w", Shape: []int{0}}},
		"key":   {{Name: "__metadata__", Shape: []int{0}}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			EncodeSafetensors(arrays, nil)
		}()
	}
}

// file builds a safetensors file from a header and n bytes of data.
func file(header string, n int) []byte {
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(raw, header...), make([]byte, n)...)
}

var badFiles = map[string][]byte{
	"nothing":            {},
	"short":              {1, 2, 3},
	"header too long":    binary.LittleEndian.AppendUint64(nil, 1<<40),
	"length overflows":   append(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "{}"...),
	"no header":          file("", 0),
	"space before":       file(` {}`, 0),
	"not an object":      file(`[]`, 0),
	"cut":                file(`{"a":{"dtype":"F32"`, 0),
	"more after":         file(`{}{}`, 0),
	"name twice":         file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8),
	"key twice":          file(`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
	"unknown key":        file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, 4),
	"unknown dtype":      file(`{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}`, 4),
	"no dtype":           file(`{"a":{"shape":[1],"data_offsets":[0,4]}}`, 4),
	"no shape":           file(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4),
	"no offsets":         file(`{"a":{"dtype":"F32","shape":[1]}}`, 4),
	"three offsets":      file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}`, 4),
	"negative size":      file(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4),
	"fraction":           file(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,6]}}`, 6),
	"size not offsets":   file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4),
	"offsets backwards":  file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, 4),
	"beyond the end":     file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 4),
	"gap at the start":   file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8),
	"gap":                file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12),
	"overlap":            file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
	"data left over":     file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 5),
	"shape overflows":    file(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0),
	"shape wraps to 4":   file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,1],"data_offsets":[0,4]}}`, 4),
	"size over int":      file(`{"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}`, 0),
	"nine dimensions":    file(`{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}`, 4),
	"metadata no string": file(`{"__metadata__":{"a":1}}`, 0),
	"metadata list":      file(`{"__metadata__":[]}`, 0),
	"not F32":            file(`{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`, 8),
}

func TestDecodeSafetensorsRefuses(t *testing.T) {
	for name, raw := range badFiles {
		if arrays, _, err := DecodeSafetensors(raw); err == nil {
			t.Errorf("%s: accepted as %v", name, arrays)
		}
	}
	whole := EncodeSafetensors(someArrays(), map[string]string{"format": "pt"})
	for n := range len(whole) {
		if _, _, err := DecodeSafetensors(whole[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes: accepted", n, len(whole))
		}
	}
}

func TestDecodeSafetensorsOrdersByData(t *testing.T) {
	raw := file(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"a":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}}   `, 8)
	got, _, err := DecodeSafetensors(raw)
	if err != nil || got[0].Name != "a" || got[1].Name != "b" {
		t.Errorf("got %v, error %v", got, err)
	}
}

// half is checked against the definition for every one of the 65,536 values.
func TestFloat16ToFloat32(t *testing.T) {
	for h := range 1 << 16 {
		exponent, fraction := h>>10&31, float64(h&1023)
		want := math.Ldexp(1+fraction/1024, exponent-15)
		switch {
		case exponent == 0:
			want = math.Ldexp(fraction, -24)
		case exponent == 31 && fraction == 0:
			want = math.Inf(1)
		case exponent == 31:
			want = math.NaN()
		}
		if h>>15 == 1 {
			want = -want
		}
		got := float64(float16ToFloat32(uint16(h)))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != (h>>15 == 1) {
			t.Fatalf("%#04x: got %v, want %v", h, got, want)
		}
	}
}

func FuzzDecodeSafetensors(f *testing.F) {
	f.Add(EncodeSafetensors(someArrays(), map[string]string{"format": "pt"}))
	for _, raw := range badFiles {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		arrays, metadata, err := DecodeSafetensors(raw)
		if err != nil {
			return
		}
		again, meta, err := DecodeSafetensors(EncodeSafetensors(arrays, metadata))
		if err != nil {
			t.Fatal(err)
		}
		if len(again) != len(arrays) || len(meta) != len(metadata) {
			t.Fatalf("%v, %v came back as %v, %v", arrays, metadata, again, meta)
		}
		for i := range arrays {
			if fmt.Sprint(again[i].Name, again[i].Shape, again[i].Data) != fmt.Sprint(arrays[i].Name, arrays[i].Shape,
				arrays[i].Data) {
				t.Fatalf("%v came back as %v", arrays[i], again[i])
			}
		}
	})
}
