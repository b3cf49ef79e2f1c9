package runs

import (
	"fmt"

	"github.com/trimtab/trimtab/recipes"
)

// unmeasuredNotes says which reward models will be measured on nothing: an accuracy
// on the rankings that they learned from says nothing of others.
func (v *survey) unmeasuredNotes() []string {
	var notes []string
	for i, st := range v.plan.Stages {
		if st.Kind != recipes.KindReward {
			continue
		}
		if remedy := v.holdOutRemedy(i); remedy != "" {
			notes = append(notes,
				fmt.Sprintf("stage %s: no rankings are held out, so that nothing measures the reward model on "+
					"rankings it has not seen: %s", st.Name, remedy))
		}
	}
	return notes
}

// holdOutRemedy is what gives reward stage i held-out rankings; empty where it has some, or where that is not known.
func (v *survey) holdOutRemedy(i int) string {
	for _, in := range v.plan.Stages[i].Inputs {
		if in.Name != "rankings" {
			continue
		}
		if c := v.corpora[in.Dataset]; in.Dataset != "" && c != nil && c.heldOut() == 0 {
			return fmt.Sprintf("`trimtab data split %s --share 0.2` holds some out", c.name)
		}
		if at := stageIndex(v.plan, in.Stage); in.Stage != "" && at >= 0 {
			if c, ok := v.spec.Stages[at].Config.(*recipes.Collect); ok && c.HeldOut == 0 {
				return fmt.Sprintf("set %s.held_out above 0", in.Stage)
			}
		}
	}
	return ""
}
