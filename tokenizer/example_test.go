package tokenizer_test

import (
	"fmt"
	"log"

	"github.com/trimtab/trimtab/tokenizer"
)

// A vocabulary is learned from texts, and encodes any text, also one with
// words that it has not seen.
func Example() {
	texts := []string{"low lower lowest", "new newer newest", "low low new new"}
	tok, err := tokenizer.Train(texts, 265) // the bytes, two special tokens and seven merges
	if err != nil {
		log.Fatal(err)
	}
	ids := tok.Encode("slower and newer")
	for i, id := range ids {
		if i > 0 {
			fmt.Print(" ")
		}
		fmt.Printf("%q", tok.Piece(id))
	}
	fmt.Printf("\n%s\n", tok.Decode(ids))
	fmt.Println(tok.VocabSize(), tok.Piece(tok.EndOfText()))
	// Output:
	// "s" "low" "e" "r" " " "a" "n" "d" " new" "e" "r"
	// slower and newer
	// 265 <|endoftext|>
}
