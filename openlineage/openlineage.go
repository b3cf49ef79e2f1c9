// Package openlineage tells what became of a run in the events of OpenLineage
// (spec 2-0-2, https://openlineage.io), which catalogs of data understand.
//
// A run is an OpenLineage run of a job named as its recipe; each attempt of a
// stage is one of the job RECIPE.STAGE, with the run as its parent. Each has a
// START and one of COMPLETE, ABORT and FAIL; only an attempt that was taken for
// failed and completed after all has both FAIL and COMPLETE. What a stage reads
// and makes are datasets: a dataset under its own name, an imported model as
// models/NAME, an output as RECIPE/STAGE/OUTPUT, each with its digest as its
// version.
//
// Events is a pure function of the record, and what is told of the beginning
// of a record is the beginning of what is told of the whole: whoever tells it
// again tells the same.
package openlineage

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// Kinds of event.
const (
	Start    = "START"
	Complete = "COMPLETE"
	Abort    = "ABORT"
	Fail     = "FAIL"
)

const (
	producer  = "https://github.com/trimtab/trimtab"
	schemaURL = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
)

// RunInfo is what the events of a run do not say of it.
type RunInfo struct {
	ID        string
	Recipe    string // the spec's own name: of the jobs
	Namespace string // of jobs and datasets
	// Names of the datasets and models from outside that the run reads; one without is named by its digest.
	Names map[trimtab.Digest]string
}

// RunEvent is a RunEvent.
type RunEvent struct {
	EventType string       `json:"eventType"`
	EventTime string       `json:"eventTime"`
	Run       EventRun     `json:"run"`
	Job       Job          `json:"job"`
	Inputs    []DatasetRef `json:"inputs"`
	Outputs   []DatasetRef `json:"outputs"`
	Producer  string       `json:"producer"`
	SchemaURL string       `json:"schemaURL"`
	Subject   Subject      `json:"-"`
}

// Subject is what an event is about: the run itself, or an attempt of a stage.
type Subject struct {
	Stage   string
	Attempt int
}

// EventRun is one execution of a job.
type EventRun struct {
	RunID  string         `json:"runId"`
	Facets map[string]any `json:"facets"`
}

// Job is a run's recipe, or a stage of it.
type Job struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Facets    map[string]any `json:"facets"`
}

// DatasetRef is something read or made, in one version.
type DatasetRef struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Facets    map[string]any `json:"facets"`
}

