package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// kernel is a function with one loop over n elements, 16 at a time. The body is
// written once for whole blocks and once for the rest under a mask, and for
// each register of a block; part says which.
type kernel struct {
	isa
	i         reg.GPVirtual // the element, in bytes
	part      int
	masked    bool
	masks     []reg.VecVirtual // AVX2: a lane's sign bit is set where it is in use
	constants map[float32]reg.VecVirtual
}

type vector = reg.VecVirtual

func (s isa) kernel(name, signature string) *kernel {
	s.function(name, signature)
	return &kernel{isa: s, i: GP64(), constants: map[float32]vector{}}
}

// array is an argument that the loop walks along.
type array struct{ base reg.GPVirtual }

func (k *kernel) arrays(names ...string) []array {
	var a []array
	for _, n := range names {
		a = append(a, array{param(n)})
	}
	return a
}

func (k *kernel) place(a array) Mem {
	return Mem{Base: a.base, Index: k.i, Scale: 1, Disp: k.part * 32}
}

// load reads a register, with zeros in lanes beyond the end.
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

// absent clears the lanes beyond the end.
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

// pass is loop for a function of several, each with a name.
func (k *kernel) pass(name string, body func()) {
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
	ANDQ(U8(15), n)
	JZ(LabelRef(name + "done"))
	k.masked = true
	k.makeMask(n)
	k.parts16(body)
	k.masked, k.masks = false, nil
	Label(name + "done")
}

func (k *kernel) parts16(body func()) {
	for k.part = range k.parts {
		body()
	}
	k.part = 0
}

func (k *kernel) makeMask(rest reg.GPVirtual) {
	if k.is512() {
		m := GP32()
		MOVL(U32(0xffff), m)
		BZHIL(rest.As32(), m, m)
		KMOVW(m, reg.K1)
		return
	}
	p := GP64()
	LEAQ(tailTable(), p)
	NEGQ(rest)
	for i := range k.parts {
		v := k.register()
		VMOVUPS(Mem{Base: p, Index: rest, Scale: 4, Disp: 64 + 32*i}, v)
		k.masks = append(k.masks, v)
	}
}

var data = map[string]Mem{}

// tailTable is 16 words of ones and 16 of zeros.
func tailTable() Mem {
	return table("tail", 32, func(i int) uint32 {
		if i < 16 {
			return 1<<32 - 1
		}
		return 0
	})
}

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

func (k *kernel) constantTable(bits uint32) Mem {
	words := 1
	if !k.is512() {
		words = 8
	}
	return table(fmt.Sprintf("word%08x", bits), words, func(int) uint32 { return bits })
}

// use makes constants ready: AVX-512 has registers to hold them.
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

// c is a constant as an operand that may be in memory.
func (k *kernel) c(value float32) Op {
	if v, ok := k.constants[value]; ok {
		return v
	}
	if k.is512() {
		panic(fmt.Sprintf("constant %g is not in use", value))
	}
	return k.constantTable(math.Float32bits(value))
}

func (k *kernel) copyOf(x Op) vector {
	v := k.register()
	VMOVUPS(x, v)
	return v
}

// number is a scalar argument, given to every lane: held by AVX-512, and read
// where it is needed by AVX2.
type number func() vector

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

func (k *kernel) argument(name string) number {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return k.number(b.Addr)
}

// accumulators are the 16 lanes of a reduction.
func (k *kernel) accumulators(start func(v vector)) []vector {
	var acc []vector
	for range k.parts {
		v := k.register()
		start(v)
		acc = append(acc, v)
	}
	return acc
}

// combine folds the lanes in the fixed tree and returns the result.
func (k *kernel) combine(acc []vector, op func(ops ...Op)) vector {
	x := acc[0]
	if k.is512() { // whole registers, of which the lower part counts: the shorter forms need more than AVX512F
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

func (k *kernel) result(i int, x vector) {
	b, err := ReturnIndex(i).Resolve()
	if err != nil {
		panic(err)
	}
	VMOVSS(x.AsX(), b.Addr)
}
