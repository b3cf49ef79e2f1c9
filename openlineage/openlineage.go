// Package openlineage reports runs as events of OpenLineage (spec 2-0-2,
// https://openlineage.io), which data catalogs read.
//
// A run of Trimtab is an OpenLineage run of a job named after its recipe. Each
// attempt of a stage is a run of the job RECIPE.STAGE, with the first as its
// parent. Each has a START event and one of COMPLETE, ABORT and FAIL; only an
// attempt that was taken for failed and completed after all has both FAIL and
// COMPLETE. What a stage reads and writes are datasets:
//
//	NAME                   a dataset
//	models/NAME            an imported model
//	RECIPE/STAGE/OUTPUT    an output of a stage
//
// each with its digest as its version.
//
// Events is a pure function of the record, and of a longer record it returns
// the same events and then more: a sender that starts again repeats itself
// exactly.
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

// The types of event that are used, of those in the specification.
const (
	Start    = "START"
	Complete = "COMPLETE"
	Abort    = "ABORT"
	Fail     = "FAIL"
)

// producer identifies this program, and schemaURL the version of the schema, in
// every event.
const (
	producer  = "https://github.com/trimtab/trimtab"
	schemaURL = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
)

// RunInfo is what the events of a run need and its record does not hold.
type RunInfo struct {
	ID string
	// Recipe is the spec's own name; jobs are named after it.
	Recipe string
	// Namespace is that of all jobs and datasets.
	Namespace string
	// Names are those of the datasets and models from outside that the run
	// reads. One without a name is named by its digest.
	Names map[trimtab.Digest]string
}

// RunEvent is the event of that name in the specification.
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

// Subject is what an event is about: the run itself, if Stage is empty, or an
// attempt of a stage.
type Subject struct {
	Stage   string
	Attempt int
}

// EventRun is the specification's Run: one execution of a job.
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

// DatasetRef is the specification's InputDataset or OutputDataset: something
// read or written, in one version.
type DatasetRef struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Facets    map[string]any `json:"facets"`
}

// RunID returns the UUID of a run, or of an attempt of one of its stages. It is
// of version 8, from a SHA-256 of the name, so that it needs no storage.
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

// Events returns the events of a run for its record so far, in order. history
// is the run's whole stream.
func Events(run RunInfo, history []storage.Event) []RunEvent {
	t := emitter{run: run, attempts: map[Subject]*jobRun{}}
	for _, e := range history {
		t.consume(e)
	}
	return t.events
}

// jobRun is what has been emitted for an attempt, or for the run itself.
type jobRun struct {
	created time.Time
	started bool
	// ended is the type of the last event that ended it, or "".
	ended string
	// kind is that of the stage, or "run".
	kind   string
	build  string
	inputs []DatasetRef
}

// emitter reads a record from its beginning and collects the events.
type emitter struct {
	run      RunInfo
	plan     trimtab.Plan
	attempts map[Subject]*jobRun
	events   []RunEvent
}

// eventBody holds the fields that are read from the bodies of recorded events
// of any type.
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

// consume emits what follows from one event of the record.
func (t *emitter) consume(e storage.Event) {
	var b eventBody
	switch e.Type {
	case trimtab.EventRunCreated, trimtab.EventRunPlanned, trimtab.EventRunStatus,
		trimtab.EventAttemptCreated, trimtab.EventAttemptStarted, trimtab.EventAttemptStatus,
		trimtab.EventAttemptCompleted:
		// A body that does not parse is of a newer program; skipping it is better
		// than stopping all events of the run.
		if json.Unmarshal(e.Body, &b) != nil {
			return
		}
	}
	of := Subject{e.Stage, e.Attempt}
	switch e.Type {
	case trimtab.EventRunCreated:
		t.plan = b.Plan
		t.attempts[of] = &jobRun{created: e.At, kind: "run"}
	case trimtab.EventRunPlanned:
		t.plan = b.Plan
	case trimtab.EventRunStatus:
		t.status(of, e.At, b, map[string]string{"completed": Complete, "cancelled": Abort, "failed": Fail})
	case trimtab.EventAttemptCreated:
		t.attempts[of] = &jobRun{created: e.At, kind: b.Kind, inputs: t.inputs(e.Stage, b.Inputs)}
		if b.ReusedFrom != 0 {
			t.emitEnd(of, Complete, e.At, t.outputs(e.Stage, b.Outputs), nil)
		}
	case trimtab.EventAttemptStarted:
		if a := t.attempts[of]; a != nil {
			a.build = b.Build
			t.emitStart(of, e.At)
		}
	case trimtab.EventAttemptStatus:
		t.status(of, e.At, b, map[string]string{"cancelled": Abort, "failed": Fail})
	case trimtab.EventAttemptCompleted:
		t.emitEnd(of, Complete, e.At, t.outputs(e.Stage, b.Outputs), nil)
	}
}

