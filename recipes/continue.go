package recipes

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/optim"
)

// carry says whether a setting may change when a stage continues from a
// checkpoint that was made under another config. Step k of the continued stage
// is step k of the new config, so a setting that decides what step k reads, or
// that shapes the checkpoint's own arrays, must stay the same.
type carry int

const (
	// onward may change: it says how a step is computed, and applies from the
	// checkpoint on.
	onward carry = iota
	// fixed may not: what step k is, or what the checkpoint holds, depends on it.
	fixed
	// length is a number of steps, or determines one. It may change only if no
	// learning rate depends on it, and if the steps already taken have read all
	// their items.
	length
)

// carried is one setting of a kind of stage, with the rule for continuing.
type carried struct {
	path string // in the stage's stored config
	carry
	why string // why it is fixed
}

// The reasons for which settings are fixed.
const (
	itemsOf  = "it decides which items a step reads"
	rateOf   = "the learning rate of every step depends on it"
	updateOf = "the number of updates behind the checkpoint depends on it"
	meansOf  = "the moments in the checkpoint are running means taken with it"
	stateOf  = "the checkpoint already holds what it sets, so a change would have no effect"
	shapeOf  = "the arrays in the checkpoint depend on it for their shape"
	partOf   = "the result would be produced partly under one value and partly under the other"
)

// carriedOptim returns the rules for the settings of an optimizer that is
// stored under path. The learning rate itself may change; its schedule may not,
// since the rate of every step depends on it, and neither may the betas, since
// the moments in the checkpoint are running means taken with them.
func carriedOptim(path string) []carried {
	all := []carried{
		{"lr", onward, ""}, {"beta1", fixed, meansOf}, {"beta2", fixed, meansOf}, {"eps", onward, ""},
		{"weight_decay", onward, ""}, {"clip", onward, ""},
		{"schedule", fixed, rateOf}, {"warmup", fixed, rateOf}, {"floor", fixed, rateOf}, {"eps_style", onward, ""},
	}
	for i := range all {
		all[i].path = path + "." + all[i].path
	}
	return all
}

// carriedPretrain are the rules for pretrain. The shape of the model is part of
// its stored config.
var carriedPretrain = slices.Concat([]carried{
	{"tokens", length, ""}, {"row_tokens", fixed, itemsOf}, {"batch_tokens", fixed, itemsOf},
	{"tokenizer", fixed, itemsOf},
}, carriedShape("model"), carriedOptim("optim"))

// carriedShape returns the rules for the shape of a model that is stored under
// path: all of it is fixed.
func carriedShape(path string) (all []carried) {
	for _, p := range keyPairs(reflect.TypeFor[model.Config]()) {
		all = append(all, carried{path + "." + p.stored, fixed, shapeOf})
	}
	return all
}

// carriedSFT are the rules for sft.
var carriedSFT = append([]carried{{"epochs", length, ""}, {"batch", fixed, itemsOf}, {"pretrain_mix", fixed, itemsOf}},
	carriedOptim("optim")...)

// carriedReward are the rules for reward.
var carriedReward = append([]carried{{"epochs", length, ""}, {"batch", fixed, itemsOf}}, carriedOptim("optim")...)

// carriedPPO are the rules for ppo. kl_coef may not change because an adaptive
// controller keeps its present value in the checkpoint: a new first value would
// have no effect.
var carriedPPO = append(append([]carried{
	{"episodes", length, ""}, {"batch", fixed, itemsOf}, {"minibatches", fixed, updateOf},
	{"inner_epochs", fixed, updateOf}, {"value_warmup", fixed, updateOf},
	{"max_tokens", fixed, itemsOf + ": prompts that leave no room for that many tokens are left out"},
	{"temperature", fixed, "scores are standardised, and log-probabilities compared, under it from the first step on"},
	{"kl_coef", fixed, stateOf}, {"kl_controller", fixed, stateOf}, {"kl_target", onward, ""},
	{"kl_horizon", onward, ""},
	{"gamma", onward, ""}, {"lambda", onward, ""}, {"clip", onward, ""}, {"value_clip", onward, ""},
	{"whiten_rewards", onward, ""}, {"whiten_advantages", onward, ""},
	{"score_samples", fixed, stateOf}, {"missing_eos", onward, ""}, {"missing_eos_value", onward, ""},
	{"ptx_coef", onward, ""}, {"ptx_rows", fixed, itemsOf}, {"ema_decay", fixed, stateOf},
	{"pool", fixed, itemsOf}, {"rollout_shards", onward, ""},
}, carriedOptim("policy")...), carriedOptim("value")...)

