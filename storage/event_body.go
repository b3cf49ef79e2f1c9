package storage

import "github.com/trimtab/trimtab"

// The bodies of events, one type for each event type whose body always has the
// same fields. Their JSON is hashed and kept for ever, so the fields stand in
// the order of their names, as in the JSON of a map, and none may be renamed,
// removed or given another JSON type. A newer build may add a field; in the
// events of older builds it is absent.
//
// The bodies of run_created, steps_committed, decision_requested and decision
// have groups of optional fields. They are maps, whose keys JSON sorts.
type (
	runPlannedBody struct {
		Overrides []trimtab.Override `json:"overrides"`
		Plan      trimtab.Plan       `json:"plan"`
		Reason    string             `json:"reason"`
		Revision  int                `json:"revision"` // of the plan; that of run_created is 0
		Stage     string             `json:"stage"`    // the first that is rerun
	}
	runStatusBody struct {
		Error  *trimtab.Error    `json:"error"`
		From   trimtab.RunStatus `json:"from"`
		Next   string            `json:"next"` // what happens next, for people
		Status trimtab.RunStatus `json:"status"`
	}
	attemptCreatedBody struct {
		CacheKey       trimtab.Digest        `json:"cache_key"`
		Config         trimtab.Digest        `json:"config"`          // of a document
		FromCheckpoint trimtab.Digest        `json:"from_checkpoint"` // empty: from step 0
		Inputs         []trimtab.Named       `json:"inputs"`
		Kind           string                `json:"kind"`
		Outputs        []trimtab.Named       `json:"outputs"` // of a reused attempt
		Reason         string                `json:"reason"`
		ReusedFrom     int64                 `json:"reused_from"` // id of an attempt, 0 for none
		Status         trimtab.AttemptStatus `json:"status"`
	}
	attemptStartedBody struct {
		Build   string                `json:"build"`
		Data    []trimtab.Metric      `json:"data"` // how much of its data the stage reads
		From    trimtab.AttemptStatus `json:"from"`
		Kernels string                `json:"kernels"`
		Steps   int                   `json:"steps"` // how many the stage has
		Token   int64                 `json:"token"` // of the lease
	}
	attemptStatusBody struct {
		Error  *trimtab.Error        `json:"error"`
		From   trimtab.AttemptStatus `json:"from"`
		Reason string                `json:"reason,omitempty"` // of a person, when it becomes stale
		Status trimtab.AttemptStatus `json:"status"`
	}
	attemptCompletedBody struct {
		Metrics []trimtab.Metric `json:"metrics"` // finite ones; JSON has no others
		Outputs []trimtab.Named  `json:"outputs"`
	}
	checkpointDamagedBody struct {
		Digest trimtab.Digest `json:"digest"`
		Error  *trimtab.Error `json:"error"`
		Gone   bool           `json:"gone"` // the file is missing, not altered
		Step   int            `json:"step"`
	}
	evaluationMadeBody struct {
		Document trimtab.Digest `json:"document"`
	}
	documentKeptBody struct {
		Digest trimtab.Digest `json:"digest"`
	}
	artifactMadeBody struct {
		Digest     trimtab.Digest `json:"digest"`
		Kind       string         `json:"kind"` // model, reward
		Name       string         `json:"name"`
		Parameters int64          `json:"parameters"` // how many
	}
	modelNamedBody struct {
		Before trimtab.Digest `json:"before"` // the artifact that had the name
		Digest trimtab.Digest `json:"digest"` // the one that has it now
		Name   string         `json:"name"`
	}
	datasetCreatedBody struct {
		Kind trimtab.Kind `json:"kind"`
	}
	itemsAddedBody struct {
		Added int            `json:"added"` // new in the dataset
		Given int            `json:"given"` // different items in the call
		Root  trimtab.Digest `json:"root"`  // Merkle root of the given ones
	}
	filesImportedBody struct {
		Files []ImportedFile `json:"files"`
	}
	datasetFrozenBody struct {
		Items   int            `json:"items"` // duplicates counted
		Version trimtab.Digest `json:"version"`
	}
	datasetSplitBody struct {
		Below    uint64  `json:"below,string"` // units numbered below it are held out
		By       SplitBy `json:"by"`
		HeldOut  int     `json:"held_out"` // items
		Items    int     `json:"items"`    // that had no split
		Made     []int64 `json:"made"`     // sequences of the events that added the items with a split
		Replaced int     `json:"replaced"` // items
		Replaces []int64 `json:"replaces"` // sequences of the events that had added them without
		Seed     uint64  `json:"seed"`
		Share    float64 `json:"share"` // of the units, 0 to 1
	}
	itemsErasedBody struct {
		Items    []trimtab.Digest `json:"items"`
		Reason   string           `json:"reason"`
		Rows     int              `json:"rows"`     // whose text was removed
		Versions []trimtab.Digest `json:"versions"` // frozen ones that contain an item
	}
	decisionRefusedBody struct {
		Decision string         `json:"decision"`
		Error    *trimtab.Error `json:"error"`
		Request  int64          `json:"request"` // sequence of decision_requested
	}
)
