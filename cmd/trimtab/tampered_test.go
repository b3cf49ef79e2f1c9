package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/notary"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tensor"
	"github.com/trimtab/trimtab/tokenizer"
)

// ofRun is a database and a store with a model named small and a run of two
// completed stages, sft and reward, each with a checkpoint. Temporal is away.
type ofRun struct {
	t      *testing.T
	urls   storagetest.Addresses
	store  string
	states map[string]string // the checkpoint's file, by stage
}

func newRun(t *testing.T) ofRun {
	t.Helper()
	dir := quiet(t)
	r := ofRun{t, storagetest.URLs(t), filepath.Join(dir, "folder", "store"), map[string]string{}}
	t.Setenv("TRIMTAB_POSTGRES_URL", r.urls.App)
	t.Setenv("TRIMTAB_TEMPORAL_ADDRESS", "127.0.0.1:1")
	t.Setenv("TRIMTAB_DATA", filepath.Dir(r.store))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(smallModels(dir))
	r.says(0, "small", "model", "import", "language", "--name", "small")
	files, err := checkpoint.Open(r.store)
	must(err)
	s, ctx := storagetest.Open(t, r.urls.App), t.Context()
	plan := trimtab.Plan{Run: "run-1"}
	for _, stage := range []string{"sft", "reward"} {
		config, err := s.PutDocument(ctx, []byte(stage))
		must(err)
		plan.Stages = append(plan.Stages, trimtab.PlannedStage{Name: stage, Kind: stage, Version: 1, Config: config})
	}
	must(s.CreateRun(ctx, storage.Run{ID: "run-1", Name: "mine", Plan: plan}))
	words, err := tokenizer.Train([]string{"hello world"}, 260)
	must(err)
	loss := []trimtab.Metric{{Name: "loss", Value: 1}}
	for i, st := range plan.Stages {
		a, err := s.CreateAttempt(ctx, storage.Attempt{Run: "run-1", Stage: st.Name, Kind: st.Kind, Number: 1,
			Config: st.Config})
		must(err)
		must(s.Lease(a.ID, 1).Acquire(ctx))
		must(s.Lease(a.ID, 1).Start(ctx, 1, "build", "avx2"))
		key := checkpoint.AttemptName(a.ID)
		state, err := files.SaveState(key, 1, []tensor.NamedArray{{Name: "w", Shape: []int{64},
			Data: slices.Repeat([]float32{float32(i)}, 64)}})
		must(err)
		must(s.Lease(a.ID, 1).Commit(ctx, []storage.StepReport{{Report: trimtab.Report{Metrics: loss}}},
			&storage.Checkpoint{Attempt: a.ID, Step: 1, Digest: state}))
		m := model.New(model.Config{Layers: 1, Width: 8, Heads: 2, Context: 16, Vocab: words.VocabSize()},
			st.Kind == "reward")
		made, err := checkpoint.SaveModel(files, m, words)
		must(err)
		must(s.PutArtifact(ctx, storage.Artifact{Digest: made, Kind: "model", Name: "run-1/" + st.Name, Run: "run-1",
			Stage: st.Name, Attempt: a.ID, Parameters: 9}, "trimtab"))
		must(s.Lease(a.ID, 1).Complete(ctx, []trimtab.Named{{Name: "model", Digest: made}}, loss))
		r.states[st.Name] = filepath.Join(r.store, "states", key, state.Hex())
	}
	return r
}

// says runs a command that must end with a code, soon, and say something; it returns all that it said.
func (r ofRun) says(code int, contains string, args ...string) string {
	r.t.Helper()
	type ended struct {
		code int
		said string
	}
	c := make(chan ended, 1)
	go func() {
		code, out, errs := command(r.t, "", args...)
		c <- ended{code, out + errs}
	}()
	select {
	case e := <-c:
		if e.code != code || !strings.Contains(e.said, contains) {
			r.t.Fatalf("%v: exit %d, want %d and %q: %s", args, e.code, code, contains, e.said)
		}
		return e.said
	case <-time.After(30 * time.Second):
		r.t.Fatalf("%v: it has not ended after 30 s", args)
	}
	return ""
}

