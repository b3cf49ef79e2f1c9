package traintest

// The tables of what trainers are made of.
var (
	// Model is a model.Model that learns: all weights are views of its slab.
	Model = Fields{"Config": Input, "Scalar": Input, "Slab": State, "w": State}
	// AdamW is an optim.AdamW. The last three are the last step's.
	AdamW = Fields{
		"Average": State, "AverageDecay": Input, "config": Input, "m": State, "v": State, "parts": Input,
		"sums": Scratch,
		"w":    State, "g": Scratch, "now": Scratch,
	}
	// Cycle is a dataset.EpochSampler, which keeps the order of one epoch at hand: a function of Source and epoch.
	Cycle = Fields{"Source": Input, "N": Input, "epoch": Scratch, "perm": Scratch}
)

// The tables of the stages' trainers.
var (
	// Pretrain is a pretrain.Trainer. The order of the epoch at hand is a function of order and of the step.
	Pretrain = Fields{
		"config": Input, "in": Input, "order": Input, "epoch": Scratch, "perm": Scratch, "grad": Scratch,
		"pass": Scratch,
	}.With("policy", Model).With("adam", AdamW)

	// SFT is a sft.Trainer.
	SFT = Fields{
		"config": Input, "in": Input, "grad": Scratch, "pass": Scratch,
	}.With("examples", Cycle).With("rows", Cycle).With("policy", Model).With("adam", AdamW)

	// Reward is a reward.Trainer.
	Reward = Fields{
		"config": Input, "in": Input, "order": Input, "epoch": Scratch, "perm": Scratch, "grad": Scratch,
		"pass": Scratch,
	}.With("scorer", Model).With("adam", AdamW)

	// PPO is a ppo.Trainer without an average of the policies, and PPOAverage one with it.
	PPO = Fields{
		"config": Input, "in": Input, "pass": Scratch, "micro": Input, "ema": State, "beta": State, "scale": State,
		"sampling": Input, "shuffle": Input,
	}.With("prompts", Cycle).With("rows", Cycle).With("policy", network).With("value", network)
	PPOAverage = PPO.With("ema", Model)

	network = Fields{"grad": Scratch}.With("m", Model).With("adam", AdamW)
)
