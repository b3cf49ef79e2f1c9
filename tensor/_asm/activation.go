package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Constants of the normal distribution and of tanh; see constants.go.
var (
	erfP = float32Of("erfP")
	erfA = []float32{
		float32Of("erfA5"), float32Of("erfA4"), float32Of("erfA3"), float32Of("erfA2"), float32Of("erfA1"),
	}
	rsqrt2Pi       = float32Of("rsqrt2Pi")
	tanhNear       = float32Of("tanhNear")
	tanhPolynomial = []float32{
		float32Of("tanhC4"), float32Of("tanhC3"), float32Of("tanhC2"), float32Of("tanhC1"), float32Of("tanhC0"),
	}
)

// The predicates of comparisons: ordered, and true for a NaN.
const (
	greaterThan  = 0x1e
	notLessEqual = 0x16
)

// signBit and magnitude are masks of a float32's bits.
const (
	signBit   = 1 << 31
	magnitude = signBit - 1
)

// activation is a function of one number, in registers.
type activation struct {
	name  string
	use   func(k *kernel)                         // makes its constants ready, before the loop
	value func(k *kernel, x vector) vector        // f(x)
	both  func(k *kernel, x vector) (f, d vector) // f(x) and f'(x)
}

// activations writes the kernels of ../activation.go and ../softcap.go. The tanh form of GELU alone has others of its
// own; see gelu.
func (s isa) activations() {
	for _, f := range []activation{
		{"GeluTanh", (*kernel).useGelu, (*kernel).geluTanh, (*kernel).geluTanhBoth},
		{"GeluErf", (*kernel).useGeluErf, (*kernel).geluErf, (*kernel).geluErfBoth},
		{"ReLU", (*kernel).useReLU, (*kernel).relu, (*kernel).reluBoth},
		{"ReLUSquared", (*kernel).useReLU, (*kernel).reluSquared, (*kernel).reluSquaredBoth},
		{"SiLU", (*kernel).useSiLU, (*kernel).silu, (*kernel).siluBoth},
	} {
		if f.name != "GeluTanh" {
			s.activation(f)
		}
		s.gated(f)
	}
	s.softCap()
}

// activation writes the forward pass of f alone and the two passes in one.
func (s isa) activation(f activation) {
	// y[i] = f(x[i])
	k := s.kernel("forward"+f.name, "func(y, x *float32, n int)")
	p := k.arrays("y", "x")
	f.use(k)
	k.loop(func() { k.store(f.value(k, k.load(p[1])), p[0]) })
	finish()

	// y[i] = f(x[i]), dx[i] = dy[i]*f'(x[i]); dy is loaded just before dx is stored, since dx may be dy
	k = s.kernel("both"+f.name, "func(dx, x, dy, y *float32, n int)")
	p = k.arrays("dx", "x", "dy", "y")
	f.use(k)
	k.loop(func() {
		y, slope := f.both(k, k.load(p[1]))
		k.store(y, p[3])
		dy := k.load(p[2])
		VMULPS(slope, dy, dy)
		k.store(dy, p[0])
	})
	finish()
}

// gated writes the gated unit of f, forward and backward.
func (s isa) gated(f activation) {
	// y[i] = f(gate[i])*up[i]
	k := s.kernel("gated"+f.name, "func(y, gate, up *float32, n int)")
	p := k.arrays("y", "gate", "up")
	f.use(k)
	k.loop(func() {
		y := f.value(k, k.load(p[1]))
		VMULPS(k.load(p[2]), y, y)
		k.store(y, p[0])
	})
	finish()

	// y[i] = f(gate[i])*up[i], dgate[i] = (dy[i]*up[i])*f'(gate[i]), dup[i] = dy[i]*f(gate[i])
	k = s.kernel("gatedBackward"+f.name, "func(dgate, dup, y, gate, up, dy *float32, n int)")
	p = k.arrays("dgate", "dup", "y", "gate", "up", "dy")
	f.use(k)
	k.loop(func() {
		value, slope := f.both(k, k.load(p[3]))
		up, dy, t := k.load(p[4]), k.load(p[5]), k.register()
		VMULPS(dy, up, t)
		VMULPS(slope, t, t)
		k.store(t, p[0])
		VMULPS(dy, value, dy)
		k.store(dy, p[1])
		VMULPS(up, value, value)
		k.store(value, p[2])
	})
	finish()
}

// word returns a constant of these bits as the first operand of an instruction. AVX-512 loads it into a register, and
// so it belongs before the loop.
func (k *kernel) word(bits uint32) Op {
	if !k.is512() {
		return k.constantTable(bits)
	}
	v := k.register()
	VBROADCASTSS(k.constantTable(bits), v)
	return v
}

