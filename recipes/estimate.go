package recipes

import (
	"runtime"

	"github.com/trimtab/trimtab/model"
)

// Cost is what a run would take, independent of the speed of a machine. Its
// sums are over the stages whose data is known.
type Cost struct {
	Parameters int64
	Stages     []StageCost
	FLOPs      float64
	Memory     int64 // of the worker, at most, in bytes
	Disk       int64 // of models and the checkpoints that are kept, in bytes
}

// StageCost is the cost of one stage. Steps is nil and Work is not Known if they
// depend on data that is not known.
type StageCost struct {
	Name, Kind string
	Shape      model.Config
	Steps      *int
	Work       Work
	FLOPs      float64
	Memory     int64 // of the worker while the stage is running, in bytes
	Disk       int64
}

// Work is where a stage's time goes, in tokens: those that go forward and backward,
// those that only go forward, and those that are sampled one after another.
type Work struct {
	Known                    bool
	Trained, Scored, Sampled float64
	Length                   float64 // of a sequence, approximately
	Together                 float64 // tokens of an update
}

// Tokens returns the total number of tokens that the stage processes.
func (w Work) Tokens() float64 { return w.Trained + w.Scored + w.Sampled }

// Estimate returns the cost of a spec. A forward pass of a token takes 2
// floating-point operations per parameter, and 4·L·C·T for attention over T
// tokens; a backward pass takes twice that (Kaplan et al. 2020, section 2.1). T
// is taken as half the context.
func Estimate(s Spec, known Known) Cost {
	var c Cost
	for i, st := range s.Stages {
		e := estimate{spec: s, i: i, stage: st, known: known, at: known.at(i), shape: s.Model.Config}
		if e.at.Shape != nil {
			e.shape = *e.at.Shape
		}
		sc := e.cost()
		c.Parameters = max(c.Parameters, int64(e.shape.Parameters()))
		c.Stages = append(c.Stages, sc)
		c.FLOPs += sc.FLOPs
		c.Memory = max(c.Memory, sc.Memory)
		c.Disk += sc.Disk
	}
	return c
}

// estimate holds what the estimate of one stage is computed from.
type estimate struct {
	spec  Spec
	i     int
	stage Stage
	known Known
	at    StageKnown
	shape model.Config
}

// cost returns the stage's operations, memory and disk. On disk are its model
// and two checkpoints, each with the weights and the two moments of every model
// that learns: one, or in ppo the policy and the value model.
func (e estimate) cost() StageCost {
	c := StageCost{Name: e.stage.Name, Kind: e.stage.Kind, Shape: e.shape}
	var steps int
	steps, c.Work = e.work()
	c.Work.Length, c.Work.Together = e.length(), float64(e.together())
	if c.Work.Known {
		c.Steps = &steps
	}
	n := float64(e.shape.Parameters())
	if e.shape.Untied {
		n -= float64(e.shape.Vocab) * float64(e.shape.Width) // the embedding is no product
	}
	whole := e.shape.ForwardFLOPs(e.shape.Context, 0) / float64(e.shape.Context)
	attention := whole - e.shape.ForwardFLOPs(1, 0)
	forward := 2*n + attention
	c.FLOPs = forward * (3*c.Work.Trained + c.Work.Scored + c.Work.Sampled)
	c.Memory = e.memory()
	size := int64(e.shape.Parameters()) * float
	switch e.stage.Kind { // the model, and two checkpoints of weights and moments
	case KindPretrain, KindSFT, KindReward:
		c.Disk = size + 2*3*size
	case KindPPO:
		c.Disk = size + 2*6*size
	}
	return c
}

// work returns the number of steps of the stage and its tokens.
func (e estimate) work() (int, Work) {
	switch c := e.stage.Config.(type) {
	case *Pretrain:
		return ceil(c.Tokens, c.BatchTokens), Work{Known: true, Trained: float64(c.Tokens)}
	case *SFT:
		demos, ok := e.at.Volumes["demonstrations"]
		mix := int(float64(c.Batch)*c.PretrainMix + .5)
		steps := ceil(demos.Kept*c.Epochs, max(1, c.Batch-mix))
		return steps,
			Work{Known: ok,
				Trained: float64(c.Epochs)*float64(demos.Tokens) + float64(steps)*float64(mix)*float64(min(64,
					e.shape.Context))}
	case *Collect:
		n := float64(c.Prompts + c.HeldOut)
		k := n * float64(c.MinResponses+c.MaxResponses) / 2
		prompt, ok := e.mean("prompts")
		return ceil(c.Prompts+c.HeldOut, c.Batch),
			Work{Known: ok, Scored: k * prompt, Sampled: k * e.answer(c.MaxNewTokens)}
	case *Reward:
		return e.rewardWork(c)
	case *PPO:
		return e.ppoWork(c)
	case *Evaluate:
		return e.evaluateWork(c)
	}
	return 0, Work{}
}

