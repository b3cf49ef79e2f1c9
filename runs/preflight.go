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

// preflight refuses, before anything is trained, a plan that is sure to fail
// in stage from or after it: for want of data, for its length, or for a gate
// on what is not measured.
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

// checkKinds refuses a dataset of another kind than the input's.
func (v *survey) checkKinds(i int) error {
	for _, in := range v.plan.Stages[i].Inputs {
		if c := v.corpora[in.Dataset]; in.Dataset != "" && c != nil && string(c.kind) != in.Name {
			return trimtab.NewError(trimtab.Usage, "wrong_kind", "name a dataset of that kind",
				"stage %s reads %s, and %s holds %s", v.plan.Stages[i].Name, in.Name, c.name, c.kind)
		}
	}
	return nil
}

func (v *survey) checkGates(i int) error { return v.spec.CheckGates(i, v.heldOut(i)) }

// heldOut reports whether held-out rankings are there to measure a reward model
// on, where that is known.
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

func (v *survey) checkContext(i int) error {
	if v.contexts[i] == 0 {
		return nil
	}
	if err := recipes.CheckRoom(v.spec.Stages[i], v.contexts[i]); err != nil {
		return trimtab.NewError(trimtab.Usage, "invalid_spec", "lower it", "stage %s: %w", v.plan.Stages[i].Name, err)
	}
	return nil
}

// checkData refuses a stage of which no item can be read.
func (v *survey) checkData(i int) error {
	name := v.plan.Stages[i].Name
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
			fmt.Sprintf("add %s without \"split\": \"test\": %s", input, c.importHint()),
			"stage %s: all %d %s of %s are held out, and none is left to learn from", name, c.count(), input, c.name)
	}
	if o, ok := v.spec.Stages[i].Config.(*recipes.Collect); ok && train < o.Prompts+o.HeldOut {
		return trimtab.NewError(trimtab.Invalid, "too_few_prompts",
			fmt.Sprintf("lower %s.prompts or %s.held_out", name, name),
			"stage %s wants %d prompts and %d held-out ones, %s has %d", name, o.Prompts, o.HeldOut, c.name, train)
	}
	return v.checkFit(i, input, c)
}

// checkFit refuses data of which every item is too long.
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

// lengthRemedy is what to do about data that is too long.
func lengthRemedy(spec recipes.Spec, stage, items string) string {
	remedy := "give shorter prompts"
	if items == "prompts" || items == "tests" {
		remedy = fmt.Sprintf("lower %s.max_tokens, or give shorter prompts", stage)
	}
	if spec.Model.Base == "" {
		return "widen the model with model.context, or " + remedy
	}
	return remedy + ", or begin with a model of a longer context"
}

// noTestPromptsError says how held-out prompts come to be.
func noTestPromptsError(stage string, c *corpus) error {
	return trimtab.NewError(trimtab.Invalid, "no_test_prompts",
		fmt.Sprintf("add some with \"split\": \"test\": %s; or leave the stage out", c.importHint()),
		"stage %s: none of the %d prompts of %s is held out (has the split test), so there is nothing to ask", stage,
		c.count(), c.name)
}

// importHint is how a user adds items to a dataset.
func (c *corpus) importHint() string {
	return fmt.Sprintf("`trimtab data import %s --kind %s --freeze FILE`", c.name, c.kind)
}

// checkMemory refuses a run of which this machine is too small for a stage,
// whatever else runs on it. shapes are the models that the stages begin with.
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
				"make the model smaller, or run the worker on a larger machine",
				"stage %s needs at least %s of memory, and this machine has %s: it is not begun", st.Name,
				formatBytes(least), formatBytes(total))
		}
	}
	return nil
}

// checkStarterMemory refuses a starter world that this machine cannot hold, before any of it is made.
func (s *Service) checkStarterMemory(spec recipes.Spec) error {
	if d := spec.Data; spec.Starter == nil || d.Text != "" && d.Demonstrations != "" && d.Prompts != "" {
		return nil
	}
	need := spec.Starter.Bytes()
	if _, free, known := s.memory(); known && need > free {
		return trimtab.NewError(trimtab.Unavailable, "memory_short",
			"lower starter.words, demonstrations and prompts, or end what else uses the memory",
			"to make the starter world takes about %s of memory, and %s are free", formatBytes(need), formatBytes(free))
	}
	return nil
}

// shapes are the models that the stages of a survey begin with; nil is unknown.
func (v *survey) shapes() (list []*model.Config) {
	for _, w := range v.models {
		list = append(list, w.config)
	}
	return list
}

// shapes are the models that the stages of a spec will begin with, found before
// anything is made of it; nil is unknown. Of a model its config is read, and what
// cannot be read is said by whoever reads the model.
func (s *Service) shapes(ctx context.Context, spec recipes.Spec) []*model.Config {
	p := preview{s: s, spec: spec, given: map[trimtab.Digest]*corpus{}}
	for _, k := range trimtab.Kinds {
		if ref := p.spec.Data.Ref(k); *ref == "" {
			*ref = string(p.placeholder(string(k), nil))
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

// config is that of one stage's model; before has those of the stages before it.
func (s *Service) shape(spec recipes.Spec, plan trimtab.Plan, before []*model.Config,
	st trimtab.PlannedStage) *model.Config {
	if st.Kind == recipes.KindPretrain {
		return &spec.Model.Config
	}
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

// shapeOf is the shape of a stored model, or of one in a folder; nil is unknown.
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

// formatBytes is a number of bytes for people.
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
