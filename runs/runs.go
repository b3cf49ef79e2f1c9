// Package runs is the service layer behind the command line: it launches runs,
// shows and compares them, reruns and reproduces stages, traces lineage and
// sends decisions to running workflows.
//
// It is the only package that talks to Temporal as a client. Everything it
// shows is read from Postgres and from the model store, so a run can be
// inspected while no worker is running and Temporal is down. Only launching a
// run and sending a decision need Temporal.
//
// The documents that it returns are the JSON forms that the command line prints
// with -o json. Their field names are a stable interface: each document carries
// a schema name with a version, such as trimtab.run/v1.
//
// Errors are *trimtab.Error values with a class, from which the exit code
// follows, a stable type and a remedy.
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

// Service launches, inspects and steers runs. It holds no state of its own
// between calls, so one Service may be used by several goroutines.
type Service struct {
	log   *slog.Logger
	store *storage.Store
	files *checkpoint.Store
	// Nil where runs are only inspected.
	temporal client.Client
	// Updates after which a run's workflow continues as new:
	// workflows.UpdatesPerHistory, except in tests.
	renewAfter int
	// How long to wait for the answer to a decision.
	decisionTimeout time.Duration
	// Bytes of this machine's memory; known is false where the system does not report
	// them.
	memory func() (total, free int64, known bool)
}

// decisionTimeout is how long a decision waits for the workflow's answer. Only
// a worker can answer an update, so without a worker the wait always runs out.
const decisionTimeout = 30 * time.Second

// New returns a Service on a database and a model store. temporal may be nil
// for a caller that only inspects runs. The Service takes ownership of none of
// them: the caller closes them.
func New(lg *slog.Logger, store *storage.Store, files *checkpoint.Store, temporal client.Client) *Service {
	return &Service{log: lg, store: store, files: files, temporal: temporal, renewAfter: workflows.UpdatesPerHistory,
		decisionTimeout: decisionTimeout, memory: activities.Memory}
}

// Store returns the database that the service works on.
func (s *Service) Store() *storage.Store { return s.store }

// newID returns a random run ID of ten lower-case base32 characters. Their 50
// bits make a collision improbable; the primary key of the run table rejects
// one.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	id := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	return id[:10]
}

// LaunchRequest describes a run to launch.
type LaunchRequest struct {
	// Spec may name datasets and a base model by name or digest, or describe data that
	// is generated or read from files at launch.
	Spec recipes.Spec
	// Name is the run's name; if it is empty, the spec's is used.
	Name string
	// Actor is recorded as the person or program that launched the run.
	Actor string
	// New starts a run even if one of the same spec is open. Otherwise Launch attaches
	// to the open run, unless the request gives a different name.
	New bool
	// Resume is the run to attach to. It must have been launched from the same spec.
	Resume string
	// Reuse lets every stage take over the outputs of an earlier attempt that had the
	// same config, inputs, seed, numerics and code version.
	Reuse bool
	// Log receives progress messages of slow steps, such as reading files. It may be
	// nil.
	Log func(format string, args ...any)
	// LocalWorker says that the worker runs on this machine, so that a run whose stages
	// need more memory than the machine has is rejected.
	LocalWorker bool

	// Set when the launch is the rerun of a closed run.
	rerun *rerunLaunch
	// The stages that may be reused, where Reuse does not allow all of them.
	reuse []string
}

// LaunchResult is the run that a launch created or attached to.
type LaunchResult struct {
	Run storage.Run
	// The run was open already and was not created by this launch.
	Attached bool
	// What each stage will read, as far as it is known before the run.
	Known recipes.Known
	// Notes are sentences about the figures in Known that are estimates, with the
	// reason.
	Notes []string
	// Unmeasured names the reward stages without held-out rankings, each with a remedy.
	Unmeasured []string
}

