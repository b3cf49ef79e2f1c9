package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The exponential is a piece of several kernels and no function of its own: it is written into their loops. AVX-512
// holds its constants in registers.

// useExp makes the constants of exp ready. It belongs before the loop, since under AVX-512 it loads them into
// registers.
func (k *kernel) useExp() {
	k.use(log2E, expMagic, -ln2High, -ln2Low, expHigh, expLow, infinity, expBias)
	k.use(expCoefficients...)
}

// exp returns e**x, after Exp1 of the reference, and keeps x:
//
//	t = fma(x, log2E, expMagic)      the integer n = round(x*log2(e)) in t's lowest bits
//	n = t - expMagic
//	r = x - n*ln2High - n*ln2Low     two fused steps, so that r keeps its digits
//	p = 2 * (polynomial in r)        Horner's rule
//	e**x = p * 2**(n-1)
func (k *kernel) exp(x vector) vector {
	t := k.copyOf(k.c(expMagic))
	VFMADD231PS(k.c(log2E), x, t)
	// n as a float32 again.
	n := k.register()
	VSUBPS(k.c(expMagic), t, n)
	r := k.copyOf(x)
	VFMADD231PS(k.c(-ln2High), n, r)
	VFMADD231PS(k.c(-ln2Low), n, r)
	// The polynomial in r, by Horner's rule: p = fma(p, r, c).
	p := k.copyOf(k.c(expCoefficients[0]))
	for _, c := range expCoefficients[1:] {
		VFMADD213PS(k.c(c), r, p)
	}
	VPSLLD(U8(23), t, t) // n to the exponent; what is above it falls out
	VPADDD(k.c(expBias), t, t)
	k.expEnds(x, t, p)
	return p
}

// expEnds multiplies p by the power of two t, and sets it to 0 below the range and to +Inf above it, as the branches
// of Exp1 do. A NaN in x compares false with both ends and stays in p.
func (k *kernel) expEnds(x, t, p vector) {
	const lessThan, notLess, greater = 0x11, 0x15, 0x1e // ordered, unordered, ordered
	if k.is512() {
		VCMPPS(U8(notLess), k.c(expLow), x, reg.K2)
		VMULPS_Z(t, p, reg.K2, p)
		VCMPPS(U8(greater), k.c(expHigh), x, reg.K3)
		VMOVUPS(k.c(infinity), reg.K3, p)
		return
	}
	// AVX2 has no masks: the result of a comparison is a vector of all-ones lanes.
	VMULPS(t, p, p)
	out := k.register()
	VCMPPS(U8(lessThan), k.c(expLow), x, out)
	VANDNPS(p, out, p)
	VCMPPS(U8(greater), k.c(expHigh), x, out)
	VBLENDVPS(out, k.c(infinity), p, p)
}

// fill sets the lanes of x beyond the end to value: -Inf under a maximum, where a zero would show.
func (k *kernel) fill(x vector, value float32) {
	if k.is512() {
		v := k.copyOf(k.c(value))
		VMOVUPS(x, reg.K1, v)
		VMOVUPS(v, x)
		return
	}
	v := k.copyOf(k.c(value))
	VBLENDVPS(k.masks[k.part], x, v, x)
}
