package gguf

// The K types have blocks of 256 elements in sub-blocks of 16 or 32. Scales and
// minimums of the sub-blocks are small integers, to be multiplied by the block's
// d and dmin.

// dequantizeQ2K: 16 bytes with a scale (4 bits) and a minimum (4 bits) of each
// sub-block of 16, 64 bytes of 2 bits per element, d, dmin.
// y = d·scale·q − dmin·minimum.
func dequantizeQ2K(y []float32, b []byte) {
	d, dmin := half(b[80:]), half(b[82:])
	for s, scale := range b[:16] {
		dl, ml := d*float32(scale&0xf), float32(dmin*float32(scale>>4))
		q, shift := twoBits(b[16:80], s)
		out := (*[16]float32)(y[16*s:])
		for l, v := range q {
			out[l] = float32(dl*float32(v>>shift&3)) - ml
		}
	}
}

// twoBits finds sub-block s of 16 elements among 64 bytes of 2 bits per element:
// 128 elements share 32 bytes, and of each byte two bits belong to a run of 32.
func twoBits(q []byte, s int) (*[16]byte, int) { return (*[16]byte)(q[s/8*32+s%2*16:]), s % 8 / 2 * 2 }

// dequantizeQ3K: 32 bytes of the third bit of each element, 64 bytes of the lower
// two, 12 bytes with 16 scales of 6 bits, d. y = d·(scale−32)·(q−4).
func dequantizeQ3K(y []float32, b []byte) {
	d, scales := half(b[108:]), sixBits((*[12]byte)(b[96:]))
	for s, scale := range scales {
		dl := d * float32(int(scale)-32)
		q, shift := twoBits(b[32:96], s)
		third, bit := (*[16]byte)(b[s%2*16:]), byte(1)<<(s/2)
		out := (*[16]float32)(y[16*s:])
		for l, v := range q {
			n := int(v >> shift & 3)
			if third[l]&bit == 0 {
				n -= 4
			}
			out[l] = dl * float32(n)
		}
	}
}

// sixBits unpacks the 16 scales of Q3K: 8 bytes have the lower 4 bits of two
// scales each, 4 bytes the upper 2 bits of four.
func sixBits(b *[12]byte) (scales [16]byte) {
	for i := range scales {
		scales[i] = b[i%8]>>(i/8*4)&0xf | b[8+i%4]>>(i/4*2)&3<<4
	}
	return scales
}

// scaleAndMin unpacks the scale and the minimum, 6 bits each, of sub-block j of
// eight from the 12 bytes of Q4K and Q5K (get_scale_min_k4).
func scaleAndMin(b *[12]byte, j int) (scale, minimum float32) {
	if j < 4 {
		return float32(b[j] & 63), float32(b[j+4] & 63)
	}
	return float32(b[j+4]&0xf | b[j-4]>>6<<4), float32(b[j+4]>>4 | b[j]>>6<<4)
}

// dequantizeQ4K: d, dmin, 12 bytes of scales and minimums, 128 bytes of 4 bits per
// element. Of each 32 bytes, the lower halves are one sub-block and the upper
// halves the next. y = d·scale·q − dmin·minimum.
func dequantizeQ4K(y []float32, b []byte) {
	d, dmin, scales := half(b), half(b[2:]), (*[12]byte)(b[4:])
	for j := range 8 {
		scale, minimum := scaleAndMin(scales, j)
		dl, ml := d*scale, float32(dmin*minimum)
		q, shift := (*[32]byte)(b[16+j/2*32:]), j%2*4
		out := (*[32]float32)(y[32*j:])
		for l, v := range q {
			out[l] = float32(dl*float32(v>>shift&0xf)) - ml
		}
	}
}

// dequantizeQ5K: as Q4K, with 32 bytes of fifth bits before the 128 bytes; bit j
// of byte l is that of element l of sub-block j.
func dequantizeQ5K(y []float32, b []byte) {
	d, dmin, scales := half(b), half(b[2:]), (*[12]byte)(b[4:])
	fifth := (*[32]byte)(b[16:])
	for j := range 8 {
		scale, minimum := scaleAndMin(scales, j)
		dl, ml := d*scale, float32(dmin*minimum)
		q, shift := (*[32]byte)(b[48+j/2*32:]), j%2*4
		out := (*[32]float32)(y[32*j:])
		for l, v := range q {
			n := v>>shift&0xf | fifth[l]>>j&1<<4
			out[l] = float32(dl*float32(n)) - ml
		}
	}
}

// dequantizeQ6K: 128 bytes of the lower 4 bits of each element, 64 bytes of the
// upper 2, 16 scales (int8), d. Both parts of 128 elements consist of four runs of
// 32. y = (d·scale)·(q−32).
func dequantizeQ6K(y []float32, b []byte) {
	d, scales := half(b[208:]), b[192:208]
	for s, scale := range scales {
		dl := d * float32(int8(scale))
		part, run, at := s/8, s%8/2, s%2*16
		low, shift := (*[16]byte)(b[64*part+run%2*32+at:]), run/2*4
		high := (*[16]byte)(b[128+32*part+at:])
		out := (*[16]float32)(y[16*s:])
		for l, v := range low {
			out[l] = dl * float32(int(v>>shift&0xf|high[l]>>(2*run)&3<<4)-32)
		}
	}
}