// rewardWork returns the steps and tokens of a reward stage: the training
// rankings go forward and backward in every epoch; the demonstrations are scored
// once, to centre the scores, and the held-out rankings before the first epoch
// and after each.
func (e estimate) rewardWork(c *Reward) (int, Work) {
	rankings, held, ok := e.rankings()
	demos := e.at.Volumes["demonstrations"]
	return ceil(rankings.Kept*c.Epochs, c.Batch), Work{Known: ok, Trained: float64(c.Epochs) * float64(rankings.Tokens),
		Scored: float64(demos.Tokens) + float64(c.Epochs+1)*float64(held.Tokens)}
}

// ppoWork returns the steps and tokens of a ppo stage. Each response is
// sampled; scored by the reward model; given log-probabilities by the reference
// and values by the value model; and then learned from by policy and value
// model in each of the PPO epochs.
func (e estimate) ppoWork(c *PPO) (int, Work) {
	prompt, ok := e.mean("prompts")
	answer := e.answer(c.MaxNewTokens)
	episodes, samples := float64(c.Episodes), float64(c.ScoreSamples)
	whole := prompt + answer
	w := Work{Known: ok, Sampled: (episodes + samples) * answer,
		Scored:  episodes*(prompt+4*whole) + samples*(prompt+whole),
		Trained: episodes * float64(c.PPOEpochs) * 2 * whole}
	if c.PtxCoef > 0 {
		w.Trained += episodes * float64(c.PPOEpochs) * float64(c.PtxRows) * float64(min(64, e.shape.Context))
	}
	return c.Episodes / c.Batch, w
}

// evaluateWork returns the steps and tokens of an evaluate stage: every model
// answers every held-out prompt. Answers of models trained with PPO go through
// themselves and the SFT model once more, for the KL divergence.
func (e estimate) evaluateWork(c *Evaluate) (int, Work) {
	prompt, ok := e.mean("tests")
	tests := float64(e.at.Volumes["tests"].Kept)
	models, tuned, scorer := e.contestants()
	answer := e.answer(c.MaxNewTokens)
	w := Work{Known: ok, Sampled: tests * float64(models) * answer,
		Scored: tests * (float64(models)*prompt + 2*float64(tuned)*(prompt+answer))}
	if scorer {
		_, held, _ := e.rankings()
		w.Scored += tests*float64(models)*(prompt+answer) + float64(held.Tokens)
	}
	return models, w
}

// contestants returns how many language models an evaluation compares, how many
// of them it compares with the SFT model, and whether there is a reward model.
func (e estimate) contestants() (models, tuned int, scorer bool) {
	if e.spec.Model.Base != "" {
		models++
	}
	for _, st := range e.spec.Stages[:e.i] {
		switch st.Kind {
		case KindPretrain, KindSFT:
			models++
		case KindPPO:
			models++
			tuned++
		case KindReward:
			scorer = true
		}
	}
	return models, tuned, scorer
}

// mean returns the mean length of some items of the stage, in tokens, and
// whether it is known.
func (e estimate) mean(items string) (tokens float64, known bool) {
	v, ok := e.at.Volumes[items]
	return float64(v.Tokens) / float64(max(1, v.Kept)), ok
}

// answer returns how many tokens a sampled answer is likely to have: as many as
// the answers that the spec's models learn from, but at most most. A model that
// has learned to end does so; without demonstrations or rankings every answer is
// assumed to be as long as it may be.
func (e estimate) answer(most int) float64 {
	for _, items := range []string{"demonstrations", "rankings"} {
		for _, k := range e.known {
			if v, ok := k.Volumes[items]; ok && v.Texts > 0 {
				return min(float64(most), float64(v.Answers)/float64(v.Texts))
			}
		}
	}
	return float64(most)
}

// distinct is the share of a collect stage's responses that differ from the
// others for the same prompt. It was measured in the default run.
const distinct = .86

// rankings returns the training and the held-out rankings that a stage reads:
// those of a dataset, or what the collect stage before it is likely to
// produce.
func (e estimate) rankings() (train, held Volume, known bool) {
	if v, ok := e.at.Volumes["rankings"]; ok {
		return v, e.at.Volumes["held_out"], true
	}
	for i := e.i - 1; i >= 0; i-- {
		c, ok := e.spec.Stages[i].Config.(*Collect)
		if !ok {
			continue
		}
		at := e
		at.at = e.known.at(i)
		prompt, ok := at.mean("prompts")
		texts := float64(c.MinResponses+c.MaxResponses) / 2 * distinct
		each := texts * (prompt + e.answer(c.MaxNewTokens))
		volume := func(prompts int) (v Volume) {
			v.Kept = prompts
			v.Tokens = int64(each * float64(prompts))
			v.Texts = int64(texts * float64(prompts))
			return v
		}
		train, held = volume(c.Prompts), volume(c.HeldOut)
		return train, held, ok
	}
	return train, held, false
}

