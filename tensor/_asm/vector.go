package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A kernel over slices is written like this, here with one input and one output:
//
//	k := s.kernel("double", "func(dst, x *float32, n int)")
//	p := k.arrays("dst", "x")
//	k.loop(func() {
//		x := k.load(p[1])
//		VADDPS(x, x, x)
//		k.store(x, p[0])
//	})
//	finish()
//
// The result has a loop over blocks of 16 elements without masks, and after it one masked block for the rest. The
// body is called while both are written, so that it must not keep state between calls other than registers that it
// made before the loop: accumulators and held constants.
//
// Every argument of pointer type is a slice's first element, and the argument that counts elements is called n.

// kernel writes a function with one or more loops over n elements, 16 at a time. A loop's body is written twice: for
// whole blocks, and for the rest under a mask. Under AVX2 each is written once for each of the two registers of a
// block. The fields say which of these the body is being called for.
type kernel struct {
	isa
	i         reg.GPVirtual              // offset of the current block, in bytes
	part      int                        // the register of the block: 0, or 0 and 1 under AVX2
	masked    bool                       // the body is for the rest after the whole blocks
	masks     []reg.VecVirtual           // AVX2, by part: all bits are set in the lanes in use
	constants map[float32]reg.VecVirtual // held in registers, by value
}

// vector is a vector register of the target, before allocation.
type vector = reg.VecVirtual

// kernel begins a function with that signature.
func (s isa) kernel(name, signature string) *kernel {
	s.function(name, signature)
	return &kernel{isa: s, i: GP64(), constants: map[float32]vector{}}
}

// array is a pointer argument that the loop walks along.
type array struct{ base reg.GPVirtual }

// arrays loads pointer arguments.
func (k *kernel) arrays(names ...string) []array {
	var a []array
	for _, n := range names {
		a = append(a, array{param(n)})
	}
	return a
}

// place returns the current register's place in an array.
func (k *kernel) place(a array) Mem {
	return Mem{Base: a.base, Index: k.i, Scale: 1, Disp: k.part * 32}
}

// load reads a register from an array, with zeros in the lanes beyond the end. Masked loads touch no memory there, so
// that a slice may end at the end of a page.
func (k *kernel) load(a array) vector {
	v := k.register()
	switch {
	case !k.masked:
		VMOVUPS(k.place(a), v)
	case k.is512():
		VMOVUPS_Z(k.place(a), reg.K1, v)
	default:
		VMASKMOVPS(k.place(a), k.masks[k.part], v)
	}
	return v
}

// store writes a register to an array, but for the lanes beyond the end.
func (k *kernel) store(v vector, a array) {
	switch {
	case !k.masked:
		VMOVUPS(v, k.place(a))
	case k.is512():
		VMOVUPS(v, reg.K1, k.place(a))
	default:
		VMASKMOVPS(v, k.masks[k.part], k.place(a))
	}
}

// absent clears the lanes of v beyond the end, for sums of what is not zero where the loaded elements are.
func (k *kernel) absent(v vector) {
	switch {
	case !k.masked:
	case k.is512():
		VMOVUPS_Z(v, reg.K1, v)
	default:
		VANDPS(k.masks[k.part], v, v)
	}
}

// loop writes the loop over all elements.
func (k *kernel) loop(body func()) { k.pass("", body) }

// pass is loop for a function of several loops, each with a name that keeps the labels apart.
func (k *kernel) pass(name string, body func()) {
	// Whole blocks of 16 elements, of which there may be none.
	n, blocks := param("n"), GP64()
	XORQ(k.i, k.i)
	MOVQ(n, blocks)
	SHRQ(U8(4), blocks)
	JZ(LabelRef(name + "tail"))
	Label(name + "loop")
	k.parts16(body)
	ADDQ(U8(64), k.i)
	DECQ(blocks)
	JNZ(LabelRef(name + "loop"))
	Label(name + "tail")
	// The rest, 1 to 15 elements, under a mask; none if n is a multiple of 16.
	ANDQ(U8(15), n)
	JZ(LabelRef(name + "done"))
	k.masked = true
	k.makeMask(n)
	k.parts16(body)
	k.masked, k.masks = false, nil
	Label(name + "done")
}

// parts16 calls body for each register of a block of 16 elements, which fixes the order of the virtual lanes.
func (k *kernel) parts16(body func()) {
	for k.part = range k.parts {
		body()
	}
	k.part = 0
}

