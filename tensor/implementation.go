package tensor

import (
	"fmt"
	"os"
	"strings"
)

// implementation is a set of kernels, in rising order of speed. All give the same bits.
type implementation int32

const (
	portable implementation = iota
	avx2
	avx512
)

var implementationNames = [...]string{portable: "portable", avx2: "avx2", avx512: "avx512"}

var (
	best   = detect() // the fastest that the CPU and the build allow
	active = best     // the one in use; only Use changes it
)

// initError is what InitError returns.
var initError error

func init() {
	name := os.Getenv("TRIMTAB_KERNELS")
	if name == "" {
		return
	}
	if _, err := Use(name); err != nil {
		initError = fmt.Errorf("reading TRIMTAB_KERNELS: %w", err)
	}
}

// InitError returns the reason why the implementation that TRIMTAB_KERNELS names is not in use, or nil. The program
// then runs on the fastest one. It is kept, not reported, since a package has no place to report it: main does.
func InitError() error { return initError }

// Implementation returns the name of the kernels in use: avx512, avx2 or portable.
func Implementation() string { return implementationNames[active] }

// Implementations returns the names of the kernels that this CPU and build have, portable first.
func Implementations() []string { return implementationNames[:best+1] }

// Use switches to the named implementation; restore switches back to the one before. It must not be called while other
// functions of this package run. It fails if there is no such implementation or if the CPU or the build lacks it.
func Use(name string) (restore func(), err error) {
	for i, n := range Implementations() {
		if n == name {
			old := active
			active = implementation(i)
			return func() { active = old }, nil
		}
	}
	return func() {}, fmt.Errorf("there are no kernels %q for this processor and build; use one of %s",
		name, strings.Join(Implementations(), ", "))
}
