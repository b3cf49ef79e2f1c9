package gguf

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

// testFile builds a file field by field, in order or not as a test wants it.
type testFile struct {
	version        uint32
	keys, tensors  bytes.Buffer
	nKeys, nTensor uint64
	content        []byte
}

func newTestFile() *testFile { return &testFile{version: 3} }

func put(b *bytes.Buffer, fields ...any) {
	for _, f := range fields {
		if s, ok := f.(string); ok {
			binary.Write(b, binary.LittleEndian, uint64(len(s)))
			b.WriteString(s)
		} else {
			binary.Write(b, binary.LittleEndian, f)
		}
	}
}

// key adds a key; fields are its type and value.
func (f *testFile) key(name string, fields ...any) *testFile {
	f.nKeys++
	put(&f.keys, name)
	put(&f.keys, fields...)
	return f
}

// tensor adds a tensor with its dimensions in ggml's order.
func (f *testFile) tensor(name string, typ uint32, offset uint64, dimensions ...uint64) *testFile {
	f.nTensor++
	put(&f.tensors, name, uint32(len(dimensions)), dimensions, typ, offset)
	return f
}

func (f *testFile) data(b []byte) *testFile { f.content = append(f.content, b...); return f }

func (f *testFile) bytes() []byte {
	var b bytes.Buffer
	b.WriteString(magic)
	put(&b, f.version, f.nTensor, f.nKeys)
	b.Write(f.keys.Bytes())
	b.Write(f.tensors.Bytes())
	b.Write(make([]byte, -b.Len()&31))
	b.Write(f.content)
	return b.Bytes()
}

// claim changes the number of tensors and of keys in the header.
func claim(raw []byte, tensors, keys uint64) []byte {
	binary.LittleEndian.PutUint64(raw[8:], tensors)
	binary.LittleEndian.PutUint64(raw[16:], keys)
	return raw
}

const (
	stringType = uint32(typeString)
	arrayType  = uint32(typeArray)
	uint32Type = uint32(typeUint32)
)