// digest is that of a model by its name.
func (r ofRun) digest(name string) trimtab.Digest {
	r.t.Helper()
	a, err := storagetest.Open(r.t, r.urls.App).ResolveArtifact(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return a.Digest
}

// withSession has the file at path replaced while f runs.
func (r ofRun) with(path string, replace func() error, f func()) {
	r.t.Helper()
	if err := os.Rename(path, path+".aside"); err != nil {
		r.t.Fatal(err)
	}
	if err := replace(); err != nil {
		r.t.Fatal(err)
	}
	f()
	if err := os.Rename(path+".aside", path); err != nil {
		r.t.Fatal(err)
	}
}

// The newest checkpoint of a completed attempt that is damaged, gone, or another's is named by audit verify and by
// doctor --run, and both end with exit code 5.
func TestVerifyOfChangedCheckpoints(t *testing.T) {
	r := newRun(t)
	sound := func() {
		t.Helper()
		r.says(0, "nothing was changed", "audit", "verify")
		r.says(0, "invariants hold", "doctor", "--run", "mine")
	}
	sound()
	newest := r.states["sft"]
	read := func(path string) []byte {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	flipped, another := read(newest), read(r.states["reward"])
	flipped[len(flipped)/2] ^= 1
	for what, replace := range map[string]func() error{
		"damaged": func() error { return os.WriteFile(newest, flipped, 0o600) },
		"removed": func() error { return nil },
		"swapped": func() error { return os.WriteFile(newest, another, 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			r := r
			r.t = t
			r.with(newest, replace, func() {
				said := r.says(5, "checkpoint of sft attempt 1 of run-1: ", "audit", "verify")
				if strings.Contains(said, "checkpoint of reward") {
					t.Errorf("the other stage is named: %s", said)
				}
				r.says(0, "nothing was changed", "audit", "verify", "--no-files")
				said = r.says(5, "states_in_store", "doctor", "--run", "mine")
				if !strings.Contains(said, "sft attempt 1: ") || strings.Contains(said, "reward attempt 1: ") {
					t.Errorf("doctor names the wrong stages: %s", said)
				}
			})
		})
	}
	sound()
}

// A record that has lost all its signed heads, in the table alone or in the file of the data folder too, is not
// verified.
func TestVerifyWithoutHeads(t *testing.T) {
	r := newRun(t)
	change(t, r.urls.Owner, `with e as (select now() - interval '1 day' as moment, decode(repeat('00', 32), 'hex') as zero),
		h as (select e.*, event_hash(zero, 'old', 1::bigint, moment, 'ann', 'decision', 'ppo', 1, '{}'::bytea, ''::bytea) as hash from e),
		s as (insert into event_stream (stream, head, hash) select 'old', 1, hash from h)
		insert into event select 'old', 1, moment, 'ann', 'decision', 'ppo', 1, '{}'::bytea, ''::bytea, hash from h`) // the record is not of today
	r.says(0, "trimtab-", "audit", "key")
	r.says(0, "wrote ", "audit", "export", filepath.Join(t.TempDir(), "export")) // signs a head
	r.says(0, "nothing was changed", "audit", "verify")
	change(t, r.urls.Owner, `alter table tree_head disable trigger all; truncate tree_head; alter table tree_head enable trigger all;
		alter table tree_head enable always trigger tree_head_stays, enable always trigger tree_head_is_kept`)
	r.says(5, "it lacks the signed head that is kept as ", "audit", "verify")
	if err := os.Remove(notary.HeadsIn(r.store)); err != nil {
		t.Fatal(err)
	}
	r.says(5, "is under a signed head: all heads were removed", "audit", "verify")
	r.says(5, `"sound": false`, "audit", "verify", "-o", "json")
}

// A FIFO in place of a file of the store is reported at once by every reader.
func TestFIFOsInTheStore(t *testing.T) {
	r := newRun(t)
	manifests, err := filepath.Glob(filepath.Join(r.store, "artifacts", "*"))
	if err != nil || len(manifests) != 3 {
		t.Fatalf("manifests %v, %v", manifests, err)
	}
	objects, err := filepath.Glob(filepath.Join(r.store, "objects", "*"))
	if err != nil || len(objects) < 2 {
		t.Fatalf("objects %v, %v", objects, err)
	}
	fifo := func(path string) func() error { return func() error { return syscall.Mkfifo(path, 0o600) } }
	r.says(0, "", "generate", "small", "hello")
	for _, path := range slices.Concat(manifests, objects) {
		r.with(path, fifo(path), func() { r.says(5, "it is a FIFO", "audit", "verify") })
	}
	for _, name := range []string{"run-1/sft", "small"} {
		of := filepath.Join(r.store, "artifacts", r.digest(name).Hex())
		r.with(of, fifo(of), func() { r.says(5, "it is a FIFO", "generate", name, "hello") })
	}
	of := filepath.Join(r.store, "artifacts", r.digest("run-1/sft").Hex())
	r.with(of, fifo(of), func() { r.says(5, "it is a FIFO", "doctor", "--run", "mine") })
	state := r.states["reward"]
	r.with(state, fifo(state), func() {
		r.says(5, "checkpoint of reward attempt 1 of run-1: ", "audit", "verify")
		r.says(5, "it is a FIFO", "audit", "verify")
		r.says(5, "it is a FIFO", "doctor", "--run", "mine")
		r.says(6, "temporal", "doctor") // it looks at no checkpoint
	})
	r.says(0, "nothing was changed", "audit", "verify")
	r.says(0, "hold", "doctor", "--run", "mine")
}
