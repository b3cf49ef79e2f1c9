package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// Each kernel stands under its formula, and is, operation for operation, the portable form of the same name: a fused
// multiply-add there is one here, and where the reference rounds a product before it adds, two instructions do. Loads
// beyond the end give zeros; a kernel clears such lanes only where they would otherwise reach a sum, and stores leave
// memory beyond the end alone.

// vectors writes the kernels over slices: those of ../portable.go. Operands stand in the order of Go's assembler, in
// which VFMADD231PS(x, y, z) is z = y*x + z and VFMADD213PS(x, y, z) is z = y*z + x.
func (s isa) vectors() {
	s.elementwise()
	s.reductions()
	s.softmax()
	s.gelu()
	s.layerNorm()
	s.optimizer()
	s.activations()
	s.norms()
	s.rotations()
}

// elementwise writes add, mul, scale and axpy.
func (s isa) elementwise() {
	s.pairwise("add", VADDPS)
	s.pairwise("mul", VMULPS)

	// dst[i] *= a
	k := s.kernel("scale", "func(dst *float32, a float32, n int)")
	p, a := k.arrays("dst"), k.argument("a")
	k.loop(func() {
		v := k.load(p[0])
		VMULPS(a(), v, v)
		k.store(v, p[0])
	})
	finish()

	// dst[i] = fma(a, x[i], dst[i])
	k = s.kernel("axpy", "func(dst *float32, a float32, x *float32, n int)")
	p, a = k.arrays("dst", "x"), k.argument("a")
	k.loop(func() {
		v, x := k.load(p[0]), k.load(p[1])
		VFMADD231PS(x, a(), v)
		k.store(v, p[0])
	})
	finish()
}

// pairwise writes dst = op(dst, x), element by element.
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

