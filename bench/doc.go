// Package bench measures the core: what training, scoring, sampling and PPO
// reach on this machine, where their time goes, and how that compares with
// PyTorch on the same machine, same shapes, in one run. Shapes are sizes; Train,
// Score, Generate and PPO are the work, each with the floating-point operations
// it takes; Measure runs one under a clock and a processor profile.
//
//	trimtab bench                                  tokens/s, GFLOP/s, share of the peak, memory, time by part
//	go test -bench . ./bench                       our tokens/s and GFLOP/s, of products too, and the machine's peak
//	go test ./bench -run TestCompare -compare -v   the same beside PyTorch, with the ratio
//
// The tests take -shapes, names of Shapes separated by commas, and -numerics,
// the contract that our side computes under:
//
//	go test -bench Train ./bench -shapes 0.9M,13.9M
//
// The comparison needs an interpreter that has PyPI's torch of today, which
// -python names (python3 -m venv V; V/bin/pip install torch numpy; -python
// V/bin/python); the table names its version and the libraries of its products.
// The scripts use what it does best: its fused attention and optimizer. On a
// busy machine read the columns of processor time. -only chooses one kind of work, and -threads the numbers of
// threads given to torch, whose better result counts. For training it also
// prints the most memory that each side has resident, each in a process of its
// own; the largest shape is compared in training alone.
//
// Which functions belong to which part of the time is the table in parts.go.
package bench
