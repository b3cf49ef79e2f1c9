package ppo

import (
	"context"

	"github.com/trimtab/trimtab/model"
)

// tally sums over the tokens and the updates of one iteration, in order.
type tally struct {
	tokens  int // learned from by the policy
	updates int // of the policy
	loss    float64
	kl      float64 // ½·(log ratio)²
	clipped int
	entropy float64
	ratio   float64
	ratios  []float64 // mean of each update
	norm    float64

	valueTokens, valueUpdates, valueClipped int
	valueLoss, valueNorm                    float64

	ptxTokens int
	ptxLoss   float64

	lr, valueLR float32 // of the last update
}

// updates runs the inner epochs: each goes once through the episodes in an
// order of its own, a minibatch at a time. When ctx ends it stops halfway; the
// state is then of no use.
func (t *Trainer) updates(ctx context.Context, iteration int, episodes []*episode) (sum tally, err error) {
	size := t.config.Batch / t.config.Minibatches
	for epoch := range t.config.InnerEpochs {
		perm := t.shuffle.At(uint64(iteration), uint64(epoch)).Perm(len(episodes))
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
func (t *Trainer) updatePolicy(sum *tally, number int, mini []*episode) {
	t.in.Pool.Clear(t.policy.grad)
	t.policyGradient(sum, mini)
	if t.config.PtxCoef > 0 {
		t.pretrainGradient(sum, number, len(mini)*t.config.PtxRows)
	}
	skipped := t.config.ValueWarmup * t.perIteration()
	norm, lr := t.policy.step(number-skipped, t.Steps()*t.perIteration()-skipped)
	sum.updates++
	sum.norm += float64(norm)
	sum.lr = lr
}

// policyGradient adds the gradient of the mean clipped surrogate over the tokens of mini.
func (t *Trainer) policyGradient(sum *tally, mini []*episode) {
	n := tokensOf(mini)
	before := sum.ratio
	t.inChunks(mini, func(chunk []*episode) {
		b, rows, places := batch(chunk)
		t.pass.Forward(t.policy.m, b)
		t.pass.LMHead(t.policy.m, t.policy.grad, rows, t.invTemp(), func(i int, logp, entropy float32) float32 {
			e, at := places[i].e, places[i].at
			return sum.policyToken(t.config.Clip, logp, e.logp[at], e.white[at], entropy) / float32(n)
		})
		t.pass.BackwardBody(t.policy.m, t.policy.grad)
	})
	sum.tokens += n
	sum.ratios = append(sum.ratios, (sum.ratio-before)/float64(n))
}

// policyToken adds one token and gives its loss' gradient by logp.
func (s *tally) policyToken(clip float64, logp, old, advantage, entropy float32) float32 {
	loss, d, ratio, clipped := PolicyLoss(logp, old, advantage, clip)
	s.loss += loss
	s.kl += K2(logp, old)
	s.ratio += ratio
	s.entropy += float64(entropy)
	if clipped {
		s.clipped++
	}
	return float32(d)
}

// pretrainGradient adds γ times the gradient of the mean −log p over the
// tokens of the update's pretraining rows.
func (t *Trainer) pretrainGradient(sum *tally, number, rows int) {
	seqs := make([][]int32, rows)
	n := 0
	for i := range seqs {
		seqs[i] = t.in.Pretrain[t.rows.At(number*rows+i)]
		n += len(seqs[i]) - 1
	}
	weight := -float32(t.config.PtxCoef) / float32(n)
	for len(seqs) > 0 {
		size := min(len(seqs), max(1, t.micro/len(seqs[0])))
		b, targets := shift(seqs[:size])
		t.pass.Forward(t.policy.m, b)
		t.pass.LMHead(t.policy.m, t.policy.grad, targets, 1, func(_ int, logp, _ float32) float32 {
			sum.ptxLoss -= float64(logp)
			return weight
		})
		t.pass.BackwardBody(t.policy.m, t.policy.grad)
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
func (t *Trainer) updateValue(sum *tally, number int, mini []*episode) {
	t.in.Pool.Clear(t.value.grad)
	t.valueGradient(sum, mini)
	norm, lr := t.value.step(number, t.Steps()*t.perIteration())
	sum.valueUpdates++
	sum.valueNorm += float64(norm)
	sum.valueLR = lr
}

// valueGradient adds the gradient of the mean clipped squared error over the tokens of mini.
func (t *Trainer) valueGradient(sum *tally, mini []*episode) {
	n := tokensOf(mini)
	t.inChunks(mini, func(chunk []*episode) {
		b, rows, places := batch(chunk)
		at := indices(rows)
		t.pass.Forward(t.value.m, b)
		values := t.pass.ScalarHead(t.value.m, at)
		dvalues := make([]float32, len(values))
		for i, v := range values {
			e, k := places[i].e, places[i].at
			dvalues[i] = sum.valueToken(t.config.ValueClip, v, e.values[k], e.returns[k]) / float32(n)
		}
		t.pass.ScalarBackward(t.value.m, t.value.grad, at, dvalues)
		t.pass.BackwardBody(t.value.m, t.value.grad)
	})
	sum.valueTokens += n
}

// valueToken adds one token and gives its loss' gradient by v.
func (s *tally) valueToken(clip float64, v, old, ret float32) float32 {
	loss, d, clipped := ValueLoss(v, old, ret, clip)
	s.valueLoss += loss
	if clipped {
		s.valueClipped++
	}
	return float32(d)
}