// Launch resolves the data and the base model of a spec, records the run and
// starts its workflow.
//
// The checks that need no data come before any dataset is frozen. The run's row
// is committed before the workflow starts: if the process dies between the two,
// the run stays queued, and the next launch of the same spec, or the first
// decision sent to it, starts the workflow.
//
// Besides the errors of the spec, the data and the database, it returns the
// errors of preflight, Conflict "spec_differs" for a Resume of another spec,
// and Unavailable "temporal_unavailable".
func (s *Service) Launch(ctx context.Context, r LaunchRequest) (LaunchResult, error) {
	if r.Log == nil {
		r.Log = func(string, ...any) {}
	}
	if err := r.check(); err != nil {
		return LaunchResult{}, err
	}
	// A run that does not exist must be reported before any dataset is frozen.
	if r.Resume != "" {
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
	plan, err := s.surveyLaunch(ctx, spec, run.Plan, r)
	if err != nil {
		return LaunchResult{}, err
	}
	if r.Resume != "" {
		old, err := s.resumable(ctx, r.Resume, run.SpecDigest)
		if err == nil {
			err = s.start(ctx, old, s.reusable(r, old.Plan))
		}
		return LaunchResult{Run: old, Attached: true, Known: plan.known}, err
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
		// The row that was read back has the database's timestamps.
		run, err = s.store.Run(ctx, run.ID)
	}
	return LaunchResult{
		Run:        run,
		Attached:   attached,
		Known:      plan.known,
		Notes:      plan.approximationNotes(),
		Unmeasured: plan.unmeasuredNotes(),
	}, err
}

// surveyLaunch surveys the data of a planned run and rejects a plan that is
// sure to fail. With a local worker it also checks the memory again, now that
// the shapes of imported models are known.
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

// check rejects texts that cannot be recorded. A rerun keeps the name of its
// original run, which was checked at that run's launch.
func (r LaunchRequest) check() error {
	if r.rerun != nil {
		return requestTexts{actor: r.Actor}.check()
	}
	if err := (requestTexts{name: r.Name, actor: r.Actor}).check(); err != nil {
		return err
	}
	return r.Spec.CheckNames()
}

// plan resolves the names in a spec to digests and returns the row of a run
// with that ID, together with the config documents that its plan refers to.
// Nothing is written.
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
	return storage.Run{
		ID:         id,
		Status:     trimtab.RunQueued,
		Next:       "waiting for a worker; if the launch was interrupted, the same `trimtab align` starts the run",
		Seed:       spec.Seed,
		Spec:       body,
		SpecDigest: plan.SpecDigest,
		Plan:       plan,
	}, docs, err
}

// nameRule says how the new run's name counts when an open run of the same spec
// exists. A name that was given must be that run's name and may not be the name
// of any other open run. The name of a built-in recipe was chosen by nobody, so
// any name will do; a spec's own name must match.
func (r LaunchRequest) nameRule() storage.NameRule {
	switch {
	case r.Name != "":
		return storage.UniqueName
	case slices.Contains(recipes.Names(), r.Spec.Name):
		return storage.AnyName
	}
	return storage.SameName
}

// create records the run, or returns the open run of the same spec. The second
// result reports whether an open run was found. Both happen in one transaction,
// so two launches of one spec at the same time end in one run.
func (s *Service) create(ctx context.Context, run storage.Run, r LaunchRequest) (storage.Run, bool, error) {
	switch {
	case r.rerun != nil:
		// A rerun attaches to no open run: the same rerun being open is an error.
		run.Origin, run.Reason = r.rerun.run.ID, r.rerun.reason
		run.Stage, run.Overrides = run.Plan.Stages[r.rerun.stage].Name, r.rerun.overrides
		run, err := r.rerun.create(ctx, s, run)
		return run, false, err
	case r.New:
		return run, false, s.store.CreateRun(ctx, run)
	}
	open, found, err := s.store.CreateRunOnce(ctx, run, r.nameRule())
	if found {
		run = open
	}
	return run, found, err
}

// putDocuments stores the config documents of a plan under their digests. They
// are stored before the run that refers to them; storing one twice is harmless.
func (s *Service) putDocuments(ctx context.Context, docs []recipes.Document) error {
	for _, d := range docs {
		if _, err := s.store.PutDocument(ctx, d.Body); err != nil {
			return err
		}
	}
	return nil
}

// resumable returns the run to attach to. A run of another spec is Conflict
// "spec_differs".
func (s *Service) resumable(ctx context.Context, ref string, spec trimtab.Digest) (storage.Run, error) {
	run, err := s.store.Run(ctx, ref)
	if err == nil && run.SpecDigest != spec {
		err = trimtab.NewError(trimtab.Conflict, "spec_differs", "leave out --resume to start a new run",
			"run %s was launched with another spec", run.ID)
	}
	return run, err
}

// reusable returns the names of the stages that may take over earlier outputs.
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

// start starts the workflow of an open run. A workflow that exists already is
// left alone, running or closed: its ID is derived from the run's, and Temporal
// rejects duplicates. So start may be called again after a crash.
func (s *Service) start(ctx context.Context, run storage.Run, reuse []string) error {
	if !run.Status.Open() {
		return nil
	}
	options := client.StartWorkflowOptions{
		ID:                       workflows.RunID(run.ID),
		TaskQueue:                activities.SmallQueue,
		StaticSummary:            run.Name,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		TypedSearchAttributes:    temporal.NewSearchAttributes(runAttribute.ValueSet(run.ID)),
	}
	_, err := s.temporal.ExecuteWorkflow(ctx, options, workflows.Run,
		workflows.RunInput{Plan: run.Plan, Actor: run.Actor, Reuse: reuse, Renew: s.renewAfter})
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &started) {
		return nil
	}
	return temporalError("start the run", err)
}

// runAttribute is the search attribute under which the Temporal UI finds the
// workflows of a run.
var runAttribute = temporal.NewSearchAttributeKeyKeyword("RunID")

