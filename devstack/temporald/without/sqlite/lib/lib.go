// Package lib holds SQLite's error numbers that Temporal's server names.
package lib

// Numbers of SQLite's documentation, "Result and Error Codes".
const (
	SQLITE_CONSTRAINT            = 19
	SQLITE_CONSTRAINT_PRIMARYKEY = 1555
	SQLITE_CONSTRAINT_UNIQUE     = 2067
)
