package runs

import (
	"fmt"

	"github.com/trimtab/trimtab/recipes"
)

// unmeasuredNotes warns about each reward stage that has no held-out rankings.
// The accuracy of a reward model on its own training rankings does not predict
// its accuracy on others, so such a run has no measure of its reward model.
func (v *survey) unmeasuredNotes() []string {
	var notes []string
	for i, st := range v.plan.Stages {
		if st.Kind != recipes.KindReward {
			continue
		}
		if remedy := v.holdOutRemedy(i); remedy != "" {
			notes = append(notes,
				fmt.Sprintf("stage %s: no rankings are held out, so the reward model is not measured on "+
					"rankings it has not seen: %s", st.Name, remedy))
		}
	}
	return notes
}

// holdOutRemedy says how to get held-out rankings for reward stage i. It is
// empty if the stage has some, or if that is not known before the run.
func (v *survey) holdOutRemedy(i int) string {
	for _, in := range v.plan.Stages[i].Inputs {
		if in.Name != "rankings" {
			continue
		}
		// Rankings from outside the run are counted; those that a collect stage will
		// make are known from its config.
		if c := v.corpora[in.Dataset]; in.Dataset != "" && c != nil && c.heldOut() == 0 {
			return fmt.Sprintf("`trimtab data split %s --share 0.2` holds some out", c.name)
		}
		if i := stageIndex(v.plan, in.Stage); in.Stage != "" && i >= 0 {
			if c, ok := v.spec.Stages[i].Config.(*recipes.Collect); ok && c.HeldOut == 0 {
				return fmt.Sprintf("set %s.held_out above 0", in.Stage)
			}
		}
	}
	return ""
}
