// Package openlineagetest checks events against the rules of OpenLineage's
// published schema, version 2-0-2, and of the facets that Trimtab writes. It
// imports nothing of package openlineage, so that the two cannot share a
// mistake.
package openlineagetest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// RunEvent holds what tests read of an event.
type RunEvent struct {
	// EventType is START, COMPLETE, ABORT or FAIL for events of Trimtab.
	EventType string
	EventTime time.Time
	Run       struct {
		// RunID is a UUID, the same in all events of one execution.
		RunID  string
		Facets struct {
			// Parent is set for the stages of a run.
			Parent struct {
				Run struct{ RunID string }
				Job struct{ Namespace, Name string }
			}
			ErrorMessage     struct{ Message string }
			ProcessingEngine struct{ Version string } `json:"processing_engine"`
		}
	}
	Job             struct{ Namespace, Name string }
	Inputs, Outputs []DatasetRef
}

// DatasetRef holds what tests read of a dataset.
type DatasetRef struct {
	Namespace, Name string
	// Facets holds the version: every dataset of Trimtab has one, its digest.
	Facets struct {
		Version struct{ DatasetVersion string }
	}
}

// String returns the dataset's name and version, as name@version.
func (d DatasetRef) String() string { return d.Name + "@" + d.Facets.Version.DatasetVersion }

// Parse parses an event. The error is the first rule of the schema that the
// event breaks.
func Parse(line []byte) (RunEvent, error) {
	var e RunEvent
	var raw map[string]any
	if err := json.Unmarshal(line, &raw); err != nil {
		return e, err
	}
	// The rules are checked on the untyped form: decoding into a struct would
	// accept an absent field as an empty one.
	if err := checkEvent(raw); err != nil {
		return e, fmt.Errorf("%w in %s", err, line)
	}
	return e, json.Unmarshal(line, &e)
}

// CheckComplete returns an error unless the events of each run are one START
// and then one end. Runs may be interleaved.
func CheckComplete(events []RunEvent) error {
	types := map[string][]string{} // by run
	var order []string             // of the runs, so that the same one is always reported
	for _, e := range events {
		if types[e.Run.RunID] == nil {
			order = append(order, e.Run.RunID)
		}
		types[e.Run.RunID] = append(types[e.Run.RunID], e.EventType)
	}
	for _, id := range order {
		// FAIL followed by COMPLETE, which Trimtab may emit for an attempt that was
		// taken for failed, is not one end.
		if got := types[id]; len(got) != 2 || got[0] != "START" ||
			!slices.Contains([]string{"COMPLETE", "ABORT", "FAIL"}, got[1]) {
			return fmt.Errorf("run %s has the events %q", id, got)
		}
	}
	return nil
}

// The forms of a UUID (RFC 9562, versions 1 to 8) and of a facet's schema,
// which names the facet twice.
var (
	uuidPattern  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	facetPattern = regexp.MustCompile(`^https://openlineage\.io/spec/facets/[0-9]+-[0-9]+-[0-9]+/` +
		`([A-Za-z]+)\.json#/\$defs/([A-Za-z]+)$`)
)

// requiredFields are the fields that the schema of a facet requires, by the key
// of the facet.
var requiredFields = map[string][]string{
	"parent": {"run", "job"}, "processing_engine": {"version"}, "errorMessage": {"message", "programmingLanguage"},
	"jobType": {"processingType", "integration"}, "version": {"datasetVersion"},
}

// checkEvent returns the first rule that an event breaks.
func checkEvent(e map[string]any) error {
	if err := requireText(e, "eventType", "eventTime", "producer", "schemaURL"); err != nil {
		return err
	}
	if !slices.Contains([]string{"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}, e["eventType"].(string)) {
		return fmt.Errorf("eventType is %v", e["eventType"])
	}
	// requireText has checked that the values below are strings.
	if _, err := time.Parse(time.RFC3339, e["eventTime"].(string)); err != nil {
		return err
	}
	if e["schemaURL"] != "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent" {
		return fmt.Errorf("schemaURL is %v", e["schemaURL"])
	}
	if err := checkAbsoluteURI(e["producer"]); err != nil {
		return err
	}
	if err := checkRun(e["run"]); err != nil {
		return err
	}
	if err := checkNamed(e["job"]); err != nil {
		return err
	}
	// The schema lets both be absent; Trimtab always writes them.
	for _, key := range []string{"inputs", "outputs"} {
		list, ok := e[key].([]any)
		if !ok {
			return fmt.Errorf("%s is not a list", key)
		}
		for _, d := range list {
			if err := checkNamed(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// requireText returns an error unless all keys hold strings that are not empty.
// The schema asks for strings only, but an empty name or type would be a
// mistake in every event of Trimtab.
func requireText(of map[string]any, keys ...string) error {
	for _, key := range keys {
		if s, ok := of[key].(string); !ok || s == "" {
			return fmt.Errorf("%s is %v: want text", key, of[key])
		}
	}
	return nil
}

// checkAbsoluteURI returns an error unless v is an absolute URI, as the schema
// asks of a producer.
func checkAbsoluteURI(v any) error {
	s, _ := v.(string)
	if u, err := url.Parse(s); err != nil || !u.IsAbs() {
		return fmt.Errorf("%q is not an absolute URI", s)
	}
	return nil
}

// checkRun checks the field run, and the parent in its facets.
func checkRun(v any) error {
	r, _ := v.(map[string]any)
	if id, _ := r["runId"].(string); !uuidPattern.MatchString(id) {
		return fmt.Errorf("runId is %v: want a UUID", r["runId"])
	}
	if err := checkFacets(r["facets"]); err != nil {
		return err
	}
	// Only the runs of stages have a parent: the run of the recipe.
	parent, ok := r["facets"].(map[string]any)["parent"].(map[string]any)
	if !ok {
		return nil
	}
	if id, _ := parent["run"].(map[string]any)["runId"].(string); !uuidPattern.MatchString(id) {
		return fmt.Errorf("the parent's runId is %q", id)
	}
	return requireText(parent["job"].(map[string]any), "namespace", "name")
}

// checkNamed checks a job or a dataset: both have a namespace, a name and
// facets.
func checkNamed(v any) error {
	n, _ := v.(map[string]any)
	if err := requireText(n, "namespace", "name"); err != nil {
		return err
	}
	return checkFacets(n["facets"])
}

// checkFacets checks that every facet is a known one, names its producer and
// its own schema, and has the fields that this schema requires. The name of the
// schema contains the key: parent is a ParentRunFacet.
func checkFacets(v any) error {
	all, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("facets are %v", v)
	}
	for key, one := range all {
		f, _ := one.(map[string]any)
		fields, known := requiredFields[key]
		if !known {
			return fmt.Errorf("facet %s is not known to these tests", key)
		}
		if err := checkAbsoluteURI(f["_producer"]); err != nil {
			return err
		}
		// The facet's own schema, of a published version: not "latest", not main.
		address, _ := f["_schemaURL"].(string)
		if m := facetPattern.FindStringSubmatch(address); m == nil || m[1] != m[2] ||
			!strings.Contains(strings.ToLower(m[1]), strings.ToLower(strings.ReplaceAll(key, "_", ""))) {
			return fmt.Errorf("facet %s has the schema %q", key, address)
		}
		// The facets that Trimtab writes have no field for which "" would be a value.
		for _, field := range fields {
			if f[field] == nil || f[field] == "" {
				return fmt.Errorf("facet %s has no %s", key, field)
			}
		}
	}
	return nil
}
