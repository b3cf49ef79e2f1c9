package activities

import (
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// BeginInput asks for the row of a new attempt.
//
// The inputs and results of activities are stored in histories as JSON under the
// names of their fields. A field can be added, with omitempty, but not renamed.
type BeginInput struct {
	Run   string // id
	Stage trimtab.PlannedStage
	// Number counts the attempts of the stage in the run, from 1.
	Number int
	// Seed and Numerics are the run's. With the stage and the inputs they determine
	// every byte of the outputs, so they are part of the cache key.
	Seed     uint64
	Numerics string
	// Inputs are digests of models and dataset versions, by name.
	Inputs []trimtab.Named
	// Reuse allows taking over the outputs of an earlier attempt with the same
	// cache key, of this run or another.
	Reuse bool
	// From is a checkpoint of an earlier attempt of the stage to continue from;
	// empty is the beginning.
	From trimtab.Digest
	// Reason and Actor say why and by whom the attempt was asked for.
	Reason string
	Actor  string
}

// BeginResult is the attempt's id, with the outputs if they are reused.
type BeginResult struct {
	// Attempt is the id of the row.
	Attempt int64
	// Reused says that nothing has to run: the other fields are set.
	Reused  bool
	Outputs []trimtab.Named
	Metrics []trimtab.Metric
	// Missed has a sentence for each gate that the reused metrics miss.
	Missed []string
}

// SegmentInput says which steps to take: a segment maps the checkpoint From to
// the next one, as a pure function of all fields but Sequence. Sequence is the
// fencing token: it grows with every scheduled segment of the attempt, and the
// record refuses writes under an older one.
type SegmentInput struct {
	Run      string // id
	Attempt  int64  // id of the row
	Stage    trimtab.PlannedStage
	Seed     uint64
	Numerics string
	// Inputs are digests of models and dataset versions, by name.
	Inputs []trimtab.Named
	// Sequence is the fencing token, from 1.
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
	// Checkpoint is the newest of the attempt; it is empty if there is none yet.
	Checkpoint trimtab.Digest
	// Step is how many steps are done, of Steps in all.
	Step  int
	Steps int
	// Done says that the last step is taken and the outputs are made.
	Done bool
	// Outputs and Metrics are empty until then. Metrics are those of the last step,
	// then those that were measured on the outputs.
	Outputs []trimtab.Named
	Metrics []trimtab.Metric
}

// RolloutInput asks for one shard of the rollouts of a ppo stage's next
// iteration, as a pure function of all fields but Sequence. Sequence is the token
// of the attempt's newest segment; the worker reports under it that it is alive.
type RolloutInput struct {
	Run      string // id
	Attempt  int64  // id of the row
	Stage    trimtab.PlannedStage
	Seed     uint64
	Numerics string
	// Inputs are digests of models and dataset versions, by name.
	Inputs   []trimtab.Named
	Sequence int64
	// From is the checkpoint to sample from; empty is the beginning. Step is the
	// iteration.
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
	Run     string // id
	Attempt int64  // id of the row
	// Sequence is the token of the last segment: no other worker may complete the attempt.
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
	Run   string // id
	Stage string // name
	// Attempt is the id of the row, Number the attempt's number within the stage.
	Attempt int64
	Number  int
	Status  trimtab.AttemptStatus
	// RunStatus is set too, unless it is empty: waiting while a service is
	// unavailable, running when it is back.
	RunStatus trimtab.RunStatus
	// Error is nil if nothing is wrong. Its JSON leaves its class out, so Class is beside it.
	Error *trimtab.Error
	Class trimtab.Class
	Actor string
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
	Run    string // id
	Status trimtab.RunStatus
	// Next says what happens next, or what a person has to do.
	Next string
	// Error is nil if nothing is wrong. Its JSON leaves its class out, so Class is beside it.
	Error *trimtab.Error
	Class trimtab.Class
	Actor string
}

// Request is a person's request for a decision, as it must be in the record.
type Request = storage.Request

// TakenRequest is a request with the Update that claims it. A request can be
// claimed once; the activities of its Update may be tried several times, which
// the id of the Update makes the same claim.
type TakenRequest struct {
	Request Request
	// Update is the id that Temporal gives the Update.
	Update string
}

// ReplanInput records a person's decision to run stages again by another plan.
type ReplanInput struct {
	Plan trimtab.Plan
	// Stage is the first that runs again.
	Stage string
	// Overrides are the changes of the spec from which Plan was made.
	Overrides []trimtab.Override
	// Stale names the stages whose attempts no longer count.
	Stale  []string
	Reason string
	Actor  string
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
	// Number is that of the attempt that was decided about.
	Number int
	// Decision is approve, skip, cancel, pause or resume.
	Decision string
	Reason   string
	Actor    string
	// Status and Next are what the run shows from then on; an empty Status changes nothing.
	Status trimtab.RunStatus
	Next   string
	// Taking is the request that the decision answers; nil in histories of builds
	// that recorded no requests.
	Taking *TakenRequest `json:",omitempty"`
}
