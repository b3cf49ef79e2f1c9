//go:build !linux

package devstack

import "syscall"

// setDeathSignal does nothing: only Linux has such a signal.
func setDeathSignal(*syscall.SysProcAttr) {}