func TestBroken(t *testing.T) {
	file := newTestFile
	version := func(v uint32) []byte { f := file(); f.version = v; return f.bytes() }
	block := make([]byte, 64)
	longKey := &testFile{version: 3, nKeys: 1}
	put(&longKey.keys, uint64(100), block[:20])
	good := file().key("a", stringType, "word").tensor("x", 0, 0, 8).data(block).bytes()
	for name, c := range map[string]struct {
		raw        []byte
		typ, words string
	}{
		"empty":         {nil, "gguf_corrupt", "ends after 0 bytes, within the header"},
		"four bytes":    {good[:4], "gguf_corrupt", "ends after 4 bytes, within the header"},
		"half a header": {good[:20], "gguf_corrupt", "ends after 20 bytes, within the header"},
		"magic":         {append([]byte("GGML"), good[4:]...), "gguf_corrupt", `begins with "GGML"`},
		"version 0":     {version(0), "gguf_unsupported", "version 0"},
		"version 1":     {version(1), "gguf_unsupported", "version 1"},
		"version 4":     {version(4), "gguf_unsupported", "version 4, not 2 or 3"},
		"big-endian":    {version(3 << 24), "gguf_unsupported", "big-endian"},
		"many keys":     {claim(file().bytes(), 0, 1<<60), "gguf_corrupt", "claims 1152921504606846976 metadata keys"},
		"many tensors":  {claim(file().bytes(), 1<<63, 0), "gguf_corrupt", "claims 9223372036854775808 tensors"},
		"one key too many": {claim(file().key("a", uint32Type, uint32(1)).bytes(), 0, 2), "gguf_corrupt",
			"the name of metadata key 2 of 2 has 0 bytes"},
		"empty key":     {file().key("", uint32Type, uint32(1)).bytes(), "gguf_corrupt", "the name of metadata key 1 of 1 has 0 bytes"},
		"header alone":  {good[:35], "gguf_corrupt", "claims 1 metadata keys, more than a file of 35 bytes"},
		"key cut short": {longKey.bytes(), "gguf_corrupt", "within the name of metadata key 1 of 1, which claims 100 bytes"},
		"value cut short": {file().key("a", stringType, uint64(100)).bytes(), "gguf_corrupt",
			`within the metadata key "a", which claims 100 bytes`},
		"huge string": {file().key("a", stringType, uint64(math.MaxUint64)).bytes(), "gguf_corrupt",
			`the metadata key "a", which claims 18446744073709551615 bytes`},
		"huge array": {file().key("a", arrayType, uint32Type, uint64(1<<62)).bytes(), "gguf_corrupt",
			`the metadata key "a" claims 4611686018427387904 values`},
		"huge array of strings": {file().key("a", arrayType, stringType, uint64(100)).data(block).bytes(), "gguf_corrupt",
			`the metadata key "a" claims 100 values`},
		"string in an array": {file().key("a", arrayType, stringType, uint64(1), uint64(1<<40)).data(block).bytes(),
			"gguf_corrupt", `the metadata key "a", which claims 1099511627776 bytes`},
		"array of arrays": {file().key("a", arrayType, arrayType, uint64(1), uint32Type, uint64(0)).bytes(), "gguf_corrupt",
			`the metadata key "a" is an array of arrays`},
		"unknown value": {file().key("a", uint32(13)).bytes(), "gguf_corrupt", `key "a" has values of type 13`},
		"bool of 2":     {file().key("a", uint32(typeBool), uint8(2)).bytes(), "gguf_corrupt", `key "a" has the byte 2`},
		"key twice": {file().key("a", stringType, "b").key("a", stringType, "c").bytes(), "gguf_corrupt",
			`key "a" comes twice`},
		"alignment of another type": {file().key(alignmentKey, stringType, "32").bytes(), "gguf_key",
			`"general.alignment" is "32", a string, where a uint32`},
		"alignment 0":  {file().key(alignmentKey, uint32Type, uint32(0)).bytes(), "gguf_key", "is 0, which is not a power"},
		"alignment 24": {file().key(alignmentKey, uint32Type, uint32(24)).bytes(), "gguf_key", "is 24, which is not a power"},
		"no tensor name": {file().tensor("", 0, 0, 8).data(block).bytes(), "gguf_corrupt",
			`name of tensor 1 of 1, "", is empty or comes twice`},
		"tensor twice": {file().tensor("x", 0, 0, 8).tensor("x", 0, 32, 8).data(block).bytes(), "gguf_corrupt",
			`name of tensor 2 of 2, "x", is empty or comes twice`},
		"long tensor name": {file().tensor("x", 0, 0, 8).bytes()[:30], "gguf_corrupt", "more than a file of 30 bytes can hold"},
		"five dimensions": {file().tensor("x", 0, 0, 1, 1, 1, 1, 1).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has 5 dimensions`},
		"dimension 0": {file().tensor("x", 0, 0, 8, 0).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has the shape [0 8], with a dimension below 1`},
		"negative dimension": {file().tensor("x", 0, 0, math.MaxUint64).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has a dimension of 18446744073709551615, which overflows`},
		"product overflows": {file().tensor("x", 0, 0, 1<<32, 1<<32).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has the shape [4294967296 4294967296], whose product overflows`},
		"unknown type": {file().tensor("x", 99, 0, 8).data(block).bytes(), "gguf_corrupt", `tensor "x" has type 99, which is unknown`},
		"removed type": {file().tensor("x", 4, 0, 32).data(block).bytes(), "gguf_corrupt", `tensor "x" has type 4, which is unknown`},
		"part of a block": {file().tensor("x", uint32(Q8_0), 0, 48, 2).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has rows of 48 elements, where Q8_0 needs a multiple of 32`},
		"unaligned": {file().tensor("x", 0, 8, 8).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has the offset 8, which is not a multiple of the alignment, 32`},
		"offset outside": {file().tensor("x", 0, 96, 8).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has 32 bytes from byte 160 on, where the file ends after 128`},
		"huge offset": {file().tensor("x", 0, math.MaxUint64&^31, 8).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has the offset 18446744073709551584, far outside`},
		"data cut short": {file().tensor("x", 0, 0, 17).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has 68 bytes from byte 64 on`},
		"larger than the file": {file().tensor("x", 0, 0, 1<<40).data(block).bytes(), "gguf_corrupt",
			`tensor "x" has 4398046511104 bytes from byte 64 on, where the file ends after 128`},
		"overlap": {file().tensor("x", 0, 0, 9).tensor("y", 0, 32, 8).data(block).bytes(), "gguf_corrupt",
			`tensors "x" and "y" overlap, at byte 128`},
		"same data": {file().tensor("x", 0, 32, 8).tensor("y", 0, 32, 8).data(block).bytes(), "gguf_corrupt",
			`tensors "x" and "y" overlap`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(bytes.NewReader(c.raw), int64(len(c.raw)))
			wantError(t, err, c.typ, c.words)
		})
	}
	if _, err := New(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Errorf("the file that is not broken: %v", err)
	}
}

// No file of n bytes makes the parser allocate more than a small multiple of n.
func TestAllocations(t *testing.T) {
	raw := newTestFile().key("a", arrayType, stringType, uint64(1<<16), make([]uint64, 1<<16)).bytes()
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := New(bytes.NewReader(raw), int64(len(raw))); err != nil {
				b.Fatal(err)
			}
		}
	})
	if n := result.AllocedBytesPerOp(); n > int64(4*len(raw)) {
		t.Errorf("a file of %d bytes took %d bytes", len(raw), n)
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"types.gguf", "written.gguf", "big.gguf"} {
		f.Add(readTest(f, name))
	}
	f.Add(newTestFile().key("a", arrayType, stringType, uint64(1), "word").tensor("x", 20, 0, 32).data(make([]byte, 32)).bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := New(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		for _, key := range file.Metadata.Keys() {
			file.Metadata.Ints(key)
			file.Metadata.String(key)
		}
		total := 0
		for _, x := range file.Tensors {
			// A block has at most 256 elements and at least 17 bytes, and tensors do not overlap.
			if total += x.Elements(); total > 16*len(raw) {
				t.Fatalf("%d elements in a file of %d bytes", total, len(raw))
			}
			if err := x.Floats(make([]float32, x.Elements())); err == nil != x.Type.CanDequantize() {
				t.Errorf("tensor %q of type %s: %v", x.Name, x.Type, err)
			}
		}
	})
}