// where returns a vector that is yes in the lanes where x compares with limit as the predicate says, and otherwise no.
// yes and no are registers, and overwritten.
func (k *kernel) where(predicate int, limit Op, x, yes, no vector) vector {
	if k.is512() {
		VCMPPS(U8(predicate), limit, x, reg.K2)
		VMOVUPS(yes, reg.K2, no)
		return no
	}
	mask := k.register()
	VCMPPS(U8(predicate), limit, x, mask)
	VBLENDVPS(mask, yes, no, no)
	return no
}

// only returns v in the lanes where x compares with limit as the predicate says, and 0 in the others.
func (k *kernel) only(predicate int, limit Op, x vector, v Op) vector {
	r := k.register()
	if k.is512() {
		VCMPPS(U8(predicate), limit, x, reg.K2)
		VMOVUPS_Z(v, reg.K2, r)
		return r
	}
	VCMPPS(U8(predicate), limit, x, r)
	VANDPS(v, r, r)
	return r
}

// negative returns -x, and keeps x.
func (k *kernel) negative(x vector) vector {
	v := k.register()
	k.zero(v)
	VSUBPS(x, v, v)
	return v
}

func (k *kernel) useGelu() {
	k.useExp()
	k.use(1, -geluA, -geluB, geluA, geluC, math.MaxFloat32)
}

// geluTanh returns x/(1 + e), e = e**-2u.
func (k *kernel) geluTanh(x vector) vector {
	e, _ := k.geluExp(x)
	VADDPS(k.c(1), e, e)
	VDIVPS(e, x, x)
	return x
}

// geluTanhBoth returns x/(1 + e) and the derivative, in the steps of geluGradient.
func (k *kernel) geluTanhBoth(x vector) (f, d vector) {
	e, square := k.geluExp(x)
	under, gate, slope := k.register(), k.copyOf(k.c(1)), k.copyOf(k.c(geluA))
	VADDPS(k.c(1), e, under)
	VDIVPS(under, gate, gate)
	k.clampExp(e)
	VMULPS(gate, e, e)
	VMULPS(gate, e, e)
	VFMADD231PS(k.c(geluC), square, slope)
	VMULPS(slope, x, slope)
	VFMADD213PS(gate, e, slope)
	VDIVPS(under, x, x)
	return x, slope
}

// clampExp sets e to at most the largest finite number, since Inf*0 would be a NaN; a NaN stays.
func (k *kernel) clampExp(e vector) {
	most := k.copyOf(k.c(math.MaxFloat32))
	VMINPS(e, most, e)
}

func (k *kernel) useSiLU() {
	k.useExp()
	k.use(1, math.MaxFloat32)
}

// silu returns x/(1 + e), e = e**-x.
func (k *kernel) silu(x vector) vector {
	e := k.exp(k.negative(x))
	VADDPS(k.c(1), e, e)
	VDIVPS(e, x, x)
	return x
}

// siluBoth returns x/(1 + e) and the derivative s + (s*(e*s))*x, with s = 1/(1+e).
func (k *kernel) siluBoth(x vector) (f, d vector) {
	e := k.exp(k.negative(x))
	under, s := k.register(), k.copyOf(k.c(1))
	VADDPS(k.c(1), e, under)
	VDIVPS(under, s, s)
	k.clampExp(e)
	VMULPS(s, e, e)
	VMULPS(s, e, e)
	VMULPS(x, e, e)
	VADDPS(e, s, s)
	VDIVPS(under, x, x)
	return x, s
}

func (k *kernel) useGeluErf() {
	k.useExp()
	k.use(0, 1, -0.5, erfP, rsqrt2Pi)
	k.use(erfA...)
}

// distribution returns Φ(x) and e = e**(-x²/2):
//
//	t = 1/(1 + p*|x|),  Φ(-|x|) = t*(a1 + t*(a2 + …)) * e,  each product rounded
func (k *kernel) distribution(x vector) (phi, e vector) {
	square := k.register()
	VMULPS(x, x, square)
	VMULPS(k.c(-0.5), square, square)
	e = k.exp(square)
	// |x| is the larger of x and -x.
	t, under := k.copyOf(k.c(1)), k.negative(x)
	VMAXPS(under, x, under)
	VMULPS(k.c(erfP), under, under)
	VADDPS(k.c(1), under, under)
	VDIVPS(under, t, t)
	q := k.copyOf(k.c(erfA[0]))
	for _, c := range erfA[1:] {
		VMULPS(t, q, q)
		VADDPS(k.c(c), q, q)
	}
	VMULPS(t, q, q)
	VMULPS(e, q, q)
	other := k.copyOf(k.c(1))
	VSUBPS(q, other, other)
	return k.where(greaterThan, k.c(0), x, other, q), e
}

