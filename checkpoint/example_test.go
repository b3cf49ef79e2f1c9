package checkpoint_test

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/tensor"
)

// A training state is stored under the digest of its file, with the step from
// which it continues, and is verified when it is read.
func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := checkpoint.Open(dir)
	if err != nil {
		log.Fatal(err)
	}

	state := []tensor.NamedArray{{Name: "w", Shape: []int{2, 2}, Data: []float32{1, 2, 3, 4}}}
	digest, err := store.SaveState(checkpoint.AttemptName(7), 100, state)
	if err != nil {
		log.Fatal(err)
	}

	restored := []tensor.NamedArray{{Name: "w", Shape: []int{2, 2}, Data: make([]float32, 4)}}
	step, err := store.LoadState(checkpoint.AttemptName(7), digest, restored)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("continue from step", step, "with", restored[0].Data)

	again, err := store.SaveState(checkpoint.AttemptName(7), 100, restored)
	fmt.Println("same content, same digest:", again == digest, err)
	// Output:
	// continue from step 100 with [1 2 3 4]
	// same content, same digest: true <nil>
}

// Garbage is found by asking a policy what is still referenced, and removed
// after it has been looked at.
func ExampleStore_CollectGarbage() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := checkpoint.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	var digests []trimtab.Digest
	for step := range 3 {
		state := []tensor.NamedArray{{Name: "w", Shape: []int{1}, Data: []float32{float32(step)}}}
		d, err := store.SaveState(checkpoint.AttemptName(7), step, state)
		if err != nil {
			log.Fatal(err)
		}
		digests = append(digests, d)
	}

	policy := checkpoint.GCPolicy{
		Grace: -time.Second, // for this example: files of any age
		State: func(attempt int64, d trimtab.Digest) string {
			if d == digests[2] {
				return ""
			}
			return fmt.Sprintf("is not the newest state of attempt %d", attempt)
		},
	}
	garbage, err := store.FindUnreferenced(policy)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range garbage {
		fmt.Println("the file", f.Reason)
	}
	removed, err := store.CollectGarbage(garbage, policy)
	fmt.Println("removed", len(removed), "files:", err)
	// Output:
	// the file is not the newest state of attempt 7
	// the file is not the newest state of attempt 7
	// removed 2 files: <nil>
}
