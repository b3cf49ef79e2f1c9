package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// rotations writes rotate and rotateBack, whose products are rounded before they are added:
//
//	rotate       a[i], b[i] = a[i]*cos[i] - b[i]*sin[i], b[i]*cos[i] + a[i]*sin[i]
//	rotateBack   a[i], b[i] = a[i]*cos[i] + b[i]*sin[i], b[i]*cos[i] - a[i]*sin[i]
func (s isa) rotations() {
	s.rotation("rotate", VSUBPS, VADDPS)
	s.rotation("rotateBack", VADDPS, VSUBPS)
}

// rotation writes the rotation whose two sums are first and second.
func (s isa) rotation(name string, first, second func(...Op)) {
	k := s.kernel(name, "func(a, b, cos, sin *float32, n int)")
	p := k.arrays("a", "b", "cos", "sin")
	k.loop(func() {
		a, b, cos, sin := k.load(p[0]), k.load(p[1]), k.load(p[2]), k.load(p[3])
		as, bs := k.register(), k.register()
		VMULPS(sin, a, as)
		VMULPS(sin, b, bs)
		VMULPS(cos, a, a)
		VMULPS(cos, b, b)
		first(bs, a, a)
		second(as, b, b)
		k.store(a, p[0])
		k.store(b, p[1])
	})
	finish()
}
