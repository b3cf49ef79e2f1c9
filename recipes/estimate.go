package recipes

import (
	"runtime"

	"github.com/trimtab/trimtab/model"
)

// Cost is what a run would take, before a machine's speed is known. Sums are
// over the stages that are known.
type Cost struct {
	Parameters int64
	Stages     []StageCost
	FLOPs      float64
	Memory     int64 // of the worker, at most, bytes
	Disk       int64 // of models and the checkpoints that are kept, bytes
}

// StageCost is a stage's share. Steps is nil and Work is not Known where they
// depend on data that is not.
type StageCost struct {
	Name, Kind string
	Shape      model.Config
	Steps      *int
	Work       Work
	FLOPs      float64
	Memory     int64 // of the worker while the stage is at work, bytes
	Disk       int64
}

// Work is what a stage's time goes into, tokens: those that go forward and
// back, those that only go forward, and those that are sampled.
type Work struct {
	Known                    bool
	Trained, Scored, Sampled float64
	Length                   float64 // of a sequence, about
	Together                 float64 // tokens of an update
}

// Tokens is the number of all of them.
func (w Work) Tokens() float64 { return w.Trained + w.Scored + w.Sampled }

// Estimate counts the cost of a spec. A forward pass of a token takes 2
// floating-point operations a parameter and 4·L·C·T for attention over T
// tokens; a backward pass takes twice that (Kaplan et al. 2020, section 2.1).
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

// estimate is of one stage.
type estimate struct {
	spec  Spec
	i     int
	stage Stage
	known Known
	at    StageKnown
	shape model.Config
}

func (e estimate) cost() StageCost {
	c := StageCost{Name: e.stage.Name, Kind: e.stage.Kind, Shape: e.shape}
	var steps int
	steps, c.Work = e.work()
	c.Work.Length, c.Work.Together = e.length(), float64(e.together())
	if c.Work.Known {
		c.Steps = &steps
	}
	n := float64(e.shape.Parameters())
	forward := 2*n + 4*float64(e.shape.Layers)*float64(e.shape.Width)*float64(e.shape.Context)/2
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

// work is the stage's steps and tokens.
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
			Work{Known: ok, Scored: k * prompt, Sampled: k * e.answer(c.MaxTokens)}
	case *Reward:
		return e.rewardWork(c)
	case *PPO:
		return e.ppoWork(c)
	case *Evaluate:
		return e.evaluateWork(c)
	}
	return 0, Work{}
}

func (e estimate) rewardWork(c *Reward) (int, Work) {
	rankings, held, ok := e.rankings()
	demos := e.at.Volumes["demonstrations"]
	return ceil(rankings.Kept*c.Epochs, c.Batch), Work{Known: ok, Trained: float64(c.Epochs) * float64(rankings.Tokens),
		Scored: float64(demos.Tokens) + float64(c.Epochs+1)*float64(held.Tokens)}
}

// ppoWork: a response is sampled, scored, and compared with the reference, and
// valued; then policy and value learn from it in each inner epoch.
func (e estimate) ppoWork(c *PPO) (int, Work) {
	prompt, ok := e.mean("prompts")
	answer := e.answer(c.MaxTokens)
	episodes, samples := float64(c.Episodes), float64(c.ScoreSamples)
	whole := prompt + answer
	w := Work{Known: ok, Sampled: (episodes + samples) * answer,
		Scored:  episodes*(prompt+4*whole) + samples*(prompt+whole),
		Trained: episodes * float64(c.InnerEpochs) * 2 * whole}
	if c.PtxCoef > 0 {
		w.Trained += episodes * float64(c.InnerEpochs) * float64(c.PtxRows) * float64(min(64, e.shape.Context))
	}
	return c.Episodes / c.Batch, w
}

func (e estimate) evaluateWork(c *Evaluate) (int, Work) {
	prompt, ok := e.mean("tests")
	tests := float64(e.at.Volumes["tests"].Kept)
	models, tuned, scorer := e.contestants()
	answer := e.answer(c.MaxTokens)
	w := Work{Known: ok, Sampled: tests * float64(models) * answer,
		Scored: tests * (float64(models)*prompt + 2*float64(tuned)*(prompt+answer))}
	if scorer {
		_, held, _ := e.rankings()
		w.Scored += tests*float64(models)*(prompt+answer) + float64(held.Tokens)
	}
	return models, w
}

// contestants counts the language models that an evaluation compares, those of
// them that it compares with the SFT model, and says whether it has a reward model.
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

// mean is the mean length of items of a stage, tokens.
func (e estimate) mean(items string) (tokens float64, known bool) {
	v, ok := e.at.Volumes[items]
	return float64(v.Tokens) / float64(max(1, v.Kept)), ok
}

// answer is how long a sampled answer is likely to be: as long as those that
// the spec's models learn from, and at most max_tokens.
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

// distinct is the share of the sampled responses of a collect stage that are
// not the same text as another of their prompt, as in the default run.
const distinct = .86

// rankings are those that a stage reads: of a dataset, or of a collect stage.
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
		each := texts * (prompt + e.answer(c.MaxTokens))
		train.Kept, train.Tokens, train.Texts = c.Prompts, int64(each*float64(c.Prompts)), int64(texts*float64(c.Prompts))
		held.Kept, held.Tokens, held.Texts = c.HeldOut, int64(each*float64(c.HeldOut)), int64(texts*float64(c.HeldOut))
		return train, held, ok
	}
	return train, held, false
}