// length returns the approximate length of a sequence of the stage, in tokens.
func (e estimate) length() float64 {
	switch c := e.stage.Config.(type) {
	case *Pretrain:
		return float64(c.BlockSize)
	case *SFT:
		mean, _ := e.mean("demonstrations")
		return mean
	case *Reward:
		rankings, _, _ := e.rankings()
		return float64(rankings.Tokens) / float64(max(1, rankings.Texts))
	case *Collect:
		mean, _ := e.mean("prompts")
		return mean + e.answer(c.MaxNewTokens)
	case *PPO:
		mean, _ := e.mean("prompts")
		return mean + e.answer(c.MaxNewTokens)
	case *Evaluate:
		mean, _ := e.mean("tests")
		return mean + e.answer(c.MaxNewTokens)
	}
	return 0
}

// ceil returns n/by, rounded up.
func ceil(n, by int) int { return (n + by - 1) / by }

// float is the size of a float32, in bytes.
const float = 4

// memory returns what a worker takes while the stage runs, in bytes: the
// process, the stage's data, its models with gradients and moments, and the
// activations of the tokens that go through a model at once. A quarter is added
// to what is allocated and freed again, for garbage that has not yet been
// collected.
func (e estimate) memory() int64 {
	n := int64(e.shape.Parameters())
	models := learned(e.stage.Kind, n)
	if e.stage.Kind == KindEvaluate {
		count, _, scorer := e.contestants()
		if scorer {
			count++
		}
		models = int64(count) * n * float
	}
	weights := models + copies[e.stage.Kind]*n*float
	rest := e.dataBytes() + e.sampledBytes() + e.learnBytes() + e.inferBytes() + e.decoderBytes()
	return processBytes + weights + rest + rest/4 // garbage that has not yet been collected
}

// copies is how many more copies of its model's weights a stage holds: packed
// for products and for their gradients, as the file that is read, as what was
// read from it, and as a result. They were measured as the memory of workers
// with models of 1 and 11 M parameters.
var copies = map[string]int64{KindPretrain: 3, KindSFT: 7, KindReward: 9, KindPPO: 6, KindCollect: 3, KindEvaluate: 2}

// processBytes is the memory of a worker without a stage, in bytes.
const processBytes = 90 << 20

// LeastMemory returns the least memory that a stage needs, in bytes, if its
// largest model has n parameters: no worker with less can complete it. A worker
// checks it before it begins.
func LeastMemory(c Config, kind string, n int64) int64 {
	least := learned(kind, n)
	if c, ok := c.(*Collect); ok {
		least += int64(c.Prompts+c.HeldOut) * int64(c.MinResponses) * int64(c.MaxNewTokens) * float
	}
	return least
}

// learned returns the memory of a stage's models, each of n parameters, and of
// their training state, in bytes. A model that learns has weights, a
// gradient and two moments; a copy of all but the gradient while a checkpoint
// is written; and the weights that it began with.
func learned(kind string, n int64) int64 {
	const learner = (4 + 3 + 1) * float
	switch kind {
	case KindPretrain, KindSFT, KindReward:
		return learner * n
	case KindPPO: // policy and value model; the reference and the reward model are what they began as
		return 2 * learner * n
	}
	return n * float
}

// dataBytes returns the memory of the stage's items and of their tokens. An
// evaluation joins all training texts into one, in which it looks for held-out
// prompts.
func (e estimate) dataBytes() int64 {
	var sum int64
	for items, v := range e.at.Volumes {
		sum += 2*v.Bytes + 8*v.Tokens + 256*int64(v.Kept+v.LeftOut)
		if e.stage.Kind == KindEvaluate && (items == "text" || items == "demonstrations") {
			sum += 3 * v.Bytes // all in one, to look for held-out prompts
		}
	}
	return sum
}

// sampledBytes returns the memory of the responses that a stage collects.
func (e estimate) sampledBytes() int64 {
	switch c := e.stage.Config.(type) {
	case *Collect:
		return int64(c.Prompts+c.HeldOut) * int64(c.MinResponses+c.MaxResponses) / 2 * int64(c.MaxNewTokens) * float
	case *Evaluate:
		models, _, _ := e.contestants()
		return int64(e.at.Volumes["tests"].Kept) * int64(models) * int64(c.MaxNewTokens) * float
	case *PPO:
		return 10 * int64(c.Batch) * int64(c.MaxNewTokens) * float
	}
	return 0
}

