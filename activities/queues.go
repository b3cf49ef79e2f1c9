package activities

// Task queues. A worker process runs one task of TrainQueue at a time, because a
// training step uses every core; the short activities and the workflows run
// beside it, from SmallQueue.
const (
	TrainQueue = "trimtab-train"
	SmallQueue = "trimtab-small"
)
