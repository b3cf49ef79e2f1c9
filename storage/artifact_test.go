package storage_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func TestArtifacts(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	at := newAttempt(t, s, "run-1")
	must(t, s.Lease(at.ID, 1).Acquire(ctx))
	must(t, s.Lease(at.ID, 1).Complete(ctx, []trimtab.Named{{Name: "model", Digest: digest("m1")}}, nil))
	made := storage.Artifact{Digest: digest("m1"), Kind: "model", Name: "sft", Run: "run-1", Stage: "sft",
		Attempt: at.ID, Parameters: 1000}
	imported := storage.Artifact{Digest: digest("m2"), Kind: "model", Name: "gpt2", Parameters: 124}
	for range 2 {
		must(t, s.PutArtifact(ctx, made, "worker"))
		must(t, s.PutArtifact(ctx, imported, "ann"))
	}
	all, err := s.Artifacts(ctx)
	must(t, err)
	if len(all) != 2 || all[0].Name != "gpt2" || all[1].CreatedAt.IsZero() {
		t.Fatalf("artifacts %+v", all)
	}
	refs := map[string]trimtab.Digest{
		string(made.Digest): made.Digest, made.Digest.Hex(): made.Digest, made.Digest.Short(): made.Digest,
		"sha256:" + made.Digest.Short(): made.Digest, "run-1/sft": made.Digest, "name-of-run-1/sft": made.Digest,
		"sft": made.Digest, "gpt2": imported.Digest,
	}
	for ref, want := range refs {
		got, err := s.ResolveArtifact(ctx, ref)
		if err != nil || got.Digest != want {
			t.Errorf("%s is %s (%v), want %s", ref, got.Digest, err, want)
		}
	}
	for _, ref := range []string{"none", "run-1/reward", "000000", ""} {
		_, err := s.ResolveArtifact(ctx, ref)
		wantError(t, err, trimtab.NotFound, "artifact_not_found")
	}
	_, err = s.ResolveArtifact(ctx, "run-9/sft")
	wantError(t, err, trimtab.NotFound, "run_not_found")
	made.Parameters++
	wantError(t, s.PutArtifact(ctx, made, "worker"), trimtab.Verification, "replay_diverged")
	events, err := s.History(ctx, "artifact/"+string(imported.Digest), "")
	must(t, err)
	if len(events) != 1 || events[0].Type != trimtab.EventArtifactMade {
		t.Errorf("events %+v", events)
	}
}

// A reused attempt puts out what another run made.
func TestArtifactOfAReusedStage(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	first := newAttempt(t, s, "run-1")
	must(t, s.PutArtifact(ctx, storage.Artifact{Digest: digest("m"), Kind: "model", Run: "run-1", Stage: "sft",
		Attempt: first.ID}, "worker"))
	newRun(t, s, "run-2")
	_, err := s.CreateAttempt(ctx, storage.Attempt{Run: "run-2", Stage: "sft", Kind: "sft", Number: 1,
		Status:     trimtab.AttemptReused,
		ReusedFrom: first.ID, Outputs: []trimtab.Named{{Name: "model", Digest: digest("m")}}})
	must(t, err)
	for _, ref := range []string{"run-1/sft", "run-2/sft"} {
		a, err := s.ResolveArtifact(ctx, ref)
		if err != nil || a.Digest != digest("m") || a.Run != "run-1" {
			t.Errorf("%s is %+v (%v)", ref, a, err)
		}
	}
}

func TestEvaluations(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	a := newAttempt(t, s, "run-1")
	if _, ok, err := s.Evaluation(ctx, "run-1"); ok || err != nil {
		t.Errorf("an evaluation before any (%v)", err)
	}
	for _, body := range []string{`{"gold": 1}`, `{"gold": 1}`, `{"gold":2,  "é":"\u0000"}`, `{"gold": 1}`} {
		must(t, s.PutEvaluation(ctx, "run-1", a.ID, json.RawMessage(body)))
		got, ok, err := s.Evaluation(ctx, "run-1")
		if !ok || err != nil || string(got) != body {
			t.Errorf("got %s (%v), want %s", got, err, body)
		}
	}
	events, err := s.History(ctx, "run-1", "sft")
	must(t, err)
	if len(events) != 4 { // created, and three of four
		t.Errorf("%d events", len(events))
	}
	wantError(t, s.PutEvaluation(ctx, "nobody", 0, json.RawMessage(`{}`)), trimtab.NotFound, "run_not_found")
}

