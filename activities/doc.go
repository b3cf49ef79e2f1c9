// Package activities is what workflows call: it joins the arithmetic of the
// stages with files, Postgres and the clock.
//
// # The activities
//
// The methods of Activities are registered with Temporal under their names, on
// two task queues:
//
//	TrainQueue   Segment, Rollouts            one at a time: a step uses every core
//	SmallQueue   Begin, Complete, Replan,     short writes to the record, in parallel
//	             Requested, Decide,
//	             SetAttemptStatus, SetRunStatus
//
// Any activity can be run twice, because Temporal gives it to another worker when
// a worker stops answering, even if that worker is only slow. The small ones are
// written so that running one twice has the effect of running it once. A shard of
// rollouts made twice is the same file. A segment is protected by its lease.
//
// # A segment
//
//  1. It acquires the lease of its attempt with its fencing token. From then on
//     the record refuses every write under an older token, so that a worker that
//     was taken for dead cannot write after its successor.
//  2. It builds the stage from its inputs, which are digests, and loads the newest
//     undamaged checkpoint of the attempt. A stage that the previous segment left
//     in the cache is taken as it is.
//  3. It lets train.Loop step from there. After a step the state may be copied and
//     written in the background: the file first, then, in one transaction, its row
//     and the reports of all steps since the checkpoint before. So the record
//     never has a checkpoint whose file was not written, nor steps beyond its
//     newest checkpoint: a restart takes no recorded step again.
//  4. It stops at the end of its steps, or at the next step when the workflow is
//     paused or cancelled or the worker process is ending, with a checkpoint.
//  5. When the last step is done it makes the outputs, and stores them under the
//     lease. Complete, the next activity, closes the attempt with them.
//
// A watchdog runs concurrently. It sends heartbeats, however long a step takes, and
// cancels a segment in which no step has ended for too long. A heartbeat carries
// no state: what Temporal remembers of a checkpoint is a hint, and the facts are
// in Postgres.
//
// # Errors
//
// Errors leave an activity in the form that Wrap gives them. Temporal retries a
// small activity whose error is Unavailable. Whether a segment is tried again,
// package workflows decides, by the class and the type.
//
// # Reproduction
//
// A Reproducer runs the same stages from the record alone, without Temporal, and
// compares every step, checkpoint and output with the record, bit for bit.
package activities
