package workflows

import (
	"strconv"
	"time"

	"github.com/trimtab/trimtab/activities"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Retry limits and timeouts.
const (
	maxCrashes       = 3                // of a stage's own code at one step
	maxInterruptions = 10               // at one step while the services answer
	maxBackoff       = time.Minute      // between tries after an interruption
	heartbeatTimeout = 10 * time.Second // after which a silent worker counts as lost
	segmentTimeout   = 12 * time.Hour   // an upper bound only: the activity watches its own progress

	// activitiesPerHistory is how many segments and rollouts a stage workflow
	// schedules before it continues as new: about 2,000 events, far below
	// Temporal's limit of 51,200. Where Temporal suggests it, that is earlier.
	activitiesPerHistory = 300
)

// RunID returns the workflow id of a run.
func RunID(run string) string { return "run/" + run }

// StageID returns the workflow id of an attempt of a stage.
func StageID(run, stage string, attempt int) string {
	return RunID(run) + "/" + stage + "/" + strconv.Itoa(attempt)
}

// a names the activities for workflow.ExecuteActivity; it is never called through.
var a *activities.Activities

// smallOptions sets the options of every activity but training: short, on a
// queue that is served in parallel, and retried by Temporal until the services answer.
func smallOptions(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           activities.SmallQueue,
		StartToCloseTimeout: time.Minute,
		HeartbeatTimeout:    heartbeatTimeout,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    200 * time.Millisecond,
			BackoffCoefficient: 2,
			MaximumInterval:    10 * time.Second,
		},
	})
}

// trainOptions sets the options of a segment or of rollouts. Temporal tries
// once: what a failure means is decided in the workflow, and every try of a
// segment has a fencing token of its own.
func trainOptions(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           activities.TrainQueue,
		StartToCloseTimeout: segmentTimeout,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true,
		Summary:             summary,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
	})
}

// backoff returns the wait before retry n, from 1: a second, doubled each time, at most maxBackoff.
func backoff(n int) time.Duration {
	if n > 6 { // the shift below would overflow for large n
		return maxBackoff
	}
	return min(time.Second<<max(0, n-1), maxBackoff)
}
