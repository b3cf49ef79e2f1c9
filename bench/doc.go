// Package bench compares the core with PyTorch on the same machine, same
// shapes, in one run.
//
//	go test -bench . ./bench                       our tokens/s, GFLOP/s and the machine's peak
//	go test ./bench -run TestCompare -compare -v   the same beside PyTorch, with the ratio
//
// The comparison needs python3 with torch (Debian: python3-torch, and
// libopenblas0, without which its products are several times slower; the
// table names the library that torch has loaded; LD_LIBRARY_PATH may point to
// another). On a busy machine read the columns of processor time. -python chooses the
// interpreter, -only one kind of work, and -threads the numbers of threads given to torch, whose
// better result counts.
package bench
