// Package ppo optimises a language model against a scorer as InstructGPT does:
// by proximal policy optimisation (PPO) with a KL penalty on every token that
// keeps the policy near a frozen reference model.
//
//	maximise  E[ score(x, y) − β·Σ_t log(π(y_t)/π_ref(y_t)) ] + γ·E[ log π(pretraining text) ]
//
// A step of the trainer is one whole iteration: sample Batch responses and
// score them; take log-probabilities under policy and reference, and values;
// turn them into rewards and advantages; and run all PPO epochs of minibatch
// updates. Trainer.iterate reads as that list. A step is a function of (State,
// step, inputs, seed), and no rollout is kept for the next one.
//
// Every token of a response is an action. Value t is that of the state before
// the token is chosen; the score is paid with the last token, and the episode
// ends there. Sequences are ragged: there is no padding, and so none in any
// mean.
//
// # Details
//
// Each detail with its source and the test that pins it. Sources: [Z] Ziegler
// et al. 2019 and lm-human-preferences, [S] Stiennon et al. 2020, [I]
// InstructGPT (2203.02155), [N] "The N implementation details of RLHF with
// PPO", [T] "The N+ implementation details …" (2403.17031), [H] TRL.
//
//  1. The policy begins as the SFT model. The reference is an input of its own
//     and never taken from the policy, so a resumed run is held to the same
//     model. [I C.4] TestInputsAreNotChanged, TestResume
//  2. At iteration 0 the KL is exactly 0, and at the first minibatch the ratio
//     is exactly 1. [H] TestFirstIterationIsOnPolicy
//  3. The value model is a separate network that begins as the reward model. [I C.4, S]
//     TestValueBeginsAsGiven
//  4. Reward and value model read prompt and response together. [Z] TestScorerSeesWholeSequences
//  5. A response is cut after its first end-of-text token, which belongs to it. [Z, N 14]
//     TestTruncate
//  6. A response without one keeps its score, or pays a penalty [H], or gets a
//     fixed score [Z, T]. TestEOSRule
//  7. Scores are standardised by the mean and the deviation of those of samples
//     of the reference, taken once before the first iteration. [Z, N 9] TestScoreScale
//  8. Logits are divided by the temperature in sampling and in every
//     log-probability. [N 10] TestTemperatureEverywhere
//  9. Sampling is from the whole distribution: no top-k, no top-p. [N 4] TestTemperatureEverywhere
//  10. The reward of a token is −β·k1; the score is added at the last token. [Z, I] TestRewards
//  11. k1 is in the reward; k1 and k3 are reported. [Schulman] TestKLGolden, TestKLOracles
//  12. β is fixed [I] or follows the adaptive controller [Z]; it is part of the
//     state. TestAdaptiveKLController, TestAdaptiveKLIsState
//  13. GAE with γ 1, λ .95; after the last token the value is 0. [I, S] TestGAEGolden, TestGAEOracles
//  14. Returns are advantages before whitening plus values. [Z] TestAdvantages
//  15. Rewards may be whitened with their mean kept. [N 18; T found it harmful, so it is off]
//     TestWhitenOracles, TestAdvantages
//  16. Advantages are whitened over the tokens of the whole batch [H]; the
//     divisor is n−1 [H] or n [Z]. TestWhitenGolden, TestAdvantages
//  17. Clipped surrogate, ε .2, averaged over the tokens of a minibatch. [Schulman 2017]
//     TestPolicyLossGolden, TestPolicyLossOracles, TestPolicyGradient
//  18. Clipped value loss, ½·max. [Z] TestValueLossGolden, TestValueLossOracles, TestValueGradient
//  19. There is no value coefficient: value model and policy share no weights,
//     and up to its ε, Adam's step does not depend on a constant factor of the
//     loss.
//  20. Inner epochs each shuffle the batch anew; every episode is used once an
//     epoch. [N 16] TestEveryEpisodeOncePerInnerEpoch
//  21. No dropout in any pass (the model has none). [N 13] TestFirstIterationIsOnPolicy
//  22. Entropy is reported, not optimised. It is the entropy of the
//     distribution; the sampled estimate −log π is reported too. [N 24] TestPolicyGradient
//  23. PPO-ptx: the pretraining gradient times γ is added to that of the same
//     update. [I C.4] TestPretrainGradient
//  24. The moving average of the policy's weights moves with every update and is
//     the result. [I C.4] TestEMA
//  25. The first iterations may update the value model only. TestValueWarmup
//  26. Adam's ε may be outside the bias correction, as in TensorFlow. [N 21]
//     optim, adam_epsilon_style
//  27. Each prompt is answered once an epoch, and each epoch has an order of its
//     own. TestEveryPromptOncePerEpoch
//  28. How a batch is cut into micro-batches, the number of cores, and the number
//     of workers that make its rollouts change no bit.
//     TestSplitsAndWorkersChangeNothing, TestShardsChangeNothing
package ppo
