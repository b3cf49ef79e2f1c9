package model

// ShareAll makes all workers share one lane whatever the size of the model and
// the number of prompts.
func ShareAll() (restore func()) {
	weights, sequences := sharedWeights, ownedSequences
	sharedWeights, ownedSequences = -1, 1<<30
	return func() { sharedWeights, ownedSequences = weights, sequences }
}
