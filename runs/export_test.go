package runs

import "time"

// RenewAfter has the runs launched from now on continue as new after n decisions.
func (s *Service) RenewAfter(n int) { s.renewAfter = n }

// SetPatience is how long a decision waits for its answer.
func (s *Service) SetPatience(d time.Duration) { s.decisionTimeout = d }

// ChooseProducer is chooseProducer.
var ChooseProducer = chooseProducer

// SetMemory says how much memory this machine has, and how much of it is free.
func (s *Service) SetMemory(total, free int64) {
	s.memory = func() (int64, int64, bool) { return total, free, true }
}
