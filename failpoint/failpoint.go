//go:build !failpoints

// Package failpoint lets a test end the program between two instructions that
// matter: after a file is written and before it is synced, before a transaction
// commits and after it. In a program built without the tag failpoints, At does
// nothing and costs a call.
//
// With the tag, files in a folder say what fails. Their content is an order:
//
//	TRIMTAB_FAILPOINTS=FOLDER   the environment variable that names the folder
//	FOLDER/POINT: N kill        a process that reaches POINT for the Nth time is killed (SIGKILL)
//	FOLDER/POINT: N stop        … is suspended (SIGSTOP) until it gets SIGCONT
//	FOLDER/POINT: N full        … gets the error ENOSPC, as long as the file is there
//
// N counts the passes of each process since it first saw the order. The file of a kill
// or a stop is removed before the signal is sent, so that it happens once, even if
// several processes reach the point.
package failpoint

// At marks a place where a test may end the program. The caller handles the error
// as one of the disk.
func At(string) error { return nil }
