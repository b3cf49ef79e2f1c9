package recipes

import (
	"github.com/trimtab/trimtab/model"
)

// Cost is what a run would take, before a machine's speed is known.
type Cost struct {
	Parameters int64       `json:"parameters"`
	Stages     []StageCost `json:"stages"`
	FLOPs      float64     `json:"flops"`
	Memory     int64       `json:"memory_bytes"` // at most, of weights, gradients, moments and activations
	Disk       int64       `json:"disk_bytes"`   // of models and the checkpoints that are kept
}

// StageCost is a stage's share. Steps is 0 where it depends on data that is not known yet.
type StageCost struct {
	Name   string  `json:"name"`
	Kind   string  `json:"kind"`
	Steps  int     `json:"steps"`
	Tokens int64   `json:"tokens"`
	FLOPs  float64 `json:"flops"`
	Memory int64   `json:"memory_bytes"`
	Disk   int64   `json:"disk_bytes"`
}

const (
	float        = 4 // bytes
	liveTokens   = 4096
	promptTokens = 16 // of the starter world's prompts, and of others for want of a better guess
)

// Estimate counts the cost of a spec. A forward pass of a token takes 2
// floating-point operations a parameter and 4·L·C·T for attention over T
// tokens; a backward pass takes twice that (Kaplan et al. 2020, section 2.1).
// base is the shape of model.base, where the spec starts from one.
func Estimate(s Spec, base *model.Config) Cost {
	shape := s.Model.Config
	if s.Model.Base != "" && base != nil {
		shape = *base
	}
	n := int64(shape.Parameters())
	c := Cost{Parameters: n}
	for _, st := range s.Stages {
		sc := stageCost(s, st, shape, n)
		sc.Name, sc.Kind = st.Name, st.Kind
		c.Stages = append(c.Stages, sc)
		c.FLOPs += sc.FLOPs
		c.Memory = max(c.Memory, sc.Memory)
		c.Disk += sc.Disk
	}
	return c
}

// contestants counts the language models that an evaluation compares.
func contestants(s Spec) int {
	n := 0
	if s.Model.Base != "" {
		n++
	}
	for _, st := range s.Stages {
		switch st.Kind {
		case KindPretrain, KindSFT, KindPPO:
			n++
		}
	}
	return n
}

func stageCost(s Spec, st Stage, shape model.Config, n int64) StageCost {
	forward := 2*float64(n) + 4*float64(shape.Layers)*float64(shape.Width)*float64(shape.Context)/2
	activations := int64(liveTokens) * int64(shape.Layers) * int64(shape.Width) * 16 * float
	learn := (4+3)*n*float + activations // weights, gradients, two moments; a copy of all but the gradients while a checkpoint is written
	keep := n*float + 2*3*n*float        // the model, and two checkpoints of weights and moments
	count := func(f func() int) int {
		if s.Starter == nil {
			return 0
		}
		return f()
	}
	switch c := st.Config.(type) {
	case *Pretrain:
		return StageCost{Steps: (c.Tokens + c.BatchTokens - 1) / c.BatchTokens, Tokens: int64(c.Tokens), FLOPs: 3 * forward * float64(c.Tokens), Memory: learn, Disk: keep}
	case *SFT:
		demos := count(func() int { return s.Starter.Demonstrations })
		tokens := int64(c.Epochs) * int64(demos) * 2 * promptTokens
		return StageCost{Steps: (demos*c.Epochs + c.Batch - 1) / c.Batch, Tokens: tokens, FLOPs: 3 * forward * float64(tokens), Memory: learn, Disk: keep}
	case *Collect:
		tokens := int64(c.Prompts+c.HeldOut) * int64(c.MinResponses+c.MaxResponses) / 2 * int64(promptTokens+c.MaxTokens)
		return StageCost{Steps: (c.Prompts + c.HeldOut + c.Batch - 1) / c.Batch, Tokens: tokens, FLOPs: forward * float64(tokens), Memory: n*float + activations}
	case *Reward:
		rankings := 0
		for _, other := range s.Stages {
			if cc, ok := other.Config.(*Collect); ok {
				rankings = cc.Prompts
			}
		}
		tokens := int64(c.Epochs) * int64(rankings) * 6 * 2 * promptTokens
		return StageCost{Steps: (rankings*c.Epochs + c.Batch - 1) / c.Batch, Tokens: tokens, FLOPs: 3 * forward * float64(tokens), Memory: learn, Disk: keep}
	case *PPO:
		tokens := int64(c.Episodes) * int64(promptTokens+c.MaxTokens)
		// sample, reference, score, value; then forward and backward of policy and value in each inner epoch
		passes := 4 + 6*float64(c.InnerEpochs)
		return StageCost{Steps: c.Episodes / c.Batch, Tokens: tokens, FLOPs: passes * forward * float64(tokens), Memory: 2*learn + 2*n*float, Disk: n*float + 2*6*n*float}
	case *Evaluate:
		tests := count(func() int { return 2 * s.Starter.Tests })
		tokens := int64(tests) * 3 * int64(promptTokens+c.MaxTokens)
		return StageCost{Steps: contestants(s), Tokens: tokens, FLOPs: 2 * forward * float64(tokens), Memory: n*float + activations}
	}
	return StageCost{}
}
