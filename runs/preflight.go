package runs

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/recipes"
)

// preflight rejects, before anything is trained, a plan that is sure to fail in
// stage from or in a later one: for lack of data, because the data is too long
// for the model, or because a gate checks a metric that will not be measured.
// It judges only what the survey knows, so it never rejects a plan that could
// succeed.
func (v *survey) preflight(from int) error {
	for i := from; i < len(v.plan.Stages); i++ {
		for _, check := range []func(int) error{v.checkKinds, v.checkGates, v.checkContext, v.checkData} {
			if err := check(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkKinds rejects a dataset of a different kind than the input of stage i
// asks for, as Usage "wrong_kind".
func (v *survey) checkKinds(i int) error {
	for _, in := range v.plan.Stages[i].Inputs {
		if c := v.corpora[in.Dataset]; in.Dataset != "" && c != nil && string(c.kind) != in.Name {
			return trimtab.NewError(trimtab.Usage, "wrong_kind", "name a dataset of that kind",
				"stage %s reads %s, but %s holds %s", v.plan.Stages[i].Name, in.Name, c.name, c.kind)
		}
	}
	return nil
}

// checkGates rejects a gate of stage i on a metric that the stage will not have.
func (v *survey) checkGates(i int) error { return v.spec.CheckGates(i, v.heldOut(i)) }

// heldOut reports whether there are held-out rankings to measure the reward
// model of stage i on. It is true where that is not known.
func (v *survey) heldOut(i int) bool {
	for _, in := range v.plan.Stages[i].Inputs {
		switch c := v.corpora[in.Dataset]; {
		case in.Name != "rankings":
		case in.Stage != "":
			collect, ok := v.spec.Stages[stageIndex(v.plan, in.Stage)].Config.(*recipes.Collect)
			return !ok || collect.HeldOut > 0
		case c != nil:
			return c.heldOut() > 0
		}
	}
	return true
}

// checkContext rejects a stage i whose max_new_tokens leaves no room for a
// prompt in the model's context. A context of 0 is not known yet.
func (v *survey) checkContext(i int) error {
	if v.contexts[i] == 0 {
		return nil
	}
	if err := recipes.CheckRoom(v.spec.Stages[i], v.contexts[i]); err != nil {
		return trimtab.NewError(trimtab.Usage, "invalid_spec", "lower that setting",
			"stage %s: %w", v.plan.Stages[i].Name, err)
	}
	return nil
}

// checkData rejects a stage i that has no items to read: none to train on,
// fewer prompts than it draws, or, for an evaluation, no held-out prompts.
func (v *survey) checkData(i int) error {
	name := v.plan.Stages[i].Name
	// The input without which a stage of each kind has nothing to do. Pretraining on
	// too little text is found when the tokenizer is trained.
	need := map[string]string{recipes.KindSFT: "demonstrations", recipes.KindReward: "rankings",
		recipes.KindCollect: "prompts", recipes.KindPPO: "prompts", recipes.KindEvaluate: "prompts"}
	input := need[v.plan.Stages[i].Kind]
	c := v.input(i, input)
	if c == nil {
		return nil
	}
	train := c.count() - c.heldOut()
	if v.plan.Stages[i].Kind == recipes.KindEvaluate {
		if c.heldOut() == 0 {
			return noTestPromptsError(name, c)
		}
		return v.checkFit(i, "tests", c)
	}
	if train == 0 {
		return trimtab.NewError(trimtab.Invalid, "no_"+input,
			fmt.Sprintf("add %s without \"split\": \"test\" using %s", input, c.importHint()),
			"stage %s: all %d %s of %s are held out, so none are left to train on", name, c.count(), input, c.name)
	}
	if o, ok := v.spec.Stages[i].Config.(*recipes.Collect); ok && train < o.Prompts+o.HeldOut {
		return trimtab.NewError(trimtab.Invalid, "too_few_prompts",
			fmt.Sprintf("lower %s.prompts or %s.held_out", name, name),
			"stage %s needs %d prompts and %d held-out ones, but %s has %d", name, o.Prompts, o.HeldOut, c.name, train)
	}
	return v.checkFit(i, input, c)
}

// checkFit rejects data of which every item is too long for the context, as
// Invalid "context_exceeded". It needs exact figures: an estimate does not
// reject.
func (v *survey) checkFit(i int, items string, c *corpus) error {
	k := v.known[i]
	fit := k.Volumes[items].Fit
	if !k.Exact(items) || fit.Kept > 0 || fit.LeftOut == 0 {
		return nil
	}
	context := v.contexts[i]
	return trimtab.NewError(trimtab.Invalid, "context_exceeded", lengthRemedy(v.spec, v.plan.Stages[i].Name, items),
		"stage %s: all %d %s of %s are too long for the model's context of %d tokens: %s", v.plan.Stages[i].Name,
		fit.LeftOut, items, c.name, context, fit)
}

// lengthRemedy says what to do about items that are too long. The context can
// be widened only if the run pretrains its own model.
func lengthRemedy(spec recipes.Spec, stage, items string) string {
	remedy := "give shorter prompts"
	if items == "prompts" || items == "tests" {
		remedy = fmt.Sprintf("lower %s.max_new_tokens, or give shorter prompts", stage)
	}
	if spec.Model.Base == "" {
		return "widen the model with model.max_position_embeddings, or " + remedy
	}
	return remedy + ", or start from a model with a longer context"
}

// noTestPromptsError returns Invalid "no_test_prompts", with the command that
// imports held-out prompts.
func noTestPromptsError(stage string, c *corpus) error {
	return trimtab.NewError(trimtab.Invalid, "no_test_prompts",
		fmt.Sprintf("add some with \"split\": \"test\" using %s, or leave the stage out", c.importHint()),
		"stage %s: none of the %d prompts of %s is held out (has the split test), so there is nothing to evaluate on",
		stage, c.count(), c.name)
}

// importHint returns the command that adds items to a dataset.
func (c *corpus) importHint() string {
	return fmt.Sprintf("`trimtab data import %s --kind %s --freeze FILE`", c.name, c.kind)
}

// checkMemory rejects a run if this machine's memory is too small for one of
// its stages, even with nothing else running, as Usage "memory_too_small".
// shapes are the configs of the models that the stages start from; a nil is
// passed over.
func (s *Service) checkMemory(spec recipes.Spec, shapes []*model.Config) error {
	total, _, known := s.memory()
	if !known {
		return nil
	}
	for i, st := range spec.Stages {
		if i >= len(shapes) || shapes[i] == nil {
			continue
		}
		if least := recipes.LeastMemory(st.Config, st.Kind, int64(shapes[i].Parameters())); least > total {
			return trimtab.NewError(trimtab.Usage, "memory_too_small",
				"use a smaller model, or run the worker on a machine with more memory",
				"stage %s needs at least %s of memory, but this machine has %s", st.Name,
				formatBytes(least), formatBytes(total))
		}
	}
	return nil
}

// checkStarterMemory rejects a starter world that does not fit into the memory
// that is free now, before any of it is generated.
func (s *Service) checkStarterMemory(spec recipes.Spec) error {
	if d := spec.Data; spec.Starter == nil || d.Text != "" && d.Demonstrations != "" && d.Prompts != "" {
		return nil
	}
	need := spec.Starter.Bytes()
	if _, free, known := s.memory(); known && need > free {
		return trimtab.NewError(trimtab.Unavailable, "memory_short",
			"lower starter.words, demonstrations and prompts, or stop other programs that use memory",
			"generating the starter world takes about %s of memory, but only %s is free",
			formatBytes(need), formatBytes(free))
	}
	return nil
}

// shapes returns the configs of the models that the stages start from; nil
// where a config is not known.
func (v *survey) shapes() (list []*model.Config) {
	for _, w := range v.models {
		list = append(list, w.config)
	}
	return list
}

// shapes returns the configs of the models that the stages of a spec will start
// from, without preparing any data; nil where a config is not known. Only the
// config of a model is read. An error in it is not reported here, because
// reading the model reports it later.
func (s *Service) shapes(ctx context.Context, spec recipes.Spec) []*model.Config {
	p := preview{s: s, spec: spec, given: map[trimtab.Digest]*corpus{}}
	for _, k := range trimtab.Kinds {
		if ref := p.spec.Data.Ref(k); *ref == "" {
			*ref = string(p.standIn(string(k), nil))
		}
	}
	plan, _, err := p.spec.Plan("preview", p.resolver(ctx))
	if err != nil {
		return nil
	}
	list := make([]*model.Config, len(plan.Stages))
	for i, st := range plan.Stages {
		list[i] = s.shape(spec, plan, list, st)
	}
	return list
}

// shape returns the config of the model that one stage starts from: its own for
// a pretrain stage, else that of its model input. before has the configs of the
// stages before it.
func (s *Service) shape(spec recipes.Spec, plan trimtab.Plan, before []*model.Config,
	st trimtab.PlannedStage) *model.Config {
	if st.Kind == recipes.KindPretrain {
		return &spec.Model.Config
	}
	// The same rule as in survey.modelOf: the first input that is not a dataset.
	for _, in := range st.Inputs {
		switch {
		case slices.Contains(dataNames, in.Name):
			continue
		case in.Stage != "":
			return before[stageIndex(plan, in.Stage)]
		case in.Model == "":
			return nil
		}
		return s.shapeOf(in.Model)
	}
	return nil
}

// shapeOf returns the config of a stored model, or of one in a folder; nil if
// it cannot be read.
func (s *Service) shapeOf(ref trimtab.Digest) *model.Config {
	if info, err := os.Stat(string(ref)); err == nil && info.IsDir() {
		c, err := checkpoint.FolderConfig(string(ref))
		if err != nil {
			return nil
		}
		return &c
	}
	if c, ok := checkpoint.ModelConfig(s.files, ref); ok {
		return &c
	}
	return nil
}

// formatBytes formats a number of bytes with a binary unit, in whole KB below
// 10 MB, whole MB below 10 GB, else whole GB.
func formatBytes(n int64) string {
	const mb = 1 << 20
	if n < 10*mb {
		return fmt.Sprintf("%d KB", n>>10)
	}
	if n < 10<<30 {
		return fmt.Sprintf("%d MB", n/mb)
	}
	return fmt.Sprintf("%d GB", n>>30)
}
