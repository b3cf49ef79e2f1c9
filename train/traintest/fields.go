package traintest

// Tables of the types that several trainers are made of. Their keys are names
// of unexported fields, which the compiler cannot check: a key that names no
// field makes Case.Run fail.
var (
	// Model is a model.Model in training: all weights are views of its slab.
	Model = Fields{
		"Config":  Input,
		"conv1D":  Input,
		"dims":    Input,
		"half":    Input,
		"halves":  Input,
		"ranges":  Input,
		"windows": Input,
		"Scalar":  Input,
		"Slab":    State,
		"w":       State,
	}
	// AdamW is an optim.AdamW. w, g and now are the arguments of its last step.
	AdamW = Fields{
		"Average":      State,
		"AverageDecay": Input,
		"config":       Input,
		"m":            State,
		"v":            State,
		"parts":        Input,
		"sums":         Scratch,
		"w":            State, // a view of the model's slab
		"g":            Scratch,
		"now":          Scratch,
	}
	// EpochSampler is a dataset.EpochSampler. It keeps the order of one epoch,
	// which is a function of Source and epoch.
	EpochSampler = Fields{
		"Source": Input,
		"N":      Input,
		"epoch":  Scratch,
		"perm":   Scratch,
	}
)

// Tables of the stages' trainers.
var (
	// Pretrain is a pretrain.Trainer.
	Pretrain = supervised.With("rowOrder", EpochSampler)

	// SFT is an sft.Trainer.
	SFT = supervised.With("exampleOrder", EpochSampler).With("rowOrder", EpochSampler)

	// Reward is a reward.Trainer.
	Reward = supervised.With("rankingOrder", EpochSampler)

	// supervised has the fields that all trainers of one model have.
	supervised = Fields{
		"config": Input,
		"in":     Input,
		"grad":   Scratch,
		"pass":   Scratch,
	}.With("model", Model).With("adam", AdamW)

	// PPO is a ppo.Trainer that keeps no average of the policy.
	PPO = Fields{
		"config":         Input,
		"in":             Input,
		"pass":           Scratch,
		"microTokens":    Input,
		"ema":            State,
		"klCoef":         State,
		"scoreScale":     State,
		"samplingSource": Input,
		"shuffleSource":  Input,
	}.With("promptOrder", EpochSampler).With("ptxOrder", EpochSampler).
		With("policy", network).With("value", network)

	// PPOAverage is a ppo.Trainer that keeps one (ema_decay).
	PPOAverage = PPO.With("ema", Model)

	// network is one of the two networks that a ppo.Trainer trains.
	network = Fields{"grad": Scratch}.With("model", Model).With("adam", AdamW)
)
