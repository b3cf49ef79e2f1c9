package runs_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
	"github.com/trimtab/trimtab/tensor"
)

var quiet = slog.New(slog.DiscardHandler)

// reproducer computes in a folder of its own.
func (b *bench) reproducer(threads int) *activities.Reproducer {
	b.t.Helper()
	recorded, err := checkpoint.Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	own, err := checkpoint.Open(b.t.TempDir())
	if err != nil {
		b.t.Fatal(err)
	}
	pool := tensor.NewPool(threads)
	b.t.Cleanup(pool.Close)
	return activities.NewReproducer(quiet, b.Store(), recorded, own, pool)
}

// reproduce runs stages again; the error is of the looking, and there is none.
func (b *bench) reproduce(r runs.ReproduceRequest) runs.ReproductionReport {
	b.t.Helper()
	if r.Reproducer == nil {
		r.Reproducer = b.reproducer(0)
	}
	r.Actor, r.Kernels = "auditor", tensor.Implementation()
	doc, err := b.Reproduce(b.ctx, r)
	if err != nil {
		b.t.Fatal(err)
	}
	return doc
}

// identical fails the test unless all stages of a run are.
func (b *bench) identical(doc runs.ReproductionReport) {
	b.t.Helper()
	if !doc.Identical || doc.Error != nil || len(doc.Stages) == 0 {
		b.t.Errorf("it is not identical: %v", doc.Error)
	}
	for _, st := range doc.Stages {
		if st.Result != runs.Identical || !st.Whole || st.Compared.Steps == 0 || st.Compared.Metrics == 0 ||
			st.Compared.States == 0 || st.Compared.InStore == 0 || st.Compared.Outputs != 1 {
			b.t.Errorf("%s is %s: %+v %v", st.Stage, st.Result, st.Compared, st.Differences)
		}
		if st.Kernels != tensor.Implementation() || st.Build != "test" {
			b.t.Errorf("%s was recorded on %q by %q", st.Stage, st.Kernels, st.Build)
		}
		if st.Kind == recipes.KindPPO && st.Compared.Rollouts == 0 {
			b.t.Errorf("no rollout of %s was compared", st.Stage)
		}
	}
}

// first is the first difference of the only stage, and the error's sentence holds it.
func (b *bench) first(doc runs.ReproductionReport) activities.Difference {
	b.t.Helper()
	st := doc.Stages[len(doc.Stages)-1]
	if doc.Identical || st.Result != runs.Differs || doc.Error == nil || doc.Error.Type != "reproduction_differs" ||
		trimtab.ExitCode(doc.Error) != 5 || doc.Error.Remedy == "" {
		b.t.Fatalf("%s is %s, error %v", st.Stage, st.Result, doc.Error)
	}
	if !strings.Contains(doc.Error.Message, st.Differences[0].String()) {
		b.t.Errorf("%q does not name %q", doc.Error.Message, st.Differences[0])
	}
	return st.Differences[0]
}

// change runs SQL as the owner of the database.
func (b *bench) change(sql string, args ...any) {
	b.t.Helper()
	c, err := pgx.Connect(b.ctx, b.urls.Owner)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close(context.Background())
	if tag, err := c.Exec(b.ctx, sql, args...); err != nil || tag.RowsAffected() == 0 {
		b.t.Fatalf("%s: %v %v", sql, tag, err)
	}
}

// tables are digests of all rows, and files are names, sizes and times.
func (b *bench) snapshot() (tables, files map[string]string) {
	b.t.Helper()
	c, err := pgx.Connect(b.ctx, b.urls.Owner)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close(context.Background())
	rows, err := c.Query(b.ctx,
		"select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'")
	if err != nil {
		b.t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	tables, files = map[string]string{}, map[string]string{}
	for _, name := range names {
		var all string
		err := c.QueryRow(b.ctx,
			fmt.Sprintf(`select concat(count(*), ' ', md5(string_agg(t::text, ',' order by t::text))) from %q t`,
				name)).Scan(&all)
		if err != nil {
			b.t.Fatal(err)
		}
		tables[name] = all
	}
	err = filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		files[path] = fmt.Sprint(info.Size(), info.ModTime())
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return tables, files
}

// flip changes bits of a float32 of an array in a safetensors file.
func flip(t *testing.T, path, array string, index int, bits uint32) (was, is float32) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	arrays, metadata, err := checkpoint.DecodeSafetensors(raw)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(arrays, func(a tensor.NamedArray) bool { return a.Name == array })
	if i < 0 {
		t.Fatalf("there is no array %s", array)
	}
	x := &arrays[i].Data[index]
	was, is = *x, math.Float32frombits(math.Float32bits(*x)^bits)
	*x = is
	if err := os.WriteFile(path, checkpoint.EncodeSafetensors(arrays, metadata), 0o600); err != nil {
		t.Fatal(err)
	}
	return was, is
}

