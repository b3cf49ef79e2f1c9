// Package workflows decides what runs next, and nothing else: which stage,
// which attempt, which segment, and what to do about an error.
//
//	run/<id>                     Run: the chain of stages; parks when it is blocked
//	run/<id>/<stage>/<attempt>   Stage: one attempt, segment after segment
//
// A segment is an activity of at most a few minutes that maps a checkpoint
// digest to the next. Where several workers share a ppo stage, a segment is one
// iteration, and its rollouts come before it: activities, in parallel, each of
// which maps a checkpoint to the digest of a shard. Inputs and outputs are ids
// and digests, never data. The facts are in Postgres and in content-addressed
// files: a workflow that is replayed, reset or lost changes none of them.
//
// People command a run by Updates, which are validated before they are
// accepted: rerun, approve, skip, cancel, pause, resume.
//
// What an error does:
//
//	Invalid, Verification, Usage, NotFound, Conflict   the run blocks at once
//	Internal (a crash inside a stage's own code)       3 tries at one step, then the run blocks
//	Unavailable (worker gone, service away, disk full) retried with backoff, without end; after ten in a row
//	                                                   at one step while all services answer the run blocks,
//	                                                   unless the machine's owner has to act: a full disk
//	                                                   (that of Postgres too), a limit, too little memory
//
// Workflow code must be deterministic: a recorded history of any earlier build
// has to replay (testdata, TestRecordedHistoriesReplay). A change of the order
// of commands goes behind workflow.GetVersion.
package workflows
