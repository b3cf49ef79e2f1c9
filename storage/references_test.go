package storage_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

// A model that is named anywhere is found: by a row of its own, by an attempt, a sample, a plan, a spec, a document or
// an event.
func TestReferencesNameEveryModel(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	var want []trimtab.Digest
	model := func(where string) trimtab.Digest {
		d := digest("model of " + where)
		want = append(want, d)
		return d
	}
	must(t, s.PutArtifact(ctx, storage.Artifact{Digest: model("artifact"), Kind: "model", Name: "base"}, "ann"))
	must(t, s.CreateRun(ctx, storage.Run{ID: "run-1",
		Spec: json.RawMessage(fmt.Sprintf(`{"model": {"base": %q}}`, model("spec"))),
		Plan: trimtab.Plan{Run: "run-1", Stages: []trimtab.PlannedStage{{Name: "sft",
			Inputs: []trimtab.Input{{Name: "model", Model: model("plan")}}}}}}))
	a, err := s.CreateAttempt(ctx, storage.Attempt{Run: "run-1", Stage: "sft", Number: 1,
		Inputs: []trimtab.Named{{Name: "model", Digest: model("input")}}})
	must(t, err)
	must(t, s.Lease(a.ID, 1).Acquire(ctx))
	must(t, s.Lease(a.ID, 1).Complete(ctx, []trimtab.Named{{Name: "model", Digest: model("output")}}, nil))
	_, err = s.FreezeItems(ctx, "samples", trimtab.KindRankings,
		[]trimtab.Item{trimtab.Ranking{Prompt: "p", Ranks: []int{1, 2},
			Responses: []trimtab.Response{{Bytes: []byte("a"), Tokens: []int32{1}, Tokenizer: digest("words"),
				Model: model("response")}, {Bytes: []byte("b")}}}}, "ann")
	must(t, err)
	must(t,
		s.PutEvaluation(ctx, "run-1", a.ID, json.RawMessage(fmt.Sprintf(`{"best":"%s","text":"ü \u0000"}`,
			model("evaluation")))))
	decide(t, s, storage.Request{Run: "run-1", Stage: "sft", Attempt: 1, Decision: "approve",
		Reason: fmt.Sprintf("as good as %s", model("decision")), Actor: "ann"})

	refs, err := s.References(ctx, time.Hour)
	must(t, err)
	for _, d := range want {
		if !refs.Digests[d] {
			t.Errorf("%s is not found", d)
		}
	}
	if refs.Digests[digest("nobody")] || len(want) != 8 {
		t.Errorf("%d models, of %d digests", len(want), len(refs.Digests))
	}
}

// Two checkpoints of an attempt are pointed to, one of a completed one that is old; and those that another begins from.
func TestReferencesToCheckpoints(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	s, ctx := storagetest.Open(t, urls.App), t.Context()
	newRun(t, s, "run-1")
	number := 0
	attempt := func(from trimtab.Digest, steps ...int) int64 {
		number++
		a, err := s.CreateAttempt(ctx, storage.Attempt{Run: "run-1", Stage: fmt.Sprint("sft-", number), Kind: "sft",
			Number: 1, FromCheckpoint: from})
		must(t, err)
		must(t, s.Lease(a.ID, 1).Acquire(ctx))
		for _, step := range steps {
			must(t, s.Lease(a.ID, 1).Commit(ctx, nil, &storage.Checkpoint{Attempt: a.ID, Step: step,
				Digest: digest(fmt.Sprint(number, step))}))
		}
		return a.ID
	}
	of := func(number int, steps ...int) (ds []trimtab.Digest) {
		for _, step := range steps {
			ds = append(ds, digest(fmt.Sprint(number, step)))
		}
		return ds
	}
	complete := func(id int64) { must(t, s.Lease(id, 1).Complete(ctx, nil, nil)) }
	old := attempt("", 1, 2, 3, 4)
	complete(old)
	fresh := attempt("", 1, 2, 3)
	complete(fresh)
	failed := attempt(digest("pinned"), 1, 2, 3)
	must(t, s.SetAttemptStatus(ctx, failed, trimtab.AttemptFailed, nil, "ann"))
	open := attempt(digest("pinned too"), 1)
	none := attempt("")
	damaged := attempt("", 1, 2, 3, 4, 5)
	for _, step := range []int{5, 3} {
		must(t, s.Lease(damaged, 1).ReportDamage(ctx, storage.Checkpoint{Attempt: damaged, Step: step,
			Digest: digest(fmt.Sprint(6, step))}, false,
			trimtab.NewError(trimtab.Verification, "artifact_corrupt", "", "x")))
	}
	settled := attempt(digest("not pinned"), 1)
	complete(settled)
	owner, err := pgx.Connect(ctx, urls.Owner)
	must(t, err)
	defer owner.Close(ctx)
	_, err = owner.Exec(ctx, "update attempt_state set ended_at = ended_at - interval '2 hours' where attempt <> $1",
		fresh)
	must(t, err)

	refs, err := s.References(ctx, time.Hour)
	must(t, err)
	for id, want := range map[int64]storage.AttemptReferences{
		old:     {Settled: true, Checkpoints: of(1, 4)},
		fresh:   {Checkpoints: of(2, 3, 2)},
		failed:  {Checkpoints: of(3, 3, 2)},
		open:    {Open: true, Checkpoints: of(4, 1)},
		none:    {Open: true},
		damaged: {Open: true, Checkpoints: of(6, 5, 4, 2)},
		settled: {Settled: true, Checkpoints: of(7, 1)},
	} {
		got := refs.Attempts[id]
		if got.Open != want.Open || got.Settled != want.Settled || !slices.Equal(got.Checkpoints, want.Checkpoints) {
			t.Errorf("attempt %d: got %+v, want %+v", id, got, want)
		}
	}
	if len(refs.Attempts) != 7 || len(refs.Pinned) != 2 || !refs.Pinned[digest("pinned")] ||
		!refs.Pinned[digest("pinned too")] {
		t.Errorf("%d attempts, pinned %v", len(refs.Attempts), refs.Pinned)
	}
}

// Two databases of one server are not taken for one another; a second look at the same finds the same.
func TestIdentity(t *testing.T) {
	t.Parallel()
	urls := storagetest.URLs(t)
	seen := map[string]int{}
	for _, s := range []*storage.Store{storagetest.Open(t, urls.App), storagetest.Open(t, urls.Owner),
		storagetest.New(t)} {
		id, err := s.Identity(t.Context())
		must(t, err)
		seen[id]++
	}
	if len(seen) != 2 {
		t.Errorf("%v", seen)
	}
}