// length is about how long a sequence of the stage is, tokens.
func (e estimate) length() float64 {
	switch c := e.stage.Config.(type) {
	case *Pretrain:
		return float64(c.RowTokens)
	case *SFT:
		mean, _ := e.mean("demonstrations")
		return mean
	case *Reward:
		rankings, _, _ := e.rankings()
		return float64(rankings.Tokens) / float64(max(1, rankings.Texts))
	case *Collect:
		mean, _ := e.mean("prompts")
		return mean + e.answer(c.MaxTokens)
	case *PPO:
		mean, _ := e.mean("prompts")
		return mean + e.answer(c.MaxTokens)
	case *Evaluate:
		mean, _ := e.mean("tests")
		return mean + e.answer(c.MaxTokens)
	}
	return 0
}

func ceil(n, by int) int { return (n + by - 1) / by }

// float is the size of one.
const float = 4

// memory is what the worker takes while the stage is at work, bytes: the
// process, the stage's data, its models and what belongs to their training, and
// the activations of the tokens that go through a model at once.
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
	rest := e.dataBytes() + e.sampledBytes() + e.learnBytes() + e.inferBytes() + e.laneBytes()
	return processBytes + weights + rest + rest/4 // what is left over and not yet collected
}

// copies are how many more times a stage has its model's weights in memory: in
// panels, for products and for their gradients; as a file that is read, and as
// what was read of it; as a result, and in the panels of what measures it. They
// were found by the memory of workers with models of 1 and 11 M parameters.
var copies = map[string]int64{KindPretrain: 3, KindSFT: 7, KindReward: 9, KindPPO: 6, KindCollect: 3, KindEvaluate: 2}

// processBytes is a worker without a stage.
const processBytes = 90 << 20

// LeastMemory is what a stage whose largest model has n parameters holds at
// least, bytes: no worker with less takes it to its end.
func LeastMemory(c Config, kind string, n int64) int64 {
	least := learned(kind, n)
	if c, ok := c.(*Collect); ok {
		least += int64(c.Prompts+c.HeldOut) * int64(c.MinResponses) * int64(c.MaxTokens) * float
	}
	return least
}

// learned is the models of a stage, each of n parameters, with what their
// training holds: a learner has weights, a gradient and two moments, a copy of
// all but the gradient while a checkpoint is written, and the model that it
// began as.
func learned(kind string, n int64) int64 {
	const learner = (4 + 3 + 1) * float
	switch kind {
	case KindPretrain, KindSFT, KindReward:
		return learner * n
	case KindPPO: // policy and value model; reference and reward model are what they began as
		return 2 * learner * n
	}
	return n * float
}

// dataBytes is the stage's items and their tokens.
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

// sampledBytes is the responses that a stage gathers.
func (e estimate) sampledBytes() int64 {
	switch c := e.stage.Config.(type) {
	case *Collect:
		return int64(c.Prompts+c.HeldOut) * int64(c.MinResponses+c.MaxResponses) / 2 * int64(c.MaxTokens) * float
	case *Evaluate:
		models, _, _ := e.contestants()
		return int64(e.at.Volumes["tests"].Kept) * int64(models) * int64(c.MaxTokens) * float
	case *PPO:
		return 10 * int64(c.Batch) * int64(c.MaxTokens) * float
	}
	return 0
}

// passTokens is about how many tokens go through a model at once.
const passTokens = 4096

// together is how many tokens go through a model at once: those of an update,
// at most passTokens.
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
			tokens = float64(c.Batch/max(1, c.Minibatches)) * (mean + e.answer(c.MaxTokens))
		}
	}
	return int64(min(tokens, max(passTokens, float64(e.shape.Context))))
}

// logitBytes is the logits that are in memory at once.
func (e estimate) logitBytes() int64 {
	vocab := int64(max(1, e.shape.Vocab))
	return max(256, (1<<19)/vocab) * (vocab + 2*int64(e.shape.Width)) * float
}

// learnBytes is the activations of what is learned from at once: 10·C for each
// block and token, 9·C beside them, and 36·C for the tokens that go back together.
func (e estimate) learnBytes() int64 {
	layers, width, tokens := int64(e.shape.Layers), int64(e.shape.Width), e.together()
	if e.stage.Kind == KindCollect || e.stage.Kind == KindEvaluate {
		return 0
	}
	back := min(tokens, max(512, 256*int64(runtime.GOMAXPROCS(0))))
	return ((10*layers+9)*width*tokens+36*width*back)*float + e.logitBytes()
}

// inferBytes is the activations of what is only scored, 19·C a token, for each
// pass that a stage has for that.
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
	return passes * (19*int64(e.shape.Width)*int64(tokens)*float + e.logitBytes())
}

// laneBytes is the keys and values of what is sampled at once, and the
// activations of the prompts that are read.
func (e estimate) laneBytes() int64 {
	const mostAtOnce, readAtOnce = 64, 1024 // sequences, and tokens of prompts, of each worker
	most, count := 0, 0
	switch c := e.stage.Config.(type) {
	case *Collect:
		most, count = c.MaxTokens, c.Batch*(c.MinResponses+c.MaxResponses)/2
	case *PPO:
		most, count = c.MaxTokens, max(c.Batch, c.ScoreSamples)
	case *Evaluate:
		most, count = c.MaxTokens, min(128, e.at.Volumes["tests"].Kept)
	default:
		return 0
	}
	length := e.shape.Context
	if longest := max(e.at.Volumes["prompts"].Longest, e.at.Volumes["tests"].Longest); longest > 0 {
		length = min(length, longest+most)
	}
	workers := runtime.GOMAXPROCS(0)
	atOnce := int64(min(mostAtOnce, ceil(max(1, count), workers)))
	keys := atOnce * 2 * int64(e.shape.Layers) * int64(e.shape.Width) * int64(length)
	read := min(readAtOnce, atOnce*int64(length)) * 19 * int64(e.shape.Width)
	return int64(workers) * (keys + read) * float
}
