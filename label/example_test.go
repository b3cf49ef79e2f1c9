package label_test

import (
	"fmt"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/draw"
	"github.com/trimtab/trimtab/label"
)

// Two people rank the same three responses and differ in the order of the last two.
func ExampleAgreements() {
	texts := []trimtab.Response{{Bytes: []byte("a")}, {Bytes: []byte("b")}, {Bytes: []byte("c")}}
	total, each := label.Agreements([]trimtab.Ranking{
		{Prompt: "p", Labeller: "ann", Responses: texts, Ranks: []int{1, 2, 3}},
		{Prompt: "p", Labeller: "bea", Responses: texts, Ranks: []int{1, 3, 2}},
	})
	fmt.Printf("%.2f of %d pairs\n", total.Share(), total.Common)
	fmt.Println(each[0].A, each[0].B, each[0].Same)
	// Output:
	// 0.67 of 3 pairs
	// ann bea 2
}

// The pairs of one prompt are resampled together.
func ExampleBootstrap() {
	groups := []string{"p", "p", "q", "q", "r", "r"}
	correct := []float64{1, 1, 1, 0, 0, 0}
	interval := label.Bootstrap(groups, correct, .95, 1000, draw.New(1, "example"))
	fmt.Printf("%.2f, 95 %% interval %.2f to %.2f over %d prompts\n",
		label.Mean(correct), interval.Low, interval.High, interval.Groups)
	// Output:
	// 0.50, 95 % interval 0.00 to 1.00 over 3 prompts
}
