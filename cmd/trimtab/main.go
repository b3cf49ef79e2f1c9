// Command trimtab launches, inspects and reruns alignment runs.
//
// The rules of its user interface:
//
//   - What was asked for goes to standard output; everything else (servers
//     starting, progress, notes, errors) goes to standard error.
//   - Lists and documents take -o table|json|jsonl|csv. With -o json or jsonl
//     standard output holds documents only, errors included:
//     {"type", "message", "remedy"}. Field names are snake_case and stable.
//   - Text that a model or a file wrote is shown with control characters,
//     escape sequences and direction overrides spelled out; JSON keeps it whole.
//   - Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict,
//     5 verification failed, 6 a service is away.
//   - Messages start in lower case, have no full stop, and end with what to do.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGXFSZ) // a file that may not grow is an error of the write, not the end of the program
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
