package runs

// RenewAfter has the runs launched from now on continue as new after n decisions.
func (s *Service) RenewAfter(n int) { s.renew = n }
