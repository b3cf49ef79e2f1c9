package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
)

// heartbeatInterval is how often activities send heartbeats. It is well below the
// workflows' heartbeat timeout of 10 s, so that one lost heartbeat, or a short
// stop of the process, does not count as a lost worker.
const heartbeatInterval = 2 * time.Second

// startHeartbeat sends heartbeats to Temporal until stop is called, so that a
// small activity whose worker has died is soon given to another worker. Outside
// of an activity, as in tests, it does nothing.
func startHeartbeat(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	if activity.IsActivity(ctx) {
		go func() {
			tick := time.NewTicker(heartbeatInterval)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					activity.RecordHeartbeat(ctx)
				}
			}
		}()
	}
	return func() { close(done) }
}
