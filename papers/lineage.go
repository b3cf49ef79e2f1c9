// Package papers writes the documents that accompany a model: its lineage as a
// tree of text (Tree) and as a picture (SVG), its model card (Card), its
// provenance (Provenance) and its bill of materials (BOM).
//
// Each document is a pure function of Facts, which package runs gathers from
// the record: the same facts give the same bytes, without a clock or a random
// number. None of them says anything that is not in the record; what nobody
// recorded is stated to be unknown.
//
// Names, reasons and guidelines come from people and may be hostile. Each
// writer escapes them for its own format: markdown and escapeXML do it here,
// ascii for JSON. Tree leaves them as they are, for the terminal code to
// escape.
package papers

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/trimtab/trimtab"
)

// LineageSchema names the JSON form of a Lineage. A change that breaks readers
// needs a new version.
const LineageSchema = "trimtab.lineage/v1"

// Lineage is a model with everything that it was made from: a directed acyclic
// graph whose edges point from a result to what existed before it.
type Lineage struct {
	Schema string         `json:"schema"`
	Model  trimtab.Digest `json:"model"`
	// Nodes begin with the model, then come those one edge away, then two …
	Nodes []Node `json:"nodes"`
	// Edges are in the order of the nodes that they start at.
	Edges []Edge `json:"edges"`
}

// The kinds of node. They are stored in JSON and part of IDOf.
const (
	// NodeModel is a language model or a reward model.
	NodeModel = "model"
	// NodeAttempt is one attempt of a stage of a run.
	NodeAttempt = "attempt"
	// NodeRun is a run.
	NodeRun = "run"
	// NodeConfig is the config of a stage.
	NodeConfig = "config"
	// NodeDataset is a frozen version of a dataset.
	NodeDataset = "dataset"
	// NodeImport is one import of items into a dataset.
	NodeImport = "import"
	// NodeTokenizer is a tokenizer.
	NodeTokenizer = "tokenizer"
	// NodeLabeller is a person, or a simulated one, who ranked responses.
	NodeLabeller = "labeller"
	// NodeDemonstrator is a person, or a simulated one, who wrote
	// demonstrations.
	NodeDemonstrator = "demonstrator"
)

// Node is one thing in a lineage. Of the pointer fields, the one of its kind is
// set.
type Node struct {
	// ID is the digest of the content of a model, dataset version, config or
	// tokenizer. Attempts, runs, imports and people have no content of their
	// own: theirs is IDOf of their name.
	ID      trimtab.Digest  `json:"id"`
	Kind    string          `json:"kind"`
	Name    string          `json:"name"`
	Model   *ModelFacts     `json:"model,omitempty"`
	Attempt *AttemptFacts   `json:"attempt,omitempty"`
	Run     *RunFacts       `json:"run,omitempty"`
	Config  json.RawMessage `json:"config,omitempty"`
	Dataset *DatasetFacts   `json:"dataset,omitempty"`
	Import  *ImportFacts    `json:"import,omitempty"`
}

// IDOf returns the id of a node that has no content to be identified by.
func IDOf(kind, name string) trimtab.Digest { return trimtab.DigestOf([]byte(kind + " " + name)) }

// ModelFacts describe a model.
type ModelFacts struct {
	// Names are all names that the model was given, the oldest first.
	Names []string `json:"names"`
	// Kind is "model" for a language model and "reward" for a reward model.
	Kind       string `json:"kind"`
	Parameters int64  `json:"parameters,omitempty"`
	// ImportedBy and ImportedAt are set if no attempt made the model.
	ImportedBy string     `json:"imported_by,omitempty"`
	ImportedAt *time.Time `json:"imported_at,omitempty"`
	// AlsoMadeBy counts further attempts that computed the same bytes.
	AlsoMadeBy int `json:"also_made_by,omitempty"`
	// Absent means that the model is missing from this store, or damaged in it.
	Absent bool `json:"absent,omitempty"`
}

