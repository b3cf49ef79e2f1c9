// Command trimtab launches, inspects and reruns alignment runs.
//
// # The user interface
//
// The answer to the command goes to standard output, and nothing else does:
// server start-up, progress, notes and errors go to standard error. The one
// exception is the progress of align and watch, which is the answer as long as
// the output is a table; with any other -o it goes to standard error too.
//
// Lists and documents take -o table|json|jsonl|csv. With -o json or jsonl,
// standard output holds JSON documents and only those, errors included:
// {"type", "message", "remedy"}. Field names are snake_case; they, the error
// types and the exit codes are stable, while tables, captions and messages may
// be reworded in any release.
//
// Messages begin in lower case and have no full stop, so that they can be
// wrapped: "read spec.yaml: no such file". An error has three parts, each of
// which is on one line:
//
//   - what was being done, with the name of the file, flag, run or stage
//   - what is wrong, with the value found and the values allowed
//   - the remedy, printed as "hint: …": a command or a change to make
//
// Hints and messages that name a command, a flag or a setting are checked
// against the command tree by a test; they cannot refer to one that is gone.
//
// Text written by a model or read from a file is escaped before it is shown:
// control characters, escape sequences and direction overrides are spelled
// out. JSON keeps the text whole, in an escaped form. Secrets in settings are
// removed from everything that is printed; see secrets.go.
//
// Nothing is truncated to fit a terminal: long cells are wrapped, and a table
// that cannot fit is printed as records. Output that is not a terminal is
// never wrapped, and never holds an escape sequence.
//
// Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict,
// 5 verification failed, 6 a service is unavailable, 130 interrupted.
//
// # Where things are
//
// One file per command (align.go, data_import.go, audit_verify.go), and its
// document types and tables beside it. root.go builds the command tree,
// settings.go resolves settings, connect.go opens the database, the file store
// and Temporal. output.go, table.go, format.go and escape.go print;
// sentences*.go turn events into the sentences of history; progress.go draws
// progress bars and progress lines.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// main runs the command line and exits with its code. SIGXFSZ is ignored: a
// write beyond a file-size limit then fails with an error, which is reported,
// and does not kill the process.
func main() {
	signal.Ignore(syscall.SIGXFSZ)
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
