package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// annotatedEvent is an event together with facts that its own body lacks.
type annotatedEvent struct {
	storage.Event
	// note has what the service looked up: the recipe, the changes of a
	// rerun, the attempt that a reused stage points to.
	note runs.EventNote
	// role is the database role under which a decision was requested.
	role string
}

// sentences maps each type of event to the function that puts it into words.
// A sentence continues the name of the actor, as in "ann launched …", or has
// the stage as its subject, as in "sft started …"; it is in the past tense,
// on one line, and has no full stop. A test checks that every type that is
// recorded has one.
//
// The functions take the fields of the body that they use as an anonymous
// struct: bodies of events recorded by older builds may lack some of them. A
// body that cannot be decoded is printed by its type and a summary.
var sentences = map[trimtab.EventType]func(annotatedEvent) (string, error){
	trimtab.EventRunCreated:        decodeBody(runCreated),
	trimtab.EventRunPlanned:        decodeBody(runPlanned),
	trimtab.EventRunStatus:         decodeBody(runStatusChanged),
	trimtab.EventAttemptCreated:    decodeBody(attemptCreated),
	trimtab.EventAttemptStarted:    decodeBody(attemptStarted),
	trimtab.EventAttemptStatus:     decodeBody(attemptStatusChanged),
	trimtab.EventAttemptCompleted:  decodeBody(attemptCompleted),
	trimtab.EventStepsCommitted:    decodeBody(func(h annotatedEvent, c stepCommit) string { return c.sentence(h, 1) }),
	trimtab.EventCheckpointDamaged: decodeBody(checkpointDamaged),
	trimtab.EventArtifactMade:      decodeBody(artifactMade),
	trimtab.EventEvaluationMade:    decodeBody(evaluationMade),
	trimtab.EventDecision:          decodeBody(decisionMade),
	trimtab.EventDecisionRequested: decodeBody(decisionRequested),
	trimtab.EventDecisionRefused:   decodeBody(decisionRefused),
	trimtab.EventDatasetCreated:    decodeBody(datasetCreated),
	trimtab.EventItemsAdded:        decodeBody(itemsAdded),
	trimtab.EventDatasetFrozen:     decodeBody(datasetFrozen),
	trimtab.EventDatasetSplit:      decodeBody(datasetSplit),
	trimtab.EventFilesImported:     decodeBody(filesImported),
	trimtab.EventItemsErased:       decodeBody(itemsErased),
	trimtab.EventDocumentKept:      decodeBody(documentKept),
	trimtab.EventModelExported:     decodeBody(modelExported),
	trimtab.EventModelNamed:        decodeBody(modelNamed),
	trimtab.EventReproduced:        decodeBody(runReproduced),
	trimtab.EventKeyUsed:           decodeBody(keyUsed),
	trimtab.EventAuditVerified:     decodeBody(auditVerified),
}

// decodeBody adapts a function that takes a decoded body of type T.
func decodeBody[T any](say func(annotatedEvent, T) string) func(annotatedEvent) (string, error) {
	return func(h annotatedEvent) (string, error) {
		var body T
		if err := json.Unmarshal(h.Body, &body); err != nil {
			return "", err
		}
		return say(h, body), nil
	}
}

// sentence is the event in words; of an unknown type, its type and a summary
// of its body.
func (h annotatedEvent) sentence() string {
	if say, ok := sentences[h.Type]; ok {
		if text, err := say(h); err == nil {
			return text
		}
	}
	return strings.TrimSpace(strings.TrimSpace(h.subject()+" "+string(h.Type)) + ": " + summarizeBody(h.Body))
}

// subject names what the event is about: a stage, with the number of the
// attempt from the second on, a dataset, or nothing for the run itself.
func (h annotatedEvent) subject() string {
	switch {
	case h.Attempt > 1:
		return fmt.Sprintf("%s attempt %d", h.Stage, h.Attempt)
	case h.Stage != "":
		return h.Stage
	}
	name, _ := strings.CutPrefix(h.Stream, "dataset/")
	if name == h.Stream {
		return ""
	}
	return name
}

// actorLabel is the actor; a worker is followed by the build that the attempt
// runs on, since "worker" alone says little.
func (h annotatedEvent) actorLabel(build string) string {
	if h.Actor != "worker" || build == "" {
		return h.Actor
	}
	return "worker " + shortBuild(build)
}

// workerBuild is the build in an attempt_started event, and empty for others.
func (h annotatedEvent) workerBuild() string {
	var body struct{ Build string }
	if h.Type != trimtab.EventAttemptStarted || json.Unmarshal(h.Body, &body) != nil {
		return ""
	}
	return body.Build
}

// shortBuild is the beginning of a build id, enough to distinguish a few
// builds.
func shortBuild(build string) string { return build[:min(6, len(build))] }

// withReason appends the reason that a person gave, if they gave one.
func withReason(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + "; reason: " + reason
}

// summarizeBody lists the fields of a body that no sentence was written for:
// words, numbers, shortened digests and the message of an error. Everything
// else is left to -o json.
func summarizeBody(body json.RawMessage) string {
	var fields map[string]any
	if json.Unmarshal(body, &fields) != nil {
		return string(body)
	}
	var parts []string
	for _, key := range sortedKeys(fields) {
		if text := summarizeValue(fields[key]); text != "" {
			parts = append(parts, key+" "+text)
		}
	}
	return strings.Join(parts, ", ")
}

// summarizeValue is the summary of one field; empty means that it is left
// out.
func summarizeValue(v any) string {
	switch v := v.(type) {
	case string:
		if d, err := trimtab.ParseDigest(v); err == nil {
			return d.Short()
		}
		return v
	case float64:
		if v != 0 {
			return formatExact(v)
		}
	case bool:
		return strconv.FormatBool(v)
	case map[string]any:
		for _, key := range []string{"message", "digest", "reason"} {
			if text, ok := v[key].(string); ok {
				return summarizeValue(text)
			}
		}
	case []any:
		return summarizeList(v)
	}
	return ""
}

// summarizeList lists the digests in a list with their names; a list of
// anything else is left out.
func summarizeList(list []any) string {
	var parts []string
	for _, one := range list {
		fields, _ := one.(map[string]any)
		if set, ok := fields["set"].(string); ok {
			parts = append(parts, set)
			continue
		}
		name, _ := fields["name"].(string)
		if data, ok := fields["data"].(string); ok {
			name = data
		}
		digest, ok := fields["digest"].(string)
		if !ok {
			return ""
		}
		parts = append(parts, name+" "+summarizeValue(digest))
	}
	return strings.Join(parts, " ")
}
