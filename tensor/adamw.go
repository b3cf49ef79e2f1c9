package tensor

// AdamWStep holds the numbers of one optimizer step (Loshchilov & Hutter, "Decoupled Weight Decay Regularization",
// 2019, algorithm 2) for one stretch of parameters.
type AdamWStep struct {
	LR            float32
	Beta1, Beta2  float32
	Eps           float32
	WeightDecay   float32 // 0 where parameters do not decay
	BiasCorr1     float32 // 1 - Beta1**t for update t, counted from 1
	BiasCorr2     float32 // 1 - Beta2**t
	GradScale     float32 // multiplies the gradient: 1, or less where it is clipped
	TensorFlowEps bool    // Eps is added before v's bias is corrected
}

// adamwParams is an AdamWStep prepared for the sweep. The kernels read its float32 fields by offset, given in bytes.
type adamwParams struct {
	gradScale            float32 // 0
	beta1, oneMinusBeta1 float32 // 4, 8
	beta2, oneMinusBeta2 float32 // 12, 16
	vScale               float32 // 20: multiplies sqrt(v)
	eps                  float32 // 24
	decayFactor          float32 // 28: 1 - LR*WeightDecay
	negStepSize          float32 // 32: minus the step size
}

// AdamW moves the weights w and the moments m and v (all of one length) by one step along the gradient g, which it
// leaves as it is:
//
//	h = g*GradScale
//	m = fma(Beta1, m, (1-Beta1)*h)
//	v = fma(Beta2, v, (1-Beta2)*h*h)
//	w = fma(-size, m / fma(sqrt(v), vScale, Eps), w*(1 - LR*WeightDecay))
//
// with size = LR/BiasCorr1 and vScale = 1/sqrt(BiasCorr2), as torch.optim.AdamW has it. With TensorFlowEps,
// size = LR*sqrt(BiasCorr2)/BiasCorr1 and vScale = 1, as tf.train.AdamOptimizer has it: its Eps is in effect larger in
// the first steps.
func AdamW(w, m, v, g []float32, o AdamWStep) {
	sameLength("AdamW", len(w), len(m), len(v), len(g))
	if len(w) == 0 {
		return
	}
	a := adamwParams{
		gradScale: o.GradScale,
		beta1:     o.Beta1, oneMinusBeta1: 1 - o.Beta1,
		beta2: o.Beta2, oneMinusBeta2: 1 - o.Beta2,
		vScale:      Rsqrt1(o.BiasCorr2),
		eps:         o.Eps,
		decayFactor: FMA(-o.LR, o.WeightDecay, 1),
		negStepSize: -(o.LR / o.BiasCorr1),
	}
	if o.TensorFlowEps {
		a.vScale = 1
		a.negStepSize = -(o.LR * Sqrt1(o.BiasCorr2) / o.BiasCorr1)
	}
	adamwKernel(w, m, v, g, &a)
}
