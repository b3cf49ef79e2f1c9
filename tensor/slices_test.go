package tensor

import (
	"math"
	"math/rand/v2"
	"testing"
)

// worst returns the largest |got - want| and where.
func worst(x, got []float32, exact func(float64) float64) (e float64, at float32) {
	for i, v := range x {
		if d := math.Abs(float64(got[i]) - exact(float64(v))); d > e {
			e, at = d, v
		}
	}
	return e, at
}

func grid(from, to float64, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(from + (to-from)*float64(i)/float64(n-1))
	}
	return x
}

func gelu64(x float64) float64 {
	return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

func geluSlope64(x float64) float64 {
	c := math.Sqrt(2 / math.Pi)
	t := math.Tanh(c * (x + 0.044715*x*x*x))
	return 0.5*(1+t) + 0.5*x*(1-t*t)*c*(1+3*0.044715*x*x)
}

// TestGelu measures the errors that the doc comments state.
func TestGelu(t *testing.T) {
	x := grid(-12, 12, 400001)
	y, dy := make([]float32, len(x)), make([]float32, len(x))
	for i := range dy {
		dy[i] = 1
	}
	Gelu(y, x)
	e, at := worst(x, y, gelu64)
	t.Logf("gelu: worst error %.3g at %g", e, at)
	if e > 6e-7 {
		t.Errorf("gelu: worst error %.3g at %g", e, at)
	}
	relative := 0.0
	for i, v := range x {
		if v > -3 && v != 0 {
			relative = math.Max(relative, math.Abs(float64(y[i])/gelu64(float64(v))-1))
		}
	}
	t.Logf("gelu above -3: worst relative error %.3g", relative)
	if relative > 1e-6 {
		t.Errorf("gelu above -3: worst relative error %.3g", relative)
	}
	GeluBackward(y, x, dy)
	e, at = worst(x, y, geluSlope64)
	t.Logf("gelu': worst error %.3g at %g", e, at)
	if e > 3e-7 {
		t.Errorf("gelu': worst error %.3g at %g", e, at)
	}
}

func TestSoftmax(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, n := range []int{1, 7, 128, 1000} {
		x := values(r, n, false)
		p := append([]float32(nil), x...)
		max, sum := Softmax(p, 0.5)
		m, s := LogSumExp(x, 0.5)
		if m != max || s != sum {
			t.Errorf("LogSumExp (%g, %g), Softmax (%g, %g)", m, s, max, sum)
		}
		z := 0.0
		for _, v := range x {
			z += math.Exp(float64(v) / 2)
		}
		for i, v := range x {
			want := math.Exp(float64(v)/2) / z
			if math.Abs(float64(p[i])/want-1) > 2e-6 {
				t.Errorf("n %d: p[%d] is %g, want %g", n, i, p[i], want)
			}
			if lp := v/2 - max - Log1(sum); math.Abs(float64(lp)-math.Log(want)) > 2e-6 {
				t.Errorf("n %d: log p[%d] is %g, want %g", n, i, lp, math.Log(want))
			}
		}
	}
	if m, s := Softmax(nil, 1); m != -infinity || s != 0 {
		t.Errorf("softmax of nothing: %g, %g", m, s)
	}
}

// slope is the central difference of f at x[i].
func slope(f func() float64, x []float32, i int) float64 {
	const h = 1e-2
	old := x[i]
	defer func() { x[i] = old }()
	x[i] = old + h
	up := f()
	x[i] = old - h
	return (up - f()) / float64((old+h)-(old-h))
}

func dot64(x, y []float32) float64 {
	s := 0.0
	for i, v := range x {
		s += float64(v) * float64(y[i])
	}
	return s
}

func checkSlopes(t *testing.T, what string, f func() float64, x, got []float32, tolerance float64) {
	t.Helper()
	for i := range x {
		if want := slope(f, x, i); math.Abs(float64(got[i])-want) > tolerance*(1+math.Abs(want)) {
			t.Errorf("%s[%d] is %g, want %g", what, i, got[i], want)
		}
	}
}

func TestSoftmaxBackward(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	x, w := values(r, 19, false), values(r, 19, false)
	loss := func() float64 {
		p := append([]float32(nil), x...)
		Softmax(p, 0.5)
		return dot64(p, w)
	}
	p := append([]float32(nil), x...)
	Softmax(p, 0.5)
	ds := make([]float32, 19)
	SoftmaxBackward(ds, p, w, 0.5)
	checkSlopes(t, "ds", loss, x, ds, 1e-3)
}

func TestLayerNorm(t *testing.T) {
	const rows, cols = 3, 21
	r := rand.New(rand.NewPCG(25, 26))
	x, w := values(r, rows*cols, false), values(r, rows*cols, false)
	gamma, beta := values(r, cols, false), values(r, cols, false)
	y, mean, rstd := make([]float32, rows*cols), make([]float32, rows), make([]float32, rows)
	loss := func() float64 {
		LayerNorm(y, mean, rstd, x, gamma, beta, rows, cols)
		return dot64(y, w)
	}
	loss()
	for i := range rows {
		m, v := 0.0, 0.0
		for _, q := range x[i*cols : (i+1)*cols] {
			m += float64(q) / cols
		}
		for _, q := range x[i*cols : (i+1)*cols] {
			v += (float64(q) - m) * (float64(q) - m) / cols
		}
		for j := range cols {
			want := (float64(x[i*cols+j])-m)/math.Sqrt(v+NormEps)*float64(gamma[j]) + float64(beta[j])
			if math.Abs(float64(y[i*cols+j])-want) > 1e-5 {
				t.Errorf("y[%d,%d] is %g, want %g", i, j, y[i*cols+j], want)
			}
		}
	}
	dx, dgamma, dbeta := make([]float32, rows*cols), make([]float32, cols), make([]float32, cols)
	LayerNormBackward(dx, dgamma, dbeta, w, x, mean, rstd, gamma, rows, cols)
	dx2, dg2, db2 := make([]float32, rows*cols), make([]float32, cols), make([]float32, cols)
	LayerNormBackward(dx2, nil, nil, w, x, mean, rstd, gamma, rows, cols)
	LayerNormBackward(nil, dg2, db2, w, x, mean, rstd, gamma, rows, cols)
	if !sameBits(dx, dx2) || !sameBits(dgamma, dg2) || !sameBits(dbeta, db2) {
		t.Error("the halves of the way back differ from the whole")
	}
	checkSlopes(t, "dx", loss, x, dx, 1e-2)
	checkSlopes(t, "dgamma", loss, gamma, dgamma, 1e-3)
	checkSlopes(t, "dbeta", loss, beta, dbeta, 1e-3)
}

// TestAdamW follows torch.optim.AdamW's and TensorFlow's formulas in float64.
func TestAdamW(t *testing.T) {
	for _, tensorFlow := range []bool{false, true} {
		r := rand.New(rand.NewPCG(27, 28))
		w := values(r, 50, false)
		m, v := make([]float32, 50), make([]float32, 50)
		w64, m64, v64 := make([]float64, 50), make([]float64, 50), make([]float64, 50)
		for i, x := range w {
			w64[i] = float64(x)
		}
		for step := 1; step <= 20; step++ {
			g := values(r, 50, false)
			c1, c2 := 1-math.Pow(0.9, float64(step)), 1-math.Pow(0.99, float64(step))
			AdamW(w, m, v, g, AdamWStep{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-3, WeightDecay: 0.1,
				BiasCorr1: float32(c1), BiasCorr2: float32(c2), GradScale: 0.5, TensorFlowEps: tensorFlow})
			for i := range g {
				h := float64(g[i]) / 2
				m64[i] = 0.9*m64[i] + 0.1*h
				v64[i] = 0.99*v64[i] + 0.01*h*h
				w64[i] *= 1 - 0.01*0.1
				if tensorFlow {
					w64[i] -= 0.01 * math.Sqrt(c2) / c1 * m64[i] / (math.Sqrt(v64[i]) + 1e-3)
				} else {
					w64[i] -= 0.01 / c1 * m64[i] / (math.Sqrt(v64[i]/c2) + 1e-3)
				}
			}
		}
		for i := range w {
			if math.Abs(float64(w[i])-w64[i]) > 1e-5 {
				t.Errorf("TensorFlow %v: w[%d] is %g, want %g", tensorFlow, i, w[i], w64[i])
			}
		}
	}
}

func TestEmpty(t *testing.T) {
	Add(nil, nil)
	Exp(nil, nil)
	AdamW(nil, nil, nil, nil, AdamWStep{})
	LayerNorm(nil, nil, nil, nil, nil, nil, 0, 0)
	if Sum(nil) != 0 || Dot(nil, nil) != 0 || Max(nil) != -infinity {
		t.Error("reductions of nothing")
	}
}
