package runs

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/storage"
)

// EvaluationView is the evaluation report of a run, with what earlier stages
// measured on the same held-out rankings. The zero value is of a run that has
// not been evaluated yet.
//
// Its JSON lays the report out for readers: each model's scores under the
// model's name, and the other parts of the report beside them under their own.
type EvaluationView struct {
	eval.Report
	// Takes the place of the report's own.
	RewardModel *RewardModelView
}

// RewardModelView is a reward model's accuracy beside what it can be compared
// with. A nil number was not measured, as by an older build.
type RewardModelView struct {
	eval.RewardAccuracy
	// Share of pairs on which two labellers agree.
	LabellersAgreement *float64 `json:"labellers_agreement,omitempty"`
	// Of the simulated labellers, over all pairs, training pairs included.
	OracleAccuracy *float64 `json:"oracle_accuracy,omitempty"`
	// Groups of rankings that the intervals are computed over.
	Groups *float64 `json:"groups,omitempty"`
	// Accuracy minus longer_wins.
	OverLonger     *float64 `json:"over_longer,omitempty"`
	OverLongerLow  *float64 `json:"over_longer_low,omitempty"`
	OverLongerHigh *float64 `json:"over_longer_high,omitempty"`
	// Of the simulated labellers, over the held-out pairs.
	HeldOracle     *float64 `json:"held_out_oracle_accuracy,omitempty"`
	HeldOracleLow  *float64 `json:"held_out_oracle_low,omitempty"`
	HeldOracleHigh *float64 `json:"held_out_oracle_high,omitempty"`
}

// ModelNames lists the evaluated models in the order of eval.CompareModels.
func (e EvaluationView) ModelNames() []string {
	return slices.SortedFunc(maps.Keys(e.Models), eval.CompareModels)
}

// MarshalJSON lays the report out; keys are in alphabetical order. A run
// without an evaluation gives {}.
func (e EvaluationView) MarshalJSON() ([]byte, error) {
	if e.Models == nil {
		return []byte("{}"), nil
	}
	parts, err := decodeObject(e.Report)
	if err != nil {
		return nil, err
	}
	delete(parts, "models")
	if e.RewardModel != nil {
		if parts["reward_model"], err = decodeObject(e.RewardModel); err != nil {
			return nil, err
		}
	}
	for name, scores := range e.Models {
		if parts[name], err = decodeObject(scores); err != nil {
			return nil, err
		}
	}
	return json.Marshal(parts)
}

// decodeObject encodes v as JSON and decodes the object into a map, whose keys
// json.Marshal later sorts.
func decodeObject(v any) (object map[string]any, err error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return object, json.Unmarshal(body, &object)
}

// UnmarshalJSON reads what MarshalJSON writes. Every part that is not one of
// the report's own and has a length is a model's scores; others are ignored.
func (e *EvaluationView) UnmarshalJSON(body []byte) error {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(body, &parts); err != nil || len(parts) == 0 {
		return err
	}
	e.Models = map[string]eval.Scores{}
	for name, part := range parts {
		var err error
		switch name {
		case "reward_model":
			err = json.Unmarshal(part, &e.RewardModel)
		case "ppo_over_sft":
			err = json.Unmarshal(part, &e.Wins)
		case "samples":
			err = json.Unmarshal(part, &e.Samples)
		case "prompts":
			err = json.Unmarshal(part, &e.Prompts)
		case "overlap":
			err = json.Unmarshal(part, &e.Overlap)
		case "judge":
			err = json.Unmarshal(part, &e.Judge)
		default:
			var s eval.Scores
			if json.Unmarshal(part, &s) == nil && s.Length != nil {
				e.Models[name] = s
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addEvaluation adds the run's evaluation report, and what the stages before it
// measured about the reward model. The report of a reused evaluation belongs to
// the run that made it, and is found by the stage's output.
func (s *Service) addEvaluation(ctx context.Context, run storage.Run, d *View) error {
	body, ok, err := s.store.Evaluation(ctx, run.ID)
	if err != nil {
		return err
	}
	if !ok {
		i := slices.IndexFunc(d.Stages, func(st StageView) bool { return st.Outputs["evaluation"] != "" })
		if i < 0 {
			return nil
		}
		if body, err = s.store.Document(ctx, d.Stages[i].Outputs["evaluation"]); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(body, &d.Evaluation.Report); err != nil {
		return err
	}
	if accuracy := d.Evaluation.Report.RewardModel; accuracy != nil {
		d.Evaluation.RewardModel = &RewardModelView{RewardAccuracy: *accuracy}
		d.addRewardContext(d.Evaluation.RewardModel)
	}
	return nil
}

// addRewardContext adds to the accuracy of a reward model what earlier stages
// measured on the same pairs, to compare it with: the agreement of the
// labellers, the accuracy of the simulated labellers' own scores, and how much
// is gained over choosing the longer response. What an older build did not
// measure is left out.
func (d View) addRewardContext(r *RewardModelView) {
	for _, st := range d.Stages {
		metric := func(name string) *float64 {
			if v, ok := st.Metrics[name]; ok {
				return &v
			}
			return nil
		}
		switch st.Kind {
		case "collect":
			// Every build records these two.
			agreement, oracle := st.Metrics["agreement"], st.Metrics["oracle_accuracy"]
			r.LabellersAgreement, r.OracleAccuracy = &agreement, &oracle
			r.HeldOracle = metric("held_out/oracle_accuracy")
			r.HeldOracleLow = metric("held_out/oracle_accuracy_low")
			r.HeldOracleHigh = metric("held_out/oracle_accuracy_high")
		case "reward":
			r.Groups = metric("held_out/groups")
			r.OverLonger = metric("held_out/over_longer")
			r.OverLongerLow = metric("held_out/over_longer_low")
			r.OverLongerHigh = metric("held_out/over_longer_high")
		}
	}
}
