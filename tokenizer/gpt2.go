package tokenizer

import (
	"fmt"
	"sync"

	"github.com/tiktoken-go/tokenizer/codec"
)

// gpt2Pieces is the number of GPT-2's pieces, without <|endoftext|>, whose id
// it therefore is.
const gpt2Pieces = 50256 // without <|endoftext|>

// gpt2 builds the vocabulary once, on first use: most commands do not need it.
var gpt2 = sync.OnceValues(fromTiktoken)

// GPT2 returns GPT-2's vocabulary of 50,257 ids, taken from tiktoken's
// r50k_base. It has no padding token. Only the vocabulary is tiktoken's:
// splitting and merging are this package's, so any bytes round-trip, and
// "<|endoftext|>" in a text becomes ordinary ids, never 50256.
func GPT2() (*Tokenizer, error) { return gpt2() }

// fromTiktoken reads the pieces of r50k_base and recovers the merges from them.
func fromTiktoken() (*Tokenizer, error) {
	r50k := codec.NewR50kBase()
	pieces := make([]string, gpt2Pieces, gpt2Pieces+1)
	for id := range pieces {
		piece, err := r50k.Decode([]uint{uint(id)})
		if err != nil {
			return nil, fmt.Errorf("read tiktoken's r50k_base, id %d: %w", id, err)
		}
		pieces[id] = piece
	}
	merges, err := mergesOf(pieces)
	if err != nil {
		return nil, fmt.Errorf("read tiktoken's r50k_base: %w", err)
	}
	return newTokenizer(vocabulary{pieces: append(pieces, EndOfTextName), merges: merges,
		roles: rolesOf(gpt2Pieces, NoToken)})
}

// mergesOf recovers the merges from pieces listed in the order in which they
// were learned: encoding a piece with the earlier merges alone leaves exactly
// the two parts that its own merge joins.
func mergesOf(pieces []string) ([]merge, error) {
	ids := make(map[string]int32, len(pieces))
	for id, p := range pieces {
		ids[p] = int32(id)
	}
	merges := make([]merge, 0, len(pieces)-256)
	for id := int32(256); int(id) < len(pieces); id++ {
		parts := partsOf(pieces[id], id, ids)
		if len(parts) != 2 {
			return nil, fmt.Errorf("piece %d %q has %d parts, not 2", id, pieces[id], len(parts))
		}
		merges = append(merges, merge{ids[parts[0]], ids[parts[1]], id})
	}
	return merges, nil
}

// partsOf applies the merges of all ids below limit to the bytes of piece,
// always the lowest rank first, and returns the parts that are left.
func partsOf(piece string, limit int32, ids map[string]int32) []string {
	parts := make([]string, len(piece))
	for i := range len(piece) {
		parts[i] = piece[i : i+1]
	}
	for {
		best, at := limit, -1
		for i := range len(parts) - 1 {
			if id, ok := ids[parts[i]+parts[i+1]]; ok && id < best {
				best, at = id, i
			}
		}
		if at < 0 {
			return parts
		}
		parts[at] += parts[at+1]
		parts = append(parts[:at+1], parts[at+2:]...)
	}
}