// A run's stages come out the same from the record alone: on any number of
// cores, one by one and in a chain. Whatever is changed is found where it is.
func TestReproduce(t *testing.T) {
	b := newBench(t, 0)
	d := b.await(b.launch(), trimtab.RunCompleted)
	b.stop()
	attempts, err := b.Store().Attempts(b.ctx, d.ID)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]int64{}
	for _, a := range attempts {
		ids[a.Stage] = a.ID
	}

	t.Run("identical", func(t *testing.T) {
		tables, files := b.snapshot()
		doc := b.reproduce(runs.ReproduceRequest{Run: d.ID, NoEvent: true})
		b.identical(doc)
		for _, st := range doc.Stages {
			rows, err := b.Store().Metrics(b.ctx, ids[st.Stage])
			if err != nil {
				t.Fatal(err)
			}
			if want := len(rows) + len(stageOf(t, d, st.Stage).Metrics); st.Compared.Metrics != want ||
				st.Compared.Steps != st.Steps {
				t.Errorf("%s: %d metrics of %d compared, %d steps of %d", st.Stage, st.Compared.Metrics, want,
					st.Compared.Steps, st.Steps)
			}
		}
		after, now := b.snapshot()
		if !maps.Equal(tables, after) || !maps.Equal(files, now) {
			t.Error("a silent reproduction changed the record")
		}
		b.identical(b.reproduce(runs.ReproduceRequest{Run: d.ID}))
		after, now = b.snapshot()
		for name, rows := range tables {
			if (rows == after[name]) == (name == "event" || name == "event_stream") {
				t.Errorf("table %s had %s and has %s", name, rows, after[name])
			}
		}
		if !maps.Equal(files, now) {
			t.Error("a reproduction changed the store")
		}
		events := b.reproductions(d.ID)
		if len(events) != 1 || events[0].Actor != "auditor" || events[0].Stage != "" ||
			!strings.Contains(string(events[0].Body), `"identical":true`) {
			t.Errorf("the event is %+v", events)
		}
	})

	t.Run("threads", func(t *testing.T) {
		for _, threads := range []int{1, 3} {
			b.identical(b.reproduce(runs.ReproduceRequest{Run: d.ID, Reproducer: b.reproducer(threads)}))
		}
	})

	t.Run("chain", func(t *testing.T) {
		gone := filepath.Join(b.dir, "artifacts", models(d)["sft"].Hex())
		if err := os.Rename(gone, gone+".away"); err != nil {
			t.Fatal(err)
		}
		doc := b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "collect"})
		if doc.Identical || doc.Error.Type != "artifact_missing" || doc.Stages[0].Result != runs.Failed {
			t.Errorf("without its input: %+v", doc.Error)
		}
		doc = b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "collect", Chain: true})
		b.identical(doc)
		if len(doc.Stages) != 3 || doc.Stages[1].Outputs[0].Stored {
			t.Errorf("the chain is %+v", doc.Stages)
		}
		if err := os.Rename(gone+".away", gone); err != nil {
			t.Fatal(err)
		}
	})

	// An auditor may read everything, and needs to write nothing.
	t.Run("auditor", func(t *testing.T) {
		files, err := checkpoint.Open(b.dir)
		if err != nil {
			t.Fatal(err)
		}
		auditor := *b
		auditor.Service = runs.New(quiet, storagetest.Open(t, b.urls.Auditor), files, nil)
		auditor.identical(auditor.reproduce(runs.ReproduceRequest{Run: d.ID, NoEvent: true}))
		doc := auditor.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "sft"})
		if !doc.Identical || doc.Recorded || doc.Error == nil || doc.Error.Remedy == "" ||
			trimtab.ExitCode(doc.Error) == 0 {
			t.Errorf("identical is %v, the record could not be written: %v", doc.Identical, doc.Error)
		}
	})

	// One bit of one weight of an input.
	t.Run("input", func(t *testing.T) {
		by := b.reproducer(0)
		input := func(model trimtab.Digest, array string, index int, bits uint32) []trimtab.Named {
			folder := filepath.Join(t.TempDir(), "model")
			files, err := checkpoint.Open(b.dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkpoint.Export(files, model, folder); err != nil {
				t.Fatal(err)
			}
			flip(t, filepath.Join(folder, "model.safetensors"), array, index, bits)
			digest, err := by.ImportModel(folder)
			if err != nil {
				t.Fatal(err)
			}
			return []trimtab.Named{{Name: "model", Digest: digest}}
		}
		lowest := input(models(d)["base"], "transformer.h.0.attn.c_attn.weight", 7, 1)
		first := b.first(b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "sft", Reproducer: by, Inputs: lowest}))
		t.Log(first)
		if first.Place != "metric" || first.Step == nil || *first.Step != 0 || first.Recorded == first.Here {
			t.Errorf("the first difference is %+v", first)
		}
		doc := b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "sft", Reproducer: by, Inputs: lowest,
			KeepGoing: true})
		if got := b.first(doc); got.String() != first.String() {
			t.Errorf("the first difference is %v, it was %v", got, first)
		}
		t.Log(doc.Stages[0].Differences)
		var places []string
		for _, diff := range doc.Stages[0].Differences {
			places = append(places, diff.Place)
		}
		if want := []string{"metric", "state", "model", "result"}; !slices.Equal(places, want) ||
			doc.Stages[0].Differences[2].Index == nil {
			t.Errorf("differences are in %v, want %v", places, want)
		}
		// Other answers, other rankings, another report.
		sign := input(models(d)["sft"], "transformer.ln_f.weight", 3, 1<<31)
		for stage, places := range map[string][]string{"collect": {"state", "rankings", "result"},
			"evaluate": {"state", "evaluation", "result"}} {
			in := sign
			if stage == "evaluate" {
				in = []trimtab.Named{{Name: "sft", Digest: sign[0].Digest}}
			}
			doc := b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: stage, Reproducer: by, Inputs: in,
				KeepGoing: true})
			t.Log(doc.Stages[0].Differences)
			var have []string
			for _, diff := range doc.Stages[0].Differences {
				have = append(have, diff.Place)
			}
			if !slices.Equal(have, places) {
				t.Errorf("%s differs in %v, want %v", stage, have, places)
			}
		}
		_, err := b.Reproduce(b.ctx, runs.ReproduceRequest{Run: d.ID, Stage: "sft", Reproducer: by,
			Inputs: []trimtab.Named{{Name: "modell"}}})
		wantRefusal(t, "an input that is none", err, "input_missing", 2)
	})

	// What a superuser changes.
	t.Run("rows", func(t *testing.T) {
		const at = "where attempt = $1 and step = 3 and name = 'loss'"
		b.change("update metric set value = value + 1e-15 "+at, ids["reward"])
		first := b.first(b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "reward"}))
		if first.Place != "metric" || *first.Step != 3 || first.Name != "loss" {
			t.Errorf("the first difference is %v", first)
		}
		b.change("update metric set value = $2::text::double precision "+at, ids["reward"], first.Here)
		b.change("delete from metric "+at, ids["reward"])
		if first := b.first(b.reproduce(runs.ReproduceRequest{Run: d.ID,
			Stage: "reward"})); first.Recorded != "absent" || *first.Step != 3 {
			t.Errorf("the first difference is %v", first)
		}
		b.change("insert into metric (attempt, step, name, value) values ($1, 3, 'loss', $2::text::double precision)",
			ids["reward"], first.Here)

		const row = "where attempt = $1 and step = 2 and index = 5"
		b.change("update rollout set logprobs[4] = logprobs[4] * 1.0000001 "+row, ids["ppo"])
		doc := b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "ppo"})
		if first = b.first(doc); first.Place != "rollout" || *first.Step != 2 || *first.Rollout != 5 ||
			first.Name != "logprobs" || *first.Index != 3 {
			t.Errorf("the first difference is %v", first)
		}
		if events := b.reproductions(d.ID); !strings.Contains(string(events[len(events)-1].Body),
			`"first":"step 2, rollout 5: logprobs[3] is `) || events[len(events)-1].Attempt != 1 {
			t.Errorf("the event is %s", events[len(events)-1].Body)
		}
		b.change("update rollout set logprobs[4] = $2::text::real "+row, ids["ppo"], first.Here)
		b.change("update attempt set cache_key = config where id = $1", ids["ppo"])
		if first := b.first(b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "ppo"})); first.Place != "stage" ||
			first.Name != "cache key" {
			t.Errorf("the first difference is %v", first)
		}
		for _, a := range attempts {
			if a.Stage == "ppo" {
				b.change("update attempt set cache_key = $2 where id = $1", a.ID, a.CacheKey)
			}
		}
		b.identical(b.reproduce(runs.ReproduceRequest{Run: d.ID}))
	})

	// What changes in the store.
	t.Run("files", func(t *testing.T) {
		restored := func(path string, test func()) {
			t.Helper()
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			test()
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		weights := b.weights(models(d)["ppo"])
		restored(weights, func() {
			was, is := flip(t, weights, "transformer.wte.weight", 123, 1)
			first := b.first(b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "ppo"}))
			if first.Place != "stored_model" || first.Name != "transformer.wte.weight" || *first.Index != 123 ||
				first.Recorded != checkpoint.FormatFloat(is) || first.Here != checkpoint.FormatFloat(was) {
				t.Errorf("the first difference is %v", first)
			}
		})
		c, _, err := b.Store().LatestCheckpoint(b.ctx, ids["sft"])
		if err != nil {
			t.Fatal(err)
		}
		state := filepath.Join(b.dir, "states", checkpoint.AttemptName(c.Attempt), c.Digest.Hex())
		restored(state, func() {
			raw, err := os.ReadFile(state)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(state, append(bytes.Clone(raw[:len(raw)-1]), raw[len(raw)-1]^1), 0o600); err != nil {
				t.Fatal(err)
			}
			first := b.first(b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "sft"}))
			if first.Place != "stored_state" || *first.Step != c.Step || first.Index == nil {
				t.Errorf("the first difference is %v", first)
			}
		})
		b.identical(b.reproduce(runs.ReproduceRequest{Run: d.ID}))
	})

	t.Run("reused", func(t *testing.T) {
		b.start()
		l, err := b.Launch(b.ctx, runs.LaunchRequest{Spec: b.spec(), Actor: "tester", New: true, Reuse: true})
		if err != nil {
			t.Fatal(err)
		}
		b.await(l.Run.ID, trimtab.RunCompleted)
		doc := b.reproduce(runs.ReproduceRequest{Run: l.Run.ID, Stage: "sft"})
		b.identical(doc)
		if by := doc.Stages[0].ReusedFrom; by == nil || *by != (runs.AttemptRef{Run: d.ID, Stage: "sft", Attempt: 1}) {
			t.Errorf("it was made by %+v", by)
		}
	})
	// Of rankings that a person had taken out the digest is left to compare with; what reads them cannot be run.
	t.Run("erased", func(t *testing.T) {
		rankings := stageOf(t, d, "collect").Outputs["rankings"]
		items, err := b.Store().Items(b.ctx, rankings)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Store().Erase(b.ctx, d.ID+"/collect", []trimtab.Digest{trimtab.DigestOf(items[0].Canonical())},
			"tester", "asked for", false); err != nil {
			t.Fatal(err)
		}
		doc := b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "collect"})
		b.identical(doc)
		if out := doc.Stages[0].Outputs[0]; out.Stored || out.Here != rankings {
			t.Errorf("the output is %+v", out)
		}
		doc = b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "reward"})
		if doc.Identical || doc.Stages[0].Result != runs.Failed || doc.Error.Type != "dataset_erased" {
			t.Errorf("reward is %s: %v", doc.Stages[0].Result, doc.Error)
		}
		b.identical(b.reproduce(runs.ReproduceRequest{Run: d.ID, Stage: "reward", Chain: true}))
	})
}

