package notary_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/audit"
	"github.com/trimtab/trimtab/devstack/devstacktest"
	"github.com/trimtab/trimtab/notary"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/storage/storagetest"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func digest(s string) trimtab.Digest { return trimtab.DigestOf([]byte(s)) }

// recorded is a database with at least two rows in every audited table.
type recorded struct {
	t      testing.TB
	urls   storagetest.Addresses
	store  *storage.Store
	owner  *pgx.Conn
	signer *audit.Signer
	key    string // its file
	folder string
	notary *notary.Notary

	unlocked bool
}

func newRecord(t testing.TB) *recorded {
	t.Helper()
	return recordOn(t, storagetest.URLs(t))
}

// recordOn is a notary and an owner of a database.
func recordOn(t testing.TB, urls storagetest.Addresses) *recorded {
	t.Helper()
	r := &recorded{t: t, urls: urls, folder: t.TempDir()}
	r.store = storagetest.Open(t, r.urls.App)
	var err error
	r.owner, err = pgx.Connect(t.Context(), r.urls.Owner)
	must(t, err)
	t.Cleanup(func() { r.owner.Close(context.WithoutCancel(t.Context())) })
	r.key = filepath.Join(r.folder, "audit.key")
	r.signer, err = notary.OpenKey(r.key)
	must(t, err)
	r.notary = notary.New(quiet, r.store, "ann", r.key, notary.HeadsIn(r.folder))
	return r
}