// temporalError wraps an error of the Temporal client as Unavailable
// "temporal_unavailable"; doing says what was being done. nil stays nil.
func temporalError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return trimtab.NewError(trimtab.Unavailable, "temporal_unavailable",
		"check that Temporal is running with `trimtab doctor`",
		"%s: Temporal is unavailable: %w", doing, err)
}

// update sends a decision to a run's workflow as a Temporal update and waits
// for the answer, at most s.decisionTimeout for each try.
//
// Temporal answers NotFound in three situations that need different treatment:
// the launching process died before it started the workflow, the workflow has
// just continued as new, or the workflow is gone for good. A rejection by the
// workflow is returned with its own class and type. If no worker answers in
// time the result is Unavailable "no_answer", and the decision may still take
// effect later.
func (s *Service) update(ctx context.Context, run storage.Run, name string, arg any) (workflows.Outcome, error) {
	var out workflows.Outcome
	if !run.Status.Open() {
		return out, runClosed(run)
	}
	err := s.sendUpdate(ctx, run, name, arg, &out)
	var missing *serviceerror.NotFound
	// The launching process was killed after it committed the row and before it
	// started the workflow.
	if errors.As(err, &missing) && run.Status == trimtab.RunQueued {
		if err := s.start(ctx, run, nil); err != nil {
			return out, err
		}
		err = s.sendUpdate(ctx, run, name, arg, &out)
	}
	// The workflow has just continued as new, so the update reached the execution
	// that closed.
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
			"check that a worker is running with `trimtab doctor`, then look at the run with `trimtab show`",
			"%s: no worker answered within %s; the decision may still take effect when a worker is running",
			name, s.decisionTimeout)
	}
	return out, temporalError(name, err)
}

// workflowRunning reports whether Temporal has an open workflow for a run. It
// is false too when Temporal does not answer.
func (s *Service) workflowRunning(ctx context.Context, run string) bool {
	d, err := s.temporal.DescribeWorkflowExecution(ctx, workflows.RunID(run), "")
	return err == nil && d.WorkflowExecutionInfo.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING
}

// runClosed returns Conflict "run_closed": only an open run takes decisions.
func runClosed(run storage.Run) error {
	return trimtab.NewError(trimtab.Conflict, "run_closed",
		fmt.Sprintf("`trimtab rerun %s STAGE` starts a new run from it", run.ID),
		"run %s is %s", run.ID, run.Status)
}

// missingWorkflow handles a decision for a run whose workflow Temporal does not
// have: an operator terminated it, or Temporal's own database was lost. A
// cancel is carried out here, directly in the record; any other decision is
// Conflict "workflow_gone". The closed run can then be rerun as a new one.
func (s *Service) missingWorkflow(ctx context.Context, id, name string, arg any) error {
	run, err := s.store.Run(ctx, id) // read again: the run may have ended meanwhile
	if err != nil {
		return err
	}
	if !run.Status.Open() {
		return runClosed(run)
	}
	d, ok := arg.(workflows.Decision)
	if !ok || name != workflows.UpdateCancel {
		return trimtab.NewError(trimtab.Conflict, "workflow_gone",
			fmt.Sprintf("close the run with `trimtab cancel %s --reason …`, then start a new one from it with "+
				"`trimtab rerun`", id),
			"Temporal has no workflow for run %s, so nothing is working on it", id)
	}
	return s.cancelWithoutWorkflow(ctx, run, d)
}

// cancelWithoutWorkflow records the cancellation of a run that has no workflow:
// its open attempts first, then the decision, then the run. If it is
// interrupted the run is still open, and another cancel completes it.
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
	request := storage.Request{
		Sequence: d.Request,
		Run:      run.ID,
		Decision: workflows.UpdateCancel,
		Reason:   d.Reason,
		Actor:    d.Actor,
	}
	if err := s.store.RecordDecision(ctx, storage.Decision{Request: request}); err != nil {
		return err
	}
	return s.store.SetRunStatus(ctx, run.ID, trimtab.RunCancelled,
		fmt.Sprintf("`trimtab rerun %s STAGE` starts a new run that reuses the finished stages", run.ID), nil, d.Actor)
}

// sendUpdate sends one Temporal update and waits until the workflow has
// completed it or s.decisionTimeout has passed.
func (s *Service) sendUpdate(ctx context.Context, run storage.Run, name string, arg any, out *workflows.Outcome) error {
	ctx, cancel := context.WithTimeout(ctx, s.decisionTimeout)
	defer cancel()
	h, err := s.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID:   workflows.RunID(run.ID),
		UpdateName:   name,
		WaitForStage: client.WorkflowUpdateStageCompleted,
		Args:         []any{arg},
	})
	if err == nil {
		err = h.Get(ctx, out)
	}
	return err
}
