package activities

import (
	"runtime/debug"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
)

// MemoryShort is the type of an error that lasts until there is more memory.
const MemoryShort = "memory_short"

// checkMemory refuses a stage that is sure to run out of memory: a worker that
// the machine kills for it would be started again, and killed again. What is
// counted is the least that the stage needs, so that no stage that fits is
// held up.
func (a *Activities) checkMemory(in SegmentInput, config recipes.Config) error {
	need := recipes.LeastMemory(config, in.Stage.Kind, a.largestModel(in, config))
	free, known := a.memory()
	if known && free < need {
		debug.FreeOSMemory() // what an earlier stage left
		free, known = a.memory()
	}
	if !known || free >= need {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, MemoryShort,
		"give the worker more memory, or end what else uses it; the stage goes on by itself",
		"stage %s needs at least %d MB of memory, %d MB are free", in.Stage.Name, need>>20, free>>20)
}

// largestModel is the size of the largest model that a stage holds; 0 is unknown.
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
