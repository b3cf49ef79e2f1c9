package bench

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/pprof/profile"
)

// Part is a part of the work with the processor time it took.
type Part struct {
	Name    string
	Seconds float64 // of a run, over all processors
	Share   float64 // of the processor time of all parts
}

// otherPart is the part of what no row of parts names.
const otherPart = "other"

// parts says which part a stack belongs to: the first row with a prefix of any
// function on it. Prefixes are names as a profile has them, those of this
// module without its path. What is beneath attention or sampling belongs to
// them, so they stand before products, softmax and copies.
var parts = []struct {
	name     string
	prefixes []string
}{
	{"waiting", []string{
		"tensor.(*Pool).await", "runtime.futex", "runtime.findRunnable", "runtime.usleep", "runtime.osyield",
		"runtime.mcall",
	}},
	{"attention", []string{"model.(*Pass).attend", "model.(*lane).attendRow", "model.(*cache)."}},
	{"layer norm", []string{"model.norm", "model.(*Pass).finalNorm", "tensor.LayerNorm"}},
	{"gelu", []string{"tensor.Gelu"}},
	{"optimizer", []string{"optim.(*AdamW)", "tensor.AdamW", "tensor.EMA"}},
	{"sampling", []string{"model.(*picker)", "model.(*lane).pickRow", "draw."}},
	{"rounding", []string{"tensor.roundRow", "tensor.weave"}},
	{"panels", []string{"tensor.(*Panels)", "tensor.packPanel"}},
	{"products", []string{"tensor.(*product)", "tensor.matMul", "tensor.MatMul", "tensor.gemm", "tensor.native",
		"tensor.pairs", "model.(*tile)"}},
	{"softmax and head", []string{"model.(*Pass).head", "model.(*Pass).LMHead", "tensor.Softmax", "tensor.LogSumExp"}},
	{"sums and embeddings", []string{"model.(*Pass).embed", "model.(*Model).embed", "model.(*sum)",
		"model.(*Model).Fold", "tensor.Add"}},
	{"copies and clearing", []string{"tensor.(*clearing)", "model.(*Pass).pick", "model.(*Pass).unpick",
		"runtime.memmove", "runtime.memclr"}},
	{"garbage", []string{"runtime.gc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.mallocgc", "runtime.newobject",
		"runtime.growslice"}},
}

// modulePrefix is what names of this module's functions begin with.
const modulePrefix = "github.com/trimtab/trimtab/"

// partOf is the number of the first row of parts that names a function of the
// stack, and len(parts) for other.
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

// attribute reads a processor profile of that many runs. Parts come in the
// order of the table, other last, without those that took no time.
func attribute(profiled *bytes.Buffer, runs int) ([]Part, error) {
	p, err := profile.Parse(profiled)
	if err != nil {
		return nil, fmt.Errorf("bench: read the processor profile: %w", err)
	}
	times, total := make([]float64, len(parts)+1), 0.
	for _, s := range p.Sample {
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

// stackOf is the names of a sample's functions, innermost first.
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

// PartNames are those of all parts, in their order.
func PartNames() []string {
	names := make([]string, 0, len(parts)+1)
	for _, p := range parts {
		names = append(names, p.name)
	}
	return append(names, otherPart)
}
