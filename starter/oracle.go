package starter

// MeanUtility is what the labellers find a response worth on average, without noise:
// a scorer that knows the world and the labellers. On many rankings no reward
// model does better; on few of them its accuracy is as much a matter of luck as
// any other's, so it is a reference and no ceiling.
func (l *Labellers) MeanUtility(v Verdict) float64 {
	total := 0.
	for _, w := range l.weights {
		total += float64(w[0]*v.Followed) + float64(w[1]*v.True) + float64(w[2]*v.Polite) + float64(w[3]*v.Concise)
	}
	return total / labellerCount
}
