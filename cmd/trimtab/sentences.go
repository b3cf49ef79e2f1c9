package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// annotatedEvent is an event with what its own body does not say.
type annotatedEvent struct {
	storage.Event
	note runs.EventNote
	role string // the database role that the decision was asked for under
}

// sentences says for each type of event what happened. Each reads the body as
// storage wrote it; one that cannot be read so is shown by its type and gist.
var sentences = map[string]func(annotatedEvent) (string, error){
	"run_created":        decodeBody(runCreated),
	"run_planned":        decodeBody(runPlanned),
	"run_status":         decodeBody(runStatusChanged),
	"attempt_created":    decodeBody(attemptCreated),
	"attempt_started":    decodeBody(attemptStarted),
	"attempt_status":     decodeBody(attemptStatusChanged),
	"attempt_completed":  decodeBody(attemptCompleted),
	"steps_committed":    decodeBody(func(h annotatedEvent, c stepCommit) string { return c.sentence(h, 1) }),
	"checkpoint_damaged": decodeBody(checkpointDamaged),
	"artifact_made":      decodeBody(artifactMade),
	"evaluation_made":    decodeBody(evaluationMade),
	"decision":           decodeBody(decisionMade),
	"decision_requested": decodeBody(decisionRequested),
	"decision_refused":   decodeBody(decisionRefused),
	"dataset_created":    decodeBody(datasetCreated),
	"items_added":        decodeBody(itemsAdded),
	"dataset_frozen":     decodeBody(datasetFrozen),
	"dataset_split":      decodeBody(datasetSplit),
	"files_imported":     decodeBody(filesImported),
	"items_erased":       decodeBody(itemsErased),
	"document_kept":      decodeBody(documentKept),
	"model_exported":     decodeBody(modelExported),
	"model_named":        decodeBody(modelNamed),
	"reproduced":         decodeBody(runReproduced),
	"key_used":           decodeBody(keyUsed),
	"audit_verified":     decodeBody(auditVerified),
}

// sentence makes a sentence of a body of type T.
func decodeBody[T any](say func(annotatedEvent, T) string) func(annotatedEvent) (string, error) {
	return func(h annotatedEvent) (string, error) {
		var body T
		if err := json.Unmarshal(h.Body, &body); err != nil {
			return "", err
		}
		return say(h, body), nil
	}
}

// sentence is the event in words.
func (h annotatedEvent) sentence() string {
	if say, ok := sentences[h.Type]; ok {
		if text, err := say(h); err == nil {
			return text
		}
	}
	return strings.TrimSpace(strings.TrimSpace(h.subject()+" "+h.Type) + ": " + summarizeBody(h.Body))
}

// subject names what the event is about: a stage, with its attempt from the second on, or a dataset.
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

// actorLabel is the actor; a worker is named with the build that the attempt is on.
func (h annotatedEvent) actorLabel(build string) string {
	if h.Actor != "worker" || build == "" {
		return h.Actor
	}
	return "worker " + shortBuild(build)
}

// workerBuild is the worker's build that the event tells of, if it does.
func (h annotatedEvent) workerBuild() string {
	var body struct{ Build string }
	if h.Type != "attempt_started" || json.Unmarshal(h.Body, &body) != nil {
		return ""
	}
	return body.Build
}

// shortBuild is as much of a build id as tells two apart at a glance.
func shortBuild(build string) string { return build[:min(6, len(build))] }

// withReason adds the reason that a person gave.
func withReason(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + "; reason: " + reason
}

func runCreated(h annotatedEvent, b struct {
	Name, Origin, Reason, Seed, Stage string
	SpecDigest                        trimtab.Digest `json:"spec_digest"`
	Overrides                         []trimtab.Override
}) string {
	text := "launched"
	if h.note.Recipe != "" {
		text += " from recipe " + h.note.Recipe
	}
	if b.Name != h.note.Recipe {
		text += fmt.Sprintf(" as %s", b.Name)
	}
	text += fmt.Sprintf(" with seed %s", b.Seed)
	if b.Origin != "" {
		text += fmt.Sprintf("; it reruns %s from %s on: %s", b.Origin, b.Stage,
			formatChanges(b.Overrides, h.note.Changes))
	}
	return withReason(text, b.Reason)
}

func runPlanned(h annotatedEvent, b struct {
	Stage, Reason string
	Overrides     []trimtab.Override
}) string {
	return withReason(fmt.Sprintf("planned again from %s: %s", b.Stage, formatChanges(b.Overrides, h.note.Changes)),
		b.Reason)
}

