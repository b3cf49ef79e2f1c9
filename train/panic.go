package train

import (
	"fmt"
	"path"
	"runtime"
	"strings"

	"github.com/trimtab/trimtab"
)

// panicFrames is the most frames that a stage_panic lists.
const panicFrames = 8

// panicError returns the error for a panic of a step that is being recovered:
// its value and its stack, innermost frame first. It must be called by the
// deferred function of guarded, while the panic's stack is there.
func panicError(step int, p any) error {
	cause, ok := p.(error)
	if !ok {
		cause = fmt.Errorf("%v", p)
	}
	return trimtab.NewError(trimtab.Internal, "stage_panic",
		"this is a fault in the stage's code: please report it with this message",
		"the stage panicked in step %d: %w (at %s)", step, cause, strings.Join(panicStack(), " < "))
}

// panicStack lists the frames between the panic and the loop as function:line,
// without those of the runtime.
func panicStack() []string {
	pcs := make([]uintptr, 64)
	// Skip Callers, panicStack and panicError.
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var stack []string
	for len(stack) < panicFrames {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "train.Loop.guarded") || f.Function == "" {
			break
		}
		if !strings.HasPrefix(f.Function, "runtime.") && !strings.Contains(f.Function, "guarded.func") {
			stack = append(stack, fmt.Sprintf("%s:%d", path.Base(f.Function), f.Line))
		}
		if !more {
			break
		}
	}
	return stack
}
