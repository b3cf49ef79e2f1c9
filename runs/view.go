package runs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// View is a run as one JSON document, which `trimtab show -o json` and `trimtab
// align -o json` print. Progress displays poll it and compare it with the one
// before.
type View struct {
	// Always "trimtab.run/v1".
	Schema     string            `json:"schema"`
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Status     trimtab.RunStatus `json:"status"`
	Seed       uint64            `json:"seed"`
	Numerics   string            `json:"numerics"`
	SpecDigest trimtab.Digest    `json:"spec_digest"`
	// ID of the run that this one is a rerun of; null for a run that was launched
	Origin *string `json:"origin"`
	// Why the run was rerun, in the words of the person who did it.
	Reason    string    `json:"reason,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	// From the start to the end, or to now; 0 before the start.
	Seconds float64 `json:"seconds"`
	// What reruns changed in the plan that was launched.
	Changes []ChangeView `json:"changes,omitempty"`
	// In the order of the newest plan.
	Stages     []StageView    `json:"stages"`
	Models     []ModelView    `json:"models"`
	Evaluation EvaluationView `json:"evaluation"`
	// Why the run is blocked, waiting or failed.
	Error *trimtab.Error `json:"error"`
	// What the user can do next, or what the run is waiting for.
	Next string `json:"next"`
}

// ChangeView is what a person changed in the plan for a rerun.
type ChangeView struct {
	// The stage that was rerun.
	Stage     string             `json:"stage"`
	Overrides []trimtab.Override `json:"overrides"`
	Reason    string             `json:"reason,omitempty"`
	Actor     string             `json:"actor"`
	At        time.Time          `json:"at"`
}

// StageView is the newest attempt of a stage. Before the first attempt its
// status is queued and its maps are empty.
type StageView struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Number within the stage, counted from 1; 0 before the first attempt.
	Attempt int                   `json:"attempt"`
	Status  trimtab.AttemptStatus `json:"status"`
	// Time at work.
	Seconds float64 `json:"seconds"`
	// Steps done.
	Step int `json:"step"`
	// Steps to do; 0 while that is not known.
	Steps int `json:"steps"`
	// The attempt whose outputs this one took over.
	ReusedFrom *AttemptRef               `json:"reused_from"`
	Reason     string                    `json:"reason,omitempty"`
	Inputs     map[string]trimtab.Digest `json:"inputs"`
	Outputs    map[string]trimtab.Digest `json:"outputs"`
	// Final metrics; empty until the stage has ended.
	Metrics map[string]float64 `json:"metrics"`
	// How much of its data the stage reads and how much it leaves out; nil before it
	// starts, and for stages that an older build ran.
	Data  []trimtab.Fit  `json:"data,omitempty"`
	Error *trimtab.Error `json:"error"`
	// Digest of the newest checkpoint.
	Checkpoint trimtab.Digest `json:"checkpoint,omitempty"`
	// Hint of the running attempt; nil when it has ended.
	Progress *storage.Progress `json:"progress,omitempty"`
	// What a person should know although the stage keeps running.
	Warnings []string `json:"warnings,omitempty"`
}

// ModelView is a model that the run produced, under the name that users see.
type ModelView struct {
	Name   string         `json:"name"`
	Stage  string         `json:"stage"`
	Digest trimtab.Digest `json:"digest"`
}

// Show returns the document of a run: of the newest attempt of each stage, the
// models that exist so far, and the evaluation. ref is a run's ID, the
// beginning of one, or a name. It reads several rows without a common snapshot,
// so while the run is at work two parts may be of slightly different times.
func (s *Service) Show(ctx context.Context, ref string) (View, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return View{}, err
	}
	attempts, err := s.store.Attempts(ctx, run.ID)
	if err != nil {
		return View{}, err
	}
	d := View{
		Schema:     "trimtab.run/v1",
		ID:         run.ID,
		Name:       run.Name,
		Status:     run.Status,
		Seed:       run.Seed,
		Numerics:   run.Plan.Numerics,
		SpecDigest: run.SpecDigest,
		Reason:     run.Reason,
		CreatedAt:  run.CreatedAt,
		Seconds:    elapsedSeconds(run),
		Models:     []ModelView{},
		Error:      run.Error,
		Next:       run.Next,
	}
	if run.Origin != "" {
		d.Origin = &run.Origin
	}
	if d.Changes, err = s.changes(ctx, run); err != nil {
		return View{}, err
	}
	for _, st := range run.Plan.Stages {
		stage, err := s.stageView(ctx, st, newestAttemptOf(attempts, st.Name))
		if err != nil {
			return View{}, err
		}
		d.Stages = append(d.Stages, stage)
		if digest, ok := stage.Outputs["model"]; ok {
			d.Models = append(d.Models, ModelView{Name: modelName(st), Stage: st.Name, Digest: digest})
		}
	}
	if d.Next == "" {
		d.Next = d.silenceNote()
	}
	return d, s.addEvaluation(ctx, run, &d)
}

// silenceLimit is how long, in seconds, a running stage may report no progress
// before the user is alerted. A worker reports every ten seconds.
const silenceLimit = 30

// silenceNote says that a running stage has not reported for longer than
// silenceLimit; it is empty otherwise. The time is measured by the database's
// clock, so that a skewed clock of this machine raises no alarm.
func (d View) silenceNote() string {
	for _, st := range d.Stages {
		if p := st.Progress; p != nil && d.Status == trimtab.RunRunning && st.Status == trimtab.AttemptRunning &&
			p.Silent > silenceLimit {
			return fmt.Sprintf("no worker has reported on %s for %.0f s; it resumes by itself when the worker "+
				"and Temporal are back (see `trimtab doctor`)", st.Name, p.Silent)
		}
	}
	return ""
}

// changes returns the changes that reruns made to the plan of a run. A run that
// was launched and never rerun by a new plan has none, which needs no query.
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

// elapsedSeconds returns how long a run has been going, or took.
func elapsedSeconds(run storage.Run) float64 {
	switch {
	case run.StartedAt == nil:
		return 0
	case run.EndedAt == nil:
		return max(0, time.Since(*run.StartedAt).Seconds()) // the database's clock may be ahead of ours
	}
	return run.EndedAt.Sub(*run.StartedAt).Seconds()
}

// modelName returns the name under which users know a stage's model: that of the
// stage, but "base" for the model of a pretrain stage with the default name.
func modelName(st trimtab.PlannedStage) string {
	if st.Kind == "pretrain" && st.Name == st.Kind {
		return "base"
	}
	return st.Name
}

// newestAttemptOf returns the attempt of a stage with the highest number, or nil.
// It points into attempts.
func newestAttemptOf(attempts []storage.Attempt, stage string) *storage.Attempt {
	var newest *storage.Attempt
	for i, a := range attempts {
		if a.Stage == stage && (newest == nil || a.Number > newest.Number) {
			newest = &attempts[i]
		}
	}
	return newest
}

// stageView describes a stage by its newest attempt; a is nil before the first.
func (s *Service) stageView(ctx context.Context, st trimtab.PlannedStage, a *storage.Attempt) (StageView, error) {
	d := StageView{
		Name:    st.Name,
		Kind:    st.Kind,
		Status:  trimtab.AttemptQueued,
		Inputs:  map[string]trimtab.Digest{},
		Outputs: map[string]trimtab.Digest{},
		Metrics: map[string]float64{},
	}
	if a == nil {
		return d, nil
	}
	d.Attempt = a.Number
	d.Status = a.Status
	d.Seconds = a.Seconds
	d.Step = a.Step
	d.Steps = a.Steps
	d.Error = a.Error
	d.Reason = a.Reason
	if a.ReusedFrom != 0 {
		producer, err := s.store.Attempt(ctx, a.ReusedFrom)
		if err != nil {
			return d, err
		}
		ref := refTo(producer)
		d.ReusedFrom = &ref
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
	// How much of the data is read is among the metrics of a stage that has ended, and
	// in the progress of one that is running.
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

// addProgress adds the progress hint of an attempt that has no outputs yet. The
// hint is written more often than steps are committed, so its step may be ahead
// of the attempt's.
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
		d.Progress = &p
		d.Step = max(d.Step, p.Step)
		d.Steps = p.Steps
	}
	return nil
}

// RunSummary is a run in a list.
type RunSummary struct {
	ID     string            `json:"id"`
	Name   string            `json:"name"`
	Status trimtab.RunStatus `json:"status"`
	Seed   uint64            `json:"seed"`
	// The stage at work, or the last one that was.
	Stage     string    `json:"stage"`
	CreatedAt time.Time `json:"created_at"`
	Seconds   float64   `json:"seconds"`
	Next      string    `json:"next"`
}

// List returns the newest runs, newest first; a limit of 0 means all.
func (s *Service) List(ctx context.Context, limit int) ([]RunSummary, error) {
	all, err := s.store.Runs(ctx, limit)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	// One query for all runs.
	stages, err := s.store.LastStages(ctx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]RunSummary, len(all))
	for i, r := range all {
		list[i] = RunSummary{
			ID:        r.ID,
			Name:      r.Name,
			Status:    r.Status,
			Seed:      r.Seed,
			Stage:     stages[r.ID],
			CreatedAt: r.CreatedAt,
			Seconds:   elapsedSeconds(r),
			Next:      r.Next,
		}
	}
	return list, nil
}

// History returns the events of a run in their order, or those of one of its
// stages if stage is not empty.
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

// Logs returns at most limit lines of a run's log after line number after, and
// the number of the last line returned, from which the next call continues. A
// limit of 0 means all.
func (s *Service) Logs(ctx context.Context, ref string, after int64, limit int) ([]storage.LogLine, int64, error) {
	run, err := s.store.Run(ctx, ref)
	if err != nil {
		return nil, after, err
	}
	return s.store.Logs(ctx, run.ID, after, limit)
}

// Metrics returns the metrics of every step of a stage's attempt, and the
// attempt. attempt is its number; 0 means the newest. Without names all metrics
// are returned. Errors: NotFound "attempt_not_found", and NotFound
// "metric_not_found" if the attempt has metrics but none of these names.
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
	// The newest attempt is read first in any case, because it checks the stage's name.
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
			"stage %s of run %s does not have that attempt", stage, run.ID)
	}
	rows, err := s.store.Metrics(ctx, a.ID, names...)
	if err == nil && len(rows) == 0 && len(names) > 0 {
		err = s.metricNotFound(ctx, a, names)
	}
	return rows, a, err
}

// metricNotFound returns NotFound "metric_not_found" with the names of the
// metrics that the attempt has. It returns nil for an attempt without any
// metrics yet, whose series is merely empty.
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
	return trimtab.NewError(trimtab.NotFound, "metric_not_found",
		"its metrics are "+strings.Join(slices.Compact(have), ", "),
		"stage %s has no metric %s", a.Stage, strings.Join(names, ", "))
}
