package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// vectors writes every kernel over slices. FMA operands stand in Go's order:
// VFMADD231PS(x, y, z) is z = y*x + z and VFMADD213PS(x, y, z) is z = y*z + x.
func (s isa) vectors() {
	s.elementwise()
	s.reductions()
	s.softmax()
	s.gelu()
	s.layerNorm()
	s.optimizer()
}

func (s isa) elementwise() {
	s.pairwise("add", VADDPS)
	s.pairwise("mul", VMULPS)

	k := s.kernel("scale", "func(dst *float32, a float32, n int)")
	p, a := k.arrays("dst"), k.argument("a")
	k.loop(func() {
		v := k.load(p[0])
		VMULPS(a(), v, v)
		k.store(v, p[0])
	})
	finish()

	k = s.kernel("axpy", "func(dst *float32, a float32, x *float32, n int)")
	p, a = k.arrays("dst", "x"), k.argument("a")
	k.loop(func() {
		v, x := k.load(p[0]), k.load(p[1])
		VFMADD231PS(x, a(), v)
		k.store(v, p[0])
	})
	finish()
}

func (s isa) pairwise(name string, op func(...Op)) {
	k := s.kernel(name, "func(dst, x *float32, n int)")
	p := k.arrays("dst", "x")
	k.loop(func() {
		v, x := k.load(p[0]), k.load(p[1])
		op(x, v, v)
		k.store(v, p[0])
	})
	finish()
}

func (s isa) reductions() {
	k := s.kernel("sum", "func(x *float32, n int) float32")
	p, acc := k.arrays("x"), k.accumulators(s.zero)
	k.loop(func() { VADDPS(k.load(p[0]), acc[k.part], acc[k.part]) })
	k.result(0, k.combine(acc, VADDPS))
	finish()

	k = s.kernel("dot", "func(x, y *float32, n int) float32")
	p, acc = k.arrays("x", "y"), k.accumulators(s.zero)
	k.loop(func() {
		x, y := k.load(p[0]), k.load(p[1])
		VFMADD231PS(y, x, acc[k.part])
	})
	k.result(0, k.combine(acc, VADDPS))
	finish()

	k = s.kernel("max", "func(x *float32, n int) float32")
	least := float32(math.Inf(-1))
	k.use(least)
	p, acc = k.arrays("x"), k.accumulators(func(v vector) { VMOVUPS(k.c(least), v) })
	k.loop(func() {
		x := k.load(p[0])
		if k.masked {
			k.fill(x, least)
		}
		VMAXPS(x, acc[k.part], acc[k.part])
	})
	k.result(0, k.combine(acc, VMAXPS))
	finish()

	k = s.kernel("sumSquaredDifferences", "func(x *float32, mean float32, n int) float32")
	p, acc = k.arrays("x"), k.accumulators(s.zero)
	mean := k.argument("mean")
	k.loop(func() {
		x := k.load(p[0])
		VSUBPS(mean(), x, x)
		k.absent(x)
		VFMADD231PS(x, x, acc[k.part])
	})
	k.result(0, k.combine(acc, VADDPS))
	finish()
}

func (s isa) softmax() {
	k := s.kernel("sumExp", "func(x *float32, scale, max float32, n int) float32")
	p, acc := k.arrays("x"), k.accumulators(s.zero)
	scale, max := k.argument("scale"), k.argument("max")
	k.useExp()
	k.loop(func() {
		x := k.load(p[0])
		VMULPS(scale(), x, x)
		VSUBPS(max(), x, x)
		e := k.exp(x)
		k.absent(e)
		VADDPS(e, acc[k.part], acc[k.part])
	})
	k.result(0, k.combine(acc, VADDPS))
	finish()

	s.softmaxRow()

	k = s.kernel("softmaxBackward", "func(ds, p, dp *float32, dot, scale float32, n int)")
	a := k.arrays("ds", "p", "dp")
	dot, factor := k.argument("dot"), k.argument("scale")
	k.loop(func() {
		p, t := k.load(a[1]), k.load(a[2])
		VSUBPS(dot(), t, t)
		VMULPS(p, t, t)
		VMULPS(factor(), t, t)
		k.store(t, a[0])
	})
	finish()

	k = s.kernel("exp", "func(dst, x *float32, n int)")
	a = k.arrays("dst", "x")
	k.useExp()
	k.loop(func() { k.store(k.exp(k.load(a[1])), a[0]) })
	finish()
}

