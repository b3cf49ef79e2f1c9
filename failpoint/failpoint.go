//go:build !failpoints

// Package failpoint lets a test end the program between two instructions that
// matter: after a file is written and before it is synced, before a transaction
// commits and after it. In a program built without the tag failpoints At does
// nothing.
//
// With the tag the environment says what fails:
//
//	TRIMTAB_FAILPOINTS=FOLDER       a file FOLDER/POINT says what happens there
//	N kill                          the Nth time a process comes by it gets SIGKILL
//	N stop                          … SIGSTOP, until somebody sends SIGCONT
//	N full                          … the error ENOSPC, as long as the file is there
//
// A file whose kill or stop happens is removed first, so that it happens once
// whatever process comes by later.
package failpoint

// At is a place where a test may end the program.
func At(string) error { return nil }