// RunID is the UUID (version 8: of a SHA-256) of a run, or of an attempt of one of its stages.
func RunID(run, stage string, attempt int) string {
	name := "run/" + run
	if stage != "" {
		name += fmt.Sprintf("/%s/%d", stage, attempt)
	}
	sum := sha256.Sum256([]byte(name))
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Events are those that a run's whole record tells so far, in its order.
func Events(run RunInfo, history []storage.Event) []RunEvent {
	t := emitter{run: run, attempts: map[Subject]*jobRun{}}
	for _, e := range history {
		t.consume(e)
	}
	return t.events
}

// jobRun is what has been told of an attempt, or of the run itself.
type jobRun struct {
	created time.Time
	started bool
	ended   string // the last event that ended it
	kind    string
	build   string
	inputs  []DatasetRef
}

// emitter reads a record from its beginning.
type emitter struct {
	run      RunInfo
	plan     trimtab.Plan
	attempts map[Subject]*jobRun
	events   []RunEvent
}

// eventBody is what is read of the bodies of events.
type eventBody struct {
	Plan       trimtab.Plan
	Kind       string
	Build      string
	Status     string
	Inputs     []trimtab.Named
	Outputs    []trimtab.Named
	ReusedFrom int64 `json:"reused_from"`
	Error      *trimtab.Error
}

// consume tells what follows from one event of the record.
func (t *emitter) consume(e storage.Event) {
	var b eventBody
	switch e.Type {
	case "run_created", "run_planned", "run_status", "attempt_created", "attempt_started", "attempt_status",
		"attempt_completed":
		if json.Unmarshal(e.Body, &b) != nil {
			return // of a form that this program does not know
		}
	}
	of := Subject{e.Stage, e.Attempt}
	switch e.Type {
	case "run_created":
		t.plan = b.Plan
		t.attempts[of] = &jobRun{created: e.At, kind: "run"}
	case "run_planned":
		t.plan = b.Plan
	case "run_status":
		t.status(of, e.At, b, map[string]string{"completed": Complete, "cancelled": Abort, "failed": Fail})
	case "attempt_created":
		t.attempts[of] = &jobRun{created: e.At, kind: b.Kind, inputs: t.inputs(e.Stage, b.Inputs)}
		if b.ReusedFrom != 0 {
			t.emitEnd(of, Complete, e.At, t.outputs(e.Stage, b.Outputs), nil)
		}
	case "attempt_started":
		if a := t.attempts[of]; a != nil {
			a.build = b.Build
			t.emitStart(of, e.At)
		}
	case "attempt_status":
		t.status(of, e.At, b, map[string]string{"cancelled": Abort, "failed": Fail})
	case "attempt_completed":
		t.emitEnd(of, Complete, e.At, t.outputs(e.Stage, b.Outputs), nil)
	}
}

// status tells what a new status means, if it means something.
func (t *emitter) status(of Subject, at time.Time, b eventBody, ends map[string]string) {
	if b.Status == "running" {
		t.emitStart(of, at)
	}
	if typ := ends[b.Status]; typ != "" {
		t.emitEnd(of, typ, at, nil, b.Error)
	}
}

// emitStart tells the START, once.
func (t *emitter) emitStart(of Subject, at time.Time) {
	if a := t.attempts[of]; a != nil && !a.started {
		a.started = true
		t.emit(of, Start, at, nil, nil)
	}
}

// emitEnd tells how it ended. What never began did so when it was made.
func (t *emitter) emitEnd(of Subject, typ string, at time.Time, outputs []DatasetRef, failure *trimtab.Error) {
	a := t.attempts[of]
	if a == nil || a.ended != "" && (a.ended != Fail || typ != Complete) {
		return
	}
	t.emitStart(of, a.created)
	a.ended = typ
	t.emit(of, typ, at, outputs, failure)
}

func (t *emitter) emit(of Subject, typ string, at time.Time, outputs []DatasetRef, failure *trimtab.Error) {
	a := t.attempts[of]
	if outputs == nil {
		outputs = []DatasetRef{}
	}
	inputs := a.inputs
	if inputs == nil {
		inputs = []DatasetRef{}
	}
	t.events = append(t.events, RunEvent{EventType: typ, EventTime: at.UTC().Format(time.RFC3339Nano), Subject: of,
		Run:    EventRun{RunID(t.run.ID, of.Stage, of.Attempt), t.runFacets(of, a, failure)},
		Job:    Job{t.run.Namespace, t.jobName(of.Stage), jobFacets(a.kind)},
		Inputs: inputs, Outputs: outputs, Producer: producer, SchemaURL: schemaURL})
}

// jobName is the name of a stage's job, or of the run's.
func (t *emitter) jobName(stage string) string {
	if stage == "" {
		return t.run.Recipe
	}
	return t.run.Recipe + "." + stage
}

// standardFacet is one of those that OpenLineage publishes.
func standardFacet(name, version string, fields map[string]any) map[string]any {
	fields["_producer"] = producer
	fields["_schemaURL"] = "https://openlineage.io/spec/facets/" + version + "/" + name + ".json#/$defs/" + name
	return fields
}

func (t *emitter) runFacets(of Subject, a *jobRun, failure *trimtab.Error) map[string]any {
	facets := map[string]any{}
	if of.Stage != "" {
		facets["parent"] = standardFacet("ParentRunFacet", "1-0-1", map[string]any{
			"run": map[string]any{"runId": RunID(t.run.ID, "", 0)},
			"job": map[string]any{"namespace": t.run.Namespace, "name": t.jobName("")}})
	}
	if a.build != "" {
		facets["processing_engine"] = standardFacet("ProcessingEngineRunFacet", "1-1-1",
			map[string]any{"name": "trimtab", "version": a.build})
	}
	if failure != nil {
		facets["errorMessage"] = standardFacet("ErrorMessageRunFacet", "1-0-1",
			map[string]any{"message": failure.Error(), "programmingLanguage": "Go"})
	}
	return facets
}

func jobFacets(kind string) map[string]any {
	return map[string]any{"jobType": standardFacet("JobTypeJobFacet", "2-0-3", map[string]any{
		"processingType": "BATCH", "integration": "TRIMTAB", "jobType": strings.ToUpper(kind)})}
}

// inputs are what an attempt reads: by the plan, another stage's output, a dataset or a model.
func (t *emitter) inputs(stage string, named []trimtab.Named) []DatasetRef {
	var list []DatasetRef
	for _, n := range named {
		list = append(list, t.dataset(t.inputName(stage, n), n.Digest))
	}
	return list
}

// inputName is the name of the dataset that an input of a stage is.
func (t *emitter) inputName(stage string, n trimtab.Named) string {
	name := t.run.Names[n.Digest]
	if name == "" {
		name = string(n.Digest)
	}
	for _, st := range t.plan.Stages {
		for _, in := range st.Inputs {
			switch {
			case st.Name != stage || in.Name != n.Name:
			case in.Stage != "":
				return t.outputName(in.Stage, in.Output)
			case in.Model != "":
				return "models/" + name
			}
		}
	}
	return name
}

func (t *emitter) outputs(stage string, named []trimtab.Named) []DatasetRef {
	var list []DatasetRef
	for _, n := range named {
		list = append(list, t.dataset(t.outputName(stage, n.Name), n.Digest))
	}
	return list
}

// outputName is the name of the dataset that a stage's output is.
func (t *emitter) outputName(stage, name string) string {
	return t.run.Recipe + "/" + stage + "/" + name
}

func (t *emitter) dataset(name string, version trimtab.Digest) DatasetRef {
	return DatasetRef{t.run.Namespace, name, map[string]any{
		"version": standardFacet("DatasetVersionDatasetFacet", "1-0-1",
			map[string]any{"datasetVersion": string(version)})}}
}
