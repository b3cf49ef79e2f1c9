package ppo

import (
	"context"

	"github.com/trimtab/trimtab/model"
)

// updateStats sums over the tokens and the updates of one iteration, in order.
type updateStats struct {
	policyTokens   int // learned from by the policy
	policyUpdates  int // of the policy
	policyLoss     float64
	approxKL       float64 // ½·(log ratio)²
	policyClipped  int
	entropy        float64
	ratioSum       float64
	meanRatios     []float64 // mean of each update
	policyGradNorm float64

	valueTokens, valueUpdates, valueClipped int
	valueLoss, valueGradNorm                float64

	ptxTokens int
	ptxLoss   float64

	policyLR, valueLR float32 // of the last update
}

// policyUpdates runs the inner epochs: each goes once through the episodes in an
// order of its own, a minibatch at a time. When ctx ends it stops halfway; the
// state is then of no use.
func (t *Trainer) trainEpochs(ctx context.Context, iteration int, episodes []*episode) (sum updateStats, err error) {
	size := t.config.Batch / t.config.Minibatches
	for epoch := range t.config.InnerEpochs {
		perm := t.shuffleSource.At(uint64(iteration), uint64(epoch)).Perm(len(episodes))
		for m := range t.config.Minibatches {
			if err := ctx.Err(); err != nil {
				return sum, err
			}
			mini := make([]*episode, size)
			for i, p := range perm[m*size : (m+1)*size] {
				mini[i] = episodes[p]
			}
			number := (iteration*t.config.InnerEpochs+epoch)*t.config.Minibatches + m
			t.updateValue(&sum, number, mini)
			if iteration >= t.config.ValueWarmup {
				t.updatePolicy(&sum, number, mini)
			}
		}
	}
	return sum, nil
}

// tokensOf counts response tokens.
func tokensOf(episodes []*episode) int {
	n := 0
	for _, e := range episodes {
		n += len(e.response())
	}
	return n
}

// updatePolicy makes one update of the policy, and of its average.
func (t *Trainer) updatePolicy(sum *updateStats, number int, mini []*episode) {
	t.in.Pool.Clear(t.policy.grad)
	t.policyGradient(sum, mini)
	if t.config.PtxCoef > 0 {
		t.ptxGradient(sum, number, len(mini)*t.config.PtxRows)
	}
	skipped := t.config.ValueWarmup * t.updatesPerIteration()
	norm, lr := t.policy.step(number-skipped, t.Steps()*t.updatesPerIteration()-skipped)
	sum.policyUpdates++
	sum.policyGradNorm += float64(norm)
	sum.policyLR = lr
}

// policyGradient adds the gradient of the mean clipped surrogate over the tokens of mini.
func (t *Trainer) policyGradient(sum *updateStats, mini []*episode) {
	n := tokensOf(mini)
	before := sum.ratioSum
	t.inMicroBatches(mini, func(chunk []*episode) {
		b, rows, places := responseBatch(chunk)
		t.pass.Forward(t.policy.model, b)
		t.pass.LMHead(t.policy.model, t.policy.grad, rows, t.inverseTemperature(),
			func(i int, logp, entropy float32) float32 {
				e, at := places[i].episode, places[i].index
				return sum.addPolicyToken(t.config.Clip, logp, e.logprobs[at], e.whitened[at], entropy) / float32(n)
			})
		t.pass.BackwardBody(t.policy.model, t.policy.grad)
	})
	sum.policyTokens += n
	sum.meanRatios = append(sum.meanRatios, (sum.ratioSum-before)/float64(n))
}

// addPolicyToken adds one token and gives its loss' gradient by logp.
func (s *updateStats) addPolicyToken(clip float64, logp, old, advantage, entropy float32) float32 {
	loss, d, ratio, clipped := PolicyLoss(logp, old, advantage, clip)
	s.policyLoss += loss
	s.approxKL += K2(logp, old)
	s.ratioSum += ratio
	s.entropy += float64(entropy)
	if clipped {
		s.policyClipped++
	}
	return float32(d)
}

// ptxGradient adds γ times the gradient of the mean −log p over the
// tokens of the update's pretraining rows.
func (t *Trainer) ptxGradient(sum *updateStats, number, rows int) {
	seqs := make([][]int32, rows)
	n := 0
	for i := range seqs {
		seqs[i] = t.in.Pretrain[t.ptxOrder.Index(number*rows+i)]
		n += len(seqs[i]) - 1
	}
	weight := -float32(t.config.PtxCoef) / float32(n)
	for len(seqs) > 0 {
		size := min(len(seqs), max(1, t.microTokens/len(seqs[0])))
		b, targets := shift(seqs[:size])
		t.pass.Forward(t.policy.model, b)
		t.pass.LMHead(t.policy.model, t.policy.grad, targets, 1, func(_ int, logp, _ float32) float32 {
			sum.ptxLoss -= float64(logp)
			return weight
		})
		t.pass.BackwardBody(t.policy.model, t.policy.grad)
		seqs = seqs[size:]
	}
	sum.ptxTokens += n
}

// shift makes each row's tokens but the last the input, and its tokens but the first the targets.
func shift(rows [][]int32) (model.Batch, []model.HeadRow) {
	inputs := make([][]int32, len(rows))
	var targets []model.HeadRow
	for i, row := range rows {
		inputs[i] = row[:len(row)-1]
		for _, id := range row[1:] {
			targets = append(targets, model.HeadRow{Row: len(targets), Target: id})
		}
	}
	return model.NewBatch(inputs...), targets
}

// updateValue makes one update of the value model.
func (t *Trainer) updateValue(sum *updateStats, number int, mini []*episode) {
	t.in.Pool.Clear(t.value.grad)
	t.valueGradient(sum, mini)
	norm, lr := t.value.step(number, t.Steps()*t.updatesPerIteration())
	sum.valueUpdates++
	sum.valueGradNorm += float64(norm)
	sum.valueLR = lr
}

// valueGradient adds the gradient of the mean clipped squared error over the tokens of mini.
func (t *Trainer) valueGradient(sum *updateStats, mini []*episode) {
	n := tokensOf(mini)
	t.inMicroBatches(mini, func(chunk []*episode) {
		b, rows, places := responseBatch(chunk)
		at := rowIndices(rows)
		t.pass.Forward(t.value.model, b)
		values := t.pass.ScalarHead(t.value.model, at)
		dvalues := make([]float32, len(values))
		for i, v := range values {
			e, k := places[i].episode, places[i].index
			dvalues[i] = sum.addValueToken(t.config.ValueClip, v, e.values[k], e.returns[k]) / float32(n)
		}
		t.pass.ScalarBackward(t.value.model, t.value.grad, at, dvalues)
		t.pass.BackwardBody(t.value.model, t.value.grad)
	})
	sum.valueTokens += n
}

// addValueToken adds one token and gives its loss' gradient by v.
func (s *updateStats) addValueToken(clip float64, v, old, ret float32) float32 {
	loss, d, clipped := ValueLoss(v, old, ret, clip)
	s.valueLoss += loss
	if clipped {
		s.valueClipped++
	}
	return float32(d)
}
