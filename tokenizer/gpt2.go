package tokenizer

import (
	"fmt"
	"sync"

	"github.com/tiktoken-go/tokenizer/codec"
)

const gpt2Pieces = 50256 // without <|endoftext|>

var gpt2 = sync.OnceValues(fromTiktoken)

// GPT2 is GPT-2's vocabulary of 50,257 ids, from tiktoken's r50k_base. It has
// no padding token. The vocabulary is tiktoken's; cutting and merging are this
// package's, so any bytes round-trip and "<|endoftext|>" in a text yields
// ordinary ids, never 50256.
func GPT2() (*Tokenizer, error) { return gpt2() }

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

// mergesOf recovers the merges from pieces in the order in which they were
// learned: the two parts of a piece are what the earlier merges make of it.
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

// partsOf merges the bytes of piece with all ids below limit.
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