// AttemptFacts describe one attempt of a stage. The fields are those of the
// record at the time when the lineage was read; a later attempt of the same
// stage is another node.
type AttemptFacts struct {
	Run   string `json:"run"`
	Stage string `json:"stage"`
	// StageKind is pretrain, sft, collect, reward, ppo or evaluate; Stage is
	// the name that the recipe gives it.
	StageKind string `json:"stage_kind"`
	// Number counts the attempts of the stage, from 1.
	Number int    `json:"number"`
	Status string `json:"status"`
	// Actor is who started it, and Reason what they gave as a reason.
	Actor     string     `json:"actor"`
	Reason    string     `json:"reason,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	StartedAt *time.Time `json:"started_at,omitempty"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	Steps     int        `json:"steps"`
	// Seed, Numerics, StageVersion, Build and Config are all that a result
	// depends on besides its inputs. Build is the SHA-256 of the program that
	// last worked on the attempt.
	Seed         uint64         `json:"seed"`
	Numerics     string         `json:"numerics"`
	StageVersion int            `json:"stage_version"`
	Build        string         `json:"build"`
	Config       trimtab.Digest `json:"config"`
	// CacheKey identifies the work: attempts with equal keys reuse each other's
	// outputs.
	CacheKey trimtab.Digest `json:"cache_key,omitempty"`
	// FromCheckpoint is the checkpoint of another attempt that this one resumed
	// from.
	FromCheckpoint trimtab.Digest `json:"from_checkpoint,omitempty"`
	// Inputs and Outputs are named digests, Metrics those of the last step.
	Inputs    []trimtab.Named  `json:"inputs"`
	Outputs   []trimtab.Named  `json:"outputs"`
	Metrics   []trimtab.Metric `json:"metrics"`
	Decisions []DecisionFacts  `json:"decisions,omitempty"`
}

// Name returns the attempt as run/stage/number.
func (a AttemptFacts) Name() string { return fmt.Sprintf("%s/%s/%d", a.Run, a.Stage, a.Number) }

// Version returns the version of the stage's code, for example "ppo/1".
func (a AttemptFacts) Version() string { return fmt.Sprintf("%s/%d", a.StageKind, a.StageVersion) }

// DecisionFacts describe a decision of a person about an attempt, such as the
// approval of a result that failed its gate.
type DecisionFacts struct {
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	// Actor is the name that the person gave.
	Actor string `json:"actor"`
	// Role is the database role that the decision was recorded under; empty if
	// it is not known.
	Role string    `json:"role,omitempty"`
	At   time.Time `json:"at"`
}

// commonRole is the database role that everybody without one of their own
// shares. It says nothing about the person.
const commonRole = "trimtab_app"

// By returns who decided: the name that they gave, and their own database role
// if they have one. Only the role was verified, by Postgres.
func (d DecisionFacts) By() string {
	if d.Role == "" || d.Role == commonRole {
		return d.Actor
	}
	return d.Actor + " as database role " + d.Role
}

