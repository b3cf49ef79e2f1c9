package runs

import "time"

// RenewAfter has the runs launched from now on continue as new after n decisions.
func (s *Service) RenewAfter(n int) { s.renew = n }

// SetPatience is how long a decision waits for its answer.
func (s *Service) SetPatience(d time.Duration) { s.patience = d }

// MakerIn is makerIn.
var MakerIn = makerIn
