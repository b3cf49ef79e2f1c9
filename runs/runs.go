// Package runs is what the command line and the web pages call: launch a run,
// look at it, rerun a stage, decide. It alone talks to Temporal as a client.
// Whatever it shows comes from Postgres, so that a run can be looked at while
// no worker is there.
package runs

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/activities"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
	"github.com/trimtab/trimtab/workflows"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// Service launches, shows and steers runs.
type Service struct {
	log             *slog.Logger
	store           *storage.Store
	files           *checkpoint.Store
	temporal        client.Client
	renewAfter      int           // workflows.UpdatesPerHistory, but in tests
	decisionTimeout time.Duration // with the answer to a decision
	memory          func() (total, free int64, known bool)
}

// decisionTimeout is how long a decision waits for an answer: without a worker there is none.
const decisionTimeout = 30 * time.Second

// New makes a Service. temporal may be nil where runs are only looked at.
func New(lg *slog.Logger, store *storage.Store, files *checkpoint.Store, temporal client.Client) *Service {
	return &Service{log: lg, store: store, files: files, temporal: temporal, renewAfter: workflows.UpdatesPerHistory,
		decisionTimeout: decisionTimeout, memory: activities.Memory}
}

// Store is the database behind the service.
func (s *Service) Store() *storage.Store { return s.store }

// newID is ten letters and digits, 50 bits: short to type, and no two alike.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	id := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	return id[:10]
}

// LaunchRequest asks for a run of a spec.
type LaunchRequest struct {
	Spec  recipes.Spec
	Name  string // else the spec's
	Actor string
	// New starts a run even if one of the same spec is open. Else that one is
	// attached to, unless the launch asks for another name than it has.
	New bool
	// Resume attaches to this run, which must be of the same spec.
	Resume string
	// Reuse takes over what earlier runs have made from the very same inputs.
	Reuse bool
	// Log is told of long steps; it may be nil.
	Log func(format string, args ...any)
	// Actual is set where the run's worker is on this machine: a run that needs
	// more memory than it has is refused.
	LocalWorker bool

	rerun *rerunLaunch // of a closed run
	reuse []string     // stages, when not all
}

// LaunchResult is the run that a launch led to.
type LaunchResult struct {
	Run      storage.Run
	Attached bool          // it was open already
	Known    recipes.Known // what its stages will read
	Notes    []string      // what of that is not exact, and why
	// Unmeasured says which reward models have no held-out rankings, and what gives them some.
	Unmeasured []string
}

// Launch resolves the spec's data, writes the run down and starts its workflow.
func (s *Service) Launch(ctx context.Context, r LaunchRequest) (LaunchResult, error) {
	if r.Log == nil {
		r.Log = func(string, ...any) {}
	}
	if err := r.check(); err != nil {
		return LaunchResult{}, err
	}
	if r.Resume != "" { // whether there is one is found out before anything is made
		if _, err := s.store.Run(ctx, r.Resume); err != nil {
			return LaunchResult{}, err
		}
	}
	if err := s.checkStarterMemory(r.Spec); err != nil {
		return LaunchResult{}, err
	}
	if r.LocalWorker {
		if err := s.checkMemory(r.Spec, s.shapes(ctx, r.Spec)); err != nil {
			return LaunchResult{}, err
		}
	}
	spec, err := s.resolveData(ctx, r.Spec, r.Actor, r.Log)
	if err != nil {
		return LaunchResult{}, err
	}
	run, docs, err := s.plan(ctx, spec, newID())
	if err != nil {
		return LaunchResult{}, err
	}
	look, err := s.surveyLaunch(ctx, spec, run.Plan, r)
	if err != nil {
		return LaunchResult{}, err
	}
	if r.Resume != "" {
		old, err := s.resumable(ctx, r.Resume, run.SpecDigest)
		if err == nil {
			err = s.start(ctx, old, s.reusable(r, old.Plan))
		}
		return LaunchResult{Run: old, Attached: true, Known: look.known}, err
	}
	run.Name, run.Actor = cmp.Or(r.Name, spec.Name), r.Actor
	if err := s.putDocuments(ctx, docs); err != nil {
		return LaunchResult{}, err
	}
	run, attached, err := s.create(ctx, run, r)
	if err != nil {
		return LaunchResult{}, err
	}
	if err := s.start(ctx, run, s.reusable(r, run.Plan)); err != nil {
		return LaunchResult{}, err
	}
	if !attached {
		run, err = s.store.Run(ctx, run.ID)
	}
	return LaunchResult{Run: run, Attached: attached, Known: look.known, Notes: look.approximationNotes(),
		Unmeasured: look.unmeasuredNotes()}, err
}