// RunFacts describe a run.
type RunFacts struct {
	ID string `json:"id"`
	// Actor is who launched the run, and Reason what they gave as a reason.
	Actor  string `json:"actor"`
	Reason string `json:"reason,omitempty"`
	// SpecDigest identifies the resolved spec, without the run's name and with
	// dataset names replaced by digests.
	SpecDigest trimtab.Digest `json:"spec_digest"`
	// Origin is the run that this one reruns.
	Origin    string    `json:"origin,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// DatasetFacts describe a frozen version of a dataset. Its node's ID is a
// Merkle root over the digests of its items.
type DatasetFacts struct {
	DataKind trimtab.Kind `json:"data_kind"`
	Items    int          `json:"items"`
	// HeldOut counts the items that are used for evaluation only; they are
	// included in Items, as are the Erased ones, whose text is gone.
	HeldOut int `json:"held_out"`
	// Pairs counts the comparisons in the rankings: pairs of responses with
	// different ranks.
	Pairs  int        `json:"pairs,omitempty"`
	Erased int        `json:"erased,omitempty"`
	Names  []FrozenAs `json:"names"`
	// Simulated means that the program played the labellers.
	Simulated bool `json:"simulated,omitempty"`
	// Generated means that the program wrote the items: those of the starter
	// world.
	Generated bool `json:"generated,omitempty"`
}

// FrozenAs is one name under which a version was frozen.
type FrozenAs struct {
	Dataset  string    `json:"dataset"`
	Actor    string    `json:"actor"`
	FrozenAt time.Time `json:"frozen_at"`
}

// ImportFacts describe one import of items into a dataset.
type ImportFacts struct {
	Dataset string `json:"dataset"`
	// Sequence is the number of its event in the dataset's stream.
	Sequence int64     `json:"sequence"`
	Actor    string    `json:"actor"`
	At       time.Time `json:"at"`
	// Given counts the items that were read, Added those that were new.
	Given int `json:"given"`
	Added int `json:"added"`
	// Root is the Merkle root over the items that were read.
	Root trimtab.Digest `json:"root"`
	// Files are the files that were read, if they are known.
	Files []ImportFile `json:"files"`
}

// ImportFile is a file that items were imported from.
type ImportFile struct {
	Name   string         `json:"name"`
	Digest trimtab.Digest `json:"digest"`
	Bytes  int64          `json:"bytes"`
	Items  int            `json:"items"`
}

// The roles of edges that are not inputs of a stage. They are stored in JSON.
const (
	// RoleMadeBy leads from a model to the attempt that made it.
	RoleMadeBy = "made_by"
	// RoleConfig leads from an attempt to its config, RoleRun to its run.
	RoleConfig = "config"
	RoleRun    = "run"
	// RoleReruns leads from a run to the run that it repeats.
	RoleReruns = "reruns"
	// RoleReused leads from an attempt to the one whose outputs it reused.
	RoleReused = "reused_from"
	// RoleContinued leads from an attempt to the one whose checkpoint it
	// resumed from.
	RoleContinued = "continued_from"
	// RoleTokenizer leads from a model to its tokenizer, and RoleTrainedBy from
	// there to the attempt that trained it.
	RoleTokenizer = "tokenizer"
	RoleTrainedBy = "trained_by"
	// RoleCollectedBy leads from a dataset version to the attempt that
	// collected it, and RoleSampledBy to the model that wrote its responses.
	RoleCollectedBy = "collected_by"
	RoleSampledBy   = "sampled_by"
	// RoleImported leads from a dataset version to an import of its items.
	RoleImported = "imported"
	// RoleRankedBy leads from a dataset version to a labeller, and
	// RoleWrittenBy to a demonstrator.
	RoleRankedBy  = "ranked_by"
	RoleWrittenBy = "written_by"
	// RoleReference leads from an attempt of a ppo stage to the model that its
	// KL penalty is measured against.
	RoleReference = "reference"
)

// Edge says that the node From came from the node To. A role other than the
// Role constants is the name of a stage's input: model, reward, prompts …
type Edge struct {
	From trimtab.Digest `json:"from"`
	To   trimtab.Digest `json:"to"`
	Role string         `json:"role"`
	// Count is a number of items, rankings or responses; HeldOut of them are
	// held out.
	Count   int `json:"count,omitempty"`
	HeldOut int `json:"held_out,omitempty"`
	// Guideline is the version of the instructions that the labeller followed.
	Guideline string `json:"guideline,omitempty"`
}

// Add adds a node and reports whether it was new.
func (l *Lineage) Add(n Node) bool {
	if l.Node(n.ID) != nil {
		return false
	}
	l.Nodes = append(l.Nodes, n)
	return true
}

// Link adds an edge unless the graph has it.
func (l *Lineage) Link(e Edge) {
	if !slices.Contains(l.Edges, e) {
		l.Edges = append(l.Edges, e)
	}
}

// Node returns a node by its id; nil if there is none. The pointer is valid
// until the next Add.
func (l *Lineage) Node(id trimtab.Digest) *Node {
	for i := range l.Nodes {
		if l.Nodes[i].ID == id {
			return &l.Nodes[i]
		}
	}
	return nil
}

// Sort sorts the edges by the nodes that they start at. Edges of one node keep
// their order.
func (l *Lineage) Sort() {
	at := make(map[trimtab.Digest]int, len(l.Nodes))
	for i, n := range l.Nodes {
		at[n.ID] = i
	}
	slices.SortStableFunc(l.Edges, func(a, b Edge) int { return at[a.From] - at[b.From] })
}

// From returns the edges that start at a node, in order.
func (l *Lineage) From(id trimtab.Digest) []Edge {
	var edges []Edge
	for _, e := range l.Edges {
		if e.From == id {
			edges = append(edges, e)
		}
	}
	return edges
}

// Producer returns the attempt that did the work for a model or a dataset
// version: the attempt that made it, or, if that one reused an earlier result,
// the attempt that computed it. It returns nil for anything imported.
func (l *Lineage) Producer(of trimtab.Digest) *AttemptFacts {
	// Seen ends a cycle, which a damaged record could have.
	at, seen := of, map[trimtab.Digest]bool{}
	for !seen[at] {
		seen[at] = true
		next := slices.IndexFunc(l.Edges, func(e Edge) bool {
			return e.From == at && (e.Role == RoleMadeBy || e.Role == RoleCollectedBy || e.Role == RoleReused)
		})
		if next < 0 {
			break
		}
		at = l.Edges[next].To
	}
	if n := l.Node(at); n != nil {
		return n.Attempt
	}
	return nil
}
