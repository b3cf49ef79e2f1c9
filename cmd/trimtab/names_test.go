package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// launched is what came of one process that launched a run.
type launched struct {
	code     int
	doc      runs.View // on exit code 0
	errs     string
	attached bool
}

// launchAtOnce starts a process for each list of arguments, all at the same moment.
func launchAtOnce(t *testing.T, lists [][]string) []launched {
	t.Helper()
	all := make([]launched, len(lists))
	var wg sync.WaitGroup
	for i, args := range lists {
		wg.Go(func() {
			var out, errs strings.Builder
			cmd := exec.CommandContext(t.Context(), "trimtab",
				append([]string{"align", "--size", "smallest", "--detach", "-o", "json"}, args...)...)
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run() // the exit code is looked at
			all[i] = launched{code: cmd.ProcessState.ExitCode(), errs: errs.String() + out.String(),
				attached: strings.Contains(errs.String(), "attached to run")}
			if all[i].code == 0 {
				if err := json.Unmarshal([]byte(out.String()), &all[i].doc); err != nil {
					t.Errorf("%v: %v in %s", args, err, out.String())
				}
			}
		})
	}
	wg.Wait()
	return all
}

// onStack points this process at the embedded servers of the scripts.
func onStack(t *testing.T) {
	t.Helper()
	dir := stack.folder(t)
	quiet(t)
	t.Setenv("TRIMTAB_DATA", filepath.Join(dir, "data"))
	t.Setenv("TRIMTAB_ACTOR", "tester")
}

func showRun(t *testing.T, ref string) (d runs.View) {
	t.Helper()
	code, out, errs := command(t, "", "show", ref, "-o", "json")
	if err := json.Unmarshal([]byte(out), &d); err != nil || code != 0 {
		t.Fatalf("show %s: exit %d, %v: %s%s", ref, code, err, out, errs)
	}
	return d
}

// Eight processes that launch one spec under eight names make eight runs that
// their names find; under one name they make one, to which the others attach;
// and of eight specs under one name, one gets it. Three times each.
func TestNamesAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postgres and Temporal")
	}
	onStack(t)
	for round := range 3 {
		eightNames(t, round)
		oneName(t, round)
		oneNameManySpecs(t, round)
	}
}

func eightNames(t *testing.T, round int) {
	t.Helper()
	var lists [][]string
	for i := range 8 {
		lists = append(lists, []string{"--seed", fmt.Sprint(100 + round), "--name", fmt.Sprintf("p%d-%d", round, i)})
	}
	ids := map[string]bool{}
	var models map[string]trimtab.Digest
	for i, l := range launchAtOnce(t, lists) {
		name := lists[i][3]
		if l.code != 0 || l.attached {
			t.Errorf("%s: exit %d, attached %v: %s", name, l.code, l.attached, l.errs)
			continue
		}
		if d := showRun(t, name); d.ID != l.doc.ID || d.Name != name || ids[d.ID] {
			t.Errorf("%s finds run %s (%s), launched was %s", name, d.ID, d.Name, l.doc.ID)
		}
		ids[l.doc.ID] = true
		if round > 0 {
			mustRun(t, "cancel", name, "--reason", "seen")
			continue
		}
		mustRun(t, "watch", name)
		made := map[string]trimtab.Digest{}
		for _, m := range showRun(t, name).Models {
			made[m.Name] = m.Digest
		}
		if models == nil {
			models = made
		}
		if fmt.Sprint(made) != fmt.Sprint(models) || len(made) != 4 {
			t.Errorf("%s made %v, the first %v", name, made, models)
		}
	}
}

func oneName(t *testing.T, round int) {
	t.Helper()
	name := fmt.Sprintf("one%d", round)
	var lists [][]string
	for range 8 {
		lists = append(lists, []string{"--seed", fmt.Sprint(200 + round), "--name", name, "--set",
			"pretrain.tokens=60000000"})
	}
	ids, attached := map[string]bool{}, 0
	for _, l := range launchAtOnce(t, lists) {
		if l.code != 0 {
			t.Errorf("exit %d: %s", l.code, l.errs)
		}
		ids[l.doc.ID] = true
		if l.attached {
			attached++
		}
	}
	if len(ids) != 1 || attached != 7 {
		t.Errorf("%d runs of one name, %d launches attached", len(ids), attached)
	}
	mustRun(t, "cancel", name, "--reason", "seen")
}

func oneNameManySpecs(t *testing.T, round int) {
	t.Helper()
	name := fmt.Sprintf("many%d", round)
	var lists [][]string
	for i := range 8 {
		lists = append(lists, []string{"--seed", fmt.Sprint(1000 + 10*round + i), "--name", name, "--set",
			"pretrain.tokens=60000000"})
	}
	made, refused := 0, 0
	for _, l := range launchAtOnce(t, lists) {
		switch {
		case l.code == 0 && !l.attached:
			made++
		case l.code == 4 && strings.Contains(l.errs, `"type":"name_taken"`):
			refused++
		default:
			t.Errorf("exit %d, attached %v: %s", l.code, l.attached, l.errs)
		}
	}
	if made != 1 || refused != 7 {
		t.Errorf("%d specs got the name, %d were refused", made, refused)
	}
	mustRun(t, "cancel", name, "--reason", "seen")
}

// mustRun runs a command line that has to succeed.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := command(t, "", args...)
	if code != 0 {
		t.Errorf("trimtab %q: exit %d: %s%s", args, code, out, errs)
	}
	return out
}
