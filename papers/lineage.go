// Package papers writes what is said of a model: its lineage as a tree and as
// a picture, its model card, its provenance, and its bill of materials.
//
// Everything is a pure function of Facts, which package runs gathers from the
// record: the same facts give the same bytes. Names come from people and are
// hostile until they are escaped for the form that holds them.
package papers

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/trimtab/trimtab"
)

// LineageSchema names the form of a Lineage.
const LineageSchema = "trimtab.lineage/v1"

// Lineage is a model with everything it came from: a graph without cycles
// whose edges point to what was there before.
type Lineage struct {
	Schema string         `json:"schema"`
	Model  trimtab.Digest `json:"model"`
	Nodes  []Node         `json:"nodes"` // the model, then what is one edge away, then two …
	Edges  []Edge         `json:"edges"` // in order of the nodes that they start at
}

// The kinds of node.
const (
	NodeModel        = "model"
	NodeAttempt      = "attempt"
	NodeRun          = "run"
	NodeConfig       = "config"
	NodeDataset      = "dataset"
	NodeImport       = "import"
	NodeTokenizer    = "tokenizer"
	NodeLabeller     = "labeller"
	NodeDemonstrator = "demonstrator"
)

// Node is one thing that a model came from. Of its parts the one of its kind is set.
type Node struct {
	// ID is the digest of the thing itself: of a model, a dataset version, a config, a tokenizer; of the rest, of their
	// name (IDOf).
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

// IDOf is the id of what has no content of its own to be named by.
func IDOf(kind, name string) trimtab.Digest { return trimtab.DigestOf([]byte(kind + " " + name)) }

// ModelFacts is what a model node tells.
type ModelFacts struct {
	Names      []string `json:"names"` // the oldest first
	Kind       string   `json:"kind"`  // model, reward
	Parameters int64    `json:"parameters,omitempty"`
	// ImportedBy and ImportedAt are set where no attempt made it.
	ImportedBy string     `json:"imported_by,omitempty"`
	ImportedAt *time.Time `json:"imported_at,omitempty"`
	// AlsoMadeBy counts further attempts that made the same bytes by themselves.
	AlsoMadeBy int `json:"also_made_by,omitempty"`
	// Absent models are not in the store that was looked at, or damaged there.
	Absent bool `json:"absent,omitempty"`
}

// AttemptFacts is what an attempt node tells.
type AttemptFacts struct {
	Run            string           `json:"run"`
	Stage          string           `json:"stage"`
	StageKind      string           `json:"stage_kind"`
	Number         int              `json:"number"`
	Status         string           `json:"status"`
	Actor          string           `json:"actor"`
	Reason         string           `json:"reason,omitempty"`
	CreatedAt      time.Time        `json:"created_at"`
	StartedAt      *time.Time       `json:"started_at,omitempty"`
	EndedAt        *time.Time       `json:"ended_at,omitempty"`
	Steps          int              `json:"steps"`
	Seed           uint64           `json:"seed"`
	Numerics       string           `json:"numerics"`
	StageVersion   int              `json:"stage_version"`
	Build          string           `json:"build"` // SHA-256 of the program that last worked on it
	Config         trimtab.Digest   `json:"config"`
	CacheKey       trimtab.Digest   `json:"cache_key,omitempty"`
	FromCheckpoint trimtab.Digest   `json:"from_checkpoint,omitempty"`
	Inputs         []trimtab.Named  `json:"inputs"`
	Outputs        []trimtab.Named  `json:"outputs"`
	Metrics        []trimtab.Metric `json:"metrics"`
	Decisions      []DecisionFacts  `json:"decisions,omitempty"`
}

// Name is the attempt in a few words.
func (a AttemptFacts) Name() string { return fmt.Sprintf("%s/%s/%d", a.Run, a.Stage, a.Number) }

// Version is the code of the stage, as ppo/1.
func (a AttemptFacts) Version() string { return fmt.Sprintf("%s/%d", a.StageKind, a.StageVersion) }

// DecisionFacts is what a person decided about an attempt against the machine.
type DecisionFacts struct {
	Decision string    `json:"decision"`
	Reason   string    `json:"reason"`
	Actor    string    `json:"actor"`          // who he said he is
	Role     string    `json:"role,omitempty"` // the database role that he decided under; empty: it is not recorded
	At       time.Time `json:"at"`
}

// commonRole is the database role of whoever has none of his own.
const commonRole = "trimtab_app"

// By is who decided: the name that he gave, and his own database role if he has one.
func (d DecisionFacts) By() string {
	if d.Role == "" || d.Role == commonRole {
		return d.Actor
	}
	return d.Actor + " as database role " + d.Role
}

// RunFacts is what a run node tells.
type RunFacts struct {
	ID         string         `json:"id"`
	Actor      string         `json:"actor"`
	Reason     string         `json:"reason,omitempty"`
	SpecDigest trimtab.Digest `json:"spec_digest"`
	Origin     string         `json:"origin,omitempty"`
	CreatedAt  time.Time      `json:"created_at"`
}

// DatasetFacts is what the node of a dataset version tells.
type DatasetFacts struct {
	DataKind trimtab.Kind `json:"data_kind"`
	Items    int          `json:"items"`
	HeldOut  int          `json:"held_out"` // of them, for measuring only
	Pairs    int          `json:"pairs,omitempty"`
	Erased   int          `json:"erased,omitempty"` // of them, whose text is gone since
	Names    []FrozenAs   `json:"names"`
	// Simulated rankings are by labellers that the program plays.
	Simulated bool `json:"simulated,omitempty"`
	// Generated items were made by the program: those of the starter world.
	Generated bool `json:"generated,omitempty"`
}

// FrozenAs is a name that a version was frozen under.
type FrozenAs struct {
	Dataset  string    `json:"dataset"`
	Actor    string    `json:"actor"`
	FrozenAt time.Time `json:"frozen_at"`
}

// ImportFacts is what tells how items came into a dataset.
type ImportFacts struct {
	Dataset  string         `json:"dataset"`
	Sequence int64          `json:"sequence"` // of its event in the dataset's stream
	Actor    string         `json:"actor"`
	At       time.Time      `json:"at"`
	Given    int            `json:"given"`
	Added    int            `json:"added"`
	Root     trimtab.Digest `json:"root"`  // of what was given
	Files    []ImportFile   `json:"files"` // where they are known
}

// ImportFile is a file that items were read from.
type ImportFile struct {
	Name   string         `json:"name"`
	Digest trimtab.Digest `json:"digest"`
	Bytes  int64          `json:"bytes"`
	Items  int            `json:"items"`
}

// The roles of edges that are no inputs of a stage.
const (
	RoleMadeBy      = "made_by"        // a model by an attempt
	RoleConfig      = "config"         // of an attempt
	RoleRun         = "run"            // of an attempt
	RoleReruns      = "reruns"         // a run another
	RoleReused      = "reused_from"    // an attempt another's outputs
	RoleContinued   = "continued_from" // an attempt another's checkpoint
	RoleTokenizer   = "tokenizer"      // of a model
	RoleTrainedBy   = "trained_by"     // a tokenizer by an attempt
	RoleCollectedBy = "collected_by"   // a dataset version by an attempt
	RoleSampledBy   = "sampled_by"     // responses by a model
	RoleImported    = "imported"       // items by an import
	RoleRankedBy    = "ranked_by"      // rankings by a labeller
	RoleWrittenBy   = "written_by"     // demonstrations by a demonstrator
	RoleReference   = "reference"      // what ppo measures KL against
)

// Edge says that one node came from another. Roles other than the Role
// constants are names of inputs of a stage: model, reward, prompts …
type Edge struct {
	From      trimtab.Digest `json:"from"`
	To        trimtab.Digest `json:"to"`
	Role      string         `json:"role"`
	Count     int            `json:"count,omitempty"`     // items, rankings or responses
	HeldOut   int            `json:"held_out,omitempty"`  // of them
	Guideline string         `json:"guideline,omitempty"` // that the labeller followed
}

// Add adds a node and reports whether it was new.
func (l *Lineage) Add(n Node) bool {
	if l.Node(n.ID) != nil {
		return false
	}
	l.Nodes = append(l.Nodes, n)
	return true
}

// Link adds an edge, unless it is there.
func (l *Lineage) Link(e Edge) {
	if !slices.Contains(l.Edges, e) {
		l.Edges = append(l.Edges, e)
	}
}

// Node finds a node by its id; nil if there is none.
func (l *Lineage) Node(id trimtab.Digest) *Node {
	for i := range l.Nodes {
		if l.Nodes[i].ID == id {
			return &l.Nodes[i]
		}
	}
	return nil
}

// Sort puts the edges in order of the nodes that they start at; those of one node keep their order.
func (l *Lineage) Sort() {
	at := make(map[trimtab.Digest]int, len(l.Nodes))
	for i, n := range l.Nodes {
		at[n.ID] = i
	}
	slices.SortStableFunc(l.Edges, func(a, b Edge) int { return at[a.From] - at[b.From] })
}

// From lists the edges that start at a node, in order.
func (l *Lineage) From(id trimtab.Digest) []Edge {
	var edges []Edge
	for _, e := range l.Edges {
		if e.From == id {
			edges = append(edges, e)
		}
	}
	return edges
}

// Producer is the attempt that did the work for a model or a dataset version: its maker, or the one
// that the maker took it over from. It is nil for what was imported.
func (l *Lineage) Producer(of trimtab.Digest) *AttemptFacts {
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
