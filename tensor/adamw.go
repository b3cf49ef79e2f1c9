package tensor

// AdamWStep holds the numbers of one optimizer step (Loshchilov & Hutter,
// 2019, algorithm 2). BiasCorr1 and BiasCorr2 are 1-Beta1**t and 1-Beta2**t.
type AdamWStep struct {
	LR, Beta1, Beta2, Eps, WeightDecay, BiasCorr1, BiasCorr2 float32
	GradScale                                                float32 // multiplies the gradient: clipping
	TensorFlowEps                                            bool    // eps is added before the correction of v
}

// adamwParams is AdamWStep made ready for the sweep; the kernels read it by offset.
type adamwParams struct {
	gradScale            float32 // 0
	beta1, oneMinusBeta1 float32 // 4, 8: Beta1 and 1-Beta1
	beta2, oneMinusBeta2 float32 // 12, 16
	vScale               float32 // 20: multiplies sqrt(v)
	eps                  float32 // 24
	decayFactor          float32 // 28: 1 - LR*WeightDecay
	negStepSize          float32 // 32: minus the step's size
}

// AdamW moves the weights w and the moments m and v by one step along g:
//
//	h = g*GradScale
//	m = fma(Beta1, m, (1-Beta1)*h)
//	v = fma(Beta2, v, (1-Beta2)*h*h)
//	w = fma(-size, m / fma(sqrt(v), root, Eps), w*(1 - LR*WeightDecay))
//
// with size = LR/BiasCorr1 and root = 1/sqrt(BiasCorr2), as torch.optim.AdamW;
// with TensorFlowEps, size = LR*sqrt(BiasCorr2)/BiasCorr1 and root = 1.
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