// formatChanges tells each override with the value before, where that is known.
func formatChanges(overrides []trimtab.Override, changes []runs.SpecDifference) string {
	if len(overrides) == 0 {
		return "nothing is changed"
	}
	var parts []string
	for _, o := range overrides {
		path, _, _ := strings.Cut(o.Set, "=")
		was := changesBelow(strings.TrimSpace(path), changes)
		if o.Set == "" || len(was) == 0 {
			was = []string{formatOverrides([]trimtab.Override{o})}
		}
		parts = append(parts, was...)
	}
	return strings.Join(parts, ", ")
}

// changesBelow are the changes at a path and below it, as old -> new.
func changesBelow(path string, changes []runs.SpecDifference) []string {
	var parts []string
	for _, c := range changes {
		if c.Path == path || strings.HasPrefix(c.Path, path+".") {
			parts = append(parts, fmt.Sprintf("%s %s -> %s", c.Path, formatValue(c.Values[0]),
				formatValue(c.Values[len(c.Values)-1])))
		}
	}
	return parts
}

// formatValue is a value of a spec as people read it: digests short, text without quotes, what is not there as (none).
func formatValue(v json.RawMessage) string {
	var text string
	switch {
	case len(v) == 0:
		return "(none)"
	case json.Unmarshal(v, &text) != nil:
		return string(bytes.ReplaceAll(v, []byte(`"`), nil))
	case text == "":
		return "(empty)"
	}
	return summarizeValue(text)
}

type statusBody struct {
	Status, From, Next, Reason string
	Error                      *trimtab.Error
}

// cause is why, as far as an error says.
func (b statusBody) cause() string {
	if b.Error == nil {
		return ""
	}
	return ": " + b.Error.Message
}

func runStatusChanged(_ annotatedEvent, b statusBody) string {
	again := ""
	if b.From == b.Status {
		again = "still "
	}
	switch s := trimtab.RunStatus(b.Status); {
	case s == trimtab.RunRunning && b.From == string(trimtab.RunQueued):
		return "the run began"
	case s == trimtab.RunRunning:
		return "the run goes on"
	case s == trimtab.RunWaiting && b.Error == nil && b.Next != "":
		return "the run " + again + "waits: " + b.Next
	case s == trimtab.RunWaiting:
		return "the run " + again + "waits" + b.cause()
	case s == trimtab.RunCompleted:
		return "the run is completed"
	case s == trimtab.RunFailed:
		return "the run failed" + b.cause()
	}
	return "the run is " + again + b.Status + b.cause()
}

func attemptCreated(h annotatedEvent, b struct {
	Status, Reason string
	From           trimtab.Digest `json:"from_checkpoint"`
	Inputs         []trimtab.Named
	Outputs        []trimtab.Named
	ReusedFrom     int64 `json:"reused_from"`
}) string {
	text := h.subject() + " is queued"
	switch {
	case b.ReusedFrom != 0:
		maker := "an earlier attempt"
		if h.note.ReusedFrom != nil {
			maker = h.note.ReusedFrom.Within(h.Stream)
		}
		text = fmt.Sprintf("%s is unchanged: it takes over what %s made: %s", h.subject(), maker,
			formatNamed(b.Outputs))
	case b.From != "":
		text += " to go on from checkpoint " + b.From.Short()
	case len(b.Inputs) > 0:
		text += " with " + formatNamed(b.Inputs)
	}
	return withReason(text, b.Reason)
}

func formatNamed(list []trimtab.Named) string {
	var parts []string
	for _, n := range list {
		parts = append(parts, n.Name+" "+n.Digest.Short())
	}
	return strings.Join(parts, ", ")
}

func attemptStarted(h annotatedEvent, b struct {
	Build, From, Kernels string
	Steps                int
	Data                 []trimtab.Metric // older events have none
}) string {
	verb, data := "went on", ""
	if b.From == string(trimtab.AttemptQueued) {
		verb = "began"
		for _, f := range trimtab.Fits(b.Data) {
			if !f.Whole() && f.Items != "text" {
				data += "; " + f.String()
			}
		}
	}
	build := shortBuild(b.Build)
	if b.Kernels != "" { // older events do not say
		build += " (" + b.Kernels + ")"
	}
	return fmt.Sprintf("%s %s on build %s with %s%s", h.subject(), verb, build, plural(b.Steps, "step"), data)
}

func attemptStatusChanged(h annotatedEvent, b statusBody) string {
	text := h.subject()
	switch trimtab.AttemptStatus(b.Status) {
	case trimtab.AttemptRetrying:
		text += " was interrupted and will go on" + b.cause()
	case trimtab.AttemptRunning:
		text += " goes on" + b.cause()
	case trimtab.AttemptFailed:
		text += " failed" + b.cause()
	case trimtab.AttemptStale:
		text += " no longer counts: what it stands on is made again"
	default:
		text += " is " + b.Status + b.cause()
	}
	return withReason(text, b.Reason)
}

