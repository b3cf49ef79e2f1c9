//go:build !linux

package devstack

import "syscall"

func setDeathSignal(*syscall.SysProcAttr) {} // no such signal here
