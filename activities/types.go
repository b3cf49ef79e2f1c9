package activities

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// Task queues. A worker takes one task of TrainQueue at a time, because a
// training step uses every core; everything small runs beside it.
const (
	TrainQueue = "trimtab-train"
	SmallQueue = "trimtab-small"
)

// BeginInput asks for the row of a new attempt.
type BeginInput struct {
	Run      string
	Stage    trimtab.PlannedStage
	Number   int // of the attempt, from 1
	Seed     uint64
	Numerics string
	Inputs   []trimtab.Named
	// Reuse allows the output of an earlier attempt with the same cache key, of this run or another.
	Reuse bool
	// From continues from the last checkpoint of an earlier attempt of the stage.
	From   trimtab.Digest
	Reason string
	Actor  string
}

// BeginResult names the attempt, and the outputs if they were reused.
type BeginResult struct {
	Attempt int64
	Reused  bool
	Outputs []trimtab.Named
	Metrics []trimtab.Metric
	Missed  []string // gates that the reused metrics miss
}

// SegmentInput maps a checkpoint to the next one: a pure function of its
// fields but for Sequence, the fencing token, which grows with every time that
// the segment is scheduled.
type SegmentInput struct {
	Run      string
	Attempt  int64
	Stage    trimtab.PlannedStage
	Seed     uint64
	Numerics string
	Inputs   []trimtab.Named
	Sequence int64
	// From and Step are the checkpoint to go on from; an empty digest is the beginning.
	From trimtab.Digest
	Step int
	// Shards are rollouts that others made from that checkpoint, for the first
	// step; an empty digest is one that is missing.
	Shards []trimtab.Digest `json:",omitempty"`
}

// SegmentResult is where the segment ended.
type SegmentResult struct {
	Checkpoint trimtab.Digest
	Step       int // steps done
	Steps      int // steps in all
	Done       bool
	Outputs    []trimtab.Named  // when Done
	Metrics    []trimtab.Metric // when Done: the last step's, then what was measured at the end
}

// RolloutInput asks for one shard of the rollouts of a ppo stage's next
// iteration: a pure function of its fields but for Sequence, the token of the
// attempt's newest segment, under which the worker says that it is at work.
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
	// Shard of Shards, from 0. Only the stage knows how many episodes there are to cut.
	Shard, Shards int
}

// RolloutResult names the shard's file; it is empty where there is no iteration left.
type RolloutResult struct {
	Digest trimtab.Digest
}

// CompleteInput closes an attempt.
type CompleteInput struct {
	Run      string
	Attempt  int64
	Sequence int64
	Gates    []trimtab.Gate
	Outputs  []trimtab.Named
	Metrics  []trimtab.Metric
}

// CompleteResult says which gates were missed, in words.
type CompleteResult struct {
	Missed []string
}

// AttemptStatusInput changes the shown state of an attempt, and says in the run's log why.
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

// AttemptStatusResult is the attempt's newest checkpoint, and the type of the
// error that was shown in the place of another, if one was.
type AttemptStatusResult struct {
	Checkpoint trimtab.Digest
	Step       int
	Cause      string `json:",omitempty"`
}

// RunStatusInput changes the shown state of a run.
type RunStatusInput struct {
	Run    string
	Status trimtab.RunStatus
	Next   string // what happens next, or what a person has to do
	Error  *trimtab.Error
	Class  trimtab.Class // of Error, whose JSON leaves it out
	Actor  string
}

// Request is what a person asked for, as it has to be in the record.
type Request = storage.Request

// TakenRequest is a request and the Update that takes it: a request is taken once,
// but the activities of its Update may be tried several times.
type TakenRequest struct {
	Request Request
	Update  string
}

// ReplanInput records a person's decision to run stages again.
type ReplanInput struct {
	Plan  trimtab.Plan
	Stage string // the first that runs again
	// Overrides are what was changed of the spec, for the record.
	Overrides []trimtab.Override
	Stale     []string // stages whose attempts no longer count
	Reason    string
	Actor     string
	// Status and Next are what the run shows from then on; an empty Status is running.
	Status trimtab.RunStatus
	Next   string
	// TakenRequest is the request; nil is of an older build, which asked for nothing.
	Taking *TakenRequest `json:",omitempty"`
}

// DecisionInput records what a person decided about a stage, or about the run when Stage is empty.
type DecisionInput struct {
	Run, Stage string
	Number     int    // of the attempt
	Decision   string // approve, skip, cancel, pause, resume
	Reason     string
	Actor      string
	// Status and Next are what the run shows from then on; an empty Status changes nothing.
	Status trimtab.RunStatus
	Next   string
	// TakenRequest is the request; nil is of an older build, which asked for nothing.
	Taking *TakenRequest `json:",omitempty"`
}