// carriedCollect are the rules for collect: its rankings would otherwise mix
// samples drawn under two settings.
var carriedCollect = []carried{
	{"prompts", fixed, itemsOf}, {"held_out", fixed, itemsOf}, {"min_responses", fixed, itemsOf},
	{"max_responses", fixed, itemsOf}, {"batch", fixed, itemsOf},
	{"temperature", fixed, partOf}, {"max_tokens", fixed, partOf}, {"labellers", onward, ""}, {"agreement", onward, ""},
	{"world", fixed, itemsOf},
}

// carriedEvaluate are the rules for evaluate.
var carriedEvaluate = []carried{
	{"temperature", fixed, partOf}, {"max_tokens", fixed, partOf}, {"prompts", fixed, itemsOf}, {"samples", onward, ""},
	{"world", onward, ""}, {"judge", onward, ""},
}

// CanContinue returns nil if a stage of a kind may continue, under the config
// is, from a checkpoint that was made under the config was. atEnd means that the
// checkpoint was made after the stage's last step. Otherwise it returns an error
// of type checkpoint_differs that names each conflicting setting as --set takes
// it, with both values and the reason.
func CanContinue(kind, stage string, was, is Config, atEnd bool) error {
	before, err := settingsOf(was)
	if err != nil {
		return err
	}
	now, err := settingsOf(is)
	if err != nil {
		return err
	}
	k, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("there is no kind of stage %q", kind)
	}
	var stand, keep []string
	for _, c := range k.carried {
		if before[c.path] == now[c.path] {
			continue
		}
		if why := k.inTheWay(kind, c, now, atEnd); why != "" {
			name := shownPath(kind, stage, c.path)
			stand = append(stand, fmt.Sprintf("%s was %s when the checkpoint was made and is %s: %s", name,
				said(before[c.path]), said(now[c.path]), why))
			keep = append(keep, name)
		}
	}
	if len(stand) == 0 {
		return nil
	}
	return trimtab.NewError(trimtab.Usage, "checkpoint_differs",
		"leave --from-checkpoint out to run the stage from the beginning, or leave "+strings.Join(keep, ", ")+
			" as before",
		"stage %s cannot continue from the checkpoint: %s", stage, strings.Join(stand, "; "))
}

// inTheWay returns why a changed setting keeps a stage of kind k, called name in
// specs, from continuing; empty if it does not. now holds the settings of the
// new config by stored path.
func (k kind) inTheWay(name string, c carried, now map[string]string, atEnd bool) string {
	switch c.carry {
	case fixed:
		return c.why
	case length:
		for _, path := range k.schedules() {
			if now[path] != `"`+optim.Constant+`"` {
				return fmt.Sprintf("with %s %s the learning rate of every step depends on the number of steps",
					SpecPath(name, path), said(now[path]))
			}
		}
		if k.ragged && atEnd {
			return "the last step before it may have read fewer items than a step does, and the missing ones " +
				"would be skipped"
		}
	}
	return ""
}

// schedules returns the stored paths of the learning-rate schedules of a kind:
// one, or two for ppo.
func (k kind) schedules() (paths []string) {
	for _, c := range k.carried {
		if strings.HasSuffix(c.path, ".schedule") {
			paths = append(paths, c.path)
		}
	}
	return paths
}

// shownPath returns the path of a stage's setting as --set takes it, from its
// path in the stored config. The shape of a pretrain stage's model and the seed
// of the starter world are at the top level of a spec.
func shownPath(kind, stage, path string) string {
	switch {
	case strings.HasPrefix(path, "model."):
		return SpecPath("", path)
	case path == "world":
		return "starter.world"
	}
	return joinPath(stage, SpecPath(kind, path))
}

// said formats a JSON value for a message.
func said(value string) string {
	if value == "" {
		return "not set"
	}
	return value
}

// settingsOf returns the values of a config, encoded as JSON, by their stored
// paths.
func settingsOf(c Config) (map[string]string, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	return all, flatten("", raw, all)
}

// flatten adds the leaves of a JSON value to into, by dotted path below path.
func flatten(path string, raw json.RawMessage, into map[string]string) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		into[path] = string(raw)
		return nil
	}
	for name, value := range fields {
		below := name
		if path != "" {
			below = path + "." + name
		}
		if err := flatten(below, value, into); err != nil {
			return err
		}
	}
	return nil
}
