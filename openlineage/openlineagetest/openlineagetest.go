// Package openlineagetest checks events against the rules of OpenLineage's
// published schema, version 2-0-2, and of the facets that trimtab writes.
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

// RunEvent is what tests read of an event.
type RunEvent struct {
	EventType string
	EventTime time.Time
	Run       struct {
		RunID  string
		Facets struct {
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

// DatasetRef is what tests read of a dataset.
type DatasetRef struct {
	Namespace, Name string
	Facets          struct {
		Version struct{ DatasetVersion string }
	}
}

// String is the dataset's name and version.
func (d DatasetRef) String() string { return d.Name + "@" + d.Facets.Version.DatasetVersion }

// Parse reads an event and returns the first rule of the schema that it breaks.
func Parse(line []byte) (RunEvent, error) {
	var e RunEvent
	var raw map[string]any
	if err := json.Unmarshal(line, &raw); err != nil {
		return e, err
	}
	if err := checkEvent(raw); err != nil {
		return e, fmt.Errorf("%w in %s", err, line)
	}
	return e, json.Unmarshal(line, &e)
}

// CheckComplete returns the first way in which events of several runs are not one START and one end of each, in this
// order.
func CheckComplete(events []RunEvent) error {
	ends := map[string][]string{}
	var order []string
	for _, e := range events {
		if ends[e.Run.RunID] == nil {
			order = append(order, e.Run.RunID)
		}
		ends[e.Run.RunID] = append(ends[e.Run.RunID], e.EventType)
	}
	for _, id := range order {
		if l := ends[id]; len(l) != 2 || l[0] != "START" ||
			!slices.Contains([]string{"COMPLETE", "ABORT", "FAIL"}, l[1]) {
			return fmt.Errorf("run %s has the events %q", id, l)
		}
	}
	return nil
}

var (
	uuidPattern  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	facetPattern = regexp.MustCompile(`^https://openlineage\.io/spec/facets/[0-9]+-[0-9]+-[0-9]+/([A-Za-z]+)\.json#/\$defs/([A-Za-z]+)$`)
)

// requiredFields are the fields that the schema of a facet requires, by the key that the facet stands under.
var requiredFields = map[string][]string{
	"parent": {"run", "job"}, "processing_engine": {"version"}, "errorMessage": {"message", "programmingLanguage"},
	"jobType": {"processingType", "integration"}, "version": {"datasetVersion"},
}

func checkEvent(e map[string]any) error {
	if err := requireText(e, "eventType", "eventTime", "producer", "schemaURL"); err != nil {
		return err
	}
	if !slices.Contains([]string{"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}, e["eventType"].(string)) {
		return fmt.Errorf("eventType is %v", e["eventType"])
	}
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
	for _, key := range []string{"inputs", "outputs"} {
		list, ok := e[key].([]any)
		if !ok {
			return fmt.Errorf("%s is no list", key)
		}
		for _, d := range list {
			if err := checkNamed(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// requireText wants fields that are texts and not empty.
func requireText(of map[string]any, keys ...string) error {
	for _, key := range keys {
		if s, ok := of[key].(string); !ok || s == "" {
			return fmt.Errorf("%s is %v: want text", key, of[key])
		}
	}
	return nil
}

func checkAbsoluteURI(v any) error {
	s, _ := v.(string)
	if u, err := url.Parse(s); err != nil || !u.IsAbs() {
		return fmt.Errorf("%q is no absolute URI", s)
	}
	return nil
}

func checkRun(v any) error {
	r, _ := v.(map[string]any)
	if id, _ := r["runId"].(string); !uuidPattern.MatchString(id) {
		return fmt.Errorf("runId is %v: want a UUID", r["runId"])
	}
	if err := checkFacets(r["facets"]); err != nil {
		return err
	}
	parent, ok := r["facets"].(map[string]any)["parent"].(map[string]any)
	if !ok {
		return nil
	}
	if id, _ := parent["run"].(map[string]any)["runId"].(string); !uuidPattern.MatchString(id) {
		return fmt.Errorf("the parent's runId is %q", id)
	}
	return requireText(parent["job"].(map[string]any), "namespace", "name")
}

// checkNamed checks a job or a dataset.
func checkNamed(v any) error {
	n, _ := v.(map[string]any)
	if err := requireText(n, "namespace", "name"); err != nil {
		return err
	}
	return checkFacets(n["facets"])
}

func checkFacets(v any) error {
	all, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("facets are %v", v)
	}
	for key, one := range all {
		f, _ := one.(map[string]any)
		fields, known := requiredFields[key]
		if !known {
			return fmt.Errorf("facet %s is none that these tests know", key)
		}
		if err := checkAbsoluteURI(f["_producer"]); err != nil {
			return err
		}
		address, _ := f["_schemaURL"].(string)
		if m := facetPattern.FindStringSubmatch(address); m == nil || m[1] != m[2] ||
			!strings.Contains(strings.ToLower(m[1]), strings.ToLower(strings.ReplaceAll(key, "_", ""))) {
			return fmt.Errorf("facet %s has the schema %q", key, address)
		}
		for _, field := range fields {
			if f[field] == nil || f[field] == "" {
				return fmt.Errorf("facet %s has no %s", key, field)
			}
		}
	}
	return nil
}
