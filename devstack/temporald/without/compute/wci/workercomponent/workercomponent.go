// Package workercomponent stands in the place of the workflows by which
// Temporal's server rents computers for workers: there are none.
package workercomponent

import "go.uber.org/fx"

// Module adds nothing.
var Module = fx.Options()
