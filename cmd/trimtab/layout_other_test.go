//go:build !linux

package main

import "testing"

// onTerminal skips the test: pseudo-terminals are opened in Linux's way.
func onTerminal(t *testing.T, _ int, _ func(a *app) error) string {
	t.Helper()
	t.Skip("no pseudo-terminal is opened on this system")
	return ""
}
