package bench

import (
	"encoding/json"
	"flag"
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
	compare = flag.Bool("compare", false, "run PyTorch beside us and print the table")
	python  = flag.String("python", "python3", "interpreter that has torch")
	threads = flag.String("threads", "1,2", "numbers of threads to give torch; the better result counts")
	only    = flag.String("only", "", "of train, generate and ppo, only this")
	runs    = flag.Int("runs", 5, "timed runs of ours; the median counts")
)

// TestCompare prints tokens/s of both sides. It checks nothing: a loaded
// machine would fail it.
func TestCompare(t *testing.T) {
	if !*compare {
		t.Skip("-compare runs PyTorch beside us")
	}
	out, err := exec.Command(*python, "-c", blasOf).Output()
	if err != nil {
		t.Skipf("%s has no torch (%v): install python3-torch, or name an interpreter with -python", *python, err)
	}
	pool := tensor.NewPool(0)
	defer pool.Close()
	t.Logf("kernels %s, %d workers, large product %.0f GFLOP/s; %s",
		tensor.Implementation(), pool.Workers(), 2*768*768*768*4/productSeconds(pool, 4*768, 768, 768, 5)/1e9, out)
	share, peak := shareOfPeak()
	t.Logf("one core, 512 x 768 x 768: %.0f %% of %.0f GFLOP/s", 100*share, peak)
	t.Logf("%-15s  %28s  %28s", "", "tokens/s", "tokens/s of processor time")
	t.Logf("%-15s  %8s %10s %8s  %8s %10s %8s", "", "ours", "PyTorch", "", "ours", "PyTorch", "")
	for _, s := range shapes {
		for _, w := range []struct {
			what string
			ours func(t *testing.T, pool *tensor.Pool) rate
		}{{"train", s.trainingRate}, {"generate", s.generationRate}, {"ppo", s.ppoRate}} {
			if *only == "" || *only == w.what {
				line(t, w.what, s, w.ours(t, pool), s.torch(t, "torch_"+w.what+".py"))
			}
		}
	}
}

// rate is tokens a second, of the clock and of the processors. On a machine
// that others use as well, only the second says much.
type rate struct {
	Wall float64 `json:"tokens_per_second"`
	CPU  float64 `json:"tokens_per_cpu_second"`
}

func line(t *testing.T, what string, s shape, ours, theirs rate) {
	t.Logf("%-8s %-6s  %8.0f %10.0f %7.1fx  %8.0f %10.0f %7.1fx", what, s.name,
		ours.Wall, theirs.Wall, ours.Wall/theirs.Wall, ours.CPU, theirs.CPU, ours.CPU/theirs.CPU)
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
	return rate{wall[*runs/2], cpu[*runs/2]}
}

// processorSeconds is the processor time this process has used.
func processorSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// blasOf prints torch's version and the linear algebra it has loaded.
const blasOf = `import torch
torch.ones(64, 64) @ torch.ones(64, 64)
maps = open("/proc/self/maps").read()
libraries = sorted({l.split("/")[-1] for l in maps.split() if "blas" in l.split("/")[-1].lower() or "mkl_rt" in l})
import os
paths = sorted({os.path.realpath(l) for l in maps.split() if "libblas" in l})
print("torch", torch.__version__, "on", ", ".join(paths or libraries), end="")`

func (s shape) trainingRate(_ *testing.T, pool *tensor.Pool) rate {
	step := s.trainer(pool)
	return measure(func(run int) int {
		step(run)
		return s.batch * s.row
	})
}

// ppoRate is sampled tokens a second of whole iterations.
func (s shape) ppoRate(t *testing.T, pool *tensor.Pool) rate {
	step := s.ppo(t, pool)
	return measure(func(run int) int { return step(run) })
}

func (s shape) generationRate(_ *testing.T, pool *tensor.Pool) rate {
	return measure(s.generator(pool))
}

// torch runs a script at s and returns its rates, the best over -threads.
func (s shape) torch(t *testing.T, script string) (best rate) {
	for _, n := range strings.Split(*threads, ",") {
		args := []string{script, "--threads", n}
		add := func(name string, value int) { args = append(args, "--"+name, strconv.Itoa(value)) }
		add("layers", s.config.Layers)
		add("width", s.config.Width)
		add("heads", s.config.Heads)
		add("context", s.config.Context)
		add("vocab", s.config.Vocab)
		switch script {
		case "torch_train.py":
			add("batch", s.batch)
			add("steps", *runs+1)
		case "torch_ppo.py":
			add("batch", s.episodes)
			add("prompt", s.ppoPrompt)
			add("new", s.ppoResponse)
			add("runs", *runs)
		default:
			add("batch", s.samples)
			add("prompt", s.prompt)
			add("new", s.response)
			add("runs", *runs)
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
		best = rate{max(best.Wall, r.Wall), max(best.CPU, r.CPU)}
	}
	return best
}
