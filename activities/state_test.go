package activities

import (
	"reflect"
	"slices"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/ppo"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
	"github.com/trimtab/trimtab/train/traintest"
)

// The jobs as a worker makes them, over the stages' own trainers: what a job
// adds to its trainer is given when it is made.
var (
	trainedFields = traintest.Fields{"b": traintest.Input, "tok": traintest.Input, "kind": traintest.Input,
		"tokens": traintest.Input, "data": traintest.Input}
	responsesFields = traintest.Fields{"maxTokens": traintest.Input, "tokens": traintest.State,
		"lengths": traintest.State}

	collectFields = traintest.Fields{"b": traintest.Input}.With("Trainer", traintest.Fields{
		"config": traintest.Input, "in": traintest.Input, "pass": traintest.Scratch,
		"prompts": traintest.Input, "starts": traintest.Input, "fit": traintest.Input,
	}.With("responses", responsesFields))
	evaluateFields = traintest.Fields{
		"b": traintest.Input, "tok": traintest.Input, "models": traintest.Input, "rewardModel": traintest.Input,
		"fit": traintest.Input,
	}.With("Trainer", traintest.Fields{
		"config": traintest.Input, "in": traintest.Input, "pass": traintest.Scratch,
		"prompts": traintest.Input, "ids": traintest.Input,
	}.With("in.Scorer", traintest.Fields{"pass": traintest.Scratch}).With("answers[]", responsesFields))
	stageFields = map[string]traintest.Fields{
		recipes.KindPretrain: traintest.Pretrain, recipes.KindSFT: traintest.SFT, recipes.KindReward: traintest.Reward,
		recipes.KindPPO: traintest.PPO.With("in.Scorer", traintest.Fields{"pass": traintest.Scratch}),
	}
)

// common are what the jobs of a worker share: the worker, and tokenizers, which do not change.
var common = []reflect.Type{reflect.TypeFor[*Activities](), reflect.TypeFor[*tokenizer.Tokenizer]()}

// Every field of every job is in its State, or was given when it was made, or
// is worth nothing between steps; and at any step a job that is made anew from
// its digests and given State continues to the same bytes, reports and outputs.
func TestStateIsAllThereIs(t *testing.T) {
	w := newSmallWorker(t, "smallest")
	for name, set := range map[string][]string{
		"recipe": nil,
		"options": {"sft.pretrain_mix=.25", "ppo.ptx_coef=.5", "ppo.ema_decay=.9", "ppo.kl_controller=adaptive",
			"ppo.kl_target=.01"},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := recipes.Load("instructgpt", "smallest", set)
			if err != nil {
				t.Fatal(err)
			}
			spec.Data = w.data
			c := (&smallWorker{Activities: w.Activities, size: w.size, data: w.data, spec: spec}).chain(t, tensor.V1)
			for _, st := range c.plan.Stages {
				t.Run(st.Name, func(t *testing.T) { c.checkState(t, st) })
				c.run(t, st, tensor.Implementation(), true)
			}
		})
	}
}

// checkState checks the job of a stage.
func (c *smallChain) checkState(t *testing.T, st trimtab.PlannedStage) {
	switch j := c.job(t, st).(type) {
	case *modelJob:
		fields := stageFields[st.Kind]
		if st.Kind == recipes.KindPPO && hasArray(j, "ema.transformer.wte.weight") {
			fields = fields.With("", traintest.PPOAverage)
		}
		checkJob(t, c, st, traintest.Case[*modelJob]{Fields: trainedFields.With("Trainer", fields),
			Result: func(_ *testing.T, j *modelJob) any {
				m := j.result()
				if j.measure == nil {
					return m.Slab
				}
				return []any{m.Slab, j.measure(m)}
			}})
		if st.Kind == recipes.KindPPO {
			c.checkShared(t, st, trainedFields.With("Trainer", fields))
		}
	case *collectJob:
		checkJob(t, c, st, traintest.Case[*collectJob]{Fields: collectFields,
			Result: func(t *testing.T, j *collectJob) any { return c.outputs(t, st, j) }})
	case *evaluateJob:
		checkJob(t, c, st, traintest.Case[*evaluateJob]{Fields: evaluateFields,
			Result: func(t *testing.T, j *evaluateJob) any {
				r, err := j.report(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return r
			}})
	default:
		t.Errorf("a %T is a job that this test does not know: give it a traintest.Case with the class of every field",
			j)
	}
}

// checkShared checks a ppo stage whose second iteration was sampled by others.
func (c *smallChain) checkShared(t *testing.T, st trimtab.PlannedStage, fields traintest.Fields) {
	twin := c.job(t, st).(*modelJob)
	if _, err := twin.Step(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	var shards []ppo.Shard
	trainer := twin.Trainer.(*ppo.Trainer)
	for i := range 2 {
		from, to := trainer.ShardRange(i, 2)
		s, err := trainer.Rollouts(t.Context(), 1, from, to)
		if err != nil {
			t.Fatal(err)
		}
		shards = append(shards, s)
	}
	traintest.Case[*shardedStep]{
		Fields: traintest.Fields{"step": traintest.Input, "shards": traintest.Input}.With("modelJob", fields),
		Steps:  min(firstSteps, twin.Steps()), Shared: common,
		New: func(t *testing.T) *shardedStep {
			return &shardedStep{modelJob: c.job(t, st).(*modelJob), step: 1, shards: shards}
		},
	}.Run(t)
}

func hasArray(j job, name string) bool {
	for _, a := range j.State() {
		if a.Name == name {
			return true
		}
	}
	return false
}

// checkJob checks the first steps of a job.
func checkJob[J job](t *testing.T, c *smallChain, st trimtab.PlannedStage, k traintest.Case[J]) {
	k.New = func(t *testing.T) J { return c.job(t, st).(J) }
	k.Steps, k.Shared = min(firstSteps, c.job(t, st).Steps()), common
	k.Run(t)
}

// Without a reference of its own, ppo measures KL against the model of the
// digest that the policy begins as: naming that digest changes nothing, and
// the first iteration's KL is 0. Another reference is another KL.
func TestReference(t *testing.T) {
	c := newSmallWorker(t, "smallest").chain(t, tensor.V1)
	var st trimtab.PlannedStage
	for _, st = range c.plan.Stages {
		if st.Kind == recipes.KindPPO {
			break
		}
		c.run(t, st, tensor.Implementation(), true)
	}
	first := func(reference string) ([]trimtab.Named, float64) {
		s := st
		if reference != "" {
			s.Inputs = append(slices.Clone(st.Inputs),
				trimtab.Input{Name: "reference", Stage: reference, Output: "model"})
		}
		j := c.job(t, s)
		r, err := j.Step(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		kl, _ := r.Value("objective/kl3")
		return digestsOf(t, j.State(), r), kl
	}
	plain, kl := first("")
	named, _ := first("sft")
	other, distance := first("pretrain")
	if kl != 0 || !slices.Equal(plain, named) {
		t.Errorf("KL from the policy's own beginning is %g, and naming it changes something", kl)
	}
	if distance == 0 || slices.Equal(plain, other) {
		t.Errorf("KL from another model is %g, and changes nothing", distance)
	}
	in := st
	in.Inputs = append(slices.Clone(st.Inputs), trimtab.Input{Name: "reference", Stage: "reward", Output: "model"})
	if _, err := c.newJob(t.Context(), c.segment(in)); err == nil || trimtab.AsError(err).Type != "wrong_model" {
		t.Errorf("a reward model as the reference: %v", err)
	}
}