// geluErf returns x*Φ(x).
func (k *kernel) geluErf(x vector) vector {
	phi, _ := k.distribution(x)
	VMULPS(phi, x, x)
	return x
}

// geluErfBoth returns x*Φ(x) and the derivative Φ(x) + (x*e)/sqrt(2 pi).
func (k *kernel) geluErfBoth(x vector) (f, d vector) {
	phi, e := k.distribution(x)
	VMULPS(x, e, e)
	VMULPS(k.c(rsqrt2Pi), e, e)
	VADDPS(phi, e, e)
	VMULPS(phi, x, x)
	return x, e
}

func (k *kernel) useReLU() { k.use(0, 1) }

// relu returns x, or 0 where x <= 0; a NaN stays.
func (k *kernel) relu(x vector) vector { return k.only(notLessEqual, k.c(0), x, x) }

// reluBoth returns relu and 1, or 0 where x <= 0.
func (k *kernel) reluBoth(x vector) (f, d vector) {
	return k.relu(x), k.only(notLessEqual, k.c(0), x, k.c(1))
}

// reluSquared returns the square of relu.
func (k *kernel) reluSquared(x vector) vector {
	f := k.relu(x)
	VMULPS(f, f, f)
	return f
}

// reluSquaredBoth returns the square of relu, and twice relu.
func (k *kernel) reluSquaredBoth(x vector) (f, d vector) {
	f, d = k.relu(x), k.register()
	VADDPS(f, f, d)
	VMULPS(f, f, f)
	return f, d
}

// softCap writes softCap and softCapBackward.
func (s isa) softCap() {
	// x[i] = cap * tanh((scale*x[i])/cap)
	k := s.kernel("softCap", "func(x *float32, scale, cap float32, n int)")
	p, scale, cap := k.arrays("x"), k.argument("scale"), k.argument("cap")
	tanh := k.useTanh()
	k.loop(func() {
		x := k.load(p[0])
		VMULPS(scale(), x, x)
		VDIVPS(cap(), x, x)
		y := tanh(x)
		VMULPS(cap(), y, y)
		k.store(y, p[0])
	})
	finish()

	// ds[i] *= scale * (1 - t*t), t = y[i]/cap
	k = s.kernel("softCapBackward", "func(ds, y *float32, scale, cap float32, n int)")
	p, scale, cap = k.arrays("ds", "y"), k.argument("scale"), k.argument("cap")
	k.use(1)
	k.loop(func() {
		ds, t, rest := k.load(p[0]), k.load(p[1]), k.copyOf(k.c(1))
		VDIVPS(cap(), t, t)
		VMULPS(t, t, t)
		VSUBPS(t, rest, rest)
		VMULPS(scale(), rest, rest)
		VMULPS(rest, ds, ds)
		k.store(ds, p[0])
	})
	finish()
}

// useTanh makes the constants of tanh ready, before the loop, and returns the function itself:
//
//	z = x², p(z) by Horner's rule with each product rounded; tanh x = (p*z)*x + x for |x| <= tanhNear,
//	otherwise 1 - 2/(e**2|x| + 1) with the sign of x
func (k *kernel) useTanh() func(x vector) vector {
	k.useExp()
	k.use(1, 2, tanhNear)
	k.use(tanhPolynomial...)
	sign, clear := k.word(signBit), k.word(magnitude)
	return func(x vector) vector {
		a, twice := k.register(), k.register()
		VANDPS(clear, x, a)
		VADDPS(a, a, twice)
		e := k.exp(twice)
		VADDPS(k.c(1), e, e)
		q, far := k.copyOf(k.c(2)), k.copyOf(k.c(1))
		VDIVPS(e, q, q)
		VSUBPS(q, far, far)
		bit := k.register()
		VANDPS(sign, x, bit)
		VORPS(bit, far, far)
		z, p := k.register(), k.copyOf(k.c(tanhPolynomial[0]))
		VMULPS(x, x, z)
		for _, c := range tanhPolynomial[1:] {
			VMULPS(z, p, p)
			VADDPS(k.c(c), p, p)
		}
		VMULPS(z, p, p)
		VMULPS(x, p, p)
		VADDPS(x, p, p)
		return k.where(greaterThan, k.c(tanhNear), a, far, p)
	}
}