func attemptCompleted(h annotatedEvent, b struct {
	Outputs []trimtab.Named
	Metrics []trimtab.Metric
}) string {
	var parts []string
	if m := formatMetrics(metricsByName(b.Metrics), 4); m != "" {
		parts = append(parts, strings.ReplaceAll(m, "  ", ", "))
	}
	if out := formatNamed(b.Outputs); out != "" {
		parts = append(parts, out)
	}
	if len(parts) == 0 {
		return h.subject() + " is completed"
	}
	return h.subject() + " is completed: " + strings.Join(parts, "; ")
}

// stepCommit is what one commit of steps tells, or several in a row do.
type stepCommit struct {
	From, Until, Steps int
	Checkpoint         *struct {
		Digest trimtab.Digest
		Step   int
	}
}

func (c stepCommit) sentence(h annotatedEvent, parts int) string {
	text := h.subject() + ": "
	switch {
	case c.Steps == 0 && c.Checkpoint != nil:
		return fmt.Sprintf("%scheckpoint %s before step %s", text, c.Checkpoint.Digest.Short(),
			withThousands(c.Checkpoint.Step))
	case c.Until == c.From+1:
		text += fmt.Sprintf("step %s committed", withThousands(c.From))
	default:
		text += fmt.Sprintf("steps %s to %s committed", withThousands(c.From), withThousands(c.Until-1))
	}
	if parts > 1 {
		text += fmt.Sprintf(" in %d parts", parts)
	}
	if c.Checkpoint != nil {
		text += ", checkpoint " + c.Checkpoint.Digest.Short()
	}
	return text
}

// countConsecutiveCommits counts the commits at the beginning of events that follow on one another in one attempt, at
// least 1.
func countConsecutiveCommits(events []storage.Event) int {
	n, next := 0, -1
	for n < len(events) && events[n].Type == "steps_committed" && events[n].Stage == events[0].Stage &&
		events[n].Attempt == events[0].Attempt {
		var c stepCommit
		if json.Unmarshal(events[n].Body, &c) != nil || c.Steps == 0 || next >= 0 && c.From != next {
			break
		}
		next = c.Until
		n++
	}
	return max(1, n)
}

// commitsSentence is one sentence for commits in a row.
func commitsSentence(events []storage.Event) string {
	var all stepCommit
	for i, e := range events {
		var c stepCommit
		_ = json.Unmarshal(e.Body, &c) // countConsecutiveCommits has read it
		if i == 0 {
			all.From = c.From
		}
		all.Until, all.Steps = c.Until, all.Steps+c.Steps
		if c.Checkpoint != nil {
			all.Checkpoint = c.Checkpoint
		}
	}
	return all.sentence(annotatedEvent{Event: events[0]}, len(events))
}

func checkpointDamaged(h annotatedEvent, b struct {
	Digest trimtab.Digest
	Step   int
	Gone   bool
	Error  *trimtab.Error
}) string {
	what := "is damaged"
	if b.Gone {
		what = "is gone"
	}
	return fmt.Sprintf("%s: checkpoint %s before step %s %s, so it is not used%s", h.subject(), b.Digest.Short(),
		withThousands(b.Step), what, statusBody{Error: b.Error}.cause())
}

func artifactMade(h annotatedEvent, b struct {
	Digest     trimtab.Digest
	Kind, Name string
	Parameters float64
}) string {
	what := "model"
	if b.Kind == "reward" {
		what = "reward model"
	}
	if h.Stage == "" {
		return fmt.Sprintf("%s %s came in as %s, %s parameters", what, b.Digest.Short(), b.Name,
			strings.TrimSpace(formatCount(b.Parameters)))
	}
	return fmt.Sprintf("%s made %s %s, %s parameters", h.subject(), what, b.Digest.Short(),
		strings.TrimSpace(formatCount(b.Parameters)))
}

func evaluationMade(h annotatedEvent, b struct{ Document trimtab.Digest }) string {
	return strings.TrimSpace(fmt.Sprintf("%s wrote its report %s", h.subject(), b.Document.Short()))
}

func decisionMade(h annotatedEvent, b struct {
	Decision string
	Details  struct{ Reason string }
}) string {
	of := h.subject()
	if of == "" {
		of = "the run"
	}
	text := map[string]string{
		"approve": "approved " + of + ", which missed its gate", "skip": "skipped " + of,
		"cancel": "cancelled " + of, "pause": "paused " + of, "resume": "resumed " + of, "rerun": "had " + of +
			" run again",
	}[b.Decision]
	if text == "" {
		text = fmt.Sprintf("decided about %s: %s", of, b.Decision)
	}
	if h.role != "" && h.role != storage.AppRole {
		text += ", as database role " + h.role
	}
	if b.Details.Reason != "" {
		text += ": " + b.Details.Reason
	}
	return text
}

