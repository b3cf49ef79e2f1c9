package runs

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/trimtab/trimtab"
)

// Comparison sets two or more runs side by side. Every list of values has one
// entry for each run, in the order of Runs; an entry is null where a run has no
// value.
type Comparison struct {
	// Always "trimtab.comparison/v1".
	Schema string `json:"schema"`
	// All stages are finished and bit-identical.
	Equal bool `json:"equal"`
	// The comparison in one sentence.
	Verdict string        `json:"verdict"`
	Runs    []ComparedRun `json:"runs"`
	// The settings at which the specs differ.
	Spec []SpecDifference `json:"spec"`
	// The inputs for which stages read different versions.
	Data   []DataDifference `json:"data"`
	Stages []ComparedStage  `json:"stages"`
	// From the evaluations.
	Scores []ComparedScore `json:"scores"`
	// Prompts that all evaluations show.
	Samples []ComparedSample `json:"samples"`
}

// ComparedRun describes a run of a comparison as a whole.
type ComparedRun struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Status     trimtab.RunStatus `json:"status"`
	Seed       uint64            `json:"seed"`
	Numerics   string            `json:"numerics"`
	SpecDigest trimtab.Digest    `json:"spec_digest"`
	Origin     *string           `json:"origin"`
	CreatedAt  time.Time         `json:"created_at"`
	Seconds    float64           `json:"seconds"`
	// The builds that its newest attempts ran on, each once.
	Builds []string `json:"builds"`
}

// DataDifference is an input for which the runs read different datasets or base
// models.
type DataDifference struct {
	// The input's name, such as prompts or model.
	Input string `json:"input"`
	// The stages whose inputs differ in the same way.
	Stages []string       `json:"stages"`
	Values []*InputSource `json:"values"`
}

// InputSource is where a stage's input comes from: a dataset version or a
// stored model, given by name and digest, or another stage of the run.
type InputSource struct {
	Name   string         `json:"name,omitempty"`
	Digest trimtab.Digest `json:"digest,omitempty"`
	Stage  string         `json:"stage,omitempty"`
}

// ComparedStage compares the stages of one name. Equal and Differs are both
// false while some runs have not finished the stage and nothing differs so far.
type ComparedStage struct {
	Name string `json:"name"`
	// Bit-identical, and finished in all runs.
	Equal bool `json:"equal"`
	// A difference has been found.
	Differs bool `json:"differs"`
	// The result in a few words.
	Verdict string `json:"verdict"`
	// The newest attempts; null for a run without the stage.
	Attempts []*ComparedAttempt `json:"attempts"`
	Outputs  []ComparedOutput   `json:"outputs"`
	// Final metrics.
	Metrics []ComparedMetric `json:"metrics"`
	// Null unless at least two runs have taken steps.
	Series *ComparedSeries `json:"series"`
}

// ComparedAttempt is how far a run has come with a stage. Of a reused attempt,
// Build, Steps and Seconds are those of the attempt that did the work.
type ComparedAttempt struct {
	Kind string `json:"kind"`
	// Number within the stage; 0 before the first.
	Attempt int                   `json:"attempt"`
	Status  trimtab.AttemptStatus `json:"status"`
	// Its outputs were taken over from an earlier attempt.
	Reused bool   `json:"reused"`
	Build  string `json:"build"`
	// Steps done.
	Steps   int     `json:"steps"`
	Seconds float64 `json:"seconds"`
}

// ComparedOutput is an output of a stage, compared by digest.
type ComparedOutput struct {
	Name    string            `json:"name"`
	Equal   bool              `json:"equal"`
	Digests []*trimtab.Digest `json:"digests"`
}

// ComparedMetric is a metric at the end of a stage.
type ComparedMetric struct {
	Name string `json:"name"`
	// Equal bit for bit, so that two NaNs of the same bits are equal.
	Equal  bool      `json:"equal"`
	Values []*Number `json:"values"`
	// Each value minus that of the first run that has one.
	Differences []*Number `json:"differences"`
}

// ComparedSeries compares the metrics of every step.
type ComparedSeries struct {
	// Steps that all runs with the stage have done; only these are compared.
	Steps int `json:"steps"`
	// Bit-identical in these steps.
	Equal bool `json:"equal"`
	// The first value that differs, by step and then by name.
	First *struct {
		Step   int       `json:"step"`
		Metric string    `json:"metric"`
		Values []*Number `json:"values"`
	} `json:"first_difference"`
}

// ComparedScore is a score of a model in the evaluations, with its 95 %
// interval where the report has one.
type ComparedScore struct {
	Model   string    `json:"model"`
	Measure string    `json:"measure"`
	Values  []*Number `json:"values"`
	Low     []*Number `json:"low,omitempty"`
	High    []*Number `json:"high,omitempty"`
	// Each value minus that of the first run that has one.
	Differences []*Number `json:"differences"`
}

// ComparedSample is a prompt that all evaluations show, with the responses of
// each run's models by model name.
type ComparedSample struct {
	Prompt  string              `json:"prompt"`
	Answers []map[string]string `json:"answers"`
}

// Number is a measured number. JSON has no NaN and no infinity, so those are
// encoded as strings.
type Number float64

// MarshalJSON encodes a finite number as a number, and NaN, +Inf and -Inf as
// strings.
func (n Number) MarshalJSON() ([]byte, error) {
	if v := float64(n); math.IsNaN(v) || math.IsInf(v, 0) {
		return json.Marshal(fmt.Sprint(v))
	}
	return json.Marshal(float64(n))
}
