package devstack

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Each limit under which servers would fail in their own ways is named before any is started.
func TestLowLimits(t *testing.T) {
	t.Parallel()
	if err := checkStackLimits(); err != nil {
		t.Skip(err)
	}
	for option, want := range map[string]string{
		"-n 64": "open files 64, at least 256 needed (ulimit -n 256)", "-f 1000": "file size ",
		"-s 500":     "stack size 500, at least 1024 needed (ulimit -s 1024)",
		"-v 3000000": "address space 3000000, at least 4194304 needed (ulimit -v 4194304)",
		"-d 1000000": "data segment 1000000, at least 2097152 needed (ulimit -d 2097152)",
		"-t 60":      "CPU time 60, at least 3600 needed (ulimit -t 3600)",
		"-u 100":     "processes 100, of which this user has ",
	} {
		cmd := exec.Command("bash", append([]string{"-c", "ulimit " + option + " || exit 7; exec \"$0\" \"$@\"",
			os.Args[0]}, helper("limits")...)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 7 {
			t.Logf("ulimit %s cannot be set here: %s", option, out)
			continue
		}
		if err != nil || !strings.HasPrefix(string(out), "low_limits ") || !strings.Contains(string(out), want) {
			t.Errorf("ulimit %s: %v\n%s\nwant %q", option, err, out, want)
		}
		if strings.Count(string(out), "(ulimit") != 1 {
			t.Errorf("ulimit %s: more than one is named: %s", option, out)
		}
	}
}
