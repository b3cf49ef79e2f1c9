package train

import (
	"fmt"
	"path"
	"runtime"
	"strings"

	"github.com/trimtab/trimtab"
)

// panicFrames is how many callers a stage_panic names.
const panicFrames = 8

// panicError makes the error of a panic of a step that is being recovered: its value and
// the places it came through, innermost first.
func panicError(step int, p any) error {
	cause, ok := p.(error)
	if !ok {
		cause = fmt.Errorf("%v", p)
	}
	return trimtab.NewError(trimtab.Internal, "stage_panic",
		"this is a fault in the stage's code: please report it with this message",
		"the stage panicked in step %d: %w (at %s)", step, cause, strings.Join(panicStack(), " < "))
}

// panicStack lists function:line from the panic up to the loop, without the runtime's own.
func panicStack() []string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var out []string
	for len(out) < panicFrames {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "train.Loop.guarded") || f.Function == "" {
			break
		}
		if !strings.HasPrefix(f.Function, "runtime.") && !strings.Contains(f.Function, "guarded.func") {
			out = append(out, fmt.Sprintf("%s:%d", path.Base(f.Function), f.Line))
		}
		if !more {
			break
		}
	}
	return out
}
