package activities

import (
	"sync"

	"github.com/trimtab/trimtab"
)

// stageCache keeps the stage that a segment left in memory, so that the next
// segment of the same attempt need not load it again. It holds one stage. A stage
// is taken out while it is used, so two activities never share one; a miss costs
// time only. It is safe for concurrent use.
type stageCache struct {
	mu      sync.Mutex
	attempt int64
	at      trimtab.Digest // the checkpoint that job's state equals
	job     job            // nil if the cache is empty; never in use by an activity
}

// takeAt empties the cache, and returns the stage if its state is exactly that
// checkpoint of that attempt.
func (c *stageCache) takeAt(attempt int64, at trimtab.Digest) job {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.job
	c.job = nil
	if c.attempt != attempt || c.at != at || at == "" {
		return nil
	}
	return j
}

// takeAny empties the cache, and returns the stage if it is of that attempt,
// with the checkpoint that its state equals.
func (c *stageCache) takeAny(attempt int64) (j job, at trimtab.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attempt == attempt {
		j, at = c.job, c.at
	}
	c.job = nil
	return j, at
}

// put keeps a stage whose state is a checkpoint of an attempt, in place of any other.
func (c *stageCache) put(attempt int64, at trimtab.Digest, j job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempt, c.at, c.job = attempt, at, j
}
