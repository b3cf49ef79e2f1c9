package model

import "github.com/trimtab/trimtab/tensor"

// maxPage is the most tokens of a page of the cache. Pages are no longer than the longest sequence.
const maxPage = 256

// kvCache holds the keys and values of sequences that are being sampled, in pages that sequences of any lengths share
// (Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", 2023). Pages are
// made when they are needed, and kept for the sequences after.
//
// In a page, keys lie in blocks of 16, transposed (see tensor.KeyBlock), so that scores are computed along time as the
// sums of values are. Values are padded to a multiple of 16 columns; what is in the padding is never used.
type kvCache struct {
	d      *dims
	tokens int         // of a page, a multiple of tensor.KeyBlock
	vWidth int         // D rounded up to 16
	keys   int         // floats of a block's keys in a page, (KV, tokens/16, D, 16)
	layer  int         // of its keys and values (KV, tokens, vWidth)
	layers int         // L
	pages  [][]float32 // (L, layer)
	free   []int32     // pages of no sequence, the next one last
}

// reset makes the cache an empty one for sequences of m of at most longest tokens.
func (kv *kvCache) reset(m *Model, longest int) {
	d := &m.dims
	kv.tokens = pageTokens(longest)
	kv.vWidth = (d.headDim + 15) / 16 * 16
	keys := d.kvHeads * d.headDim * kv.tokens
	layer := keys + d.kvHeads*kv.vWidth*kv.tokens
	if kv.layers != m.Config.Layers || kv.keys != keys || kv.layer != layer {
		kv.pages = nil
	}
	kv.d, kv.layers = d, m.Config.Layers
	kv.keys, kv.layer = keys, layer
	kv.free = kv.free[:0]
	for i := range kv.pages {
		kv.free = append(kv.free, int32(len(kv.pages)-1-i))
	}
}

// reserve adds pages to those of a sequence until they hold so many tokens.
func (kv *kvCache) reserve(pages []int32, tokens int) []int32 {
	for len(pages)*kv.tokens < tokens {
		if len(kv.free) == 0 {
			kv.free = append(kv.free, int32(len(kv.pages)))
			kv.pages = append(kv.pages, tensor.Slab(kv.layers*kv.layer))
		}
		last := len(kv.free) - 1
		pages = append(pages, kv.free[last])
		kv.free = kv.free[:last]
	}
	return pages
}

// release gives back the pages of a sequence.
func (kv *kvCache) release(pages []int32) { kv.free = append(kv.free, pages...) }

// page returns keys (KV, tokens/16, D, 16) and values (KV, tokens, vWidth) of block l in a page.
func (kv *kvCache) page(l int, page int32) (k, v []float32) {
	x := kv.pages[page][l*kv.layer : (l+1)*kv.layer]
	return x[:kv.keys], x[kv.keys:]
}

// store caches the key and value of token t of a sequence in block l, all heads. qkv begins with the token's row.
func (kv *kvCache) store(l int, pages []int32, t int, qkv []float32) {
	k, v := kv.page(l, pages[t/kv.tokens])
	d := kv.d
	t %= kv.tokens
	for h := range d.kvHeads {
		dst := k[h*d.headDim*kv.tokens+t/tensor.KeyBlock*d.headDim*tensor.KeyBlock+t%tensor.KeyBlock:]
		at := d.key(h)
		for i, x := range qkv[at : at+d.headDim] {
			dst[i*tensor.KeyBlock] = x
		}
		at = d.value(h)
		copy(v[(h*kv.tokens+t)*kv.vWidth:], qkv[at:at+d.headDim])
	}
}

// pageTokens returns the number of tokens of a page for sequences of at most longest tokens.
func pageTokens(longest int) int { return min(maxPage, roundUp(max(longest, 1), tensor.KeyBlock)) }

// roundUp returns the smallest multiple of unit that is not below x.
func roundUp(x, unit int) int { return (x + unit - 1) / unit * unit }

// scratch returns the number of floats of scratch memory that attend needs for sequences of at most longest tokens:
// scores and outputs of all heads.
func (kv *kvCache) scratch(longest int) int {
	return kv.d.heads * (roundUp(longest, tensor.KeyBlock) + kv.vWidth)
}

// attend is the attention of the last of n cached tokens, all heads,
//
//	att = Σ_j p_j v_j,  p = softmax_j(cap(q·k_j·scale))
//
// by the same chains as Pass.attendHead runs for that row. window is how many keys it sees, 0 for all. next is the keys
// that the caller will need next, to be prefetched.
func (kv *kvCache) attend(
	l int, pages []int32, n, window int,
	qkv []float32, // (qkvWidth) the token's row
	att []float32, // (H·D)
	scratch, next []float32,
) {
	d, capacity := kv.d, roundUp(n, tensor.KeyBlock)
	s, out := scratch[:d.heads*capacity], scratch[d.heads*capacity:] // (H, T), (H, vWidth)
	first := firstKey(n-1, window)
	for h := range d.heads {
		at, row := d.query(h), s[h*capacity:(h+1)*capacity]
		kv.scores(row, l, pages, h/d.group, qkv[at:at+d.headDim], first, n)
		seen, scale := row[first:n], d.attentionScale
		if d.attentionCap > 0 {
			tensor.SoftCap(seen, scale, d.attentionCap)
			scale = 1
		}
		hideKeys(seen, first, n-1, window)
		tensor.Softmax(seen, scale)
	}
	for p := first / kv.tokens; p*kv.tokens < n; p++ {
		kv.weightedValues(out, s, l, pages[p], p*kv.tokens, first, n, next)
	}
	for h := range d.heads {
		copy(att[h*d.headDim:(h+1)*d.headDim], out[h*kv.vWidth:])
	}
}

// scores sets row[first:n] to the products of a query with the cached keys of a key-value head.
func (kv *kvCache) scores(row []float32, l int, pages []int32, head int, q []float32, first, n int) {
	d := kv.d.headDim
	for p := first / kv.tokens; p*kv.tokens < n; p++ {
		k, v := kv.page(l, pages[p])
		begin := max(first-p*kv.tokens, 0)
		tensor.AttentionScores(row[p*kv.tokens+begin:], q, k[(head*kv.tokens+begin)*d:],
			min(n-p*kv.tokens, kv.tokens)-begin, v[head*kv.tokens*kv.vWidth:])
	}
}

// weightedValues adds to out (H, vWidth) the values of a page, whose first token is start, by the probabilities s
// (H, T); the first page sets it.
func (kv *kvCache) weightedValues(out, s []float32, l int, page int32, start, first, n int, next []float32) {
	d := kv.d
	_, v := kv.page(l, page)
	begin := max(first, start)
	count := min(n, start+kv.tokens) - begin
	capacity, from := roundUp(n, tensor.KeyBlock), (begin-start)*kv.vWidth
	add := tensor.WeightedValuesAdd
	if begin == first {
		add = tensor.WeightedValues
	}
	if d.group == 1 {
		add(out, s[begin:], capacity, v[from:], kv.tokens*kv.vWidth, d.heads, kv.vWidth, count, next)
		return
	}
	for g := range d.kvHeads {
		h := g * d.group
		add(out[h*kv.vWidth:], s[h*capacity+begin:], capacity, v[g*kv.tokens*kv.vWidth+from:], 0,
			d.group, kv.vWidth, count, next)
	}
}
