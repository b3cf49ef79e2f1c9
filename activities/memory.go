package activities

import (
	"runtime/debug"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
)

// MemoryShort is the type of an error that lasts until more memory is free.
const MemoryShort = "memory_short"

// checkMemory refuses a stage that is certain to run out of memory. The kernel
// would kill the worker for it, the worker would be started again, and so on
// without end. recipes.LeastMemory is a lower bound, so a stage that fits is
// never refused. Error: memory_short.
func (a *Activities) checkMemory(in SegmentInput, config recipes.Config) error {
	// What the stage will take, and not only at least, is estimated when a run is planned.
	need := recipes.LeastMemory(config, in.Stage.Kind, a.largestModel(in, config))
	free, known := a.memory()
	if known && free < need {
		debug.FreeOSMemory() // return what an earlier stage left, and measure again
		free, known = a.memory()
	}
	if !known || free >= need {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, MemoryShort,
		"give the worker more memory, or end other programs that use it; the stage resumes by itself",
		"stage %s needs at least %d MB of memory, %d MB are free", in.Stage.Name, need>>20, free>>20)
}

// largestModel returns the number of parameters of the largest model among the
// inputs of a stage, or of the model that a pretrain stage makes; 0 if unknown.
// It reads config.json of each input, and no weights.
func (a *Activities) largestModel(in SegmentInput, config recipes.Config) (most int64) {
	if c, ok := config.(*recipes.Pretrain); ok {
		return int64(c.Model.Parameters())
	}
	for _, input := range in.Inputs {
		if shape, ok := checkpoint.ModelConfig(a.files, input.Digest); ok {
			most = max(most, int64(shape.Parameters()))
		}
	}
	return most
}
