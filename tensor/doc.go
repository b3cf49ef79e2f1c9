// Package tensor holds named float32 arrays and the loops over them: matrix
// products, elementwise functions, reductions, layer normalisation, and the
// optimizer's sweep. Arrays are flat slices in row order; sizes are passed in.
//
// # Numeric contract, numerics v1
//
// The bits of every result are a function of the arguments alone. They do not
// depend on the CPU's instruction set, on the number of workers, or on how the
// work was cut into tiles. Three implementations give the same bits: AVX-512,
// AVX2 with FMA, and portable Go, which is always compiled and is the
// definition.
//
//  1. A matrix product's output element is one chain of fused multiply-adds
//     over k in ascending order,
//
//     c = fma(a[i,k-1], b[k-1,j], … fma(a[i,1], b[1,j], fma(a[i,0], b[0,j], c0)))
//
//     where c0 is +0, or the value already there when adding. Cutting k into
//     blocks, or a batch into micro-batches, therefore changes nothing. Work
//     is split over output tiles only.
//
//  2. A fused multiply-add rounds once ([FMA]). The reference forms the product
//     exactly in float64, rounds the sum to odd, and then to float32.
//
//  3. Reductions run over 16 virtual lanes: element i belongs to lane i mod 16,
//     lanes start at +0 (-Inf for a maximum) and take their elements in order,
//     the last block is padded with +0 (-Inf), and the lanes are combined in
//     one tree: lane l with lane l+8, then l+4, l+2, l+1.
//
//  4. exp, log, tanh, sin, cos and what is made of them are polynomials
//     evaluated with that FMA in one order. Square root and division are the
//     correctly rounded operations of IEEE 754. Nothing here calls math.Exp or
//     its like, whose bits change with the CPU.
//
//  5. Rounding is to nearest even and subnormal numbers are kept, except that
//     [Exp] is zero where e**x would be below 2**-125. The bits of a NaN, and
//     which operand of equal zeros a maximum returns, are not part of the
//     contract.
//
//  6. A product that is then added is written float32(x*y) + z, since the Go
//     compiler may fuse otherwise: GOAMD64=v3 gives the same bits.
//
// # numerics v1-bf16
//
// The same, but for products under [V1BF16]: those with weights, and those that
// make the weights' gradients.
//
//  1. Operands are rounded to bfloat16, to nearest even, a NaN staying one.
//     What is rounded is a copy: the arrays themselves stay float32.
//  2. An element is one chain over k in ascending order, as in v1, of
//     [FlushedFMA]: operands below the normal range count as zero, and so does
//     a result that is below it after rounding. The product of two bfloat16 is
//     exact, and so each step rounds once.
//  3. An odd k is filled up with a product of zeros, which may turn -0 into +0.
//
// VDPBF16PS computes two steps of such a chain: first the upper halves of its
// operands' words, then the lower; hence the first of two neighbours along k
// lies in the upper half. Where the processor lacks it, or rounds otherwise, it
// is emulated. Attention, norms, softmax, the optimizer and all reductions are
// those of v1.
//
// The formula of each function is its doc comment; a slice function applies it
// element by element unless it says otherwise.
//
// TRIMTAB_KERNELS=avx512, avx2 or portable in the environment chooses an
// implementation at start; see [Use] and [InitError].
package tensor

//go:generate go -C _asm run . -target AVX512 -pkg tensor -out ../avx512_amd64.s -stubs ../avx512_amd64.go
//go:generate go -C _asm run . -target AVX2 -pkg tensor -out ../avx2_amd64.s -stubs ../avx2_amd64.go

// Numerics names a numeric contract. It is part of every cache key: results
// under different contracts are different results.
type Numerics string

// The contracts of the package comment.
const (
	V1     Numerics = "v1"
	V1BF16 Numerics = "v1-bf16"
)

// Valid says whether this package keeps the contract of that name.
func (n Numerics) Valid() bool { return n == V1 || n == V1BF16 }

// NamedArray is a named array: a view of somebody's memory, not a copy.
type NamedArray struct {
	Name  string
	Shape []int
	Data  []float32 // product of Shape elements, in row order
}
