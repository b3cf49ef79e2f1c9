package model

import "github.com/trimtab/trimtab/tensor"

// kvCache holds the keys and values of sequences being sampled. Keys lie in
// blocks of 16, turned, so that scores run along time as the values do; values
// are filled up to a multiple of 16 columns, which are of no use.
type kvCache struct {
	heads, d, c int
	vWidth      int         // D rounded up to 16
	capacity    int         // T: room for tokens, a multiple of 16
	k           [][]float32 // by block: (slots, H, T/16, D, 16)
	v           [][]float32 // by block: (slots, H, T, wide)
	scale       float32     // 1/√D
}

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

// slot is the keys and values of block l of one sequence.
func (kv *kvCache) slot(l, slot int) (k, v []float32) {
	return kv.k[l][slot*kv.c*kv.capacity:][:kv.c*kv.capacity],
		kv.v[l][slot*kv.heads*kv.vWidth*kv.capacity:][:kv.heads*kv.vWidth*kv.capacity]
}

// store keeps the key and value of token t of a slot. qkv begins with the row
// (3C).
func (kv *kvCache) store(l, slot, t int, qkv []float32) {
	k, v := kv.slot(l, slot)
	for h := range kv.heads {
		from := kv.c + h*kv.d
		to := k[h*kv.d*kv.capacity+t/tensor.KeyBlock*kv.d*tensor.KeyBlock+t%tensor.KeyBlock:]
		for i, x := range qkv[from : from+kv.d] {
			to[i*tensor.KeyBlock] = x
		}
		copy(v[(h*kv.capacity+t)*kv.vWidth:], qkv[from+kv.c:from+kv.c+kv.d])
	}
}

// scratch is how many values attend needs.
func (kv *kvCache) scratch() int { return kv.heads * (kv.capacity + kv.vWidth) }

// attendTask is the attention of the last of n cached tokens, all heads: the same
// chains as Pass.attend runs for that row. next is the keys that will be wanted
// then.
func (kv *kvCache) attend(l, slot, n int, qkv []float32 /* (3C) */, att []float32 /* (C) */, scratch, next []float32) {
	k, v := kv.slot(l, slot)
	s, out := scratch[:kv.heads*kv.capacity], scratch[kv.heads*kv.capacity:]
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