// reproductions returns the events of reproductions.
func (b *bench) reproductions(run string) []storage.Event {
	b.t.Helper()
	all, err := b.History(b.ctx, run, "")
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e storage.Event) bool { return e.Type != trimtab.EventReproduced })
}

// weights is the file of a model's weights.
func (b *bench) weights(d trimtab.Digest) string {
	b.t.Helper()
	manifest, err := os.ReadFile(filepath.Join(b.dir, "artifacts", d.Hex()))
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(manifest)) {
		if strings.HasSuffix(line, " model.safetensors\n") {
			return filepath.Join(b.dir, "objects", line[:64])
		}
	}
	b.t.Fatalf("model %s has no weights", d.Short())
	return ""
}

// An attempt that continues from an earlier one's checkpoint is run from there
// while the file is kept, else through the earlier one, whose rows are compared
// too; all under the run's own numerics.
func TestReproduceContinued(t *testing.T) {
	b := newBench(t, 0)
	id := b.launch(append(constant, "numerics=v1-bf16", "ppo.gates=[{metric: objective/kl, min: 1000}]")...)
	d := b.await(id, trimtab.RunBlocked)
	early := stageOf(t, d, "ppo")
	b.rerun(runs.RerunRequest{Run: id, Stage: "ppo", Sets: []string{"ppo.total_episodes=96", "ppo.gates=[]"},
		FromCheckpoint: "latest"})
	b.await(id, trimtab.RunCompleted)
	b.identical(b.reproduce(runs.ReproduceRequest{Run: id, Stage: "ppo", Attempt: 1}))
	doc := b.reproduce(runs.ReproduceRequest{Run: id, Stage: "ppo"})
	b.identical(doc)
	st := doc.Stages[0]
	if !doc.Recorded || st.Attempt != 2 || st.From != early.Step || st.Start != "checkpoint "+
		early.Checkpoint.Short() || st.Compared.Steps != st.Steps-st.From {
		t.Errorf("it was run as %+v", st.StageReproduction)
	}
	attempts, err := b.Store().Attempts(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(attempts, func(a storage.Attempt) bool { return a.Stage == "ppo" && a.Number == 1 })
	moved(t, filepath.Join(b.dir, "states", checkpoint.AttemptName(attempts[i].ID), early.Checkpoint.Hex()), func() {
		doc = b.reproduce(runs.ReproduceRequest{Run: id, Stage: "ppo"})
		b.identical(doc)
		if st = doc.Stages[0]; st.From != 0 || !strings.HasPrefix(st.Start, "the beginning, since checkpoint "+
			early.Checkpoint.Short()) || st.Compared.Steps != st.Steps {
			t.Errorf("it was run as %+v", st.StageReproduction)
		}
		if doc = b.reproduce(runs.ReproduceRequest{Run: id}); doc.Numerics != "v1-bf16" || len(doc.Stages) != 6 {
			t.Errorf("it was run under %q: %d stages", doc.Numerics, len(doc.Stages))
		}
		b.identical(doc)
	})
}

// What has no record cannot be run again, and an attempt that failed is run as far as it has one.
func TestReproduceUnfinished(t *testing.T) {
	b := newBench(t, 0)
	var strange []trimtab.Item
	for i := range 40 {
		strange = append(strange, trimtab.Prompt{Text: strings.Repeat("?", i+1)})
	}
	if _, err := b.Store().FreezeItems(b.ctx, "strange", trimtab.KindPrompts, strange, "tester"); err != nil {
		t.Fatal(err)
	}
	id := b.launch("collect.inputs={prompts: strange}")
	d := b.await(id, trimtab.RunBlocked) // the labellers do not know what they ask
	collect := stageOf(t, d, "collect")
	doc := b.reproduce(runs.ReproduceRequest{Run: id})
	var results []string
	for _, st := range doc.Stages {
		results = append(results, st.Result)
	}
	if want := []string{runs.Identical, runs.Identical, runs.Identical, runs.LeftOut, runs.LeftOut,
		runs.LeftOut}; !doc.Identical || !slices.Equal(results, want) {
		t.Errorf("results are %v, want %v: %v", results, want, doc.Error)
	}
	if st := doc.Stages[2]; st.Whole || st.Compared.Steps != collect.Step || st.Compared.Steps == 0 ||
		st.Compared.Outputs != 0 {
		t.Errorf("collect was run as %+v", st.StageReproduction)
	}
	_, err := b.Reproduce(b.ctx, runs.ReproduceRequest{Run: id, Stage: "reward", Reproducer: b.reproducer(0)})
	wantRefusal(t, "a stage that has not begun", err, "attempt_not_found", 3)
	_, err = b.Reproduce(b.ctx, runs.ReproduceRequest{Run: id, Stage: "sft", Attempt: 2, Reproducer: b.reproducer(0)})
	wantRefusal(t, "an attempt that is none", err, "attempt_not_found", 3)
	_, err = b.Reproduce(b.ctx, runs.ReproduceRequest{Run: id, Stage: "rewards", Reproducer: b.reproducer(0)})
	wantRefusal(t, "a stage that is none", err, "stage_not_found", 3)

	run, err := b.Store().Run(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	run.ID, run.Plan.Run = "never-begun", "never-begun"
	if err := b.Store().CreateRun(b.ctx, run); err != nil {
		t.Fatal(err)
	}
	doc = b.reproduce(runs.ReproduceRequest{Run: run.ID})
	if doc.Identical || doc.Recorded || doc.Error.Type != "nothing_recorded" {
		t.Errorf("a run that has not begun: %v", doc.Error)
	}
	st := run.Plan.Stages[0]
	if _, err := b.Store().CreateAttempt(b.ctx, storage.Attempt{Run: run.ID, Stage: st.Name, Kind: st.Kind, Number: 1,
		Config: st.Config,
		Inputs: []trimtab.Named{{Name: st.Inputs[0].Name, Digest: st.Inputs[0].Dataset}}}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Reproduce(b.ctx, runs.ReproduceRequest{Run: run.ID, Stage: st.Name, Reproducer: b.reproducer(0)})
	wantRefusal(t, "a stage at work", err, "attempt_open", 4)
}
