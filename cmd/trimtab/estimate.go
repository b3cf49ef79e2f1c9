package main

import (
	"fmt"
	"math"
	"time"

	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/bench"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/tensor"
)

// speedEstimator measures how fast this machine does the work of a spec. For
// a model that is small enough, training, scoring and sampling are each tried
// for a moment; larger ones are assumed to run at the speed of matrix
// products. A trial on a free machine takes about 0.15 s, so a plan takes a
// second or two.
type speedEstimator struct {
	// matMulFLOPS is the matrix-product throughput under the spec's numerics,
	// in FLOP/s.
	matMulFLOPS float64
	// speeds are the throughputs under all contracts.
	speeds numericsSpeeds
	// pool runs the trials on all cores.
	pool *tensor.Pool
	// numerics is the contract of the spec.
	numerics tensor.Numerics
	// measured caches tokens per second by trial, in its printed form.
	measured map[string]float64
}

// trial is a kind of work of package bench, on a model, with a batch of
// sequences of one length.
type trial struct {
	// kind is one of the kinds of work that bench measures.
	kind  string
	shape model.Config
	// batch is the number of sequences, and length their tokens.
	batch, length int
}

const (
	// trialTime is about how long a trial takes.
	trialTime = 150 * time.Millisecond
	// maxTrialTime is the longest that a trial may be expected to take; work
	// that would take longer is not tried.
	maxTrialTime = time.Second
)

// newSpeedEstimator measures matrix products, and starts a pool of workers,
// which the caller must close.
func newSpeedEstimator(n tensor.Numerics) *speedEstimator {
	speeds := measureNumericsSpeeds()
	return &speedEstimator{matMulFLOPS: speeds.of(string(n)), speeds: speeds, pool: tensor.NewPool(0), numerics: n,
		measured: map[string]float64{}}
}

// close stops the pool.
func (p *speedEstimator) close() { p.pool.Close() }

// seconds estimates how long a stage would take, from the tokens that it
// trains on, scores and samples. Batches and lengths are rounded to powers of
// two or four, so that stages that are alike share a trial.
func (p *speedEstimator) seconds(c recipes.StageCost) float64 {
	w, shape := c.Work, c.Shape
	length := max(2, min(roundToPower(w.Length, 2), shape.Context))
	batch := max(1, roundToPower(w.Together, 4)/length)
	t := 0.
	if w.Trained > 0 {
		t += w.Trained / p.tokensPerSecond(trial{bench.WorkTrain, shape, batch, length})
	}
	if w.Scored > 0 {
		t += w.Scored / p.tokensPerSecond(trial{bench.WorkScore, shape, max(1, 1024/length), length})
	}
	if w.Sampled > 0 {
		t += w.Sampled / p.tokensPerSecond(trial{bench.WorkGenerate, shape, 64, length})
	}
	return t
}

// roundToPower is the power of base nearest to n, on a logarithmic scale.
func roundToPower(n, base float64) int {
	return int(math.Pow(base, math.Round(math.Log(max(n, 1))/math.Log(base))))
}

// tokensPerSecond measures the rate of a kind of work, or computes it from
// the matrix-product throughput if the model is too large for the free memory
// or for maxTrialTime. A forward pass costs two FLOPs per parameter and
// token, and a training step three times that; 64 bytes per parameter cover
// weights, gradients, moments and activations of a trial.
func (p *speedEstimator) tokensPerSecond(t trial) float64 {
	key := fmt.Sprintf("%+v", t)
	if r, ok := p.measured[key]; ok {
		return r
	}
	each := 2 * float64(t.shape.Parameters()) // FLOPs per token, forward
	if t.kind == bench.WorkTrain {
		each *= 3
	}
	r := p.matMulFLOPS / each
	_, free, known := activities.Memory()
	// A trial must not push other programs out of memory: half of what is
	// free.
	fits := !known || int64(t.shape.Parameters())*64+1<<28 < free/2
	if took := float64(t.batch*t.length) / r; fits && took < maxTrialTime.Seconds() {
		if tried, ok := p.measure(t); ok {
			r = tried
		}
	}
	p.measured[key] = r
	return r
}

// measure runs the work at least twice and returns the best rate: whatever
// else runs on the machine only makes it slower, and the first run fills
// buffers.
func (p *speedEstimator) measure(t trial) (rate float64, ok bool) {
	rows := bench.Rows{Batch: t.batch, Length: t.length}
	s := bench.Shape{Config: t.shape, Train: rows, Score: rows,
		Generate: bench.Generation{Batch: t.batch, Prompt: max(1, t.length/2), Response: max(1, t.length-t.length/2)}}
	w, err := bench.New(t.kind, s, p.pool, p.numerics)
	if err != nil {
		return 0, false
	}
	for start, run := time.Now(), 0; run < 2 || time.Since(start) < trialTime; run++ {
		at := time.Now()
		tokens, err := w.Run(run)
		if err != nil {
			return 0, false
		}
		rate = max(rate, float64(tokens)/time.Since(at).Seconds())
		if time.Since(start) > maxTrialTime {
			break
		}
	}
	return rate, rate > 0
}
