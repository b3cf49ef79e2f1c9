package model

// What a model costs, for estimates: floating-point operations, and floats of memory.

// ForwardFLOPs counts the floating-point operations of a forward pass over one sequence of length tokens, with logits
// computed at some of its positions. With L blocks, C the width, A that of all heads and V the vocabulary it is 2 for
// each product of a weight and a token, and 2 each for QKᵀ and PV at every pair of positions that mask and sliding
// window leave:
//
//	2·(weights of the blocks)·T + Σ over blocks 4·A·pairs + 2·C·V·logits
//
// Embeddings, biases, norms, activations and softmax are not counted, and neither is what a backward pass recomputes.
func (c Config) ForwardFLOPs(length, logits int) float64 {
	flops := 2*float64(c.bodyWeights())*float64(length) + 2*float64(c.Width)*float64(c.Vocab*logits)
	for l := range c.Layers {
		flops += 4 * float64(c.attentionWidth()) * pairs(length, c.windowOf(l))
	}
	return flops
}

// pairs returns how many pairs of a query and a key there are in a sequence of t tokens.
func pairs(t, window int) float64 {
	if window == 0 || window >= t {
		return float64(t) * float64(t+1) / 2
	}
	w := float64(window)
	return w*(w+1)/2 + w*float64(t-window)
}

// bodyWeights returns the number of weights of the blocks' matrices.
func (c Config) bodyWeights() int {
	up, qkv := c.upWidth(), c.qkvWidth()
	return c.Layers * (c.Width*(qkv+c.attentionWidth()+up) + c.inner()*c.Width)
}

// ActivationFloats returns how many floats a training step keeps of each token in each block: 10·C for GPT-2.
func (c Config) ActivationFloats() int {
	n := 2*c.Width + c.qkvWidth() + c.attentionWidth() + c.upWidth()
	if c.QKNorm != NoQKNorm {
		n += (c.Heads + c.kvHeads()) * c.headDim()
	}
	if c.normsAfter() || c.ResidualScale != 0 {
		n += 2 * c.Width
	}
	return n
}

// ScratchFloats returns how many floats a forward pass takes for each token beside ActivationFloats: 9·C for GPT-2. A
// pass that keeps no activations takes those of one block and these.
func (c Config) ScratchFloats() int { return 5*c.Width + c.inner() }

// BackwardFloats returns how many floats the backward pass takes for each of the tokens that go through it together:
// 36·C for GPT-2.
func (c Config) BackwardFloats() int {
	block := 5*c.Width + c.qkvWidth() + c.inner() + c.upWidth()
	if c.Gated {
		block += c.inner()
	}
	if c.QKNorm != NoQKNorm {
		block += (c.Heads + c.kvHeads()) * c.headDim()
	}
	if c.normsAfter() || c.ResidualScale != 0 {
		block += 2 * c.Width
	}
	return 2*block + 3*c.Width + c.attentionWidth()
}

// CacheFloats returns how many floats the keys and values of a sequence of so many tokens take while it is sampled.
func (c Config) CacheFloats(tokens int) int {
	room := roundUp(tokens, pageTokens(tokens))
	return c.Layers * c.kvHeads() * room * (c.headDim() + roundUp(c.headDim(), 16))
}
