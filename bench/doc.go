// Package bench measures the numeric core: the throughput of training, scoring,
// sampling and PPO on this machine, where their processor time goes, and how
// they compare with PyTorch at the same shapes on the same machine.
//
// A Shape is a model size with batch sizes. Train, Score, Generate and PPO are
// the workloads, each with the floating-point operations that it takes by
// formula. Measure runs one of them under a clock and the CPU profiler.
//
//	trimtab bench                                  tokens/s, GFLOP/s, share of the peak, memory, time by part
//	go test -bench . ./bench                       our tokens/s and GFLOP/s, also of matrix products, and the peak
//	go test ./bench -run TestCompare -compare -v   the same beside PyTorch, with the ratio
//
// The tests take -shapes, a comma-separated list of names of Shapes, and
// -numerics, the numeric contract that our side computes under:
//
//	go test -bench Train ./bench -shapes 0.9M,13.9M
//
// The comparison needs a Python interpreter with a current torch from PyPI,
// given by -python (python3 -m venv V; V/bin/pip install torch numpy; -python
// V/bin/python). The table names its version and its math libraries. The
// scripts use the fastest that torch offers: fused attention and the fused
// optimizer. On a busy machine read the columns of processor time, which other
// programs disturb less. -only selects one kind of work. -threads lists thread
// counts for torch, of which the best result counts. For training the peak
// resident memory of both sides is printed as well, each measured in a process
// of its own. The largest shape is compared in training only.
//
// The table in parts.go assigns functions to the parts of the time.
package bench
