package papers_test

import (
	"fmt"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/papers"
)

// A lineage is a graph of facts from the record; Tree shows it in a terminal.
func ExampleLineage_Tree() {
	digest := func(name string) trimtab.Digest { return trimtab.DigestOf([]byte(name)) }
	sft, demos := digest("weights of sft"), digest("items of demos")
	attempt := papers.AttemptFacts{Run: "run1", Stage: "sft", StageKind: "sft", StageVersion: 1, Number: 1,
		Status: "completed", Actor: "ann", Steps: 40, Seed: 7, Numerics: "v1", Build: "0f1e2d3c4b5a"}
	id := papers.IDOf(papers.NodeAttempt, attempt.Name())

	lineage := papers.Lineage{Schema: papers.LineageSchema, Model: sft}
	lineage.Add(papers.Node{ID: sft, Kind: papers.NodeModel, Name: "run1/sft",
		Model: &papers.ModelFacts{Kind: "model"}})
	lineage.Add(papers.Node{ID: id, Kind: papers.NodeAttempt, Name: attempt.Name(), Attempt: &attempt})
	lineage.Add(papers.Node{ID: demos, Kind: papers.NodeDataset, Name: "demos",
		Dataset: &papers.DatasetFacts{DataKind: trimtab.KindDemonstrations, Items: 64, HeldOut: 8}})
	lineage.Link(papers.Edge{From: sft, To: id, Role: papers.RoleMadeBy})
	lineage.Link(papers.Edge{From: id, To: demos, Role: "demonstrations"})

	fmt.Println(strings.Join(lineage.Tree(), "\n"))
	// Output:
	// run1/sft 80485e39fd73
	// └─ made by: attempt 1 of sft in run run1, completed
	//    ├─ seed 7, numerics v1, code sft/1, build 0f1e2d3c4b5a
	//    ├─ 40 steps, begun by ann
	//    └─ demonstrations: demos 8da0ddd8215c, 64 items of demonstrations (8 held out)
}
