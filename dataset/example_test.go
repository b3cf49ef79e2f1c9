package dataset_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
)

// Read recognizes the form of each record by its columns. A record that cannot
// be used is reported with its line and does not affect the others.
func ExampleRead() {
	file := `{"prompt": "Where does Anna live?", "chosen": "In Oakton.", "rejected": "Go away."}
{"prompt": "Say hello.", "responses": ["Hello!", "Hi.", "No."], "rank": [1, 1, 2]}
{"prompt": "Say hello.", "responses": ["Hello!", "Hi."]}
`
	got, err := dataset.Read(trimtab.KindRankings, "rankings.jsonl", strings.NewReader(file), dataset.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range got.Items {
		ranking := item.(trimtab.Ranking)
		fmt.Printf("%s %d responses, ranks %v\n", ranking.Prompt, len(ranking.Responses), ranking.Ranks)
	}
	for _, problem := range got.Rejected {
		fmt.Println(problem)
	}
	// Output:
	// Where does Anna live? 2 responses, ranks [1 2]
	// Say hello. 3 responses, ranks [1 1 2]
	// rankings.jsonl:3: field "rank" is missing (have: prompt, responses): rename it or pass --map rank=COLUMN
}
