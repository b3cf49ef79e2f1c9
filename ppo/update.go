package ppo

import (
	"slices"

	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/model"
)

// updateStats sums over the tokens and the updates of one iteration, in order.
type updateStats struct {
	policyUpdates  int
	policyTokens   int // response tokens, each once a PPO epoch
	policyLoss     float64
	approxKL       float64 // ½·(log ratio)²
	policyClipped  int
	entropy        float64
	ratioSum       float64
	meanRatios     []float64 // mean ratio of each update
	policyGradNorm float64   // sum over updates, before clipping
	policyLR       float32   // of the last update

	valueUpdates  int
	valueTokens   int
	valueLoss     float64
	valueClipped  int
	valueGradNorm float64
	valueLR       float32

	ptxTokens int
	ptxLoss   float64 // −log p, without the factor γ
}

// addPolicyToken adds one token and returns its dL/dlogprob.
func (s *updateStats) addPolicyToken(clip float64, logprob, oldLogprob, advantage, entropy float32) float32 {
	loss, dlogprob, ratio, clipped := PolicyLoss(logprob, oldLogprob, advantage, clip)
	s.policyLoss += loss
	s.approxKL += K2(logprob, oldLogprob)
	s.ratioSum += ratio
	s.entropy += float64(entropy)
	if clipped {
		s.policyClipped++
	}
	return float32(dlogprob)
}

// addValueToken adds one token and returns its dL/dvalue.
func (s *updateStats) addValueToken(clip float64, value, oldValue, ret float32) float32 {
	loss, dvalue, clipped := ValueLoss(value, oldValue, ret, clip)
	s.valueLoss += loss
	if clipped {
		s.valueClipped++
	}
	return float32(dvalue)
}

// updatePolicy performs one update of the policy, and of its moving average if
// one is kept. number counts the updates of the run from 0, those of the
// value-only iterations included.
func (t *Trainer) updatePolicy(stats *updateStats, number int, minibatch []*episode) {
	t.policy.zeroGrad()
	t.policyGradient(stats, minibatch)
	if t.config.PtxCoef > 0 {
		t.ptxGradient(stats, number, len(minibatch)*t.config.PtxRows)
	}
	// The policy's learning-rate schedule begins with its first update.
	warmup := t.config.ValueWarmup * t.updatesPerIteration()
	gradNorm, lr := t.policy.step(number-warmup, t.totalUpdates()-warmup)
	stats.policyUpdates++
	stats.policyGradNorm += float64(gradNorm)
	stats.policyLR = lr
}

// policyGradient adds the gradient of the mean clipped surrogate loss over the
// response tokens of a minibatch.
func (t *Trainer) policyGradient(stats *updateStats, minibatch []*episode) {
	policy, grad := t.policy.model, t.policy.grad
	n := responseTokens(minibatch)
	ratioSumBefore := stats.ratioSum
	for micro := range dataset.MicroBatches(minibatch, t.microTokens, (*episode).length) {
		batch, rows, positions := responseBatch(micro)
		t.pass.Forward(policy, batch)
		head := t.pass.LogProbs(policy, rows, t.inverseTemperature())
		dlogprobs := make([]float32, len(rows))
		for i, logprob := range head.LogP {
			e, k := positions[i].episode, positions[i].index
			dlogprob := stats.addPolicyToken(t.config.ClipRange, logprob, e.logprobs[k], e.whitened[k], head.Entropy[i])
			dlogprobs[i] = dlogprob / float32(n)
		}
		t.pass.LogProbsBackward(policy, grad, dlogprobs, nil)
		t.pass.BackwardBody(policy, grad)
	}
	stats.policyTokens += n
	stats.meanRatios = append(stats.meanRatios, (stats.ratioSum-ratioSumBefore)/float64(n))
}

// ptxGradient adds γ times the gradient of the pretraining loss, the mean
// −log p over the target tokens of the update's rows of pretraining text
// (PPO-ptx, InstructGPT section 3.5 and appendix C.4).
func (t *Trainer) ptxGradient(stats *updateStats, number, rowsPerUpdate int) {
	policy, grad := t.policy.model, t.policy.grad
	rows := make([][]int32, rowsPerUpdate)
	n := 0 // target tokens: all but the first of each row
	for i := range rows {
		rows[i] = t.in.Pretrain[t.ptxOrder.Index(number*rowsPerUpdate+i)]
		n += len(rows[i]) - 1
	}
	dlogprob := -float32(t.config.PtxCoef) / float32(n)
	rowTokens := func(row []int32) int { return len(row) }
	for micro := range dataset.MicroBatches(rows, t.microTokens, rowTokens) {
		batch, targets := model.NextTokens(micro, nil)
		t.pass.Forward(policy, batch)
		dlogprobs := slices.Repeat([]float32{dlogprob}, len(targets))
		for _, logprob := range t.pass.WeightedLogProbs(policy, grad, targets, 1, dlogprobs).LogP {
			stats.ptxLoss -= float64(logprob)
		}
		t.pass.BackwardBody(policy, grad)
	}
	stats.ptxTokens += n
}

// updateValue performs one update of the value model. number counts the
// updates of the run from 0.
func (t *Trainer) updateValue(stats *updateStats, number int, minibatch []*episode) {
	t.value.zeroGrad()
	t.valueGradient(stats, minibatch)
	gradNorm, lr := t.value.step(number, t.totalUpdates())
	stats.valueUpdates++
	stats.valueGradNorm += float64(gradNorm)
	stats.valueLR = lr
}

// valueGradient adds the gradient of the mean clipped squared error over the
// response tokens of a minibatch.
func (t *Trainer) valueGradient(stats *updateStats, minibatch []*episode) {
	value, grad := t.value.model, t.value.grad
	n := responseTokens(minibatch)
	for micro := range dataset.MicroBatches(minibatch, t.microTokens, (*episode).length) {
		batch, rows, positions := responseBatch(micro)
		indices := rowIndices(rows)
		t.pass.Forward(value, batch)
		values := t.pass.ScalarHead(value, indices)
		dvalues := make([]float32, len(values))
		for i, v := range values {
			e, k := positions[i].episode, positions[i].index
			dvalues[i] = stats.addValueToken(t.config.ClipRangeValue, v, e.values[k], e.returns[k]) / float32(n)
		}
		t.pass.ScalarBackward(value, grad, indices, dvalues)
		t.pass.BackwardBody(value, grad)
	}
	stats.valueTokens += n
}
