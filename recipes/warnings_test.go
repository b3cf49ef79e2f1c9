package recipes

import (
	"strings"
	"testing"

	"github.com/trimtab/trimtab/ppo"
)

// A warning comes after three iterations in a row in which fewer than half of the responses ended, and goes when that
// is over.
func TestUnended(t *testing.T) {
	c := &PPO{Config: ppo.Defaults()}
	for _, s := range []struct {
		values []float64
		want   string // "" is no warning
	}{
		{nil, ""}, {[]float64{1, 1}, ""}, {[]float64{.6, .6, .5}, ""}, {[]float64{.5, .6, .6}, ""},
		{[]float64{1, 1, 1, .2}, ""},
		{[]float64{0, .51, .6, 1},
			"only 49 %, 40 %, 0 % of the responses ended within max_new_tokens, 32, in the last 3 iterations"},
	} {
		got := Warning(KindPPO, "tune", c, s.values)
		if (got == "") != (s.want == "") || !strings.Contains(got, s.want) {
			t.Errorf("%v: %q, want %q", s.values, got, s.want)
		}
	}
	for rule, want := range map[string]string{
		ppo.EOSFixed:   "has the standardised score -1 whatever it says",
		ppo.EOSPenalty: "loses -1 of its standardised score", ppo.EOSIgnore: "scored as they were cut off",
	} {
		c.MissingEOS = rule
		if got := Warning(KindPPO, "tune", c, []float64{1, 1, 1}); !strings.Contains(got, want) ||
			!strings.Contains(got, "Raise tune.max_new_tokens") {
			t.Errorf("%s: %s", rule, got)
		}
	}
	if Watched(KindPPO) != "missing_eos_rate" || Watched(KindSFT) != "" ||
		Warning(KindSFT, "sft", nil, []float64{1, 1, 1}) != "" {
		t.Error("other kinds are watched")
	}
}
