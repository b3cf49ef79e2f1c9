package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// View is a run as one JSON document: what `show -o json` and `align -o json` print.
type View struct {
	Schema     string            `json:"schema"` // trimtab.run/v1
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Status     trimtab.RunStatus `json:"status"`
	Seed       uint64            `json:"seed"`
	Numerics   string            `json:"numerics"`
	SpecDigest trimtab.Digest    `json:"spec_digest"`
	Origin     *string           `json:"origin"`
	Reason     string            `json:"reason,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	Seconds    float64           `json:"seconds"`
	Changes    []ChangeView      `json:"changes,omitempty"` // that reruns made to what was launched
	Stages     []StageView       `json:"stages"`
	Models     []ModelView       `json:"models"`
	Evaluation map[string]any    `json:"evaluation"` // scores by model; and the rest of the report under its own names
	Error      *trimtab.Error    `json:"error"`
	Next       string            `json:"next"`
}

// ChangeView is what a person changed to have a stage made again.
type ChangeView struct {
	Stage     string             `json:"stage"`
	Overrides []trimtab.Override `json:"overrides"`
	Reason    string             `json:"reason,omitempty"`
	Actor     string             `json:"actor"`
	At        time.Time          `json:"at"`
}

// StageView is the newest attempt of a stage.
type StageView struct {
	Name       string                    `json:"name"`
	Kind       string                    `json:"kind"`
	Attempt    int                       `json:"attempt"` // 0 before the first
	Status     trimtab.AttemptStatus     `json:"status"`
	Seconds    float64                   `json:"seconds"`
	Step       int                       `json:"step"`
	Steps      int                       `json:"steps"`
	ReusedFrom *AttemptRef               `json:"reused_from"`
	Reason     string                    `json:"reason,omitempty"`
	Inputs     map[string]trimtab.Digest `json:"inputs"`
	Outputs    map[string]trimtab.Digest `json:"outputs"`
	Metrics    map[string]float64        `json:"metrics"`
	// what of its data the stage reads; nil if it has not begun, or an older program ran it
	Data       []trimtab.Fit     `json:"data,omitempty"`
	Error      *trimtab.Error    `json:"error"`
	Checkpoint trimtab.Digest    `json:"checkpoint,omitempty"` // newest
	Progress   *storage.Progress `json:"progress,omitempty"`
	Warnings   []string          `json:"warnings,omitempty"` // what a person should know although it goes on
}

// ModelView is a model of the run under the name users know.
type ModelView struct {
	Name   string         `json:"name"`
	Stage  string         `json:"stage"`
	Digest trimtab.Digest `json:"digest"`
}

// Show puts a run together from what is stored.
func (s *Service) Show(ctx context.Context, ref string) (View, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return View{}, err
	}
	attempts, err := s.store.Attempts(ctx, run.ID)
	if err != nil {
		return View{}, err
	}
	d := View{Schema: "trimtab.run/v1", ID: run.ID, Name: run.Name, Status: run.Status, Seed: run.Seed,
		Numerics: run.Plan.Numerics, SpecDigest: run.SpecDigest,
		Reason: run.Reason, CreatedAt: run.CreatedAt, Seconds: elapsedSeconds(run), Error: run.Error, Next: run.Next,
		Models: []ModelView{}, Evaluation: map[string]any{}}
	if run.Origin != "" {
		d.Origin = &run.Origin
	}
	if d.Changes, err = s.changes(ctx, run); err != nil {
		return View{}, err
	}
	for _, st := range run.Plan.Stages {
		sd, err := s.stageView(ctx, st, newestAttemptOf(attempts, st.Name))
		if err != nil {
			return View{}, err
		}
		d.Stages = append(d.Stages, sd)
		if m, ok := sd.Outputs["model"]; ok {
			d.Models = append(d.Models, ModelView{Name: modelName(st), Stage: st.Name, Digest: m})
		}
	}
	if d.Next == "" {
		d.Next = d.silenceNote()
	}
	return d, s.addEvaluation(ctx, run, &d)
}

// silenceLimit is how long a stage at work may tell nothing, seconds. It tells something every ten.
const silenceLimit = 30

// silenceNote says that nobody has told anything of the stage at work for long.
func (d View) silenceNote() string {
	for _, st := range d.Stages {
		if p := st.Progress; p != nil && d.Status == trimtab.RunRunning && st.Status == trimtab.AttemptRunning &&
			p.Silent > silenceLimit {
			return fmt.Sprintf("no worker has told anything of %s for %.0f s; it goes on by itself when the worker "+
				"and Temporal are back (see `trimtab doctor`)", st.Name, p.Silent)
		}
	}
	return ""
}

// changes are those of a run that is a rerun, or of which a stage was rerun by another plan.
func (s *Service) changes(ctx context.Context, run storage.Run) ([]ChangeView, error) {
	if run.Origin == "" && run.Revision == 0 {
		return nil, nil
	}
	all, err := s.store.PlanChanges(ctx, run.ID)
	var docs []ChangeView
	for _, c := range all {
		if len(c.Overrides) > 0 {
			docs = append(docs, ChangeView{c.Stage, c.Overrides, c.Reason, c.Actor, c.At})
		}
	}
	return docs, err
}

func elapsedSeconds(run storage.Run) float64 {
	switch {
	case run.StartedAt == nil:
		return 0
	case run.EndedAt == nil:
		return max(0, time.Since(*run.StartedAt).Seconds()) // the database's clock may be ahead
	}
	return run.EndedAt.Sub(*run.StartedAt).Seconds()
}

func modelName(st trimtab.PlannedStage) string {
	if st.Kind == "pretrain" && st.Name == st.Kind {
		return "base"
	}
	return st.Name
}

func newestAttemptOf(attempts []storage.Attempt, stage string) *storage.Attempt {
	var newest *storage.Attempt
	for i, a := range attempts {
		if a.Stage == stage && (newest == nil || a.Number > newest.Number) {
			newest = &attempts[i]
		}
	}
	return newest
}

func (s *Service) stageView(ctx context.Context, st trimtab.PlannedStage, a *storage.Attempt) (StageView, error) {
	d := StageView{Name: st.Name, Kind: st.Kind, Status: trimtab.AttemptQueued,
		Inputs: map[string]trimtab.Digest{}, Outputs: map[string]trimtab.Digest{}, Metrics: map[string]float64{}}
	if a == nil {
		return d, nil
	}
	d.Attempt, d.Status, d.Seconds, d.Step, d.Steps, d.Error, d.Reason = a.Number, a.Status, a.Seconds, a.Step, a.Steps, a.Error, a.Reason
	if a.ReusedFrom != 0 {
		made, err := s.store.Attempt(ctx, a.ReusedFrom)
		if err != nil {
			return d, err
		}
		by := refTo(made)
		d.ReusedFrom = &by
	}
	for _, n := range a.Inputs {
		d.Inputs[n.Name] = n.Digest
	}
	for _, n := range a.Outputs {
		d.Outputs[n.Name] = n.Digest
	}
	for _, m := range a.Metrics {
		d.Metrics[m.Name] = m.Value
	}
	d.Data = trimtab.Fits(a.Metrics)
	c, _, err := s.store.LatestCheckpoint(ctx, a.ID)
	if err != nil {
		return d, err
	}
	d.Checkpoint = c.Digest
	if err := s.addProgress(ctx, a, &d); err != nil {
		return d, err
	}
	d.Warnings, err = s.warnings(ctx, st, *a, d.Progress)
	return d, err
}

// addProgress adds what an attempt without outputs has told so far.
func (s *Service) addProgress(ctx context.Context, a *storage.Attempt, d *StageView) error {
	if len(a.Outputs) > 0 {
		return nil
	}
	p, ok, err := s.store.Progress(ctx, a.ID)
	if err != nil || !ok {
		return err
	}
	d.Data = trimtab.Fits(p.Metrics)
	if a.Status == trimtab.AttemptRunning || a.Status == trimtab.AttemptRetrying {
		d.Progress, d.Step, d.Steps = &p, max(d.Step, p.Step), p.Steps
	}
	return nil
}

// addEvaluation lays the report out: a model's scores under its name, the rest beside them.
func (s *Service) addEvaluation(ctx context.Context, run storage.Run, d *View) error {
	body, ok, err := s.store.Evaluation(ctx, run.ID)
	if err != nil {
		return err
	}
	if !ok { // a reused evaluation is another run's report
		i := slices.IndexFunc(d.Stages, func(st StageView) bool { return st.Outputs["evaluation"] != "" })
		if i < 0 {
			return nil
		}
		if body, err = s.store.Document(ctx, d.Stages[i].Outputs["evaluation"]); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(body, &d.Evaluation); err != nil {
		return err
	}
	if models, ok := d.Evaluation["models"].(map[string]any); ok {
		for name, scores := range models {
			d.Evaluation[name] = scores
		}
		delete(d.Evaluation, "models")
	}
	if reward, ok := d.Evaluation["reward_model"].(map[string]any); ok {
		d.addRewardContext(reward)
	}
	return nil
}

// addRewardContext adds to the accuracy of a reward model what the stages before
// the report measured on the same pairs; what an older program did not measure is left out.
func (d View) addRewardContext(reward map[string]any) {
	for _, st := range d.Stages {
		take := func(name, metric string) {
			if v, ok := st.Metrics[metric]; ok {
				reward[name] = v
			}
		}
		switch st.Kind {
		case "collect":
			reward["labellers_agreement"], reward["oracle_accuracy"] = st.Metrics["agreement"], st.Metrics["oracle_accuracy"]
			take("held_out_oracle_accuracy", "held_out/oracle_accuracy")
			take("held_out_oracle_low", "held_out/oracle_accuracy_low")
			take("held_out_oracle_high", "held_out/oracle_accuracy_high")
		case "reward":
			take("groups", "held_out/groups")
			take("over_longer", "held_out/over_longer")
			take("over_longer_low", "held_out/over_longer_low")
			take("over_longer_high", "held_out/over_longer_high")
		}
	}
}

// RunSummary is a run in a list.
type RunSummary struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Status    trimtab.RunStatus `json:"status"`
	Seed      uint64            `json:"seed"`
	Stage     string            `json:"stage"` // at work, or the last
	CreatedAt time.Time         `json:"created_at"`
	Seconds   float64           `json:"seconds"`
	Next      string            `json:"next"`
}

// List shows the newest runs first.
func (s *Service) List(ctx context.Context, limit int) ([]RunSummary, error) {
	all, err := s.store.Runs(ctx, limit)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	stages, err := s.store.LastStages(ctx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]RunSummary, len(all))
	for i, r := range all {
		list[i] = RunSummary{ID: r.ID, Name: r.Name, Status: r.Status, Seed: r.Seed, CreatedAt: r.CreatedAt,
			Seconds: elapsedSeconds(r), Next: r.Next, Stage: stages[r.ID]}
	}
	return list, nil
}

// History lists the events of a run, or of one stage of it.
func (s *Service) History(ctx context.Context, ref, stage string) ([]storage.Event, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return nil, err
	}
	if stage != "" && !hasStage(run, stage) {
		return nil, stageNotFound(run, stage)
	}
	return s.store.History(ctx, run.ID, stage)
}

// Logs lists the lines of a run's log after line number after, and the number of the last one.
func (s *Service) Logs(ctx context.Context, ref string, after int64, limit int) ([]storage.LogLine, int64, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return nil, after, err
	}
	return s.store.Logs(ctx, run.ID, after, limit)
}

// Metrics is the series of a stage's attempt; attempt 0 is the newest, no names are all.
func (s *Service) Metrics(ctx context.Context, ref, stage string, attempt int,
	names ...string) ([]storage.MetricRow, storage.Attempt, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return nil, storage.Attempt{}, err
	}
	a, ok, err := s.newestAttempt(ctx, run, stage)
	if err != nil {
		return nil, a, err
	}
	if attempt > 0 && a.Number != attempt {
		all, err := s.store.Attempts(ctx, run.ID)
		if err != nil {
			return nil, a, err
		}
		i := slices.IndexFunc(all, func(b storage.Attempt) bool { return b.Stage == stage && b.Number == attempt })
		if ok = i >= 0; ok {
			a = all[i]
		}
	}
	if !ok {
		return nil, a, trimtab.NewError(trimtab.NotFound, "attempt_not_found", "see `trimtab show`",
			"stage %s of run %s has no such attempt yet", stage, run.ID)
	}
	rows, err := s.store.Metrics(ctx, a.ID, names...)
	if err == nil && len(rows) == 0 && len(names) > 0 {
		err = s.metricNotFound(ctx, a, names)
	}
	return rows, a, err
}

// metricNotFound names the metrics that an attempt has, where it has none of those asked for.
func (s *Service) metricNotFound(ctx context.Context, a storage.Attempt, names []string) error {
	all, err := s.store.Metrics(ctx, a.ID)
	if err != nil || len(all) == 0 {
		return err
	}
	var have []string
	for _, row := range all {
		have = append(have, row.Name)
	}
	slices.Sort(have)
	return trimtab.NewError(trimtab.NotFound, "metric_not_found", "it has "+strings.Join(slices.Compact(have), ", "),
		"stage %s has no metric %s", a.Stage, strings.Join(names, ", "))
}