// A name stays with the first model that has it, moves when asked, and comes back.
func TestImportArtifactNames(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	one := storage.Artifact{Digest: digest("m1"), Kind: "model", Name: "gpt2", Parameters: 1}
	two := storage.Artifact{Digest: digest("m2"), Kind: "model", Name: "gpt2", Parameters: 2}
	importing := func(a storage.Artifact, move bool, before trimtab.Digest) {
		t.Helper()
		got, err := s.ImportArtifact(ctx, a, move, "ann")
		must(t, err)
		if got != before {
			t.Errorf("the name was %q's, want %q's", got, before)
		}
		for _, find := range []func() (trimtab.Digest, error){
			func() (trimtab.Digest, error) { x, err := s.ResolveArtifact(ctx, "gpt2"); return x.Digest, err },
			func() (trimtab.Digest, error) { return s.NameOwner(ctx, "gpt2") },
		} {
			if d, err := find(); err != nil || d != a.Digest {
				t.Errorf("gpt2 is %s (%v), want %s", d.Short(), err, a.Digest.Short())
			}
		}
	}
	importing(one, false, "")
	importing(one, false, "")
	_, err := s.ImportArtifact(ctx, two, false, "ann")
	wantError(t, err, trimtab.Conflict, "name_taken")
	if all, err := s.Artifacts(ctx); err != nil || len(all) != 1 {
		t.Errorf("a refused import left %+v (%v)", all, err)
	}
	importing(two, true, one.Digest)
	importing(two, true, "")
	importing(one, true, two.Digest)
	all, err := s.Artifacts(ctx)
	must(t, err)
	names := map[trimtab.Digest]string{}
	for _, a := range all {
		names[a.Digest] = a.Name
	}
	if len(all) != 2 || names[one.Digest] != "gpt2" || names[two.Digest] != "" {
		t.Errorf("the names are %v", names)
	}
	events, err := s.History(ctx, "name/gpt2", "")
	must(t, err)
	if len(events) != 2 || events[1].Type != trimtab.EventModelNamed ||
		!strings.Contains(string(events[1].Body), string(two.Digest)) {
		t.Errorf("events %+v", events)
	}
}

// A model of a run that is imported too keeps its origin, and a reference that may be two is refused.
func TestFirstOrigin(t *testing.T) {
	t.Parallel()
	s, ctx := storagetest.New(t), t.Context()
	at := newAttempt(t, s, "run-1")
	must(t, s.Lease(at.ID, 1).Acquire(ctx))
	made := storage.Artifact{Digest: digest("m1"), Kind: "model", Name: "run-1/sft", Run: "run-1", Stage: "sft",
		Attempt: at.ID}
	must(t, s.Lease(at.ID, 1).Complete(ctx, []trimtab.Named{{Name: "model", Digest: made.Digest}}, nil))
	must(t, s.PutArtifact(ctx, made, "worker"))
	_, err := s.ImportArtifact(ctx, storage.Artifact{Digest: made.Digest, Kind: "model", Name: "again"}, false, "ann")
	must(t, err)
	for ref, name := range map[string]string{"run-1/sft": "run-1/sft", string(made.Digest): "run-1/sft",
		"again": "again"} {
		if x, err := s.ResolveArtifact(ctx, ref); err != nil || x.Name != name || (x.Run == "") != (ref == "again") {
			t.Errorf("%s is %+v (%v)", ref, x, err)
		}
	}
	_, err = s.ImportArtifact(ctx, storage.Artifact{Digest: digest("m2"), Kind: "model", Name: made.Digest.Short()},
		false, "ann")
	must(t, err)
	_, err = s.ResolveArtifact(ctx, made.Digest.Short())
	wantError(t, err, trimtab.Usage, "artifact_ambiguous")
	_, err = s.ResolveArtifact(ctx, "caf\xe9")
	wantError(t, err, trimtab.NotFound, "artifact_not_found")
}
