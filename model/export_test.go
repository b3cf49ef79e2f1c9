package model

import "fmt"

// anyFamily is a family of all shapes, for tests: it has names for all fields.
var anyFamily = Family{Name: "any"}

func init() {
	for f := range scoreWeight {
		anyFamily.names[f] = []string{fmt.Sprintf("field%d", f)}
		if f >= firstBlockField && f <= lastBlockField {
			anyFamily.names[f] = []string{fmt.Sprintf("h.%%d.field%d", f)}
		}
	}
	families = append(families, &anyFamily)
}

// ForceSharedDecoder makes all workers share one decoder, whatever the size of
// the model and the number of prompts.
func ForceSharedDecoder() (restore func()) {
	weights, sequences := sharedDecoderParams, ownDecoderSequences
	sharedDecoderParams, ownDecoderSequences = -1, 1<<30
	return func() { sharedDecoderParams, ownDecoderSequences = weights, sequences }
}

// EachLogProb calls each with the log-probability and the entropy of every row, in order, and, with a gradient slab,
// takes what it returns, dL/dlogp, back.
func EachLogProb(
	ps *Pass, m *Model, g []float32, rows []HeadRow, invTemp float32,
	each func(i int, logp, entropy float32) (dlogp float32),
) {
	head := ps.LogProbs(m, rows, invTemp)
	dlogp := make([]float32, len(rows))
	for i := range rows {
		dlogp[i] = each(i, head.LogP[i], head.Entropy[i])
	}
	if g != nil {
		ps.LogProbsBackward(m, g, dlogp, nil)
	}
}
