package trimtab

import "encoding/json"

// RunStatus is the state of a run.
type RunStatus string

// The states of a run.
const (
	RunQueued    RunStatus = "queued"
	RunRunning   RunStatus = "running"
	RunWaiting   RunStatus = "waiting" // for a service to come back
	RunBlocked   RunStatus = "blocked" // for a person to decide
	RunPaused    RunStatus = "paused"
	RunCompleted RunStatus = "completed"
	RunCancelled RunStatus = "cancelled"
	RunFailed    RunStatus = "failed"
)

// Open reports whether a run in this state may still change by itself or by a person's decision.
func (s RunStatus) Open() bool {
	switch s {
	case RunCompleted, RunCancelled, RunFailed:
		return false
	}
	return true
}

// AttemptStatus is the state of an attempt.
type AttemptStatus string

// The states of an attempt.
const (
	AttemptQueued    AttemptStatus = "queued"
	AttemptRunning   AttemptStatus = "running"
	AttemptRetrying  AttemptStatus = "retrying"
	AttemptCompleted AttemptStatus = "completed"
	AttemptFailed    AttemptStatus = "failed"
	AttemptCancelled AttemptStatus = "cancelled"
	AttemptReused    AttemptStatus = "reused"
	AttemptSkipped   AttemptStatus = "skipped"
	AttemptStale     AttemptStatus = "stale"
)

// Input is a named input of a stage: another stage's output, or a dataset version.
type Input struct {
	Name    string `json:"name"`              // model, reward, text, demonstrations, prompts, rankings …
	Stage   string `json:"stage,omitempty"`   // the stage whose Output it is
	Output  string `json:"output,omitempty"`  // "model", "rankings"; empty with Dataset
	Dataset Digest `json:"dataset,omitempty"` // a frozen dataset version
	Model   Digest `json:"model,omitempty"`   // an artifact named by the spec
}

// Gate is a condition on a stage's final metrics.
type Gate struct {
	Metric string   `json:"metric" yaml:"metric"`
	Min    *float64 `json:"min,omitempty" yaml:"min,omitempty"`
	Max    *float64 `json:"max,omitempty" yaml:"max,omitempty"`
}

// PlannedStage is one stage of a Plan. Its config is stored under its digest.
type PlannedStage struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind"`    // pretrain, sft, collect, reward, ppo, evaluate
	Version int     `json:"version"` // of the stage's code: the same version gives the same bytes
	Config  Digest  `json:"config"`
	Inputs  []Input `json:"inputs"`
	Gates   []Gate  `json:"gates,omitempty"`
	// SegmentSteps is how many steps one activity takes; checkpoints lie at multiples of CheckpointSteps, and where
	// CheckpointSeconds have passed since the last one (0: ten).
	SegmentSteps      int `json:"segment_steps"`
	CheckpointSteps   int `json:"checkpoint_steps"`
	CheckpointSeconds int `json:"checkpoint_seconds,omitempty"`
	// RolloutShards of more than 1 is by how many activities each iteration's rollouts are made, of a ppo stage.
	RolloutShards int `json:"rollout_shards,omitempty"`
}

// Plan is what a run will do: an ordered list of stages. It holds ids and
// digests, never data. Plans of equal SpecDigest make equal models.
type Plan struct {
	Run        string         `json:"run"`
	Seed       uint64         `json:"seed"`
	Numerics   string         `json:"numerics"`
	SpecDigest Digest         `json:"spec_digest"`
	Spec       Digest         `json:"spec"` // the resolved spec as a stored document
	Stages     []PlannedStage `json:"stages"`
}

// Digest is over everything in the plan.
//
//workflowcheck:ignore encoding/json starts no goroutine of its own and sorts the keys of maps.
func (p Plan) Digest() (Digest, error) {
	b, err := json.Marshal(p)
	return DigestOf(b), err
}

// Named is an artifact or dataset version under the name its stage gave it.
type Named struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Override is one change that a person made to a run's spec to have a stage
// run again: a setting or a dataset.
type Override struct {
	Set    string `json:"set,omitempty"`    // path=value, as it was written
	Data   string `json:"data,omitempty"`   // a dataset, as it was named
	Kind   Kind   `json:"kind,omitempty"`   // of Data
	Digest Digest `json:"digest,omitempty"` // the version that Data meant
}
