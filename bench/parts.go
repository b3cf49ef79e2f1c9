package bench

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/pprof/profile"
)

// Part is a part of the work with the processor time that it took.
type Part struct {
	Name string
	// Processor seconds of one run, over all cores.
	Seconds float64
	// Fraction of the processor time of all parts.
	Share float64
}

// otherPart collects the samples that match no row of parts.
const otherPart = "other"

// parts assigns stacks of the CPU profile to parts: a stack belongs to the
// first row of which a prefix matches any function on it. Functions of this
// module are written without the module path. Whatever attention or sampling
// calls counts as theirs, so their rows come before products, softmax and
// copies. TestPartOf checks examples; a renamed function must be renamed here
// too, or its time moves to "other".
var parts = []struct {
	name     string
	prefixes []string
}{
	{"waiting", []string{
		"tensor.(*Pool).await", "runtime.futex", "runtime.findRunnable", "runtime.usleep", "runtime.osyield",
		"runtime.mcall",
	}},
	{"attention", []string{"model.(*Pass).attend", "model.(*decoder).attendCachedRow", "model.(*kvCache)."}},
	{"layer norm", []string{"model.norm", "model.(*Pass).finalNorm", "tensor.LayerNorm"}},
	{"gelu", []string{"tensor.Gelu"}},
	{"optimizer", []string{"optim.(*AdamW)", "tensor.AdamW", "tensor.EMA"}},
	{"sampling", []string{"model.(*sampler)", "model.(*decoder).sampleRow", "draw."}},
	{"rounding", []string{"tensor.packRowBF16", "tensor.interleave", "tensor.weave"}},
	{"panels", []string{"tensor.(*PackedB)", "tensor.packPanel"}},
	{"products", []string{"tensor.(*product)", "tensor.matMul", "tensor.Product.Run", "tensor.gemm", "tensor.native",
		"tensor.pairs", "model.(*gradTile)"}},
	{"softmax and head", []string{"model.(*Pass).head", "model.(*Pass).LogProbs", "model.(*Pass).WeightedLogProbs",
		"tensor.Softmax", "tensor.LogSumExp"}},
	{"sums and embeddings", []string{"model.(*Pass).embed", "model.(*Model).embed", "model.(*columnSum)",
		"model.(*Model).FoldGradient", "tensor.Add"}},
	{"copies and clearing", []string{"tensor.(*clearJob)", "model.(*Pass).gatherSelected",
		"model.(*Pass).scatterSelected", "runtime.memmove", "runtime.memclr"}},
	{"garbage", []string{"runtime.gc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.mallocgc", "runtime.newobject",
		"runtime.growslice"}},
}

// modulePrefix begins the names of this module's functions in a profile.
const modulePrefix = "github.com/trimtab/trimtab/"

// partOf returns the index of the row of parts that a stack belongs to, and
// len(parts) for the other part.
func partOf(stack []string) int {
	for i, p := range parts {
		for _, f := range stack {
			f = strings.TrimPrefix(f, modulePrefix)
			for _, prefix := range p.prefixes {
				if strings.HasPrefix(f, prefix) {
					return i
				}
			}
		}
	}
	return len(parts)
}

// attribute sums up the samples of a CPU profile that was taken over so many
// runs. The parts come in the order of the table, other last; a part without
// samples is left out.
func attribute(profiled *bytes.Buffer, runs int) ([]Part, error) {
	p, err := profile.Parse(profiled)
	if err != nil {
		return nil, fmt.Errorf("bench: read the processor profile: %w", err)
	}
	times, total := make([]float64, len(parts)+1), 0.
	for _, s := range p.Sample {
		// The last value of a sample of a CPU profile is its time in nanoseconds.
		seconds := float64(s.Value[len(s.Value)-1]) / 1e9
		times[partOf(stackOf(s))] += seconds
		total += seconds
	}
	var out []Part
	for i, seconds := range times {
		name := otherPart
		if i < len(parts) {
			name = parts[i].name
		}
		if seconds > 0 {
			out = append(out, Part{Name: name, Seconds: seconds / float64(runs), Share: seconds / total})
		}
	}
	return out, nil
}

// stackOf returns the function names of a sample, innermost first, with inlined
// functions in their place.
func stackOf(s *profile.Sample) (stack []string) {
	for _, l := range s.Location {
		for _, line := range l.Line {
			if line.Function != nil {
				stack = append(stack, line.Function.Name)
			}
		}
	}
	return stack
}

// PartNames returns the names of all parts, in the order in which they are
// reported.
func PartNames() []string {
	names := make([]string, 0, len(parts)+1)
	for _, p := range parts {
		names = append(names, p.name)
	}
	return append(names, otherPart)
}
