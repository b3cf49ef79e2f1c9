package model

import "github.com/trimtab/trimtab/tensor"

// cache holds the keys and values of sequences being sampled. Keys lie in
// blocks of 16, turned, so that scores run along time as the values do; values
// are filled up to a multiple of 16 columns, which are of no use.
type cache struct {
	heads, d, c int
	wide        int         // D rounded up to 16
	time        int         // T: room for tokens, a multiple of 16
	k           [][]float32 // by block: (slots, H, T/16, D, 16)
	v           [][]float32 // by block: (slots, H, T, wide)
	scale       float32     // 1/√D
}

func (kv *cache) size(c Config, slots, longest int) {
	kv.heads, kv.c = c.Heads, c.Width
	kv.d = c.Width / c.Heads
	kv.wide = (kv.d + 15) / 16 * 16
	kv.time = (longest + tensor.KeyBlock - 1) / tensor.KeyBlock * tensor.KeyBlock
	kv.scale = tensor.Rsqrt1(float32(kv.d))
	sized(&kv.k, c.Layers)
	sized(&kv.v, c.Layers)
	for l := range c.Layers {
		slab(&kv.k[l], slots*c.Width*kv.time)
		slab(&kv.v[l], slots*kv.heads*kv.wide*kv.time)
	}
}

// slot is the keys and values of block l of one sequence.
func (kv *cache) slot(l, slot int) (k, v []float32) {
	return kv.k[l][slot*kv.c*kv.time:][:kv.c*kv.time], kv.v[l][slot*kv.heads*kv.wide*kv.time:][:kv.heads*kv.wide*kv.time]
}

// store keeps the key and value of token t of a slot. qkv begins with the row
// (3C).
func (kv *cache) store(l, slot, t int, qkv []float32) {
	k, v := kv.slot(l, slot)
	for h := range kv.heads {
		from := kv.c + h*kv.d
		to := k[h*kv.d*kv.time+t/tensor.KeyBlock*kv.d*tensor.KeyBlock+t%tensor.KeyBlock:]
		for i, x := range qkv[from : from+kv.d] {
			to[i*tensor.KeyBlock] = x
		}
		copy(v[(h*kv.time+t)*kv.wide:], qkv[from+kv.c:from+kv.c+kv.d])
	}
}

// scratch is how many values attend needs.
func (kv *cache) scratch() int { return kv.heads * (kv.time + kv.wide) }

// attend is the attention of the last of n cached tokens, all heads: the same
// chains as Pass.attend runs for that row. next is the keys that will be wanted
// then.
func (kv *cache) attend(l, slot, n int, qkv []float32 /* (3C) */, att []float32 /* (C) */, scratch, next []float32) {
	k, v := kv.slot(l, slot)
	s, out := scratch[:kv.heads*kv.time], scratch[kv.heads*kv.time:]
	for h := range kv.heads {
		from, p := h*kv.d, s[h*kv.time:(h+1)*kv.time]
		tensor.Scores(p, qkv[from:from+kv.d], k[from*kv.time:], n, v[h*kv.time*kv.wide:])
		tensor.Softmax(p[:n], kv.scale)
	}
	tensor.Weigh(out, s, kv.time, v, kv.time*kv.wide, kv.heads, kv.wide, n, next)
	for h := range kv.heads {
		copy(att[h*kv.d:(h+1)*kv.d], out[h*kv.wide:])
	}
}