func (r *recorded) exec(sql string) {
	r.t.Helper()
	_, err := r.owner.PgConn().Exec(r.t.Context(), sql).ReadAll()
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

func (r *recorded) keep() {
	r.t.Helper()
	must(r.t, r.notary.SignHead(r.t.Context(), time.Unix(1764300000, 0)))
}

// verify looks at the record, and holds it against the heads of the file if saved is set.
func (r *recorded) verify(saved bool) notary.Verification {
	r.t.Helper()
	v := notary.Verifier{Store: r.store, Keys: []string{r.signer.Verifier()}}
	if saved {
		v.Saved = r.savedHeads()
	}
	rep, err := v.Verify(r.t.Context())
	must(r.t, err)
	if r.unlocked { // what unlock did is known
		rep.Problems = slices.DeleteFunc(rep.Problems, func(p notary.Problem) bool {
			kind, _, _ := strings.Cut(p.Where, " ")
			return slices.Contains([]string{"column", "constraint", "index", "trigger"}, kind)
		})
	}
	return rep
}

// savedHeads are the heads in the file.
func (r *recorded) savedHeads() (saved []notary.SavedHead) {
	r.t.Helper()
	notes, torn, err := notary.ReadHeads(notary.HeadsIn(r.folder))
	if err != nil || torn > 0 {
		r.t.Fatalf("%d torn, %v", torn, err)
	}
	for i, n := range notes {
		saved = append(saved, notary.SavedHead{Where: fmt.Sprintf("saved head %d", i), Note: n})
	}
	return saved
}

// fill writes something of everything that is recorded.
func (r *recorded) fill() {
	t, s, ctx := r.t, r.store, r.t.Context()
	texts := []trimtab.Item{trimtab.Text{Body: "one"}, trimtab.Text{Body: "two"}, trimtab.Text{Body: "a secret"}}
	prompts := []trimtab.Item{trimtab.Prompt{Text: "what is one?", Tag: "easy"},
		trimtab.Prompt{Text: "what is two?", Split: trimtab.SplitTest}}
	demos := []trimtab.Item{trimtab.Demonstration{Prompt: "q1", Response: "a1", Demonstrator: "bo"},
		trimtab.Demonstration{Prompt: "q2", Response: "a2", Split: trimtab.SplitTest}}
	answer := func(s string) trimtab.Response {
		return trimtab.Response{Bytes: []byte(s), Tokens: []int32{1, int32(len(s))}, Tokenizer: digest("tokenizer"),
			Model: digest("sampler")}
	}
	rankings := []trimtab.Item{
		trimtab.Ranking{Prompt: "p", Responses: []trimtab.Response{answer("x"), answer("yy")}, Ranks: []int{1, 2},
			Labeller: "cy", Guideline: "v1", Group: "g", Seconds: 3.5},
		trimtab.Ranking{Prompt: "p", Responses: []trimtab.Response{answer("yy"), answer("zzz")}, Ranks: []int{2, 1},
			Labeller: "dee", Split: trimtab.SplitTest},
	}
	for _, d := range []struct { // the last are of those that keep their items: what is erased is not counted again
		name  string
		kind  trimtab.Kind
		items []trimtab.Item
	}{{"texts", trimtab.KindText, texts}, {"rankings", trimtab.KindRankings, rankings},
		{"prompts", trimtab.KindPrompts, prompts}, {"demos", trimtab.KindDemonstrations, demos}} {
		_, err := s.AddItems(ctx, d.name, d.kind, d.items[:1], nil, "ann")
		must(t, err)
		_, err = s.Freeze(ctx, d.name, "ann")
		must(t, err)
		_, err = s.AddItems(ctx, d.name, d.kind, d.items, nil, "bo")
		must(t, err)
		_, err = s.Freeze(ctx, d.name, "bo")
		must(t, err)
	}
	_, err := s.Erase(ctx, "texts", []trimtab.Digest{trimtab.DigestOf(texts[2].Canonical())}, "ann", "asked to", false)
	must(t, err)
	_, err = s.Erase(ctx, "rankings", []trimtab.Digest{trimtab.DigestOf(rankings[1].Canonical())}, "ann", "asked to",
		false)
	must(t, err)

	config, err := s.PutDocument(ctx, []byte(`{"steps":4}`))
	must(t, err)
	plan := trimtab.Plan{Run: "run-one", Seed: 1, Stages: []trimtab.PlannedStage{{Name: "sft", Kind: "sft",
		Config: config}, {Name: "ppo", Kind: "ppo", Config: config}}}
	must(t, s.PutArtifact(ctx, storage.Artifact{Digest: digest("base"), Kind: "model", Name: "base", Parameters: 9},
		"ann"))
	must(t, s.CreateRun(ctx, storage.Run{ID: "run-one", Name: "first", Seed: 1, Spec: json.RawMessage(`{"a": 1}`),
		SpecDigest: digest("spec"), Plan: plan, Actor: "ann", Reason: "why not"}))
	must(t, s.SetRunStatus(ctx, "run-one", trimtab.RunRunning, "goes on", nil, "trimtab"))
	for i, stage := range []string{"sft", "ppo"} {
		a, err := s.CreateAttempt(ctx, storage.Attempt{Run: "run-one", Stage: stage, Kind: stage, Number: 1,
			Config: config, CacheKey: digest("key of " + stage), Actor: "ann",
			Inputs: []trimtab.Named{{Name: "model", Digest: digest("base")},
				{Name: "prompts", Digest: digest("prompts")}}})
		must(t, err)
		must(t, s.Lease(a.ID, 1).Acquire(ctx))
		must(t, s.Lease(a.ID, 1).Start(ctx, 4, "build", "avx2"))
		for from := 0; from < 4; from += 2 {
			var reports []storage.StepReport
			for step := from; step < from+2; step++ {
				reports = append(reports, step4(step, i))
			}
			must(t, s.Lease(a.ID, 1).Commit(ctx, reports,
				&storage.Checkpoint{Attempt: a.ID, Step: from + 2, Digest: digest(fmt.Sprint("state", stage, from))}))
		}
		model := digest("model of " + stage)
		must(t, s.PutArtifact(ctx, storage.Artifact{Digest: model, Kind: "model", Name: "first/" + stage,
			Run: "run-one", Stage: stage, Attempt: a.ID, Parameters: 9}, "worker"))
		must(t, s.PutEvaluation(ctx, "run-one", a.ID, json.RawMessage(`{"of":"`+stage+`"}`)))
		must(t, s.Lease(a.ID, 1).Complete(ctx, []trimtab.Named{{Name: "model", Digest: model},
			{Name: "report", Digest: digest("report")}},
			[]trimtab.Metric{{Name: "loss", Value: 1.5}, {Name: "accuracy", Value: 0.25}}))
		if i == 0 {
			must(t, s.CreateRun(ctx, storage.Run{ID: "run-two", Name: "again", Seed: 1,
				Spec: json.RawMessage(`{"a": 1}`), SpecDigest: digest("spec"),
				Plan: trimtab.Plan{Run: "run-two", Stages: plan.Stages}, Origin: "run-one", Actor: "bo"}))
			made, err := s.Attempt(ctx, a.ID)
			must(t, err)
			_, err = s.CreateAttempt(ctx, storage.Attempt{Run: "run-two", Stage: stage, Kind: stage, Number: 1,
				Status: trimtab.AttemptReused, ReusedFrom: a.ID,
				Config: config, CacheKey: made.CacheKey, Inputs: made.Inputs, Outputs: made.Outputs,
				Metrics: made.Metrics, Steps: 4})
			must(t, err)
		}
	}
	plan.Stages = slices.Clone(plan.Stages)
	plan.Stages[1].CheckpointSteps = 7
	must(t, s.Replan(ctx, storage.Replan{Plan: plan, Stage: "ppo",
		Overrides: []trimtab.Override{{Set: "ppo.kl_coef=0.1"}}, Stale: []string{"ppo"}, Status: trimtab.RunRunning,
		Next: "again", Actor: "bo", Reason: "too far"}))
	asked, err := s.RequestDecision(ctx, storage.Request{Run: "run-one", Stage: "ppo", Decision: "approve",
		Reason: "enough", Actor: "bo"})
	must(t, err)
	must(t, s.RecordDecision(ctx, storage.Decision{Request: asked}))
	must(t, s.SetRunStatus(ctx, "run-one", trimtab.RunFailed, "",
		trimtab.NewError(trimtab.Invalid, "not_a_number", "", "loss is NaN"), "trimtab"))
}

// step4 is a step's report; those of ppo have a rollout.
func step4(step, rollouts int) storage.StepReport {
	r := storage.StepReport{Step: step, Seconds: 0.25}
	r.Report.Metrics = []trimtab.Metric{{Name: "loss", Value: 1 / float64(step+1)}, {Name: "lr", Value: 1e-4}}
	for i := range rollouts {
		x := []float32{float32(step), 0.5}
		r.Report.Rollouts = append(r.Report.Rollouts,
			trimtab.Rollout{Index: i, Prompt: "q", PromptIDs: []int32{1}, Tokens: []int32{2, 3}, Bytes: []byte("ok"),
				Score: 1, RawScore: 2,
				LogProbs: x, RefLogProb: x, KL: x, Values: x, Rewards: x, Advantages: x, Returns: x})
	}
	return r
}
