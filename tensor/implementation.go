package tensor

import (
	"fmt"
	"os"
	"strings"
)

// implementation is a set of kernels; all give the same bits.
type implementation int32

const (
	portable implementation = iota
	avx2
	avx512
)

var implementationNames = [...]string{portable: "portable", avx2: "avx2", avx512: "avx512"}

// best is what the CPU and the build allow, active what is in use.
var (
	best   = detect()
	active = best
)

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

// InitError says why the implementation named by TRIMTAB_KERNELS could not be
// taken at start, or is nil. The program then runs on the best one.
func InitError() error { return initError }

// Implementation returns the name of the kernels in use: avx512, avx2 or
// portable.
func Implementation() string { return implementationNames[active] }

// Implementations returns the names of those that this CPU and build have.
func Implementations() []string { return implementationNames[:best+1] }

// Use takes the named implementation from now on; restore takes back the one
// before. It must not be called while other functions of this package run.
// It fails if there is no such implementation or the CPU lacks it.
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
