package devstack

// Temporal is a running Temporal server.
type Temporal struct {
	Address   string // host:port of the workflow service
	UIAddress string // http address of its pages
	Pid       int
	Adopted   bool // it was running already

	proc *process
}

// Stop ends the server.
func (t *Temporal) Stop() error { return t.proc.stop() }
