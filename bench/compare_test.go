package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab/tensor"
)

var (
	compare   = flag.Bool("compare", false, "run PyTorch beside us and print the table")
	python    = flag.String("python", "python3", "interpreter that has torch")
	threads   = flag.String("threads", "1,2", "numbers of threads to give torch; the better result counts")
	only      = flag.String("only", "", "of train, generate and ppo, only this")
	aloneKind = flag.String("alone", "", "for TestAlone: the work to do")
	runs      = flag.Int("runs", 5, "timed runs of ours; the median counts")
)

// TestCompare prints tokens/s of both sides. It checks nothing: a loaded
// machine would fail it.
func TestCompare(t *testing.T) {
	if !*compare {
		t.Skip("-compare runs PyTorch beside us")
	}
	out, err := exec.Command(*python, "-c", torchOf).Output()
	if err != nil {
		t.Skipf("%s has no torch (%v): name an interpreter that has PyPI's torch with -python", *python, err)
	}
	pool := tensor.NewPool(0)
	defer pool.Close()
	t.Logf("kernels %s, %d workers, large product %.0f GFLOP/s; %s",
		tensor.Implementation(), pool.Workers(), productRate(pool, [3]int{4 * 768, 768, 768})/1e9, out)
	share, peak := shareOfPeak()
	t.Logf("one core, 512 x 768 x 768: %.0f %% of %.0f GFLOP/s", 100*share, peak)
	t.Logf("%-19s  %28s  %28s", "", "tokens/s", "tokens/s of processor time")
	t.Logf("%-19s  %8s %10s %8s  %8s %10s %8s", "", "ours", "PyTorch", "", "ours", "PyTorch", "")
	for _, kind := range []string{WorkTrain, WorkGenerate, WorkPPO} {
		for _, s := range chosen(t, kind) {
			if (*only == "" || *only == kind) && s.compared(kind) {
				s.compare(t, kind, pool)
			}
		}
	}
}

// compared says whether PyTorch does that work too: GPT-2s, the largest of them
// in training alone.
func (s Shape) compared(kind string) bool {
	return s.Config.Family == "" && (s.Name != "124M" || kind == WorkTrain)
}

// compare prints the lines of one kind of work.
func (s Shape) compare(t *testing.T, kind string, pool *tensor.Pool) {
	w := ready(t, kind, s, pool)
	ours := measure(func(number int) int { return run(t, w, number) })
	theirs := s.torch(t, kind)
	t.Logf("%-8s %-10s  %8.0f %10.0f %7.1fx  %8.0f %10.0f %7.1fx", kind, s.Name,
		ours.Wall, theirs.Wall, ours.Wall/theirs.Wall, ours.CPU, theirs.CPU, ours.CPU/theirs.CPU)
	if kind == WorkTrain {
		resident := s.alone(t, kind)
		t.Logf("%-8s %-10s  %5.0f MB %7.0f MB %7.2fx  most memory resident", "", "", resident/1e6, theirs.Resident/1e6,
			resident/theirs.Resident)
	}
}

// alone is the most memory resident, in bytes, of a process of its own that
// does the work three times.
func (s Shape) alone(t *testing.T, kind string) float64 {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "-test.run=^TestAlone$", "-alone="+kind, "-shapes="+s.Name,
		"-numerics="+*numerics).CombinedOutput()
	if err != nil {
		t.Fatalf("%s of %s alone: %v: %s", kind, s.Name, err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	resident, err := strconv.ParseFloat(line, 64)
	if err != nil {
		t.Fatalf("%s of %s alone wrote %q", kind, s.Name, out)
	}
	return resident
}

// TestAlone is the other side of alone.
func TestAlone(t *testing.T) {
	if *aloneKind == "" {
		t.Skip("TestCompare starts it")
	}
	pool := tensor.NewPool(0)
	defer pool.Close()
	w := ready(t, *aloneKind, chosen(t, *aloneKind)[0], pool)
	for i := range 3 {
		run(t, w, i)
	}
	fmt.Println(PeakResident())
}

// rate is tokens a second, of the clock and of the processors. On a machine
// that others use as well, only the second says much.
type rate struct {
	Wall     float64 `json:"tokens_per_second"`
	CPU      float64 `json:"tokens_per_cpu_second"`
	Resident float64 `json:"peak_resident_bytes"` // the most; of PyTorch
}

// measure is the median rate of -runs calls of f, which returns the tokens it
// has done.
func measure(f func(run int) (tokens int)) rate {
	f(0)
	wall, cpu := make([]float64, *runs), make([]float64, *runs)
	for i := range *runs {
		start, used := time.Now(), processorSeconds()
		tokens := float64(f(i + 1))
		wall[i], cpu[i] = tokens/time.Since(start).Seconds(), tokens/(processorSeconds()-used)
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	return rate{Wall: wall[*runs/2], CPU: cpu[*runs/2]}
}

// processorSeconds is the processor time this process has used.
func processorSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// torchOf prints torch's version and the libraries of its products.
const torchOf = `import re, torch
libraries = re.findall(r"(?:Math Kernel Library Version \S+|MKL-DNN|OpenBLAS|BLAS_INFO=\w+)[^,\n(]*", torch.__config__.show())
print("torch", torch.__version__, "with", ", ".join(l.strip() for l in libraries), end="")`

// torch runs PyTorch's script for that work and returns its rates, the best
// over -threads, and the least memory.
func (s Shape) torch(t *testing.T, kind string) (best rate) {
	script := "torch_" + kind + ".py"
	for _, n := range strings.Split(*threads, ",") {
		args := []string{script, "--threads", n}
		add := func(name string, value int) { args = append(args, "--"+name, strconv.Itoa(value)) }
		add("layers", s.Config.Layers)
		add("width", s.Config.Width)
		add("heads", s.Config.Heads)
		add("vocab", s.Config.Vocab)
		switch kind {
		case WorkTrain:
			add("context", s.Train.Length)
			add("batch", s.Train.Batch)
			add("steps", *runs+1)
		case WorkGenerate:
			s.Generate.add(add)
			add("context", s.Config.Context)
		case WorkPPO:
			s.PPO.add(add)
			add("context", s.Config.Context)
		}
		cmd := exec.CommandContext(t.Context(), *python, args...)
		cmd.Env = append(os.Environ(), "OMP_NUM_THREADS="+n, "OPENBLAS_NUM_THREADS="+n)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		var r rate
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("%s wrote %q: %v", script, out, err)
		}
		if best.Resident == 0 {
			best.Resident = r.Resident
		}
		best = rate{max(best.Wall, r.Wall), max(best.CPU, r.CPU), min(best.Resident, r.Resident)}
	}
	return best
}

func (g Generation) add(add func(name string, value int)) {
	add("batch", g.Batch)
	add("prompt", g.Prompt)
	add("new", g.Response)
	add("runs", *runs)
}
