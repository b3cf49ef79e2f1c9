// Package workflows decides what runs next, and nothing else: which stage,
// which attempt, which segment, and what to do about an error.
//
//	run/<id>                     Run: the chain of stages; parks in blocked
//	run/<id>/<stage>/<attempt>   Stage: one attempt, segment after segment
//
// A segment is an activity of at most a few minutes that maps a checkpoint
// digest to the next. Where the workers share a ppo stage, a segment is one
// iteration, and before it come its rollouts: activities that map a checkpoint
// to the digest of a shard, side by side. Inputs and outputs are ids and digests, never data.
// Truth is in Postgres and in content-addressed files: a workflow that is
// replayed, reset or lost changes no fact.
//
// Commands of people are Updates, validated before they are accepted:
// rerun, approve, skip, cancel, pause, resume.
//
// What an error does:
//
//	Invalid, Verification, Usage, NotFound, Conflict   the run blocks at once
//	Internal (a crash inside a stage's own code)       3 tries at one step, then the run blocks
//	Unavailable (worker gone, service away, disk full) waits with backoff, for ever; ten in a row
//	                                                   at one step while all services answer: blocks,
//	                                                   unless it is the machine's disk (that of Postgres too),
//	                                                   limits or memory, which its owner has to mend
package workflows

import (
	"errors"
	"strconv"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Limits of patience.
const (
	maxCrashes       = 3                // of a stage's own code at one step
	maxInterruptions = 10               // at one step while the services answer
	maxBackoff       = time.Minute      // between tries after an interruption
	heartbeatTimeout = 10 * time.Second // a worker silent for so long is taken for dead
	segmentTimeout   = 12 * time.Hour   // an honest upper bound; progress is watched inside the activity
	// segments and rollouts; then the stage workflow continues as new: 2,000 events, or where Temporal suggests it
	activitiesPerHistory = 300
)

// RunID is the workflow id of a run, StageID that of an attempt.
func RunID(run string) string { return "run/" + run }

// StageID is the workflow id of a stage's attempt.
func StageID(run, stage string, attempt int) string {
	return RunID(run) + "/" + stage + "/" + strconv.Itoa(attempt)
}

// a names activities; it is never called through.
var a *activities.Activities

// smallOptions are the options of everything but training: tried until the services answer.
func smallOptions(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: activities.SmallQueue, StartToCloseTimeout: time.Minute, HeartbeatTimeout: heartbeatTimeout,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2,
			MaximumInterval: 10 * time.Second},
	})
}

// trainOptions are the options of a segment. Temporal tries once: what a failure
// means is decided here, and every try has a fencing token of its own.
func trainOptions(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue: activities.TrainQueue, StartToCloseTimeout: segmentTimeout, HeartbeatTimeout: heartbeatTimeout,
		WaitForCancellation: true, Summary: summary, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
}

// backoff doubles from a second to maxBackoff.
func backoff(n int) time.Duration {
	if n > 6 {
		return maxBackoff
	}
	return min(time.Second<<max(0, n-1), maxBackoff)
}

// applicationError carries a trimtab.Error through a child workflow's end.
func applicationError(e *trimtab.Error) error {
	return temporal.NewApplicationErrorWithOptions(e.Error(), e.Type,
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{*e, e.Class}})
}

// unborn is a failure of an attempt that has no row yet: nobody has seen it, and its number is free.
func unborn(e *trimtab.Error) error {
	return temporal.NewApplicationErrorWithOptions(e.Error(), e.Type,
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{*e, e.Class, true}})
}

// isUnborn recognises what unborn made, also through a child workflow's end.
func isUnborn(err error) bool {
	var app *temporal.ApplicationError
	var e trimtab.Error
	var class trimtab.Class
	var is bool
	return errors.As(err, &app) && app.HasDetails() && app.Details(&e, &class, &is) == nil && is
}

// ErrorOf is the trimtab.Error inside an error that a workflow or an Update gave.
func ErrorOf(err error) *trimtab.Error { return activities.Unwrap(err) }

// The task queues that a worker serves.
const (
	TrainQueue = activities.TrainQueue
	SmallQueue = activities.SmallQueue
)
