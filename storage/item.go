package storage

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// The tables of the items, by kind.
var (
	textLoad   = load{table: "text_item", key: []string{"digest"}, columns: []string{"body"}}
	promptLoad = load{table: "prompt", key: []string{"digest"}, columns: []string{"prompt", "split", "tag"}}
	demoLoad   = load{table: "demonstration", key: []string{"digest"},
		columns: []string{"prompt", "completion", "demonstrator", "split"}}
	responseLoad = load{table: "response", key: []string{"digest"},
		columns: []string{"bytes", "tokens", "tokenizer", "model", "text"}}
	rankingLoad = load{table: "ranking", key: []string{"digest"},
		columns: []string{"prompt", "labeller", "guideline", "split", "grouping"}, silent: []string{"seconds"}}
	placeLoad = load{table: "ranking_response", key: []string{"ranking", "position"}, columns: []string{"response", "rank"}}
)

// digested is an item beside its digest; unique items are in order of digest.
type digested struct {
	digest trimtab.Digest
	item   trimtab.Item
	copies int
}

// digestItems checks every item and returns each once, in order of digest, with how often it came.
func digestItems(kind trimtab.Kind, items []trimtab.Item) ([]digested, error) {
	all := make([]digested, len(items))
	for i, it := range items {
		if it == nil || it.Kind() != kind {
			return nil, invalid("invalid_item", "item %d is not one of %s", i+1, kind)
		}
		if err := it.Validate(); err != nil {
			return nil, invalid("invalid_item", "item %d: %w", i+1, err)
		}
		if err := storableItem(it); err != nil {
			return nil, err
		}
		all[i] = digested{trimtab.DigestOf(it.Canonical()), it, 1}
	}
	slices.SortStableFunc(all, func(a, b digested) int { return strings.Compare(string(a.digest), string(b.digest)) })
	unique := all[:0]
	for _, d := range all {
		if n := len(unique); n > 0 && unique[n-1].digest == d.digest {
			unique[n-1].copies++
			continue
		}
		unique = append(unique, d)
	}
	return unique, nil
}

func storableItem(it trimtab.Item) error {
	switch it := it.(type) {
	case trimtab.Prompt:
		return storable("tag", it.Tag)
	case trimtab.Demonstration:
		return storable("demonstrator", it.Demonstrator)
	case trimtab.Ranking:
		return storable("ranking", it.Labeller, it.Guideline, it.Group)
	}
	return nil
}

// putItems writes the items into the tables of their kind.
func putItems(ctx context.Context, tx pgx.Tx, kind trimtab.Kind, items []digested) error {
	switch kind {
	case trimtab.KindText:
		return putPlain(ctx, tx, textLoad, items)
	case trimtab.KindPrompts:
		return putPlain(ctx, tx, promptLoad, items)
	case trimtab.KindDemonstrations:
		return putPlain(ctx, tx, demoLoad, items)
	case trimtab.KindRankings:
		return putRankings(ctx, tx, items)
	}
	return invalid("invalid_kind", "no dataset is of kind %q", kind)
}

// putPlain writes items that are one row each.
func putPlain(ctx context.Context, tx pgx.Tx, l load, items []digested) error {
	if err := twins(ctx, tx, l); err != nil {
		return err
	}
	_, err := l.write(ctx, tx, len(items), func(i int) ([]any, error) {
		d := items[i].digest
		switch it := items[i].item.(type) {
		case trimtab.Text:
			return []any{d, it.Body}, nil
		case trimtab.Prompt:
			return []any{d, it.Text, it.Split, it.Tag}, nil
		case trimtab.Demonstration:
			return []any{d, it.Prompt, it.Response, it.Demonstrator, it.Split}, nil
		}
		return nil, invalid("invalid_item", "item %s has the Go type %T", d.Short(), items[i].item)
	})
	return err
}

// place is a response in its ranking.
type place struct {
	ranking, response trimtab.Digest
	position, rank    int
	is                trimtab.Response
}

func putRankings(ctx context.Context, tx pgx.Tx, items []digested) error {
	if err := twins(ctx, tx, rankingLoad, responseLoad, placeLoad); err != nil {
		return err
	}
	places, err := placesOf(items)
	if err != nil {
		return err
	}
	_, err = rankingLoad.write(ctx, tx, len(items), func(i int) ([]any, error) {
		r := items[i].item.(trimtab.Ranking)
		return []any{items[i].digest, r.Prompt, r.Labeller, r.Guideline, r.Split, r.Group, r.Seconds}, nil
	})
	if err != nil {
		return err
	}
	_, err = responseLoad.write(ctx, tx, len(places), func(i int) ([]any, error) {
		r := places[i].is
		return []any{places[i].response, r.Bytes, r.Tokens, r.Tokenizer, r.Model, clean(string(r.Bytes))}, nil
	})
	if err != nil {
		return err
	}
	_, err = placeLoad.write(ctx, tx, len(places), func(i int) ([]any, error) {
		p := places[i]
		return []any{p.ranking, p.position, p.response, p.rank}, nil
	})
	return err
}