// status emits what a new status means: a start, an end of one of the types in
// ends, or nothing.
func (t *emitter) status(of Subject, at time.Time, b eventBody, ends map[string]string) {
	if b.Status == "running" {
		t.emitStart(of, at)
	}
	if typ := ends[b.Status]; typ != "" {
		t.emitEnd(of, typ, at, nil, b.Error)
	}
}

// emitStart emits the START, once.
func (t *emitter) emitStart(of Subject, at time.Time) {
	if a := t.attempts[of]; a != nil && !a.started {
		a.started = true
		t.emit(of, Start, at, nil, nil)
	}
}

// emitEnd emits the end, once; only a COMPLETE may follow a FAIL. What never
// started has its START at the time of its creation, since the specification
// wants one.
func (t *emitter) emitEnd(of Subject, typ string, at time.Time, outputs []DatasetRef, failure *trimtab.Error) {
	a := t.attempts[of]
	if a == nil || a.ended != "" && (a.ended != Fail || typ != Complete) {
		return
	}
	t.emitStart(of, a.created)
	a.ended = typ
	t.emit(of, typ, at, outputs, failure)
}

// emit appends one event. Lists are never nil: null is not a list in JSON.
func (t *emitter) emit(of Subject, typ string, at time.Time, outputs []DatasetRef, failure *trimtab.Error) {
	a := t.attempts[of]
	if outputs == nil {
		outputs = []DatasetRef{}
	}
	inputs := a.inputs
	if inputs == nil {
		inputs = []DatasetRef{}
	}
	t.events = append(t.events, RunEvent{
		EventType: typ,
		EventTime: at.UTC().Format(time.RFC3339Nano),
		Run:       EventRun{RunID(t.run.ID, of.Stage, of.Attempt), t.runFacets(of, a, failure)},
		Job:       Job{t.run.Namespace, t.jobName(of.Stage), jobFacets(a.kind)},
		Inputs:    inputs,
		Outputs:   outputs,
		Producer:  producer,
		SchemaURL: schemaURL,
		Subject:   of,
	})
}

// jobName returns the name of a stage's job, or of the run's.
func (t *emitter) jobName(stage string) string {
	if stage == "" {
		return t.run.Recipe
	}
	return t.run.Recipe + "." + stage
}

// standardFacet completes a facet of OpenLineage with the fields that all have.
func standardFacet(name, version string, fields map[string]any) map[string]any {
	fields["_producer"] = producer
	fields["_schemaURL"] = "https://openlineage.io/spec/facets/" + version + "/" + name + ".json#/$defs/" + name
	return fields
}

// runFacets returns the facets of an execution: its parent, the build, and the
// error that ended it.
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

// jobFacets returns the facets of a job.
func jobFacets(kind string) map[string]any {
	return map[string]any{"jobType": standardFacet("JobTypeJobFacet", "2-0-3", map[string]any{
		"processingType": "BATCH", "integration": "TRIMTAB", "jobType": strings.ToUpper(kind)})}
}

// inputs returns what an attempt reads.
func (t *emitter) inputs(stage string, named []trimtab.Named) []DatasetRef {
	var list []DatasetRef
	for _, n := range named {
		list = append(list, t.dataset(t.inputName(stage, n), n.Digest))
	}
	return list
}

// inputName returns the name of the dataset behind an input of a stage: by the
// plan, the output of another stage, an imported model or a dataset.
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

// outputs returns what an attempt wrote.
func (t *emitter) outputs(stage string, named []trimtab.Named) []DatasetRef {
	var list []DatasetRef
	for _, n := range named {
		list = append(list, t.dataset(t.outputName(stage, n.Name), n.Digest))
	}
	return list
}

// outputName returns the name of the dataset that is a stage's output.
func (t *emitter) outputName(stage, name string) string {
	return t.run.Recipe + "/" + stage + "/" + name
}

// dataset returns a dataset in one version.
func (t *emitter) dataset(name string, version trimtab.Digest) DatasetRef {
	return DatasetRef{t.run.Namespace, name, map[string]any{
		"version": standardFacet("DatasetVersionDatasetFacet", "1-0-1",
			map[string]any{"datasetVersion": string(version)})}}
}
