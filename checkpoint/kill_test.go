package checkpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
)

// killedStore is set in a process that TestKillAnywhere starts and kills.
const killedStore = "TRIMTAB_TEST_KILLED_STORE"

func killedState(step int) []tensor.NamedArray {
	data := make([]float32, 1<<16)
	for i := range data {
		data[i] = float32(step + i)
	}
	return []tensor.NamedArray{{Name: "w", Shape: []int{len(data)}, Data: data}}
}

// TestWriteUntilKilled is the process that is killed.
func TestWriteUntilKilled(t *testing.T) {
	dir := os.Getenv(killedStore)
	if dir == "" {
		t.Skip("runs as a child of TestKillAnywhere")
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for step := os.Getpid() << 8; ; step++ { // no two children write the same
		state := killedState(step)
		saveState(t, s, "a/1", step, state)
		put(t, s, []File{blob("weights", string(EncodeSafetensors(state, nil))), blob("same", "x")})
	}
}

func TestKillAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	s := open(t)
	for round := range 6 {
		child := exec.Command(os.Args[0], "-test.run=^TestWriteUntilKilled$")
		child.Env = append(os.Environ(), killedStore+"="+s.dir)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		written := filepath.Join(s.dir, states, "a", "1", "*")
		before, _ := filepath.Glob(written) // the pattern is well formed
		for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if now, _ := filepath.Glob(written); len(now) > len(before) {
				break
			}
		}
		time.Sleep(time.Duration(3*round) * time.Millisecond)
		child.Process.Kill()
		child.Wait() // killed, as it should be
	}
	checkWhole(t, s)
}

// checkWhole reads everything that a store says it has.
func checkWhole(t *testing.T, s *Store) {
	for _, e := range list(t, filepath.Join(s.dir, artifacts)) {
		if files, err := s.Files(trimtab.Digest("sha256:" + e)); err != nil || len(files) != 2 {
			t.Errorf("artifact %s: %d files, error %v", e, len(files), err)
		}
	}
	states := list(t, filepath.Join(s.dir, states, "a", "1"))
	for _, e := range states {
		into := killedState(0)
		step, err := s.LoadState("a/1", trimtab.Digest("sha256:"+e), into)
		if err != nil || into[0].Data[0] != float32(step) {
			t.Errorf("state %s: step %d, error %v", e, step, err)
		}
	}
	if len(states) == 0 {
		t.Error("nothing was written")
	}
}

func list(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}
