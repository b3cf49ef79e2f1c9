package model

import "github.com/trimtab/trimtab/tensor"

// cache holds the keys and values of sequences being sampled. Keys lie turned,
// so that scores run along time as the values do.
type cache struct {
	heads, d, c int
	time        int         // T: room for tokens, a multiple of 16
	k           [][]float32 // by block: (slots, H, D, T)
	v           [][]float32 // by block: (slots, H, T, D)
	scale       float32     // 1/√D
}

func (kv *cache) size(c Config, slots, longest int) {
	kv.heads, kv.c = c.Heads, c.Width
	kv.d = c.Width / c.Heads
	kv.time = (longest + 15) / 16 * 16
	kv.scale = tensor.Rsqrt1(float32(kv.d))
	sized(&kv.k, c.Layers)
	sized(&kv.v, c.Layers)
	for l := range c.Layers {
		sized(&kv.k[l], slots*c.Width*kv.time)
		sized(&kv.v[l], slots*c.Width*kv.time)
	}
}

// store keeps the key and value of token t of a slot. qkv begins with the row
// (3C).
func (kv *cache) store(l, slot, t int, qkv []float32) {
	at := slot * kv.c * kv.time
	k, v := kv.k[l][at:], kv.v[l][at:]
	for i, x := range qkv[kv.c : 2*kv.c] {
		k[i*kv.time+t] = x
	}
	for h := range kv.heads {
		from := 2*kv.c + h*kv.d
		copy(v[(h*kv.time+t)*kv.d:][:kv.d], qkv[from:from+kv.d])
	}
}

// attend is the attention of the last of n cached tokens, all heads: the same
// chains as Pass.attend runs for that row.
func (kv *cache) attend(l, slot, n int, qkv []float32 /* (3C) */, att []float32 /* (C) */, s []float32 /* (T) */) {
	at := slot * kv.c * kv.time
	k, v := kv.k[l][at:], kv.v[l][at:]
	for h := range kv.heads {
		from, to := h*kv.d, (h+1)*kv.d
		head := from * kv.time
		tensor.MatMul(nil, s, n, qkv[from:to], kv.d, k[head:], kv.time, 1, n, kv.d, false)
		tensor.Softmax(s[:n], kv.scale)
		tensor.MatMul(nil, att[from:to], kv.d, s, n, v[head:], kv.d, 1, kv.d, n, false)
	}
}