// surveyLaunch finds out what a launch's run will read, and refuses what is sure to fail.
func (s *Service) surveyLaunch(ctx context.Context, spec recipes.Spec, plan trimtab.Plan,
	r LaunchRequest) (*survey, error) {
	v, err := s.survey(ctx, spec, plan, nil)
	if err == nil {
		err = v.preflight(0)
	}
	if err == nil && r.LocalWorker {
		err = s.checkMemory(spec, v.shapes())
	}
	return v, err
}

// check refuses words that cannot be recorded; a run that is run again keeps the names that it has.
func (r LaunchRequest) check() error {
	if r.rerun != nil {
		return requestTexts{actor: r.Actor}.check()
	}
	if err := (requestTexts{name: r.Name, actor: r.Actor}).check(); err != nil {
		return err
	}
	return r.Spec.CheckNames()
}

// plan resolves names to digests and makes the run's row.
func (s *Service) plan(ctx context.Context, spec recipes.Spec, id string) (storage.Run, []recipes.Document, error) {
	plan, docs, err := spec.Plan(id, recipes.Resolved{
		Data: func(ref string) (trimtab.Digest, error) {
			v, err := s.store.ResolveDataset(ctx, ref)
			return v.Digest, err
		},
		Base: func(ref string) (trimtab.Digest, error) {
			a, err := s.store.ResolveArtifact(ctx, ref)
			return a.Digest, err
		},
	})
	if err != nil {
		return storage.Run{}, nil, err
	}
	body, err := spec.JSON()
	return storage.Run{ID: id, Status: trimtab.RunQueued,
		Next: "waits for a worker; if its launch was cut off, the same `trimtab align` starts it", Seed: spec.Seed,
		Spec: body, SpecDigest: plan.SpecDigest, Plan: plan}, docs, err
}

// nameRule is what the name of the new run means. That of a recipe that ships is nobody's choice.
func (r LaunchRequest) nameRule() storage.NameRule {
	switch {
	case r.Name != "":
		return storage.UniqueName
	case slices.Contains(recipes.Names(), r.Spec.Name):
		return storage.AnyName
	}
	return storage.SameName
}

// create writes the run down; or it finds an open run of the same spec, unless always a new one is wanted.
func (s *Service) create(ctx context.Context, run storage.Run, r LaunchRequest) (storage.Run, bool, error) {
	switch {
	case r.rerun != nil:
		run.Origin, run.Reason = r.rerun.run.ID, r.rerun.reason
		run.Stage, run.Overrides = run.Plan.Stages[r.rerun.stage].Name, r.rerun.overrides
		run, err := r.rerun.create(ctx, s, run)
		return run, false, err
	case r.New:
		return run, false, s.store.CreateRun(ctx, run)
	}
	open, is, err := s.store.CreateRunOnce(ctx, run, r.nameRule())
	if is {
		run = open
	}
	return run, is, err
}

func (s *Service) putDocuments(ctx context.Context, docs []recipes.Document) error {
	for _, d := range docs {
		if _, err := s.store.PutDocument(ctx, d.Body); err != nil {
			return err
		}
	}
	return nil
}

// resumable finds the run to attach to, which must be of the same spec.
func (s *Service) resumable(ctx context.Context, ref string, spec trimtab.Digest) (storage.Run, error) {
	run, err := s.store.Run(ctx, ref)
	if err == nil && run.SpecDigest != spec {
		err = trimtab.NewError(trimtab.Conflict, "spec_differs", "leave out --resume to start a new run",
			"run %s was launched with another spec", run.ID)
	}
	return run, err
}

func (s *Service) reusable(r LaunchRequest, p trimtab.Plan) []string {
	if !r.Reuse {
		return r.reuse
	}
	var names []string
	for _, st := range p.Stages {
		names = append(names, st.Name)
	}
	return names
}

// start starts the run's workflow; one that is there already is left alone.
func (s *Service) start(ctx context.Context, run storage.Run, reuse []string) error {
	if !run.Status.Open() {
		return nil
	}
	options := client.StartWorkflowOptions{ID: workflows.RunID(run.ID), TaskQueue: workflows.SmallQueue,
		StaticSummary:            run.Name,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		TypedSearchAttributes:    temporal.NewSearchAttributes(runAttribute.ValueSet(run.ID))}
	_, err := s.temporal.ExecuteWorkflow(ctx, options, workflows.Run,
		workflows.RunInput{Plan: run.Plan, Actor: run.Actor, Reuse: reuse, Renew: s.renewAfter})
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return nil
	}
	return unavailable("start the run", err)
}

// runAttribute lets Temporal's own pages find the workflows of a run.
var runAttribute = temporal.NewSearchAttributeKeyKeyword("RunID")

