package model

// ShareAll makes all workers share one lane whatever the size of the model.
func ShareAll() (restore func()) {
	old := sharedWeights
	sharedWeights = -1
	return func() { sharedWeights = old }
}
