// Command _asm writes the assembly of package tensor: the same kernels for
// AVX-512 and for AVX2 with FMA, from one description of each.
//
//	go run . -target AVX512 -pkg tensor -out ../avx512_amd64.s -stubs ../avx512_amd64.go
//
// A kernel's definition is its portable form in ../portable.go; here stands
// only the order of instructions.
package main

import (
	"flag"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is a target: its name, float32 in a register, registers that hold the 16
// virtual lanes, and the largest tile of the matrix product.
type isa struct {
	name  string
	lanes int
	parts int
	rows  int
	wide  []int // registers across for a product of 1, 2 … rows only
	pairs int   // rows of the largest tile of pairs of bfloat16
}

var targets = []isa{
	{"AVX512", 16, 1, 12, []int{6, 6, 6, 6, 4, 4, 3, 3}, 12},
	{"AVX2", 8, 2, 6, []int{8, 4, 4, 3}, 4},
}

func main() {
	name := flag.String("target", "", "AVX512 or AVX2")
	flag.Parse()
	for _, s := range targets {
		if s.name == *name {
			ConstraintExpr("!purego")
			s.matmul()
			s.bfloat16()
			s.decode()
			s.vectors()
			Generate()
			return
		}
	}
	panic("there is no target " + *name)
}

func (s isa) is512() bool { return s.lanes == 16 }

func (s isa) register() reg.VecVirtual {
	if s.is512() {
		return ZMM()
	}
	return YMM()
}

// function begins a function of Go's calling convention.
func (s isa) function(name, signature string) {
	TEXT(name+s.name, NOSPLIT, signature)
	Pragma("noescape")
}

func finish() {
	VZEROUPPER()
	RET()
}

func (s isa) zero(v reg.VecVirtual) {
	if s.is512() {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

// param loads an argument into a general register; a length in elements that
// is a distance becomes one in bytes.
func param(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}

func distance(name string) reg.GPVirtual {
	r := param(name)
	SHLQ(U8(2), r)
	return r
}
