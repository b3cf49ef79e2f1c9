package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The constants of ../functions.go.
const (
	expHigh  = 88.72283
	expLow   = -86.64339
	log2E    = 1.44269504
	ln2High  = 0.693359375
	ln2Low   = -2.12194440e-4
	expMagic = 12582912

	geluA = 1.5957691216057308
	geluB = geluA * 0.044715
	geluC = 3 * geluB
)

var expCoefficients = []float32{2 * 1.9875691500e-4, 2 * 1.3981999507e-3, 2 * 8.3334519073e-3, 2 * 4.1665795894e-2,
	2 * 1.6666665459e-1, 2 * 5.0000001201e-1, 2, 2}

var (
	infinity = float32(math.Inf(1))
	expBias  = math.Float32frombits(126 << 23)
)

func (k *kernel) useExp() {
	k.use(log2E, expMagic, -ln2High, -ln2Low, expHigh, expLow, infinity, expBias)
	k.use(expCoefficients...)
}

// exp returns e**x and destroys x's neighbours in no way: x itself is kept.
func (k *kernel) exp(x vector) vector {
	t := k.copyOf(k.c(expMagic))
	VFMADD231PS(k.c(log2E), x, t)
	n := k.register()
	VSUBPS(k.c(expMagic), t, n)
	r := k.copyOf(x)
	VFMADD231PS(k.c(-ln2High), n, r)
	VFMADD231PS(k.c(-ln2Low), n, r)
	p := k.copyOf(k.c(expCoefficients[0]))
	for _, c := range expCoefficients[1:] {
		VFMADD213PS(k.c(c), r, p)
	}
	VPSLLD(U8(23), t, t)
	VPADDD(k.c(expBias), t, t)
	k.expEnds(x, t, p)
	return p
}

// expEnds multiplies p by the power of two t, and sets 0 and +Inf outside the
// range; a NaN compares false and stays.
func (k *kernel) expEnds(x, t, p vector) {
	const lessThan, notLess, greater = 0x11, 0x15, 0x1e
	if k.is512() {
		VCMPPS(U8(notLess), k.c(expLow), x, reg.K2)
		VMULPS_Z(t, p, reg.K2, p)
		VCMPPS(U8(greater), k.c(expHigh), x, reg.K3)
		VMOVUPS(k.c(infinity), reg.K3, p)
		return
	}
	VMULPS(t, p, p)
	out := k.register()
	VCMPPS(U8(lessThan), k.c(expLow), x, out)
	VANDNPS(p, out, p)
	VCMPPS(U8(greater), k.c(expHigh), x, out)
	VBLENDVPS(out, k.c(infinity), p, p)
}

// fill sets the lanes beyond the end.
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
