package bench

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trimtab/trimtab/tensor"
)

var (
	compare = flag.Bool("compare", false, "run PyTorch beside us and print the table")
	python  = flag.String("python", "python3", "interpreter that has torch")
	threads = flag.String("threads", "1,2", "numbers of threads to give torch; the better result counts")
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
	t.Logf("%-10s %-6s %12s %12s %7s", "", "", "ours", "PyTorch", "ratio")
	for _, s := range shapes {
		line(t, "train", s, s.trainingRate(pool), s.torch(t, "torch_train.py"))
		line(t, "generate", s, s.generationRate(pool), s.torch(t, "torch_generate.py"))
	}
}

func line(t *testing.T, what string, s shape, ours, theirs float64) {
	t.Logf("%-10s %-6s %8.0f t/s %8.0f t/s %6.1fx", what, s.name, ours, theirs, ours/theirs)
}

// blasOf prints torch's version and the linear algebra it has loaded.
const blasOf = `import torch
torch.ones(64, 64) @ torch.ones(64, 64)
maps = open("/proc/self/maps").read()
libraries = sorted({l.split("/")[-1] for l in maps.split() if "blas" in l.split("/")[-1].lower() or "mkl_rt" in l})
import os
paths = sorted({os.path.realpath(l) for l in maps.split() if "libblas" in l})
print("torch", torch.__version__, "on", ", ".join(paths or libraries), end="")`

func (s shape) trainingRate(pool *tensor.Pool) float64 {
	step := s.trainer(pool)
	step(0)
	times := make([]float64, *runs)
	for i := range times {
		start := time.Now()
		step(i + 1)
		times[i] = time.Since(start).Seconds()
	}
	slices.Sort(times)
	return float64(s.batch*s.row) / times[len(times)/2]
}

func (s shape) generationRate(pool *tensor.Pool) float64 {
	run, rates := s.generator(pool), make([]float64, *runs)
	run(0)
	for i := range rates {
		start := time.Now()
		rates[i] = float64(run(i+1)) / time.Since(start).Seconds()
	}
	slices.Sort(rates)
	return rates[len(rates)/2]
}

// torch runs a script at s and returns its tokens/s, the best over -threads.
func (s shape) torch(t *testing.T, script string) float64 {
	best := 0.
	for _, n := range strings.Split(*threads, ",") {
		args := []string{script, "--threads", n}
		add := func(name string, value int) { args = append(args, "--"+name, strconv.Itoa(value)) }
		add("layers", s.config.Layers)
		add("width", s.config.Width)
		add("heads", s.config.Heads)
		add("context", s.config.Context)
		add("vocab", s.config.Vocab)
		if script == "torch_train.py" {
			add("batch", s.batch)
		} else {
			add("batch", s.samples)
			add("prompt", s.prompt)
			add("new", s.response)
		}
		cmd := exec.CommandContext(t.Context(), *python, args...)
		cmd.Env = append(os.Environ(), "OMP_NUM_THREADS="+n, "OPENBLAS_NUM_THREADS="+n)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		var result struct {
			Rate float64 `json:"tokens_per_second"`
		}
		if err := json.Unmarshal(out, &result); err != nil {
			t.Fatalf("%s wrote %q: %v", script, out, err)
		}
		best = max(best, result.Rate)
	}
	return best
}

