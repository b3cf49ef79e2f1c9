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
		"-n 64": "open files 64, needed 256 (ulimit -n 256)", "-f 1000": "the size of a file ",
		"-s 500":     "the stack 500, needed 1024 (ulimit -s 1024)",
		"-v 3000000": "addresses 3000000, needed 4194304 (ulimit -v 4194304)",
		"-d 1000000": "data 1000000, needed 2097152 (ulimit -d 2097152)",
		"-t 60":      "processor time 60, needed 3600 (ulimit -t 3600)",
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