// reductions writes sum, dot, max and sumSquaredDifferences. Beyond the end of the slice, zeros are added, which the
// reference does too; only what is not neutral is cleared: -Inf under max, and (0-mean)² under the sum of squares.
func (s isa) reductions() {
	// Σ x[i]
	k := s.kernel("sum", "func(x *float32, n int) float32")
	p, acc := k.arrays("x"), k.accumulators(s.zero)
	k.loop(func() { VADDPS(k.load(p[0]), acc[k.part], acc[k.part]) })
	k.result(0, k.combine(acc, VADDPS))
	finish()

	// Σ x[i]*y[i], one chain of FMA in each lane
	k = s.kernel("dot", "func(x, y *float32, n int) float32")
	p, acc = k.arrays("x", "y"), k.accumulators(s.zero)
	k.loop(func() {
		x, y := k.load(p[0]), k.load(p[1])
		VFMADD231PS(y, x, acc[k.part])
	})
	k.result(0, k.combine(acc, VADDPS))
	finish()

	// max x[i], from -Inf on; the operand order of VMAXPS is that of maxps in the reference
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

	// Σ (x[i]-mean)²
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

// softmax writes sumExp, softmax, softmaxBackward and exp.
func (s isa) softmax() {
	// Σ exp(scale*x[i] - max): the product is rounded before the subtraction, as in the reference
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

	// ds[i] = scale * (p[i] * (dp[i] - dot))
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

	// dst[i] = e**x[i]
	k = s.kernel("exp", "func(dst, x *float32, n int)")
	a = k.arrays("dst", "x")
	k.useExp()
	k.loop(func() { k.store(k.exp(k.load(a[1])), a[0]) })
	finish()
}

// softmaxRow writes softmax, three loops in one function:
//
//	max = scale * max x[i]
//	x[i] = exp(scale*x[i] - max),  sum = Σ x[i]
//	x[i] *= 1/sum
//
// It returns max and sum.
func (s isa) softmaxRow() {
	k := s.kernel("softmax", "func(x *float32, scale float32, n int) (max, sum float32)")
	least := float32(math.Inf(-1))
	k.use(least, 1)
	p, acc := k.arrays("x"), k.accumulators(func(v vector) { VMOVUPS(k.c(least), v) })
	scale := k.argument("scale")
	k.useExp()
	// First loop: the maximum of x, -Inf in the lanes beyond the end.
	k.pass("max", func() {
		x := k.load(p[0])
		if k.masked {
			k.fill(x, least)
		}
		VMAXPS(x, acc[k.part], acc[k.part])
	})
	// max = scale * maximum, rounded once; scaling the maximum equals the maximum of the scaled for a positive scale.
	top, max := k.combine(acc, VMAXPS), s.register()
	VMULSS(scale().AsX(), top.AsX(), top.AsX())
	k.result(0, top)
	VBROADCASTSS(top.AsX(), max)
	acc = k.accumulators(s.zero)
	// Second loop: e[i] = exp(scale*x[i] - max), stored over x, and its sum.
	k.pass("exp", func() {
		x := k.load(p[0])
		VMULPS(scale(), x, x)
		VSUBPS(max, x, x)
		e := k.exp(x)
		k.store(e, p[0])
		k.absent(e)
		VADDPS(e, acc[k.part], acc[k.part])
	})
	// share = 1/sum, to all lanes. One division, and then products: so does the reference.
	sum, share, all := k.combine(acc, VADDPS), XMM(), s.register()
	k.result(1, sum)
	VMOVSS(k.constantTable(math.Float32bits(1)), share)
	VDIVSS(sum.AsX(), share, share)
	VBROADCASTSS(share, all)
	// Third loop: x[i] = e[i] * (1/sum).
	k.pass("scale", func() {
		x := k.load(p[0])
		VMULPS(all, x, x)
		k.store(x, p[0])
	})
	finish()
}

// gelu writes gelu and its gradients. The argument of the exponential is negated:
//
//	gelu(x) = x / (1 + e**-2u),  -2u = x * fma(-geluB, x², -geluA)
//
// and so the constants are negated instead, since a sign passes through roundings unchanged.
func (s isa) gelu() {
	// dst[i] = x[i] / (1 + e**-2u)
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

// geluGradient writes dx = dy*gelu'(x), and with a fourth array y = gelu(x) as well. With e = e**-2u,
//
//	s = 1/(1+e)
//	2u' = fma(geluC, x², geluA)
//	gelu'(x) = fma(x*2u', (min(e, MaxFloat32)*s)*s, s)
//
// where s*(1-s) = e*s*s, and the minimum keeps Inf*0 out.
func (s isa) geluGradient(name, signature string, arrays ...string) {
	k := s.kernel(name, signature)
	p := k.arrays(arrays...)
	k.useExp()
	k.use(1, -geluA, -geluB, geluA, geluC, math.MaxFloat32)
	k.loop(func() {
		x := k.load(p[1])
		e, square := k.geluExp(x)
		// under = 1 + e; gate = s = 1/under; rest = min(e, MaxFloat32)*s*s = s*(1-s); slope = 2u' = geluA + geluC*x²
		under, gate, rest, slope := k.register(), k.copyOf(k.c(1)), k.copyOf(k.c(math.MaxFloat32)), k.copyOf(k.c(geluA))
		VADDPS(k.c(1), e, under)
		if len(p) == 4 {
			y := k.register()
			VDIVPS(under, x, y)
			k.store(y, p[3])
		}
		VDIVPS(under, gate, gate)
		VMINPS(e, rest, rest) // MINPS returns its second operand, e, if that is a NaN
		VMULPS(gate, rest, rest)
		VMULPS(gate, rest, rest)
		VFMADD231PS(k.c(geluC), square, slope)
		VMULPS(slope, x, x)
		VFMADD213PS(gate, rest, x)
		// dy is loaded last, just before dx is stored, since dx may be dy.
		dy := k.load(p[2])
		VMULPS(x, dy, dy)
		k.store(dy, p[0])
	})
	finish()
}

// geluExp returns e**-2u and x², of which the gradient needs both.
func (k *kernel) geluExp(x vector) (e, square vector) {
	square = k.register()
	VMULPS(x, x, square)
	w := k.copyOf(k.c(-geluA))
	VFMADD231PS(k.c(-geluB), square, w)
	VMULPS(x, w, w)
	return k.exp(w), square
}

// layerNorm writes normalize, normSums, normBackward and normParameters, each for one row. All begin with n =
// (x-mean)*rstd.
func (s isa) layerNorm() {
	s.normalize()
	s.normGradients()
}

// normal turns x into n = (x-mean)*rstd.
func (k *kernel) normal(x vector, mean, rstd number) {
	VSUBPS(mean(), x, x)
	VMULPS(rstd(), x, x)
}

// normalize writes the forward pass of a row.
func (s isa) normalize() {
	// y[i] = fma(n, gamma[i], beta[i]), n = (x[i]-mean)*rstd
	k := s.kernel("normalize", "func(y, x, gamma, beta *float32, mean, rstd float32, n int)")
	p := k.arrays("y", "x", "gamma", "beta")
	mean, rstd := k.argument("mean"), k.argument("rstd")
	k.loop(func() {
		x, gamma, beta := k.load(p[1]), k.load(p[2]), k.load(p[3])
		k.normal(x, mean, rstd)
		VFMADD213PS(beta, gamma, x)
		k.store(x, p[0])
	})
	finish()
}

// normGradients writes the three parts of the backward pass of a row: two sums, the gradient of the input, and the
// gradients of the parameters.
func (s isa) normGradients() {
	// sum = Σ g, sumN = Σ g*n, with g = dy*gamma. Beyond the end g is 0 by its factors, but n is not and is cleared.
	k := s.kernel("normSums", "func(x, dy, gamma *float32, mean, rstd float32, n int) (sum, sumN float32)")
	p := k.arrays("x", "dy", "gamma")
	sum, sumN := k.accumulators(s.zero), k.accumulators(s.zero)
	mean, rstd := k.argument("mean"), k.argument("rstd")
	k.loop(func() {
		x, g, gamma := k.load(p[0]), k.load(p[1]), k.load(p[2])
		VMULPS(gamma, g, g)
		VADDPS(g, sum[k.part], sum[k.part])
		k.normal(x, mean, rstd)
		k.absent(x)
		VFMADD231PS(x, g, sumN[k.part])
	})
	k.result(0, k.combine(sum, VADDPS))
	k.result(1, k.combine(sumN, VADDPS))
	finish()

	// dx[i] = fma(rstd, fma(-n, meanGN, dy[i]*gamma[i] - meanG), dx[i])
	k = s.kernel("normBackward", "func(dx, x, dy, gamma *float32, mean, rstd, meanG, meanGN float32, n int)")
	p = k.arrays("dx", "x", "dy", "gamma")
	mean, rstd = k.argument("mean"), k.argument("rstd")
	g, gn := k.argument("meanG"), k.argument("meanGN")
	k.loop(func() {
		dx, x, dy, gamma := k.load(p[0]), k.load(p[1]), k.load(p[2]), k.load(p[3])
		k.normal(x, mean, rstd)
		VMULPS(gamma, dy, dy)
		VSUBPS(g(), dy, dy)
		VFNMADD231PS(gn(), x, dy)
		VFMADD231PS(dy, rstd(), dx)
		k.store(dx, p[0])
	})
	finish()

	// dgamma[i] = fma(dy[i], n, dgamma[i]), dbeta[i] += dy[i]
	k = s.kernel("normParameters", "func(dgamma, dbeta, x, dy *float32, mean, rstd float32, n int)")
	p = k.arrays("dgamma", "dbeta", "x", "dy")
	mean, rstd = k.argument("mean"), k.argument("rstd")
	k.loop(func() {
		dgamma, dbeta, x, dy := k.load(p[0]), k.load(p[1]), k.load(p[2]), k.load(p[3])
		k.normal(x, mean, rstd)
		VFMADD231PS(x, dy, dgamma)
		VADDPS(dy, dbeta, dbeta)
		k.store(dgamma, p[0])
		k.store(dbeta, p[1])
	})
	finish()
}

// optimizer writes adamw and ema. adamw reads the fields of the Go struct adamwParams, float32 after float32.
func (s isa) optimizer() {
	k := s.kernel("adamw", "func(w, m, v, grad, a *float32, n int)")
	p := k.arrays("w", "m", "v", "grad")
	a := param("a")
	field := func(i int) number { return k.number(Mem{Base: a, Disp: 4 * i}) }
	gradScale := field(0)
	beta1, other1 := field(1), field(2) // other is one minus beta
	beta2, other2 := field(3), field(4)
	root, eps := field(5), field(6) // root multiplies sqrt(v)
	decay, step := field(7), field(8)
	k.loop(func() {
		// h = g*gradScale; m = fma(beta1, m, (1-beta1)*h)
		h, m, t := k.load(p[3]), k.load(p[1]), k.register()
		VMULPS(gradScale(), h, h)
		VMULPS(other1(), h, t)
		VFMADD213PS(t, beta1(), m)
		k.store(m, p[1])
		// v = fma(beta2, v, (1-beta2)*h*h)
		v := k.load(p[2])
		VMULPS(h, h, h)
		VMULPS(other2(), h, h)
		VFMADD213PS(h, beta2(), v)
		k.store(v, p[2])
		// m / fma(sqrt(v), vScale, eps)
		VSQRTPS(v, v)
		VFMADD213PS(eps(), root(), v)
		VDIVPS(v, m, m)
		// w = fma(-size, that, w*(1 - lr*weightDecay)); step holds -size
		w := k.load(p[0])
		VMULPS(decay(), w, w)
		VFMADD231PS(m, step(), w)
		k.store(w, p[0])
	})
	finish()

	// avg[i] = fma(share, w[i]-avg[i], avg[i]), share = 1 - decay
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
