package gguf

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Type is the type of a tensor's elements, with ggml's numbers (enum ggml_type).
type Type uint32

// The types whose tensors can be read. Those of Writer are F32, F16, BF16 and
// Q8_0.
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2
	Q4_1 Type = 3
	Q5_0 Type = 6
	Q5_1 Type = 7
	Q8_0 Type = 8
	Q2K  Type = 10
	Q3K  Type = 11
	Q4K  Type = 12
	Q5K  Type = 13
	Q6K  Type = 14
	BF16 Type = 30
)

// typeInfo describes a type: its elements come in blocks.
type typeInfo struct {
	name     string
	elements int // of a block
	size     int // of a block, bytes

	// dequantize decodes whole blocks: src has their bytes, dst room for their
	// elements. It is nil for types that are known by their size alone.
	dequantize func(dst []float32, src []byte)
}

// types has every type that ggml can store. The sizes are those of its C
// structures (ggml-common.h); numbers that are absent belonged to types that
// ggml has removed.
var types = map[Type]typeInfo{
	F32:  {"F32", 1, 4, dequantizeF32},
	F16:  {"F16", 1, 2, dequantizeF16},
	BF16: {"BF16", 1, 2, dequantizeBF16},
	Q4_0: {"Q4_0", 32, 18, blocks(18, 32, dequantizeQ4_0)},
	Q4_1: {"Q4_1", 32, 20, blocks(20, 32, dequantizeQ4_1)},
	Q5_0: {"Q5_0", 32, 22, blocks(22, 32, dequantizeQ5_0)},
	Q5_1: {"Q5_1", 32, 24, blocks(24, 32, dequantizeQ5_1)},
	Q8_0: {"Q8_0", 32, 34, blocks(34, 32, dequantizeQ8_0)},
	Q2K:  {"Q2_K", 256, 84, blocks(84, 256, dequantizeQ2K)},
	Q3K:  {"Q3_K", 256, 110, blocks(110, 256, dequantizeQ3K)},
	Q4K:  {"Q4_K", 256, 144, blocks(144, 256, dequantizeQ4K)},
	Q5K:  {"Q5_K", 256, 176, blocks(176, 256, dequantizeQ5K)},
	Q6K:  {"Q6_K", 256, 210, blocks(210, 256, dequantizeQ6K)},

	// Known by their size, so that a file that holds them can be opened.
	9: {"Q8_1", 32, 36, nil}, 15: {"Q8_K", 256, 292, nil},
	16: {"IQ2_XXS", 256, 66, nil}, 17: {"IQ2_XS", 256, 74, nil}, 18: {"IQ3_XXS", 256, 98, nil},
	19: {"IQ1_S", 256, 50, nil}, 20: {"IQ4_NL", 32, 18, nil}, 21: {"IQ3_S", 256, 110, nil},
	22: {"IQ2_S", 256, 82, nil}, 23: {"IQ4_XS", 256, 136, nil}, 29: {"IQ1_M", 256, 56, nil},
	24: {"I8", 1, 1, nil}, 25: {"I16", 1, 2, nil}, 26: {"I32", 1, 4, nil}, 27: {"I64", 1, 8, nil},
	28: {"F64", 1, 8, nil}, 34: {"TQ1_0", 256, 54, nil}, 35: {"TQ2_0", 256, 66, nil},
	39: {"MXFP4", 32, 17, nil}, 40: {"NVFP4", 64, 36, nil}, 41: {"Q1_0", 128, 18, nil}, 42: {"Q2_0", 64, 18, nil},
}

// readable lists the types that can be read, as an error names them.
var readable = []Type{F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2K, Q3K, Q4K, Q5K, Q6K}

// String returns ggml's name of the type, such as "Q4_K".
func (t Type) String() string {
	if info, ok := types[t]; ok {
		return info.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// CanDequantize reports whether tensors of the type can be read as float32.
func (t Type) CanDequantize() bool { return types[t].dequantize != nil }

// joinTypes writes types as a list in a sentence.
func joinTypes(list []Type) string {
	names := make([]string, len(list))
	for i, t := range list {
		names[i] = t.String()
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// maxDimensions is the most dimensions that ggml gives a tensor (GGML_MAX_DIMS).
const maxDimensions = 4

// tensorSize returns the number of elements and of bytes of a tensor. The shape
// is row-major: its last dimension is the length of a row, which consists of
// whole blocks. The errors say what is wrong with the shape or the type.
func tensorSize(t Type, shape []int) (elements int, size int64, err error) {
	info, ok := types[t]
	if !ok {
		return 0, 0, fmt.Errorf("has %s, which is unknown", t)
	}
	if len(shape) > maxDimensions {
		return 0, 0, fmt.Errorf("has %d dimensions, where at most %d are possible", len(shape), maxDimensions)
	}
	count := uint64(1)
	for _, d := range shape {
		if d <= 0 {
			return 0, 0, fmt.Errorf("has the shape %v, with a dimension below 1", shape)
		}
		over, product := bits.Mul64(count, uint64(d))
		if over != 0 || product > math.MaxInt/8 { // 8 bytes: the largest element
			return 0, 0, fmt.Errorf("has the shape %v, whose product overflows", shape)
		}
		count = product
	}
	if width := rowLength(shape); width%info.elements != 0 {
		return 0, 0, fmt.Errorf("has rows of %d elements, where %s needs a multiple of %d", width, t, info.elements)
	}
	return int(count), int64(count) / int64(info.elements) * int64(info.size), nil
}

// rowLength is the last dimension of a shape; 1 for a scalar.
func rowLength(shape []int) int {
	if len(shape) == 0 {
		return 1
	}
	return shape[len(shape)-1]
}
