package recipes

import (
	"fmt"
	"strings"

	"github.com/trimtab/trimtab/ppo"
)

// A warning is given about a ppo stage when fewer than leastEnded of the
// responses ended in each of its last endedFor iterations: the reward model then
// has little to say.
const (
	leastEnded = .5
	endedFor   = 3
)

// warning is how a kind of stage shows that it is running without making
// progress.
type warning struct {
	metric string // that shows it
	// said returns the text of the warning, or "", from the metric's values in the steps so far.
	said func(stage string, c Config, values []float64) string
}

// Watched returns the name of the metric that shows that a stage of a kind is
// making no progress; empty if it has none.
func Watched(kind string) string { return kinds[kind].warning.metric }

// Warning returns what a person should know about a running stage, and what
// would help; empty if all is well. values are those of the metric Watched in
// its steps so far.
func Warning(kind, stage string, c Config, values []float64) string {
	if w := kinds[kind].warning; w.said != nil {
		return w.said(stage, c, values)
	}
	return ""
}

// unended warns of responses that do not end within max_new_tokens. values are
// the shares of those in each iteration.
func unended(stage string, config Config, values []float64) string {
	c, ok := config.(*PPO)
	if !ok || len(values) < endedFor {
		return ""
	}
	ended := make([]string, endedFor)
	for i, cut := range values[len(values)-endedFor:] {
		if cut <= 1-leastEnded {
			return ""
		}
		ended[i] = fmt.Sprintf("%.0f %%", 100*(1-cut))
	}
	return fmt.Sprintf("%s: only %s of the responses ended within max_new_tokens, %d, in the last %d iterations; %s. "+
		"Raise %s.max_new_tokens, or train the model before it longer on demonstrations that end",
		stage, strings.Join(ended, ", "), c.MaxNewTokens, endedFor, unendedFate(c.Config), stage)
}

// unendedFate returns what happens to the score of a response that does not
// end.
func unendedFate(c ppo.Config) string {
	switch c.MissingEOS {
	case ppo.EOSFixed:
		return fmt.Sprintf("each of the others has the standardised score %g whatever it says (missing_eos: fixed)",
			c.MissingEOSPenalty)
	case ppo.EOSPenalty:
		return fmt.Sprintf("each of the others loses %g of its standardised score (missing_eos: penalty)",
			c.MissingEOSPenalty)
	}
	return "the others are scored as they were cut off (missing_eos: ignore)"
}
