package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/sys/unix"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/eval"
	"github.com/trimtab/trimtab/runs"
)

// widths of terminals that people have; 0 is none.
var screens = []int{40, 60, 80, 120, 200, 0}

// onTerminal gives do an app that prints to a terminal of so many columns, or
// to a buffer where there are none, and returns what was printed.
func onTerminal(t *testing.T, columns int, do func(a *app) error) string {
	t.Helper()
	a := &app{format: formatTable, settings: &settings{values: map[string]string{"data": "/d"}}}
	if columns == 0 {
		var out bytes.Buffer
		a.out, a.err = &out, &out
		if err := do(a); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	master, slave := openTerminal(t, columns)
	a.out, a.err = slave, slave
	var out bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = out.ReadFrom(master) // ends with an error when the other side is closed
	}()
	err := do(a)
	slave.Close()
	select {
	case <-read:
	case <-time.After(10 * time.Second):
		t.Fatal("the terminal does not end")
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(out.String(), "\r\n", "\n")
}

// openTerminal makes a pseudo-terminal.
func openTerminal(t *testing.T, columns int) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals here: ", err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skip("there are no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// whole asserts that no line is wider than the screen, and that what is
// printed there has every word that is printed without one, in letters that
// may be on several lines. Commands are for copying, and stay on one line.
func whole(t *testing.T, columns int, got, plain string) {
	t.Helper()
	for line := range strings.SplitSeq(got, "\n") {
		// what is copied is on one line
		if columns > 0 && text.StringWidth(line) > columns && !strings.HasPrefix(line, "  trimtab ") &&
			!strings.Contains(line, "sha256:") {
			t.Errorf("%d columns: a line of %d: %q", columns, text.StringWidth(line), line)
		}
	}
	if strings.Contains(got, "…") && !strings.Contains(plain, "…") {
		t.Errorf("%d columns: something is cut:\n%s", columns, got)
	}
	letters := func(s string) map[rune]int {
		n := map[rune]int{}
		for _, r := range s {
			n[r]++
		}
		delete(n, ' ')
		delete(n, '\n')
		return n
	}
	have := letters(got)
	for r, n := range letters(plain) { // a record repeats the heads of columns
		if have[r] < n {
			t.Errorf("%d columns: %q is printed %d times, want %d at the least:\n%s", columns, r, have[r], n, got)
			return
		}
	}
}

// shownRun is a run with something long in every place.
func shownRun() runs.View {
	digest := trimtab.DigestOf([]byte("x"))
	doc := at(trimtab.RunCompleted,
		runs.StageView{Name: "pretrain", Kind: "pretrain", Attempt: 1, Status: trimtab.AttemptReused,
			ReusedFrom: &runs.AttemptRef{Run: "nnapr366ra", Stage: "pretrain", Attempt: 2},
			Outputs:    map[string]trimtab.Digest{"model": digest}},
		runs.StageView{Name: "collect", Kind: "collect", Attempt: 1, Status: trimtab.AttemptCompleted, Step: 8,
			Steps: 8, Seconds: 61},
		runs.StageView{Name: "reward", Kind: "reward", Attempt: 1, Status: trimtab.AttemptCompleted, Step: 100,
			Steps: 100, Seconds: 148.4, Outputs: map[string]trimtab.Digest{"model": digest},
			Metrics: map[string]float64{"loss": .51234, "eval_loss": .61234, "accuracy": .71234,
				"held_out/accuracy": .68834, "held_out/longer_wins": .521}},
		runs.StageView{Name: "ppo", Kind: "ppo", Attempt: 12, Status: trimtab.AttemptFailed, Step: 7, Steps: 32,
			Seconds: 7380,
			Error: trimtab.NewError(trimtab.Invalid, "x", "lower the learning rate, or look at the data of this step",
				"step 7: metric loss/policy_avg is NaN")})
	doc.Models = []runs.ModelView{{Name: "base", Stage: "pretrain", Digest: digest}}
	doc.Next = "fix the cause, then `trimtab rerun abcdefghij ppo` (with --set key=value or --data NAME where that " +
		"fixes it), or `trimtab cancel abcdefghij`"
	doc.Reason = strings.Repeat("because it seemed right ", 12)
	number := func(v float64) *float64 { return &v }
	doc.Evaluation = runs.EvaluationView{
		Report: eval.Report{
			Models: map[string]eval.Scores{
				"base": {Gold: number(.125), Reward: number(-.5), Length: number(20)},
				"sft":  {Gold: number(.5), Length: number(10)},
				"ppo":  {Gold: number(.75), Length: number(9.5)},
			},
			Samples: []eval.SampleAnswers{{
				Prompt: strings.Repeat("Tell me of the whale. ", 9),
				Answers: map[string]string{"base": "", "sft": strings.Repeat("word ", 40),
					"ppo": strings.Repeat("生命", 60)},
			}},
			Prompts: 400,
		},
		RewardModel: &runs.RewardModelView{
			RewardAccuracy: eval.RewardAccuracy{Pairs: 812, Accuracy: .688, Low: .6, High: .72, LongerWins: .52,
				MatchedPairs: 99, MatchedAccuracy: .6, MatchedLongerWins: .5},
			LabellersAgreement: number(.73), OracleAccuracy: number(.621), Groups: number(4),
			OverLonger: number(.168), OverLongerLow: number(-.02), OverLongerHigh: number(.3),
			HeldOracle: number(.655), HeldOracleLow: number(.6), HeldOracleHigh: number(.7),
		},
	}
	return doc
}

// A run is shown whole on every terminal, and the number that matters first.
func TestShowFitsEveryTerminal(t *testing.T) {
	show := func(a *app) error { return a.printRun(shownRun()) }
	plain := onTerminal(t, 0, show)
	for _, columns := range screens {
		got := onTerminal(t, columns, show)
		whole(t, columns, got, plain)
		flat := strings.Join(strings.Fields(got), " ") // a cell may go on in the next line
		if i, loss := strings.Index(flat, ".6883"), strings.Index(flat, "loss 0."); i < 0 || loss >= 0 && loss < i {
			t.Errorf("%d columns: the held-out accuracy is not first:\n%s", columns, got)
		}
	}
	for _, want := range []string{"stage     attempt  status        step   time  output ", " 2m28s  model ",
		"attempt 2 of run nnapr366ra"} {
		if !strings.Contains(plain, want) {
			t.Errorf("no %q in\n%s", want, plain)
		}
	}
	if narrow := onTerminal(t, 40, show); !strings.Contains(narrow,
		"\nstage    reward\nattempt  1\nstatus   completed\nstep     100/100\ntime     2m28s\n") {
		t.Errorf("at 40 columns there are no records:\n%s", narrow)
	}
}

func TestListsFitEveryTerminal(t *testing.T) {
	items := []runs.RunSummary{
		{ID: "abcdefghij", Name: "first", Status: trimtab.RunBlocked, Seed: 9007199254740991, Stage: "evaluate",
			CreatedAt: time.Now().Add(-time.Hour), Seconds: 7380,
			Next: "`trimtab rerun abcdefghij reward --set …` for a better one, or `trimtab approve abcdefghij reward " +
				"--reason …` to continue with it"},
		{ID: "bcdefghijk", Name: strings.Repeat("n", trimtab.MostName), Status: trimtab.RunCompleted, Stage: "evaluate",
			CreatedAt: time.Now().Add(-time.Hour), Seconds: 1},
	}
	show := func(a *app) error {
		return printList(a, list[runs.RunSummary]{schema: "trimtab.runs/v1", key: "runs", items: items,
			columns: runColumns})
	}
	plain := onTerminal(t, 0, show)
	for _, columns := range screens {
		whole(t, columns, onTerminal(t, columns, show), plain)
	}
	if !strings.HasPrefix(plain, "id          name ") || !strings.Contains(plain, "  created   time  next\n") {
		t.Errorf("the heads are\n%s", plain)
	}
	comparison := func(a *app) error { return a.printComparison(compared()) }
	plain = onTerminal(t, 0, comparison)
	for _, columns := range screens {
		whole(t, columns, onTerminal(t, columns, comparison), plain)
	}
}

// Folding loses nothing but the spaces at the breaks, and no line is too wide.
func FuzzFold(f *testing.F) {
	for _, s := range []string{"", "a", "a  b   c", "  indented text that goes on", strings.Repeat("生命", 30), "word " +
		strings.Repeat("x", 50), "\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301", " "} {
		f.Add(s, 12)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		s = escapeLine(s)
		width = minValueWidth + max(width, 0)%100
		for _, lines := range [][]string{wrapText(s, width), wrapHanging(s, width, "  ")} {
			if got, want := strings.ReplaceAll(strings.Join(lines, ""), " ", ""), strings.ReplaceAll(s, " ",
				""); got != want {
				t.Errorf("%q becomes %q", want, got)
			}
			if i := slices.IndexFunc(lines, func(l string) bool {
				return text.StringWidth(l) > max(width,
					minValueWidth+2)
			}); i >= 0 {
				t.Errorf("%d columns: %q", width, lines[i])
			}
		}
	})
}

func TestBelowBranch(t *testing.T) {
	for line, want := range map[string]string{"model x": "", "│  ├─ a": "│  │  ", "│  └─ a": "│     "} {
		if got := belowBranch(line); got != want {
			t.Errorf("below %q stands %q, want %q", line, got, want)
		}
	}
}