func decisionRequested(h annotatedEvent, b struct{ Decision, Actor, Reason string }) string {
	return withReason(fmt.Sprintf("asked in the name of %s: %s %s", b.Actor, b.Decision,
		cmp.Or(h.subject(), "the run")), b.Reason)
}

func decisionRefused(h annotatedEvent, b struct {
	Decision string
	Error    *trimtab.Error
}) string {
	return fmt.Sprintf("refused to %s %s%s", b.Decision, cmp.Or(h.subject(), "the run"),
		statusBody{Error: b.Error}.cause())
}

func datasetCreated(h annotatedEvent, b struct{ Kind string }) string {
	return fmt.Sprintf("dataset %s begins, for %s", h.subject(), b.Kind)
}

func itemsAdded(h annotatedEvent, b struct{ Added, Given int }) string {
	text := fmt.Sprintf("dataset %s: %s added", h.subject(), plural(b.Added, "item"))
	if b.Given > b.Added {
		text += fmt.Sprintf(", %s there already", withThousands(b.Given-b.Added))
	}
	return text
}

func datasetSplit(h annotatedEvent, b struct {
	By      string
	Seed    uint64
	Items   int
	HeldOut int `json:"held_out"`
}) string {
	return fmt.Sprintf("dataset %s split by %s, seed %d: %s of %s held out", h.subject(), b.By, b.Seed,
		withThousands(b.HeldOut), plural(b.Items, "item"))
}

func datasetFrozen(h annotatedEvent, b struct {
	Version trimtab.Digest
	Items   int
}) string {
	return fmt.Sprintf("dataset %s frozen as %s, %s", h.subject(), b.Version.Short(), plural(b.Items, "item"))
}

func filesImported(h annotatedEvent, b struct {
	Files []struct {
		Name   string
		Digest trimtab.Digest
		Items  int
	}
}) string {
	var parts []string
	for _, f := range b.Files {
		parts = append(parts, fmt.Sprintf("%s (%s, %s)", f.Name, f.Digest.Short(), plural(f.Items, "item")))
	}
	return fmt.Sprintf("dataset %s: read from %s", h.subject(), strings.Join(parts, ", "))
}

func itemsErased(h annotatedEvent, b struct {
	Items  []trimtab.Digest
	Reason string
}) string {
	return withReason(fmt.Sprintf("dataset %s: the text of %s erased", h.subject(), plural(len(b.Items), "item")),
		b.Reason)
}

func documentKept(_ annotatedEvent, b struct{ Digest trimtab.Digest }) string {
	return "document " + b.Digest.Short() + " kept"
}

func modelExported(_ annotatedEvent, b struct{ Digest trimtab.Digest }) string {
	return "exported model " + b.Digest.Short()
}

func modelNamed(_ annotatedEvent, b struct {
	Name           string
	Digest, Before trimtab.Digest
}) string {
	return fmt.Sprintf("moved the name %s from model %s to %s", b.Name, b.Before.Short(), b.Digest.Short())
}

func runReproduced(h annotatedEvent, b struct {
	Identical bool
	Kernels   string
	Stages    []struct {
		Stage, First string
		Error        *trimtab.Error // why it could not be run
	}
}) string {
	what := cmp.Or(h.subject(), "the run")
	if b.Identical {
		return fmt.Sprintf("ran %s again on %s: identical", what, b.Kernels)
	}
	for _, st := range b.Stages {
		switch {
		case st.First != "":
			return fmt.Sprintf("ran %s again on %s: %s differs: %s", what, b.Kernels, st.Stage, st.First)
		case st.Error != nil:
			return fmt.Sprintf("ran %s again on %s: %s failed: %s", what, b.Kernels, st.Stage, st.Error.Message)
		}
	}
	return fmt.Sprintf("ran %s again on %s: it could not be shown to be identical", what, b.Kernels)
}

func keyUsed(_ annotatedEvent, b struct{ Verifier string }) string {
	name, _, _ := strings.Cut(b.Verifier, "+")
	return "tree heads are signed with key " + name
}

func auditVerified(_ annotatedEvent, b struct{ Events, Problems int }) string {
	if b.Problems == 0 {
		return fmt.Sprintf("verified the record of %s: nothing was changed", plural(b.Events, "event"))
	}
	return fmt.Sprintf("verified the record of %s: %s", plural(b.Events, "event"), plural(b.Problems, "problem"))
}

// withThousands writes 3907 as 3,907.
func withThousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return withThousands(n) + " " + thing + "s"
}

// summarizeBody is what people read of a body that no sentence is for: its words and
// numbers, named digests in short, and the message of an error.
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

// summarizeList names the digests of a list; a list of anything else is left to -o json.
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