// softmaxRow is max, expSum and scale in one.
func (s isa) softmaxRow() {
	k := s.kernel("softmax", "func(x *float32, scale float32, n int) (max, sum float32)")
	least := float32(math.Inf(-1))
	k.use(least, 1)
	p, acc := k.arrays("x"), k.accumulators(func(v vector) { VMOVUPS(k.c(least), v) })
	scale := k.argument("scale")
	k.useExp()
	k.pass("max", func() {
		x := k.load(p[0])
		if k.masked {
			k.fill(x, least)
		}
		VMAXPS(x, acc[k.part], acc[k.part])
	})
	top, max := k.combine(acc, VMAXPS), s.register()
	VMULSS(scale().AsX(), top.AsX(), top.AsX())
	k.result(0, top)
	VBROADCASTSS(top.AsX(), max)
	acc = k.accumulators(s.zero)
	k.pass("exp", func() {
		x := k.load(p[0])
		VMULPS(scale(), x, x)
		VSUBPS(max, x, x)
		e := k.exp(x)
		k.store(e, p[0])
		k.absent(e)
		VADDPS(e, acc[k.part], acc[k.part])
	})
	sum, share, all := k.combine(acc, VADDPS), XMM(), s.register()
	k.result(1, sum)
	VMOVSS(k.constantTable(math.Float32bits(1)), share)
	VDIVSS(sum.AsX(), share, share)
	VBROADCASTSS(share, all)
	k.pass("scale", func() {
		x := k.load(p[0])
		VMULPS(all, x, x)
		k.store(x, p[0])
	})
	finish()
}

// gelu's constants are negated where the exponential's argument is: the sign
// passes through a rounding unchanged.
func (s isa) gelu() {
	k := s.kernel("gelu", "func(dst, x *float32, n int)")
	p := k.arrays("dst", "x")
	k.useExp()
	k.use(1, -geluA, -geluB)
	k.loop(func() {
		x := k.load(p[1])
		e, _ := k.geluExp(x)
		VADDPS(k.c(1), e, e)
		VDIVPS(e, x, x)
		k.store(x, p[0])
	})
	finish()

	s.geluGradient("geluBackward", "func(dx, x, dy *float32, n int)", "dx", "x", "dy")
	s.geluGradient("geluBoth", "func(dx, x, dy, y *float32, n int)", "dx", "x", "dy", "y")
}

// geluGradient writes the gradient, and with a fourth array gelu as well.
func (s isa) geluGradient(name, signature string, arrays ...string) {
	k := s.kernel(name, signature)
	p := k.arrays(arrays...)
	k.useExp()
	k.use(1, -geluA, -geluB, geluA, geluC, math.MaxFloat32)
	k.loop(func() {
		x := k.load(p[1])
		e, square := k.geluExp(x)
		under, gate, rest, slope := k.register(), k.copyOf(k.c(1)), k.copyOf(k.c(math.MaxFloat32)), k.copyOf(k.c(geluA))
		VADDPS(k.c(1), e, under)
		if len(p) == 4 {
			y := k.register()
			VDIVPS(under, x, y)
			k.store(y, p[3])
		}
		VDIVPS(under, gate, gate)
		VMINPS(e, rest, rest) // e, if it is not a number
		VMULPS(gate, rest, rest)
		VMULPS(gate, rest, rest)
		VFMADD231PS(k.c(geluC), square, slope)
		VMULPS(slope, x, x)
		VFMADD213PS(gate, rest, x)
		dy := k.load(p[2])
		VMULPS(x, dy, dy)
		k.store(dy, p[0])
	})
	finish()
}

// geluExp returns e**-2u and x².
func (k *kernel) geluExp(x vector) (e, square vector) {
	square = k.register()
	VMULPS(x, x, square)
	w := k.copyOf(k.c(-geluA))
	VFMADD231PS(k.c(-geluB), square, w)
	VMULPS(x, w, w)
	return k.exp(w), square
}

