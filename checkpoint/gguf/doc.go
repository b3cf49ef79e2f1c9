// Package gguf reads and writes GGUF files, the model format of ggml and
// llama.cpp: typed metadata and named tensors, in most files quantised.
//
// A file is little-endian, of version 2 or 3, which differ in nothing but the
// number (ggml, docs/gguf.md):
//
//	"GGUF", version uint32, number of tensors uint64, number of keys uint64
//	per key:     name, type uint32, value
//	per tensor:  name, number of dimensions uint32, dimensions uint64 …, type uint32, offset uint64
//	padding to the alignment, then the data of the tensors, each padded to the alignment
//
// A string is its length (uint64) and its bytes. An array is the type of its
// elements (uint32), their number (uint64), and the elements. The alignment is
// the key general.alignment, 32 bytes if that is absent; offsets count from the
// beginning of the data.
//
// # Dequantisation
//
// A quantised row consists of blocks: 32 or 256 weights as small integers that
// share a scale and, in some types, a minimum. Tensor.Floats computes what ggml's
// dequantize_row functions (ggml-quants.c) compute, in their order, in float32,
// with each product rounded before it is added to. All of those products but the
// last of Q6K fit into the 24 bits of a float32 (11 bits of scale, at most 6 of
// the sub-scale, at most 5 of the weight), and Q6K adds nothing, so a compiler
// that fuses the two operations gives the same bits.
//
// # Safety
//
// A file is checked as a whole when it is opened: sizes, counts, names, offsets,
// overlaps. What is allocated is at most a small multiple of what the file holds.
// An error names the key or the tensor.
package gguf
