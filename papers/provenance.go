package papers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/trimtab/trimtab"
)

// The types of the statement and of what it is about.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	buildType     = "https://github.com/trimtab/trimtab/stage/v1"
	builderID     = "https://github.com/trimtab/trimtab/worker"
	// purl is the package URL of the program.
	purl = "pkg:golang/github.com/trimtab/trimtab"
	// merkleRoot is the algorithm of a dataset version's digest: RFC 9162 over
	// the SHA-256 of its items.
	merkleRoot = "rfc9162MerkleSha256"
)

// resource is a ResourceDescriptor of in-toto.
type resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	Content     []byte            `json:"content,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// statement is an in-toto Statement v1 with SLSA's predicate.
type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     struct {
		BuildDefinition buildDefinition `json:"buildDefinition"`
		RunDetails      runDetails      `json:"runDetails"`
	} `json:"predicate"`
}

// buildDefinition is SLSA's: the inputs that determine the result. External
// parameters are the user's, internal ones the program's.
type buildDefinition struct {
	BuildType            string         `json:"buildType"`
	ExternalParameters   map[string]any `json:"externalParameters"`
	InternalParameters   map[string]any `json:"internalParameters"`
	ResolvedDependencies []resource     `json:"resolvedDependencies"`
}

// runDetails is SLSA's: facts about this particular execution.
type runDetails struct {
	Builder struct {
		ID      string            `json:"id"`
		Version map[string]string `json:"version,omitempty"`
	} `json:"builder"`
	Metadata struct {
		InvocationID string     `json:"invocationId"`
		StartedOn    *time.Time `json:"startedOn,omitempty"`
		FinishedOn   *time.Time `json:"finishedOn,omitempty"`
	} `json:"metadata"`
	Byproducts []resource `json:"byproducts"`
}

// Provenance returns how the last stage made the model, as an unsigned in-toto
// Statement v1 with SLSA provenance v1:
//
//	subject               the model by its digest, and each of its files
//	externalParameters    the stage, its kind and its config
//	internalParameters    seed, numerics, version of the stage, digests
//	resolvedDependencies  models, datasets, checkpoint, tokenizer, program
//	runDetails            the attempt, the build, when it ran
//	byproducts            final metrics, the report of the evaluation
//
// What its inputs came from is in their own provenance. An imported model has
// none: the error is NotFound "provenance_unknown".
func Provenance(f *Facts) ([]byte, error) {
	a := f.Lineage.Producer(f.Lineage.Model)
	if a == nil {
		return nil, trimtab.NewError(trimtab.NotFound, "provenance_unknown", "ask the source that it was imported from",
			"model %s was imported: the record does not know how it was made", f.Lineage.Model.Short())
	}
	s := statement{Type: statementType, PredicateType: predicateType, Subject: f.subjects()}
	d := &s.Predicate.BuildDefinition
	d.BuildType = buildType
	d.ExternalParameters = map[string]any{"stage": a.Stage, "kind": a.StageKind, "config": json.RawMessage("{}")}
	// Where the record lacks the config, an empty one stands for it.
	if c := f.config(a); c != nil {
		d.ExternalParameters["config"] = c
	}
	d.InternalParameters = map[string]any{
		// Readers of JSON lose digits of a 64-bit number.
		"seed":         strconv.FormatUint(a.Seed, 10),
		"numerics":     a.Numerics,
		"stageVersion": a.Version(),
		"configDigest": a.Config,
		"cacheKey":     a.CacheKey,
	}
	d.ResolvedDependencies = f.dependencies(a)
	r := &s.Predicate.RunDetails
	r.Builder.ID = builderID
	if a.Build != "" {
		r.Builder.Version = map[string]string{"build": a.Build}
	}
	r.Metadata.InvocationID = a.Name()
	r.Metadata.StartedOn, r.Metadata.FinishedOn = utc(a.StartedAt), utc(a.EndedAt)
	var err error
	if r.Byproducts, err = f.byproducts(a); err != nil {
		return nil, err
	}
	body, err := json.MarshalIndent(s, "", "  ")
	return append(ascii(body), '\n'), err
}

// subjects are the model, each of its files, and each exported file.
func (f *Facts) subjects() []resource {
	list := []resource{{Name: f.Name, Digest: sha256Of(f.Lineage.Model),
		Annotations: map[string]any{"digestOf": "the lines \"sha256 size name\" of its files, sorted"}}}
	for _, file := range f.Files {
		list = append(list, resource{Name: file.Name, Digest: sha256Of(file.Digest)})
	}
	for _, file := range f.Exported {
		list = append(list, resource{Name: "exported/" + file.Name, Digest: sha256Of(file.Digest),
			Annotations: map[string]any{"form": "as it is exported, for other programs"}})
	}
	return list
}

// sha256Of returns a digest as in-toto's digest set.
func sha256Of(d trimtab.Digest) map[string]string { return map[string]string{"sha256": d.Hex()} }

// dependencies are what an attempt read, and the program that ran it.
func (f *Facts) dependencies(a *AttemptFacts) []resource {
	var list []resource
	id := IDOf(NodeAttempt, a.Name())
	for _, e := range f.Lineage.From(id) {
		to := f.Lineage.Node(e.To)
		r := resource{Name: e.Role, Annotations: map[string]any{"called": to.Name, "kind": to.Kind}}
		switch to.Kind {
		case NodeModel:
			r.Digest = sha256Of(to.ID)
		case NodeDataset:
			r.Digest = map[string]string{merkleRoot: to.ID.Hex()}
			r.Annotations["items"], r.Annotations["data"] = to.Dataset.Items, to.Dataset.DataKind
		case NodeAttempt:
			r.Digest = sha256Of(a.FromCheckpoint)
			r.Annotations["kind"] = "checkpoint"
		default:
			continue
		}
		list = append(list, r)
	}
	for _, e := range f.Lineage.From(f.Lineage.Model) {
		if e.Role == RoleTokenizer && !f.trainedBy(e.To, id) {
			list = append(list, resource{Name: "tokenizer", Digest: sha256Of(e.To)})
		}
	}
	code := resource{Name: "trimtab", URI: purl}
	if d, err := trimtab.ParseDigest(a.Build); err == nil {
		code.Digest = sha256Of(d)
	}
	return append(list, code)
}

// trainedBy reports whether an attempt trained a tokenizer, which is then not
// one of its dependencies.
func (f *Facts) trainedBy(tokenizer, attempt trimtab.Digest) bool {
	for _, e := range f.Lineage.From(tokenizer) {
		if e.Role == RoleTrainedBy && e.To == attempt {
			return true
		}
	}
	return false
}

// byproducts are the attempt's final metrics, and the report of the model's
// evaluation.
func (f *Facts) byproducts(a *AttemptFacts) ([]resource, error) {
	metrics := a.Metrics
	if metrics == nil {
		metrics = []trimtab.Metric{}
	}
	body, err := json.Marshal(metrics)
	if err != nil {
		return nil, fmt.Errorf("write the metrics of attempt %s: %w", a.Name(), err)
	}
	list := []resource{{Name: "metrics", Digest: sha256Of(trimtab.DigestOf(body)), Content: body,
		MediaType: "application/json"}}
	if e := f.Evaluation; e != nil {
		list = append(list, resource{Name: "evaluation", Digest: sha256Of(e.Document), MediaType: "application/json"})
	}
	return list, nil
}

// utc returns a time in UTC, so that the bytes do not depend on the zone of the
// machine.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// ascii escapes what is not ASCII in a JSON text, so that a name with invisible
// characters or another writing direction looks like what it is.
func ascii(body []byte) []byte {
	var b bytes.Buffer
	for len(body) > 0 {
		r, n := utf8.DecodeRune(body)
		body = body[n:]
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	return b.Bytes()
}
