// Package sqlite stands in the place of the SQLite driver, which Temporal's
// server names wherever it speaks SQL. Trimtab-temporal works on Postgres
// alone: no driver is registered, so that nothing can be opened with it.
package sqlite

// Error is an error of SQLite; none is ever made.
type Error struct{}

func (*Error) Error() string { return "SQLite is left out of trimtab-temporal" }

// Code is the error's number.
func (*Error) Code() int { return 0 }
