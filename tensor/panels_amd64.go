//go:build !purego

package tensor

func (g *panelProduct) tile() {
	ks := kernels(g.b.pairs)
	if ks == nil {
		g.portable()
		return
	}
	g.blocks(ks)
}

// blocks runs over blocks of rows and of k, and panel after panel, whose block
// stays in the first cache while A passes by. A is read where it lies, or from
// a copy: rounded, or since its rows drive each other out of the cache.
func (g *panelProduct) blocks(ks *kernelSet) {
	depth, width := g.b.depth(), 2*ks.lanes
	kc := min(depth, blockK)
	mc := blockASize / kc
	staged := g.b.pairs || clash(g.lda) && depth > kc
	var s *scratch
	if staged || !ks.masked && g.b.n%width != 0 {
		s = scratches.get()
		defer scratches.put(s)
	}
	for i := 0; i < g.m; i += mc {
		rows := min(mc, g.m-i)
		for l := 0; l < depth; l += kc {
			t := strip{ks: ks, ldb: panelColumns, k: min(kc, depth-l), registers: 2, add: g.add || l > 0}
			a, row := g.a[i*g.lda+l:], g.lda
			if staged {
				a, row = s.a[:], t.k
				g.stage(a, i, l, rows, t.k)
			}
			for p := g.from; p < g.to; p++ {
				panel := g.b.words[(p*depth+l)*panelColumns:]
				t.next = g.following(p, l, kc)
				for c := 0; c < min(panelColumns, g.b.n-p*panelColumns); c += width {
					j := p*panelColumns + c
					t.b, t.cols = &panel[c], min(width, g.b.n-j)
					if !ks.masked && t.cols < width {
						t.edge = &s.edge
					}
					t.run(g.c[i*g.ldc+j:], g.ldc, a, row, 1, rows)
				}
			}
		}
	}
}

// following is the block of a panel that comes after block l of panel p.
func (g *panelProduct) following(p, l, kc int) []float32 {
	depth := g.b.depth()
	switch {
	case p+1 < g.to:
		p++
	case l+kc < depth:
		p, l = g.from, l+kc
	default:
		return nil
	}
	return g.b.words[(p*depth+l)*panelColumns : (p*depth+min(depth, l+kc))*panelColumns]
}

// stage copies words l … l+k-1 of A's rows i … i+rows-1.
func (g *panelProduct) stage(dst []float32, i, l, rows, k int) {
	for r := range rows {
		to, a := dst[r*k:(r+1)*k], g.a[(i+r)*g.lda:]
		if g.b.pairs {
			roundRow(to, a[2*l:min(g.b.k, 2*(l+k))])
		} else {
			copy(to, a[l:l+k])
		}
	}
}

// turnPanel turns rows of src (cols, k), at distance ld, into a panel (k, 32).
func turnPanel(panel, src []float32, ld, k, cols int) {
	ks := kernels(false)
	if ks == nil {
		clear(panel)
		turnRest(panel, panelColumns, src, ld, 0, k, cols)
		return
	}
	packTurned(ks, panel, panelColumns, src, ld, k, cols)
}

// roundPairsKernel fills whole registers of dst and returns how many words.
func roundPairsKernel(dst, src []float32) (done int) {
	switch active {
	case avx512:
		if n := len(src) / 32; n > 0 {
			roundPairsAVX512(&dst[0], &src[0], n)
			return 16 * n
		}
	case avx2:
		if n := len(src) / 16; n > 0 {
			roundPairsAVX2(&dst[0], &src[0], n)
			return 8 * n
		}
	}
	return 0
}

func weaveKernel(dst []float32, width int, src []float32, ld, pairs, cols int) {
	switch active {
	case avx512:
		for c := 0; c < cols; c += 16 {
			weaveAVX512(&dst[c], width, &src[c], ld, pairs, 1<<min(16, cols-c)-1)
		}
		return
	case avx2:
		c := 0
		for ; c+8 <= cols; c += 8 {
			weaveAVX2(&dst[c], width, &src[c], ld, pairs, 0)
		}
		if c == cols {
			return
		}
		dst, src, cols = dst[c:], src[c:], cols-c
	}
	weavePortable(dst, width, src, ld, pairs, cols)
}