func placesOf(items []digested) ([]place, error) {
	var places []place
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
			places = append(places, place{d.digest, digest, i + 1, r.Ranks[i], resp})
		}
	}
	return places, nil
}

// responseDigest names a response by all that it is: null and empty tokens are different, as in a ranking's canonical form.
func responseDigest(r trimtab.Response) (trimtab.Digest, error) {
	raw, err := encodeJSON(map[string]any{"bytes": r.Bytes, "model": r.Model, "tokenizer": r.Tokenizer, "tokens": r.Tokens})
	return trimtab.DigestOf(raw), err
}

// firstItems are the rows of dataset_version_item of version $1 in order of item, at most $2 of them; 0 is all.
const firstItems = "(select item, copies from dataset_version_item where version = $1 order by item limit nullif($2::bigint, 0))"

// readItems returns the first most different items of a version, or all if
// that is 0, in order of digest, each as often as it was frozen.
func readItems(ctx context.Context, tx pgx.Tx, kind trimtab.Kind, version trimtab.Digest, most int) ([]trimtab.Item, error) {
	const from = ", v.copies from " + firstItems + " v join %s t on t.digest = v.item order by v.item"
	query := func(columns, table string) string {
		return "select " + columns + strings.Replace(from, "%s", table, 1)
	}
	var rows []digested
	var err error
	switch kind {
	case trimtab.KindText:
		rows, err = collect(ctx, tx, func(row pgx.CollectableRow) (d digested, err error) {
			var it trimtab.Text
			err = row.Scan(&it.Body, &d.copies)
			d.item = it
			return d, err
		}, query("t.body", "text_item"), version, most)
	case trimtab.KindPrompts:
		rows, err = collect(ctx, tx, func(row pgx.CollectableRow) (d digested, err error) {
			var it trimtab.Prompt
			err = row.Scan(&it.Text, &it.Split, &it.Tag, &d.copies)
			d.item = it
			return d, err
		}, query("t.prompt, t.split, t.tag", "prompt"), version, most)
	case trimtab.KindDemonstrations:
		rows, err = collect(ctx, tx, func(row pgx.CollectableRow) (d digested, err error) {
			var it trimtab.Demonstration
			err = row.Scan(&it.Prompt, &it.Response, &it.Demonstrator, &it.Split, &d.copies)
			d.item = it
			return d, err
		}, query("t.prompt, t.completion, t.demonstrator, t.split", "demonstration"), version, most)
	case trimtab.KindRankings:
		rows, err = readRankings(ctx, tx, query("t.digest, t.prompt, t.labeller, t.guideline, t.split, t.grouping, t.seconds", "ranking"), version, most)
	}
	return spread(rows), err
}

func readRankings(ctx context.Context, tx pgx.Tx, sql string, version trimtab.Digest, most int) ([]digested, error) {
	places, err := collect(ctx, tx, func(row pgx.CollectableRow) (p place, err error) {
		err = row.Scan(&p.ranking, &p.rank, &p.is.Bytes, &p.is.Tokens, &p.is.Tokenizer, &p.is.Model)
		return p, err
	}, `select p.ranking, p.rank, r.bytes, r.tokens, r.tokenizer, r.model
		from `+firstItems+` v
		join ranking_response p on p.ranking = v.item
		join response r on r.digest = p.response
		order by v.item, p.position`, version, most)
	if err != nil {
		return nil, err
	}
	return collect(ctx, tx, func(row pgx.CollectableRow) (d digested, err error) {
		var r trimtab.Ranking
		err = row.Scan(&d.digest, &r.Prompt, &r.Labeller, &r.Guideline, &r.Split, &r.Group, &r.Seconds, &d.copies)
		for len(places) > 0 && places[0].ranking == d.digest {
			r.Responses = append(r.Responses, places[0].is)
			r.Ranks = append(r.Ranks, places[0].rank)
			places = places[1:]
		}
		d.item = r
		return d, err
	}, sql, version, most)
}

// spread writes copies out.
func spread(rows []digested) []trimtab.Item {
	var items []trimtab.Item
	for _, d := range rows {
		for range d.copies {
			items = append(items, d.item)
		}
	}
	return items
}