// unavailable says that Temporal did not answer.
func unavailable(doing string, err error) error {
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "temporal_unavailable", "see `trimtab doctor`", "%s: %w", doing, err)
}

// update sends a person's decision to a run's workflow and waits for its answer.
func (s *Service) update(ctx context.Context, run storage.Run, name string, arg any) (workflows.Outcome, error) {
	var out workflows.Outcome
	if !run.Status.Open() {
		return out, runClosed(run)
	}
	err := s.sendUpdate(ctx, run, name, arg, &out)
	var missing *serviceerror.NotFound
	// its launcher was killed between the row and the workflow
	if errors.As(err, &missing) && run.Status == trimtab.RunQueued {
		if err := s.start(ctx, run, nil); err != nil {
			return out, err
		}
		err = s.sendUpdate(ctx, run, name, arg, &out)
	}
	// it has just continued as new
	for try := 0; try < 10 && errors.As(err, &missing) && s.workflowRunning(ctx, run.ID); try++ {
		err = s.sendUpdate(ctx, run, name, arg, &out)
	}
	if err == nil {
		return out, nil
	}
	if errors.As(err, &missing) {
		return out, s.missingWorkflow(ctx, run.ID, name, arg)
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return out, workflows.ErrorOf(err)
	}
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError
	if errors.As(err, &late) && ctx.Err() == nil {
		return out, trimtab.NewError(trimtab.Unavailable, "no_answer",
			"see that a worker runs (`trimtab doctor`), then look at the run with `trimtab show`",
			"nobody has answered for %s: the decision may still be taken when a worker is there", s.decisionTimeout)
	}
	return out, unavailable(name, err)
}

// workflowRunning reports whether Temporal has the workflow of a run and it has not ended.
func (s *Service) workflowRunning(ctx context.Context, run string) bool {
	d, err := s.temporal.DescribeWorkflowExecution(ctx, workflows.RunID(run), "")
	return err == nil && d.WorkflowExecutionInfo.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING
}

func runClosed(run storage.Run) error {
	return trimtab.NewError(trimtab.Conflict, "run_closed",
		fmt.Sprintf("`trimtab rerun %s STAGE` starts a new run from it", run.ID),
		"run %s is %s", run.ID, run.Status)
}

// missingWorkflow is about a run that Temporal does not know, or not any more: an
// operator ended its workflow, or Temporal's own record is lost. Such a run
// can be cancelled, and rerun as a new one.
func (s *Service) missingWorkflow(ctx context.Context, id, name string, arg any) error {
	run, err := s.store.Run(ctx, id) // it may just have ended
	if err != nil {
		return err
	}
	if !run.Status.Open() {
		return runClosed(run)
	}
	d, ok := arg.(workflows.Decision)
	if !ok || name != workflows.UpdateCancel {
		return trimtab.NewError(trimtab.Conflict, "workflow_gone",
			fmt.Sprintf("close it with `trimtab cancel %s --reason …`; then `trimtab rerun` starts a new run from it",
				id),
			"nothing is at work for run %s: Temporal does not have its workflow", id)
	}
	return s.cancelWithoutWorkflow(ctx, run, d)
}

// cancelWithoutWorkflow cancels a run without a workflow.
func (s *Service) cancelWithoutWorkflow(ctx context.Context, run storage.Run, d workflows.Decision) error {
	attempts, err := s.store.Attempts(ctx, run.ID)
	if err != nil {
		return err
	}
	for _, a := range attempts {
		switch a.Status {
		case trimtab.AttemptQueued, trimtab.AttemptRunning, trimtab.AttemptRetrying:
			if err := s.store.SetAttemptStatus(ctx, a.ID, trimtab.AttemptCancelled, nil, d.Actor); err != nil {
				return err
			}
		}
	}
	asked := storage.Request{Sequence: d.Request, Run: run.ID, Decision: workflows.UpdateCancel, Reason: d.Reason,
		Actor: d.Actor}
	if err := s.store.RecordDecision(ctx, storage.Decision{Request: asked}); err != nil {
		return err
	}
	return s.store.SetRunStatus(ctx, run.ID, trimtab.RunCancelled,
		fmt.Sprintf("`trimtab rerun %s STAGE` starts a new run that reuses what was finished", run.ID), nil, d.Actor)
}

func (s *Service) sendUpdate(ctx context.Context, run storage.Run, name string, arg any, out *workflows.Outcome) error {
	ctx, cancel := context.WithTimeout(ctx, s.decisionTimeout)
	defer cancel()
	h, err := s.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{WorkflowID: workflows.RunID(run.ID),
		UpdateName:   name,
		WaitForStage: client.WorkflowUpdateStageCompleted, Args: []any{arg}})
	if err == nil {
		err = h.Get(ctx, out)
	}
	return err
}
