package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"
)

// norms writes the kernels of RMSNorm and those of LayerNorm without a bias, each for one row.
func (s isa) norms() {
	s.withoutBias()
	s.rmsNorm()
	s.rmsNormBackward()
}

// withoutBias writes normalizeScale and normGamma. LayerNorm's own kernels are in kernels.go.
func (s isa) withoutBias() {
	// y[i] = fma((x[i]-mean)*rstd, gamma[i], +0)
	k := s.kernel("normalizeScale", "func(y, x, gamma *float32, mean, rstd float32, n int)")
	p := k.arrays("y", "x", "gamma")
	mean, rstd := k.argument("mean"), k.argument("rstd")
	k.loop(func() {
		x, gamma, y := k.load(p[1]), k.load(p[2]), k.register()
		k.zero(y)
		k.normal(x, mean, rstd)
		VFMADD231PS(gamma, x, y)
		k.store(y, p[0])
	})
	finish()

	// dgamma[i] = fma(dy[i], (x[i]-mean)*rstd, dgamma[i])
	k = s.kernel("normGamma", "func(dgamma, x, dy *float32, mean, rstd float32, n int)")
	p = k.arrays("dgamma", "x", "dy")
	mean, rstd = k.argument("mean"), k.argument("rstd")
	k.loop(func() {
		dgamma, x, dy := k.load(p[0]), k.load(p[1]), k.load(p[2])
		k.normal(x, mean, rstd)
		VFMADD231PS(x, dy, dgamma)
		k.store(dgamma, p[0])
	})
	finish()
}

// rmsNorm writes the norm of a row, two loops in one function:
//
//	rstd = 1/sqrt(Σ x[i]²/n + eps)
//	y[i] = fma(x[i]*rstd, offset+gamma[i], +0)
//
// It returns rstd.
func (s isa) rmsNorm() {
	k := s.kernel("rmsNorm", "func(y, x, gamma *float32, offset, eps float32, n int) float32")
	p, offset := k.arrays("y", "x", "gamma"), k.argument("offset")
	acc := k.accumulators(s.zero)
	k.pass("sum", func() {
		x := k.load(p[1])
		VFMADD231PS(x, x, acc[k.part])
	})
	// rstd, in steps of which each rounds once; then to all lanes.
	total, one := k.combine(acc, VADDPS).AsX(), XMM()
	VDIVSS(k.count(), total, total)
	VADDSS(argumentPlace("eps"), total, total)
	VSQRTSS(total, total, total)
	VMOVSS(k.constantTable(math.Float32bits(1)), one)
	VDIVSS(total, one, one)
	k.result(0, one)
	rstd := k.held(one)
	k.pass("scale", func() {
		x, gamma, y := k.load(p[1]), k.load(p[2]), k.register()
		k.zero(y)
		VMULPS(rstd, x, x)
		VADDPS(offset(), gamma, gamma)
		VFMADD231PS(gamma, x, y)
		k.store(y, p[0])
	})
	finish()
}

// rmsNormBackward writes the gradient of a row's x, two loops in one function. With g = dy*(offset+gamma), n = x*rstd,
//
//	gn = Σ g[i]*n[i] / n
//	dx[i] = fma(rstd, fma(-n[i], gn, g[i]), dx[i])
func (s isa) rmsNormBackward() {
	k := s.kernel("rmsNormBackward", "func(dx, x, dy, gamma *float32, rstd, offset float32, n int)")
	p := k.arrays("dx", "x", "dy", "gamma")
	rstd, offset := k.argument("rstd"), k.argument("offset")
	// row loads a register of n and of g. Beyond the end both are 0 by their factors x and dy.
	row := func() (n, g vector) {
		x, g, gamma := k.load(p[1]), k.load(p[2]), k.load(p[3])
		VADDPS(offset(), gamma, gamma)
		VMULPS(gamma, g, g)
		VMULPS(rstd(), x, x)
		return x, g
	}
	acc := k.accumulators(s.zero)
	k.pass("sum", func() {
		n, g := row()
		VFMADD231PS(n, g, acc[k.part])
	})
	total := k.combine(acc, VADDPS).AsX()
	VDIVSS(k.count(), total, total)
	gn := k.held(total)
	k.pass("add", func() {
		n, g := row()
		dx := k.load(p[0])
		VFNMADD231PS(gn, n, g)
		VFMADD231PS(g, rstd(), dx)
		k.store(dx, p[0])
	})
	finish()
}

// count returns the argument n as a float32.
func (k *kernel) count() reg.VecVirtual {
	v := XMM()
	VXORPS(v, v, v)
	VCVTSI2SSQ(param("n"), v, v)
	return v
}

// held returns the first lane of x in all lanes of a register.
func (k *kernel) held(x reg.Register) vector {
	v := k.register()
	VBROADCASTSS(x.(reg.Vec).AsX(), v)
	return v
}
