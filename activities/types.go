package activities

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// Task queues. A worker process runs one task of TrainQueue at a time, because a
// training step uses every core; the short activities and the workflows run
// beside it, from SmallQueue.
const (
	TrainQueue = "trimtab-train"
	SmallQueue = "trimtab-small"
)

// BeginInput asks for the row of a new attempt.
//
// The inputs and results of activities are stored in histories as JSON under the
// names of their fields. A field can be added, with omitempty, but not renamed.
type BeginInput struct {
	Run      string
	Stage    trimtab.PlannedStage
	Number   int // of the attempt, from 1
	Seed     uint64
	Numerics string
	Inputs   []trimtab.Named
	// Reuse allows taking over the outputs of an earlier attempt with the same
	// cache key, of this run or another.
	Reuse bool
	// From is a checkpoint of an earlier attempt of the stage to continue from; empty is the beginning.
	From   trimtab.Digest
	Reason string
	Actor  string
}

// BeginResult is the attempt's id, with the outputs if they are reused.
type BeginResult struct {
	Attempt int64
	Reused  bool
	Outputs []trimtab.Named
	Metrics []trimtab.Metric
	Missed  []string // gates that the reused metrics miss, as sentences
}

// SegmentInput says which steps to take: a segment maps the checkpoint From to
// the next one, as a pure function of all fields but Sequence. Sequence is the
// fencing token: it grows with every scheduled segment of the attempt, and the
// record refuses writes under an older one.
type SegmentInput struct {
	Run      string
	Attempt  int64
	Stage    trimtab.PlannedStage
	Seed     uint64
	Numerics string
	Inputs   []trimtab.Named
	Sequence int64
	// From and Step are the newest checkpoint that the workflow knows of; an empty
	// digest is the beginning. The record may have a newer one, which is used.
	From trimtab.Digest
	Step int
	// Shards are rollouts that other activities made from that checkpoint, for the
	// first step; an empty digest is a shard that is missing.
	Shards []trimtab.Digest `json:",omitempty"`
}

// SegmentResult says where the segment ended.
type SegmentResult struct {
	Checkpoint trimtab.Digest
	Step       int              // steps done
	Steps      int              // steps in all
	Done       bool             // the last step is taken, and the outputs are made
	Outputs    []trimtab.Named  // when Done
	Metrics    []trimtab.Metric // when Done: those of the last step, then those of the outputs
}

// RolloutInput asks for one shard of the rollouts of a ppo stage's next
// iteration, as a pure function of all fields but Sequence. Sequence is the token
// of the attempt's newest segment; the worker reports under it that it is alive.
type RolloutInput struct {
	Run      string
	Attempt  int64
	Stage    trimtab.PlannedStage
	Seed     uint64
	Numerics string
	Inputs   []trimtab.Named
	Sequence int64
	// From is the checkpoint to sample from; empty is the beginning.
	From trimtab.Digest
	Step int
	// Shard is one of Shards, from 0. How many episodes that is, only the stage knows.
	Shard, Shards int
}

// RolloutResult names the file of the shard. The digest is empty where the stage
// has no iteration left.
type RolloutResult struct {
	Digest trimtab.Digest
}

// CompleteInput closes an attempt: its outputs and metrics, and the gates to check.
type CompleteInput struct {
	Run      string
	Attempt  int64
	Sequence int64
	Gates    []trimtab.Gate
	Outputs  []trimtab.Named
	Metrics  []trimtab.Metric
}

// CompleteResult has a sentence for each gate that was missed.
type CompleteResult struct {
	Missed []string
}

// AttemptStatusInput changes the status of an attempt. Error says why, and is
// written to the run's log too.
type AttemptStatusInput struct {
	Run     string
	Stage   string
	Attempt int64
	Number  int
	Status  trimtab.AttemptStatus
	// RunStatus is set too if not empty: waiting while a service is away, running when it is back.
	RunStatus trimtab.RunStatus
	Error     *trimtab.Error
	Class     trimtab.Class // of Error, whose JSON leaves it out
	Actor     string
}

// AttemptStatusResult is the attempt's newest checkpoint. Cause is the type of
// the error that the worker recorded instead of the given one, where it did.
type AttemptStatusResult struct {
	Checkpoint trimtab.Digest
	Step       int
	Cause      string `json:",omitempty"`
}

// RunStatusInput changes the status of a run.
type RunStatusInput struct {
	Run    string
	Status trimtab.RunStatus
	Next   string // what happens next, or what a person has to do
	Error  *trimtab.Error
	Class  trimtab.Class // of Error, whose JSON leaves it out
	Actor  string
}

// Request is a person's request for a decision, as it must be in the record.
type Request = storage.Request

// TakenRequest is a request with the Update that claims it. A request can be
// claimed once; the activities of its Update may be tried several times, which
// the id of the Update makes the same claim.
type TakenRequest struct {
	Request Request
	Update  string
}

// ReplanInput records a person's decision to run stages again by another plan.
type ReplanInput struct {
	Plan  trimtab.Plan
	Stage string // the first stage that runs again
	// Overrides are the changes of the spec, for the record.
	Overrides []trimtab.Override
	Stale     []string // stages whose attempts no longer count
	Reason    string
	Actor     string
	// Status and Next are what the run shows from then on; an empty Status is running.
	Status trimtab.RunStatus
	Next   string
	// Taking is the request that the decision answers; nil in histories of builds
	// that recorded no requests.
	Taking *TakenRequest `json:",omitempty"`
}

// DecisionInput records a person's decision about a stage, or about the run if
// Stage is empty.
type DecisionInput struct {
	Run, Stage string
	Number     int    // of the attempt
	Decision   string // approve, skip, cancel, pause, resume
	Reason     string
	Actor      string
	// Status and Next are what the run shows from then on; an empty Status changes nothing.
	Status trimtab.RunStatus
	Next   string
	// Taking is the request that the decision answers; nil in histories of builds
	// that recorded no requests.
	Taking *TakenRequest `json:",omitempty"`
}
