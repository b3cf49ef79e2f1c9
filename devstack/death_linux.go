package devstack

import "syscall"

// setDeathSignal makes the kernel send the child SIGINT, Postgres's fast
// shutdown, when the thread that starts it ends.
func setDeathSignal(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGINT }
