//go:build !purego

package tensor

// activationKernels are the kernels of an activation.
type activationKernels struct {
	forward         func(y, x *float32, n int)
	forwardBackward func(dx, x, dy, y *float32, n int)
	gated           func(y, gate, up *float32, n int)
	gatedBackward   func(dgate, dup, y, gate, up, dy *float32, n int)
}

var (
	activationKernelsAVX512 = [...]activationKernels{
		GeluTanh: {geluAVX512, geluBothAVX512, gatedGeluTanhAVX512, gatedBackwardGeluTanhAVX512},
		GeluErf:  {forwardGeluErfAVX512, bothGeluErfAVX512, gatedGeluErfAVX512, gatedBackwardGeluErfAVX512},
		ReLU:     {forwardReLUAVX512, bothReLUAVX512, gatedReLUAVX512, gatedBackwardReLUAVX512},
		ReLUSquared: {
			forwardReLUSquaredAVX512, bothReLUSquaredAVX512, gatedReLUSquaredAVX512, gatedBackwardReLUSquaredAVX512,
		},
		SiLU: {forwardSiLUAVX512, bothSiLUAVX512, gatedSiLUAVX512, gatedBackwardSiLUAVX512},
	}
	activationKernelsAVX2 = [...]activationKernels{
		GeluTanh: {geluAVX2, geluBothAVX2, gatedGeluTanhAVX2, gatedBackwardGeluTanhAVX2},
		GeluErf:  {forwardGeluErfAVX2, bothGeluErfAVX2, gatedGeluErfAVX2, gatedBackwardGeluErfAVX2},
		ReLU:     {forwardReLUAVX2, bothReLUAVX2, gatedReLUAVX2, gatedBackwardReLUAVX2},
		ReLUSquared: {
			forwardReLUSquaredAVX2, bothReLUSquaredAVX2, gatedReLUSquaredAVX2, gatedBackwardReLUSquaredAVX2,
		},
		SiLU: {forwardSiLUAVX2, bothSiLUAVX2, gatedSiLUAVX2, gatedBackwardSiLUAVX2},
	}
)

// kernels returns the kernels in use for a, or nil when the reference is in use.
func (a Activation) kernels() *activationKernels {
	switch active {
	case avx512:
		return &activationKernelsAVX512[a]
	case avx2:
		return &activationKernelsAVX2[a]
	}
	return nil
}

// forwardKernel is y[i] = f(x[i]).
func (a Activation) forwardKernel(y, x []float32) {
	if k := a.kernels(); k != nil {
		k.forward(&y[0], &x[0], len(x))
	} else {
		a.forwardPortable(y, x)
	}
}

// forwardBackwardKernel is y[i] = f(x[i]), dx[i] = dy[i]*f'(x[i]).
func (a Activation) forwardBackwardKernel(dx, x, dy, y []float32) {
	if k := a.kernels(); k != nil {
		k.forwardBackward(&dx[0], &x[0], &dy[0], &y[0], len(x))
	} else {
		a.forwardBackwardPortable(dx, x, dy, y)
	}
}

// gatedKernel is y[i] = f(gate[i])*up[i].
func (a Activation) gatedKernel(y, gate, up []float32) {
	if k := a.kernels(); k != nil {
		k.gated(&y[0], &gate[0], &up[0], len(gate))
	} else {
		a.gatedPortable(y, gate, up)
	}
}

// gatedBackwardKernel is y[i] = f(gate[i])*up[i], dgate[i] = (dy[i]*up[i])*f'(gate[i]), dup[i] = dy[i]*f(gate[i]).
func (a Activation) gatedBackwardKernel(dgate, dup, y, gate, up, dy []float32) {
	if k := a.kernels(); k != nil {
		k.gatedBackward(&dgate[0], &dup[0], &y[0], &gate[0], &up[0], &dy[0], len(gate))
	} else {
		a.gatedBackwardPortable(dgate, dup, y, gate, up, dy)
	}
}

// softCapKernel is x[i] = cap * tanh((scale*x[i])/cap).
func softCapKernel(x []float32, scale, cap float32) {
	switch active {
	case avx512:
		softCapAVX512(&x[0], scale, cap, len(x))
	case avx2:
		softCapAVX2(&x[0], scale, cap, len(x))
	default:
		softCapPortable(x, scale, cap)
	}
}

// softCapBackwardKernel is ds[i] *= scale * (1 - t*t), t = y[i]/cap.
func softCapBackwardKernel(ds, y []float32, scale, cap float32) {
	switch active {
	case avx512:
		softCapBackwardAVX512(&ds[0], &y[0], scale, cap, len(y))
	case avx2:
		softCapBackwardAVX2(&ds[0], &y[0], scale, cap, len(y))
	default:
		softCapBackwardPortable(ds, y, scale, cap)
	}
}
