package model

import "github.com/trimtab/trimtab/tensor"

// kvCache holds the keys and values of sequences that are being sampled, a slot for each.
//
// Keys lie in blocks of 16, transposed (see tensor.KeyBlock), so that scores are computed along time as the sums of
// values are. Values are padded to a multiple of 16 columns; what is in the padding is never used.
type kvCache struct {
	heads, d, c int
	vWidth      int         // D rounded up to 16
	capacity    int         // T: room for tokens of a sequence, a multiple of 16
	k           [][]float32 // by block: (slots, H, T/16, D, 16)
	v           [][]float32 // by block: (slots, H, T, vWidth)
	scale       float32     // 1/√D
}

// size makes room for that many slots of sequences of at most longest tokens.
func (kv *kvCache) size(c Config, slots, longest int) {
	kv.heads, kv.c = c.Heads, c.Width
	kv.d = c.Width / c.Heads
	kv.vWidth = (kv.d + 15) / 16 * 16
	kv.capacity = (longest + tensor.KeyBlock - 1) / tensor.KeyBlock * tensor.KeyBlock
	kv.scale = tensor.Rsqrt1(float32(kv.d))
	resize(&kv.k, c.Layers)
	resize(&kv.v, c.Layers)
	for l := range c.Layers {
		resizeSlab(&kv.k[l], slots*c.Width*kv.capacity)
		resizeSlab(&kv.v[l], slots*kv.heads*kv.vWidth*kv.capacity)
	}
}

// slot returns the keys (H, T/16, D, 16) and values (H, T, vWidth) of block l of one sequence.
func (kv *kvCache) slot(l, slot int) (k, v []float32) {
	keys, values := kv.c*kv.capacity, kv.heads*kv.vWidth*kv.capacity
	return kv.k[l][slot*keys:][:keys], kv.v[l][slot*values:][:values]
}

// store caches the key and value of token t of a slot, all heads. qkv begins with the token's row (3C).
func (kv *kvCache) store(l, slot, t int, qkv []float32) {
	k, v := kv.slot(l, slot)
	for h := range kv.heads {
		from := kv.c + h*kv.d // the head's key; its value is C further on
		dst := k[h*kv.d*kv.capacity+t/tensor.KeyBlock*kv.d*tensor.KeyBlock+t%tensor.KeyBlock:]
		for i, x := range qkv[from : from+kv.d] {
			dst[i*tensor.KeyBlock] = x
		}
		copy(v[(h*kv.capacity+t)*kv.vWidth:], qkv[from+kv.c:from+kv.c+kv.d])
	}
}

// scratch returns the number of floats of scratch memory that attend needs: scores and outputs of all heads.
func (kv *kvCache) scratch() int { return kv.heads * (kv.capacity + kv.vWidth) }

// attend is the attention of the last of n cached tokens, all heads,
//
//	att = Σ_{j<n} p_j v_j,  p = softmax_{j<n}(q·k_j/√D)
//
// by the same chains as Pass.attend runs for that row. next is the keys that the caller will need next, to be
// prefetched.
func (kv *kvCache) attend(
	l, slot, n int,
	qkv []float32, // (3C) the token's row
	att []float32, // (C)
	scratch, next []float32,
) {
	k, v := kv.slot(l, slot)
	s, out := scratch[:kv.heads*kv.capacity], scratch[kv.heads*kv.capacity:] // (H, T), (H, vWidth)
	for h := range kv.heads {
		from, p := h*kv.d, s[h*kv.capacity:(h+1)*kv.capacity]
		tensor.AttentionScores(p, qkv[from:from+kv.d], k[from*kv.capacity:], n, v[h*kv.capacity*kv.vWidth:])
		tensor.Softmax(p[:n], kv.scale)
	}
	tensor.WeightedValues(out, s, kv.capacity, v, kv.capacity*kv.vWidth, kv.heads, kv.vWidth, n, next)
	for h := range kv.heads {
		copy(att[h*kv.d:(h+1)*kv.d], out[h*kv.vWidth:])
	}
}