// makeMask sets the mask for the last 1 to 15 elements: the mask register K1, or, for AVX2, a vector of all-ones
// lanes that is read from a table of 16 ones and 16 zeros at a place that depends on the rest.
func (k *kernel) makeMask(rest reg.GPVirtual) {
	if k.is512() {
		m := GP32()
		MOVL(U32(0xffff), m)
		BZHIL(rest.As32(), m, m)
		KMOVW(m, reg.K1)
		return
	}
	// AVX2: 32 bytes from 64 - 4*rest on are the mask of the first register, the 32 that follow that of the second.
	p := GP64()
	LEAQ(tailTable(), p)
	NEGQ(rest)
	for i := range k.parts {
		v := k.register()
		VMOVUPS(Mem{Base: p, Index: rest, Scale: 4, Disp: 64 + 32*i}, v)
		k.masks = append(k.masks, v)
	}
}

// data holds the tables of constants in the read-only data section, each once, under its name.
var data = map[string]Mem{}

// tailTable is 16 words of ones and 16 words of zeros. Reading from it 'rest' words before the zeros begin gives a
// mask with that many lanes set.
func tailTable() Mem {
	return table("tail", 32, func(i int) uint32 {
		if i < 16 {
			return 1<<32 - 1
		}
		return 0
	})
}

// table returns the place of a named table of 32-bit words, which it defines at the first call.
func table(name string, words int, f func(i int) uint32) Mem {
	m, ok := data[name]
	if !ok {
		m = GLOBL(name, RODATA|NOPTR)
		for i := range words {
			DATA(4*i, U32(f(i)))
		}
		data[name] = m
	}
	return m
}

// constantTable returns the place of a constant: one word, to be broadcast, or, for AVX2, a whole register of it,
// since its arithmetic cannot broadcast from memory.
func (k *kernel) constantTable(bits uint32) Mem {
	words := 1
	if !k.is512() {
		words = 8
	}
	return table(fmt.Sprintf("word%08x", bits), words, func(int) uint32 { return bits })
}

// use makes constants ready before a loop: AVX-512 has registers enough to hold them, AVX2 reads them from memory.
func (k *kernel) use(values ...float32) {
	if !k.is512() {
		return
	}
	for _, c := range values {
		if _, ok := k.constants[c]; !ok {
			v := k.register()
			VBROADCASTSS(k.constantTable(math.Float32bits(c)), v)
			k.constants[c] = v
		}
	}
}

// c returns a constant as an operand, in a register or in memory.
func (k *kernel) c(value float32) Op {
	if v, ok := k.constants[value]; ok {
		return v
	}
	if k.is512() {
		panic(fmt.Sprintf("constant %g is not in use", value))
	}
	return k.constantTable(math.Float32bits(value))
}

// copyOf returns a new register with the contents of x. FMA instructions overwrite one of their operands.
func (k *kernel) copyOf(x Op) vector {
	v := k.register()
	VMOVUPS(x, v)
	return v
}

// number is a scalar argument in all lanes of a register: held by AVX-512, and broadcast where it is needed by AVX2,
// which has too few registers.
type number func() vector

// number returns the float32 at m as a number.
func (k *kernel) number(m Mem) number {
	broadcast := func() vector {
		v := k.register()
		VBROADCASTSS(m, v)
		return v
	}
	if k.is512() {
		held := broadcast()
		return func() vector { return held }
	}
	return broadcast
}

// argument returns a scalar argument as a number.
func (k *kernel) argument(name string) number {
	return k.number(argumentPlace(name))
}

// argumentPlace returns where a scalar argument lies.
func argumentPlace(name string) Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// accumulators returns the 16 virtual lanes of a reduction, in one register or two, set by start.
func (k *kernel) accumulators(start func(v vector)) []vector {
	var acc []vector
	for range k.parts {
		v := k.register()
		start(v)
		acc = append(acc, v)
	}
	return acc
}

// combine folds the lanes in the fixed tree of the numeric contract, l with l+8, l+4, l+2 and l+1, by op, and returns
// a register with the result in its first lane.
func (k *kernel) combine(acc []vector, op func(ops ...Op)) vector {
	x := acc[0]
	if k.is512() { // on whole registers, of which the lower part counts: shorter forms would need AVX512VL
		t := k.register()
		VEXTRACTF32X8(U8(1), x, t.AsY())
		op(t, x, x)
		VEXTRACTF32X4(U8(1), x, t.AsX())
		op(t, x, x)
		VPERMILPD(U8(1), x, t)
		op(t, x, x)
		VMOVSHDUP(x, t)
		op(t, x, x)
		return x
	}
	// AVX2: the second register holds lanes 8 to 15. Then l with l+4, l+2 and l+1 within the first.
	op(acc[1], x, x)
	low, t := x.AsX(), XMM()
	VEXTRACTF128(U8(1), x, t)
	op(t, low, low)
	VMOVHLPS(low, low, t)
	op(t, low, low)
	VMOVSHDUP(low, t)
	op(t, low, low)
	return x
}

// result stores the first lane of x as the i-th result of the function.
func (k *kernel) result(i int, x vector) {
	b, err := ReturnIndex(i).Resolve()
	if err != nil {
		panic(err)
	}
	VMOVSS(x.AsX(), b.Addr)
}
