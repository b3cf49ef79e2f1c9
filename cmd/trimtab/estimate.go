package main

import (
	"math"
	"time"

	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/bench"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/tensor"
)

// speedEstimator is how fast this machine does the work of a spec. Where a model is small
// enough its training, scoring and sampling are tried for a moment; else they
// are taken to be as fast as matrix products.
type speedEstimator struct {
	matMulFLOPS float64 // FLOP/s of matrix products under the spec's numerics
	speeds      numericsSpeeds
	pool        *tensor.Pool
	numerics    tensor.Numerics
	measured    map[trial]float64 // tokens a second
}

// trial is work to try: of a kind of bench's, on a model, with sequences of a
// length, some of them at once.
type trial struct {
	kind          string
	shape         model.Config
	batch, length int
}

// trialTime is about how long a trial takes, and maxTrialTime how long it may be
// expected to take to be tried at all.
const (
	trialTime    = 150 * time.Millisecond
	maxTrialTime = time.Second
)

// newSpeedEstimator measures matrix products.
func newSpeedEstimator(n tensor.Numerics) *speedEstimator {
	speeds := measureNumericsSpeeds()
	return &speedEstimator{matMulFLOPS: speeds.of(string(n)), speeds: speeds, pool: tensor.NewPool(0), numerics: n,
		measured: map[trial]float64{}}
}

func (p *speedEstimator) close() { p.pool.Close() }

// formatSeconds is how long a stage would take.
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

// roundToPower is the power of a base next to a number, so that stages that are
// alike share a trial.
func roundToPower(n, base float64) int {
	return int(math.Pow(base, math.Round(math.Log(max(n, 1))/math.Log(base))))
}

// tokensPerSecond is tokens a second.
func (p *speedEstimator) tokensPerSecond(t trial) float64 {
	if r, ok := p.measured[t]; ok {
		return r
	}
	each := 2 * float64(t.shape.Parameters()) // forward, a token
	if t.kind == bench.WorkTrain {
		each *= 3
	}
	r := p.matMulFLOPS / each
	_, free, known := activities.Memory()
	fits := !known || int64(t.shape.Parameters())*64+1<<28 < free/2
	if took := float64(t.batch*t.length) / r; fits && took < maxTrialTime.Seconds() {
		if tried, ok := p.measure(t); ok {
			r = tried
		}
	}
	p.measured[t] = r
	return r
}

// measure does the work twice at the least, and takes the fastest: what else runs
// on the machine only makes it slower.
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
