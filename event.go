package trimtab

// EventType says what happened. It is part of the bytes that an event's hash
// covers and is stored as text, so a type is never renamed: a new meaning gets
// a new type.
//
// The body of an event is a JSON object. What each type's body says is at the
// function of package storage that appends it; what its facts seal is in
// audit.Event.Seals.
type EventType string

// The events of a run, in the stream named by its id.
const (
	// EventRunCreated opens the stream of a run: its spec, its first plan and, for a rerun, what was changed.
	EventRunCreated EventType = "run_created"
	// EventRunPlanned replaces the run's plan by a new revision, after a person asked to rerun a stage.
	EventRunPlanned EventType = "run_planned"
	// EventRunStatus moves the run to another state, with what happens next and the error that caused it.
	EventRunStatus EventType = "run_status"
	// EventAttemptCreated adds an attempt of a stage, with its config, inputs and cache key, or the outputs it reuses.
	EventAttemptCreated EventType = "attempt_created"
	// EventAttemptStarted says that a worker began or resumed the attempt's steps, on which build and kernels.
	EventAttemptStarted EventType = "attempt_started"
	// EventAttemptStatus moves the attempt to a state other than running or completed.
	EventAttemptStatus EventType = "attempt_status"
	// EventAttemptCompleted closes the attempt with its outputs and final metrics.
	EventAttemptCompleted EventType = "attempt_completed"
	// EventStepsCommitted adds the reports of consecutive steps and, if one was written, the checkpoint after them.
	EventStepsCommitted EventType = "steps_committed"
	// EventCheckpointDamaged says that a checkpoint's file is missing or has other bytes, and is not used.
	EventCheckpointDamaged EventType = "checkpoint_damaged"
	// EventEvaluationMade links an evaluation report, which is a document, to the run.
	EventEvaluationMade EventType = "evaluation_made"
	// EventDecisionRequested is what a person asks of a run, recorded under their own database role.
	EventDecisionRequested EventType = "decision_requested"
	// EventDecision says that the run's workflow carried a requested decision out.
	EventDecision EventType = "decision"
	// EventDecisionRefused says why a requested decision was not carried out.
	EventDecisionRefused EventType = "decision_refused"
	// EventReproduced is the outcome of computing stages of the run again and comparing the bytes.
	EventReproduced EventType = "reproduced"
)

// The events of models, in the stream of the run that made one, of the
// artifact ("artifact/DIGEST") or of the name ("name/NAME").
const (
	// EventArtifactMade adds a model to the list of artifacts, with the attempt that made it or as imported.
	EventArtifactMade EventType = "artifact_made"
	// EventModelNamed moves a name from one imported model to another.
	EventModelNamed EventType = "model_named"
	// EventModelExported says that the files of a model were copied out of the store.
	EventModelExported EventType = "model_exported"
)

// The events of datasets, in the stream "dataset/NAME".
const (
	// EventDatasetCreated opens the stream of a dataset and fixes the kind of its items.
	EventDatasetCreated EventType = "dataset_created"
	// EventItemsAdded adds items to the dataset, under the Merkle root of those that were given.
	EventItemsAdded EventType = "items_added"
	// EventFilesImported names the files from which the items of the event before it were read.
	EventFilesImported EventType = "files_imported"
	// EventDatasetFrozen makes a version the dataset's newest.
	EventDatasetFrozen EventType = "dataset_frozen"
	// EventDatasetSplit assigns items to the training and the test split by a rule.
	EventDatasetSplit EventType = "dataset_split"
	// EventItemsErased removes the text of items and leaves their digests.
	EventItemsErased EventType = "items_erased"
)

// The events of the record itself, in the streams "documents" and "audit".
const (
	// EventDocumentKept stores a document (a config, a report) under its digest.
	EventDocumentKept EventType = "document_kept"
	// EventKeyUsed names the verification key of the signed tree heads that follow.
	EventKeyUsed EventType = "key_used"
	// EventAuditVerified is the outcome of a verification, with the size of the newest signed head it saw.
	EventAuditVerified EventType = "audit_verified"
)
