package activities

import (
	"fmt"

	"github.com/trimtab/trimtab"
)

// checkGates compares metrics with the gates of a stage and returns a sentence
// for each gate that they miss. A metric that was not measured, or is NaN, misses
// its gate. Metrics are those of the last step and those of the outputs, by name.
func checkGates(gates []trimtab.Gate, metrics []trimtab.Metric) []string {
	var missed []string
	for _, g := range gates {
		v, ok := trimtab.Report{Metrics: metrics}.Value(g.Metric)
		switch { // a negated >= or <= is true for NaN, which < and > are not
		case !ok:
			missed = append(missed, fmt.Sprintf("the gate's metric %s was not measured", g.Metric))
		case g.Min != nil && !(v >= *g.Min):
			missed = append(missed, fmt.Sprintf("%s is %.4g, the gate requires at least %g", g.Metric, v, *g.Min))
		case g.Max != nil && !(v <= *g.Max):
			missed = append(missed, fmt.Sprintf("%s is %.4g, the gate requires at most %g", g.Metric, v, *g.Max))
		}
	}
	return missed
}