func (s isa) layerNorm() {
	k := s.kernel("normalize", "func(y, x, gamma, beta *float32, mean, rstd float32, n int)")
	p := k.arrays("y", "x", "gamma", "beta")
	mean, rstd := k.argument("mean"), k.argument("rstd")
	normal := func(k *kernel, x vector) {
		VSUBPS(mean(), x, x)
		VMULPS(rstd(), x, x)
	}
	k.loop(func() {
		x, gamma, beta := k.load(p[1]), k.load(p[2]), k.load(p[3])
		normal(k, x)
		VFMADD213PS(beta, gamma, x)
		k.store(x, p[0])
	})
	finish()

	k = s.kernel("normSums", "func(x, dy, gamma *float32, mean, rstd float32, n int) (sum, sumN float32)")
	p = k.arrays("x", "dy", "gamma")
	sum, sumN := k.accumulators(s.zero), k.accumulators(s.zero)
	mean, rstd = k.argument("mean"), k.argument("rstd")
	k.loop(func() {
		x, g, gamma := k.load(p[0]), k.load(p[1]), k.load(p[2])
		VMULPS(gamma, g, g)
		VADDPS(g, sum[k.part], sum[k.part])
		normal(k, x)
		k.absent(x)
		VFMADD231PS(x, g, sumN[k.part])
	})
	k.result(0, k.combine(sum, VADDPS))
	k.result(1, k.combine(sumN, VADDPS))
	finish()

	k = s.kernel("normBackward", "func(dx, x, dy, gamma *float32, mean, rstd, meanG, meanGN float32, n int)")
	p = k.arrays("dx", "x", "dy", "gamma")
	mean, rstd = k.argument("mean"), k.argument("rstd")
	g, gn := k.argument("meanG"), k.argument("meanGN")
	k.loop(func() {
		dx, x, dy, gamma := k.load(p[0]), k.load(p[1]), k.load(p[2]), k.load(p[3])
		normal(k, x)
		VMULPS(gamma, dy, dy)
		VSUBPS(g(), dy, dy)
		VFNMADD231PS(gn(), x, dy)
		VFMADD231PS(dy, rstd(), dx)
		k.store(dx, p[0])
	})
	finish()

	k = s.kernel("normParameters", "func(dgamma, dbeta, x, dy *float32, mean, rstd float32, n int)")
	p = k.arrays("dgamma", "dbeta", "x", "dy")
	mean, rstd = k.argument("mean"), k.argument("rstd")
	k.loop(func() {
		dgamma, dbeta, x, dy := k.load(p[0]), k.load(p[1]), k.load(p[2]), k.load(p[3])
		normal(k, x)
		VFMADD231PS(x, dy, dgamma)
		VADDPS(dy, dbeta, dbeta)
		k.store(dgamma, p[0])
		k.store(dbeta, p[1])
	})
	finish()
}

// optimizer reads the fields of the Go struct adamw, float32 after float32.
func (s isa) optimizer() {
	k := s.kernel("adamw", "func(w, m, v, grad, a *float32, n int)")
	p := k.arrays("w", "m", "v", "grad")
	a := param("a")
	field := func(i int) number { return k.number(Mem{Base: a, Disp: 4 * i}) }
	gradScale, beta1, other1, beta2, other2 := field(0), field(1), field(2), field(3), field(4)
	root, eps, decay, step := field(5), field(6), field(7), field(8)
	k.loop(func() {
		h, m, t := k.load(p[3]), k.load(p[1]), k.register()
		VMULPS(gradScale(), h, h)
		VMULPS(other1(), h, t)
		VFMADD213PS(t, beta1(), m)
		k.store(m, p[1])
		v := k.load(p[2])
		VMULPS(h, h, h)
		VMULPS(other2(), h, h)
		VFMADD213PS(h, beta2(), v)
		k.store(v, p[2])
		VSQRTPS(v, v)
		VFMADD213PS(eps(), root(), v)
		VDIVPS(v, m, m)
		w := k.load(p[0])
		VMULPS(decay(), w, w)
		VFMADD231PS(m, step(), w)
		k.store(w, p[0])
	})
	finish()

	k = s.kernel("ema", "func(avg, w *float32, share float32, n int)")
	p = k.arrays("avg", "w")
	share := k.argument("share")
	k.loop(func() {
		avg, w := k.load(p[0]), k.load(p[1])
		VSUBPS(avg, w, w)
		VFMADD231PS(w, share(), avg)
		k.store(avg, p[0])
	})
	finish()
}
