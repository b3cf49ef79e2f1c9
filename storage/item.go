package storage

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// The loads of items, one for each table. A ranking is stored in three: the
// ranking, its responses, which other rankings may share, and ranking_response,
// which links them with a rank.
var (
	textLoad   = load{table: "text_item", key: []string{"digest"}, columns: []string{"body"}}
	promptLoad = load{table: "prompt", key: []string{"digest"}, columns: []string{"prompt", "split", "tag"}}
	demoLoad   = load{table: "demonstration", key: []string{"digest"},
		columns: []string{"prompt", "completion", "demonstrator", "split"}}
	responseLoad = load{table: "response", key: []string{"digest"},
		columns: []string{"bytes", "tokens", "tokenizer", "model"}, uncompared: []string{"text"}}
	rankingLoad = load{table: "ranking", key: []string{"digest"},
		columns: []string{"prompt", "labeller", "guideline", "split", "grouping"}, uncompared: []string{"seconds"}}
	rankedResponseLoad = load{table: "ranking_response", key: []string{"ranking", "position"},
		columns: []string{"response", "rank"}}
)

// digestedItem is an item with its digest.
type digestedItem struct {
	digest trimtab.Digest
	item   trimtab.Item
}

// itemRow is an item's row, in the order of the columns of its load.
func itemRow(d digestedItem) []any {
	switch it := d.item.(type) {
	case trimtab.Text:
		return []any{d.digest, it.Body}
	case trimtab.Prompt:
		return []any{d.digest, it.Text, it.Split, it.Tag}
	case trimtab.Demonstration:
		return []any{d.digest, it.Prompt, it.Response, it.Demonstrator, it.Split}
	case trimtab.Ranking:
		return []any{d.digest, it.Prompt, it.Labeller, it.Guideline, it.Split, it.Group, it.Seconds}
	}
	panic("storage: an item of a kind that was not checked")
}

// rankedResponse is a response at its place in a ranking.
type rankedResponse struct {
	ranking, digest trimtab.Digest
	position        int // 1, 2, 3 … as in the ranking
	rank            int // 1 is best; ties share a rank
	response        trimtab.Response
}

// row is the row of table ranking_response.
func (p rankedResponse) row() []any { return []any{p.ranking, p.position, p.digest, p.rank} }

// responseRow is the row of table response. Its text is for people who read
// the table, and empty where the bytes are text themselves.
func (p rankedResponse) responseRow() []any {
	text := storableText(string(p.response.Bytes))
	if text == string(p.response.Bytes) {
		text = ""
	}
	return []any{p.digest, p.response.Bytes, p.response.Tokens, p.response.Tokenizer, p.response.Model, text}
}

// rankedResponses lists the responses of rankings, ranking by ranking.
func rankedResponses(items []digestedItem) ([]rankedResponse, error) {
	var places []rankedResponse
	for _, d := range items {
		r, ok := d.item.(trimtab.Ranking)
		if !ok {
			return nil, invalid("invalid_item", "item %s has the Go type %T", d.digest.Short(), d.item)
		}
		for i, resp := range r.Responses {
			digest, err := responseDigest(resp)
			if err != nil {
				return nil, err
			}
			places = append(places, rankedResponse{d.digest, digest, i + 1, r.Ranks[i], resp})
		}
	}
	return places, nil
}

// responseDigest identifies a response by all of its fields. As in a
// ranking's canonical form, null tokens differ from empty ones.
func responseDigest(r trimtab.Response) (trimtab.Digest, error) {
	raw, err := trimtab.EncodeJSON(struct { // in the order of the names
		Bytes     []byte         `json:"bytes"`
		Model     trimtab.Digest `json:"model"`
		Tokenizer trimtab.Digest `json:"tokenizer"`
		Tokens    []int32        `json:"tokens"`
	}{r.Bytes, r.Model, r.Tokenizer, r.Tokens})
	return trimtab.DigestOf(raw), err
}

// readItems reads items of one kind by their digests, in order of digest.
// Items that are not there are left out. The caller verifies their digests.
func readItems(ctx context.Context, tx pgx.Tx, kind trimtab.Kind, digests []trimtab.Digest) ([]digestedItem, error) {
	const from = " where digest = any($1) order by digest"
	switch kind {
	case trimtab.KindText:
		return queryRows(ctx, tx, func(row pgx.CollectableRow) (d digestedItem, err error) {
			var it trimtab.Text
			err = row.Scan(&d.digest, &it.Body)
			d.item = it
			return d, err
		}, "select digest, body from text_item"+from, digests)
	case trimtab.KindPrompts:
		return queryRows(ctx, tx, func(row pgx.CollectableRow) (d digestedItem, err error) {
			var it trimtab.Prompt
			err = row.Scan(&d.digest, &it.Text, &it.Split, &it.Tag)
			d.item = it
			return d, err
		}, "select digest, prompt, split, tag from prompt"+from, digests)
	case trimtab.KindDemonstrations:
		return queryRows(ctx, tx, func(row pgx.CollectableRow) (d digestedItem, err error) {
			var it trimtab.Demonstration
			err = row.Scan(&d.digest, &it.Prompt, &it.Response, &it.Demonstrator, &it.Split)
			d.item = it
			return d, err
		}, "select digest, prompt, completion, demonstrator, split from demonstration"+from, digests)
	}
	return readRankings(ctx, tx, digests)
}

// readRankings reads rankings and, with a second query, all of their
// responses, and merges the two in order of digest.
func readRankings(ctx context.Context, tx pgx.Tx, digests []trimtab.Digest) ([]digestedItem, error) {
	places, err := queryRows(ctx, tx, func(row pgx.CollectableRow) (p rankedResponse, err error) {
		err = row.Scan(&p.ranking, &p.rank, &p.response.Bytes, &p.response.Tokens, &p.response.Tokenizer,
			&p.response.Model)
		return p, err
	}, `select p.ranking, p.rank, r.bytes, r.tokens, r.tokenizer, r.model
		from ranking_response p join response r on r.digest = p.response
		where p.ranking = any($1) order by p.ranking, p.position`, digests)
	if err != nil {
		return nil, err
	}
	return queryRows(ctx, tx, func(row pgx.CollectableRow) (d digestedItem, err error) {
		var r trimtab.Ranking
		err = row.Scan(&d.digest, &r.Prompt, &r.Labeller, &r.Guideline, &r.Split, &r.Group, &r.Seconds)
		for len(places) > 0 && places[0].ranking <= d.digest {
			if places[0].ranking == d.digest {
				r.Responses = append(r.Responses, places[0].response)
				r.Ranks = append(r.Ranks, places[0].rank)
			}
			places = places[1:]
		}
		d.item = r
		return d, err
	},
		"select digest, prompt, labeller, guideline, split, grouping, seconds from ranking where digest = any($1) "+
			"order by digest", digests)
}
