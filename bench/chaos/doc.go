// Package chaos proves that kill -9 costs time and nothing else. It runs the
// program as its users do, kills its processes in the middle of their work, and
// compares what the run made with what the same spec makes undisturbed:
//
//	go test -v ./bench/chaos           about two minutes on two cores
//	go test -v -short ./bench/chaos    one kill
//	go test -v -run Random -timeout 1h ./bench/chaos -kills 100 -dice 7
//
// The last kills whatever the seed says, at any moment of runs and of first
// starts. Every kill prints a line with the seconds lost: from the signal to the first
// step that had not been done before it.
//
//	victim              what has to happen before the run goes on
//	worker              its silence is noticed after 10 s without a heartbeat; dev starts another at once
//	dev                 nothing: its children live on, and the next command starts a dev that adopts them
//	postgres            recovery of the database; the segment is tried again from its last checkpoint
//	trimtab-temporal    a new server; the worker goes on meanwhile
//	all four            the next command starts everything
//
// A worker that is frozen for longer than it may be silent, and thaws when
// another has taken its place, is the harder case: what it goes on to write must
// be refused.
package chaos
