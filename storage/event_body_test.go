package storage

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/trimtab/trimtab"
)

// The JSON of a body is hashed. Its fields stand in the order of their names, as they did when bodies were maps, and a
// null stays a null.
func TestEventBodiesAreSorted(t *testing.T) {
	t.Parallel()
	e := trimtab.NewError(trimtab.Conflict, "odd", "look", "it is <odd>")
	for _, body := range []any{
		runPlannedBody{}, runPlannedBody{Revision: 2, Stage: "sft"}, runStatusBody{}, runStatusBody{Error: e},
		attemptCreatedBody{}, attemptCreatedBody{Inputs: []trimtab.Named{{Name: "a", Digest: "b"}}, ReusedFrom: 7},
		attemptStartedBody{}, attemptStatusBody{}, attemptStatusBody{Reason: "slower", Error: e}, attemptCompletedBody{},
		checkpointDamagedBody{}, evaluationMadeBody{}, documentKeptBody{}, artifactMadeBody{}, modelNamedBody{},
		datasetCreatedBody{}, itemsAddedBody{}, filesImportedBody{}, datasetFrozenBody{},
		datasetSplitBody{Below: 1 << 63, Share: .2, Made: []int64{}}, itemsErasedBody{}, decisionRefusedBody{Error: e},
	} {
		raw, err := trimtab.EncodeJSON(body)
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &fields); err != nil {
			t.Fatal(err)
		}
		want, err := trimtab.EncodeJSON(fields)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, want) {
			t.Errorf("%T is %s, sorted it is %s", body, raw, want)
		}
	}
}