// passTokens is the approximate number of tokens that go through a model at
// once: a micro-batch.
const passTokens = 4096

// together returns how many tokens go through a model at once: those of an
// update, at most passTokens.
func (e estimate) together() int64 {
	tokens := float64(passTokens)
	switch c := e.stage.Config.(type) {
	case *Pretrain:
		tokens = float64(c.BatchTokens)
	case *SFT:
		if mean, ok := e.mean("demonstrations"); ok {
			tokens = float64(c.Batch) * mean
		}
	case *Reward:
		if rankings, _, ok := e.rankings(); ok {
			tokens = float64(c.Batch) * float64(rankings.Tokens) / float64(max(1, rankings.Kept))
		}
	case *PPO:
		if mean, ok := e.mean("prompts"); ok {
			tokens = float64(c.Batch/max(1, c.MiniBatches)) * (mean + e.answer(c.MaxNewTokens))
		}
	}
	return int64(min(tokens, max(passTokens, float64(e.shape.Context))))
}

// logitBytes returns the memory of the logits that exist at once: model
// computes them for a limited number of rows, and never for a whole batch.
func (e estimate) logitBytes() int64 {
	vocab := int64(max(1, e.shape.Vocab))
	return max(256, (1<<19)/vocab) * (vocab + 2*int64(e.shape.Width)) * float
}

// learnBytes returns the memory of the activations of the tokens that are
// learned from at once: what the backward pass reads again, for each layer and
// token; what a pass takes beside that, per token; and what the backward pass
// takes, for the tokens of one group.
func (e estimate) learnBytes() int64 {
	layers, tokens := int64(e.shape.Layers), e.together()
	if e.stage.Kind == KindCollect || e.stage.Kind == KindEvaluate {
		return 0
	}
	back := min(tokens, max(512, 256*int64(runtime.GOMAXPROCS(0))))
	kept := layers*int64(e.shape.ActivationFloats()) + int64(e.shape.ScratchFloats())
	return (kept*tokens+int64(e.shape.BackwardFloats())*back)*float + e.logitBytes()
}

// inferBytes returns the memory of the activations of tokens that only go
// forward, for each pass that a stage keeps for them.
func (e estimate) inferBytes() int64 {
	passes, tokens := int64(0), float64(passTokens)
	switch c := e.stage.Config.(type) {
	case *Reward: // the held-out rankings
		_, held, _ := e.rankings()
		passes, tokens = 1, float64(held.Tokens)
	case *PPO: // the policy's and the reward model's
		passes, tokens = 2, float64(c.Batch)*e.length()
	case *Evaluate: // divergences, scores of answers, and of held-out rankings
		passes, tokens = 3, float64(e.at.Volumes["tests"].Kept)*e.length()
	}
	tokens = min(tokens, max(passTokens, float64(e.shape.Context)))
	return passes * (e.inferFloats()*int64(tokens)*float + e.logitBytes())
}

// inferFloats returns how many floats a pass without activations takes for each
// token.
func (e estimate) inferFloats() int64 {
	return int64(e.shape.ActivationFloats() + e.shape.ScratchFloats())
}

// decoderBytes returns the memory of the decoders: the keys and values of the
// sequences that are sampled at once, and the activations of the prompts that
// are read into them.
func (e estimate) decoderBytes() int64 {
	const mostAtOnce, readAtOnce = 64, 1024 // sequences, and tokens of prompts, of each worker
	var most, count int
	switch c := e.stage.Config.(type) {
	case *Collect:
		most, count = c.MaxNewTokens, c.Batch*(c.MinResponses+c.MaxResponses)/2
	case *PPO:
		most, count = c.MaxNewTokens, max(c.Batch, c.ScoreSamples)
	case *Evaluate:
		most, count = c.MaxNewTokens, min(128, e.at.Volumes["tests"].Kept)
	default:
		return 0
	}
	length := e.shape.Context
	if longest := max(e.at.Volumes["prompts"].Longest, e.at.Volumes["tests"].Longest); longest > 0 {
		length = min(length, longest+most)
	}
	workers := runtime.GOMAXPROCS(0)
	atOnce := int64(min(mostAtOnce, ceil(max(1, count), workers)))
	keys := atOnce * int64(e.shape.CacheFloats(length))
	read := min(readAtOnce, atOnce*int64(length)) * e.inferFloats()
	return int64(workers) * (keys + read) * float
}
