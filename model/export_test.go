package model

// ForceSharedDecoder makes all workers share one decoder, whatever the size of
// the model and the number of prompts.
func ForceSharedDecoder() (restore func()) {
	weights, sequences := sharedDecoderParams, ownDecoderSequences
	sharedDecoderParams, ownDecoderSequences = -1, 1<<30
	return func() { sharedDecoderParams, ownDecoderSequences = weights, sequences }
}
