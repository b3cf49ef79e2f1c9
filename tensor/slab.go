package tensor

// Slab returns n zeros. Large ones lie in huge pages where the system gives
// them for the asking: sweeps over hundreds of megabytes otherwise spend much
// of their time looking up where pages are.
func Slab(n int) []float32 {
	x := make([]float32, n)
	if n >= hugePage {
		adviseHuge(x)
	}
	return x
}

// hugePage is the number of float32 in a huge page.
const hugePage = 2 << 20 / 4
