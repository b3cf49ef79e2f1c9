package storage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// rolloutLoad compares the numbers of a rollout by their bits.
var rolloutLoad = load{
	table:   "rollout",
	key:     []string{"attempt", "step", "index"},
	columns: []string{"ended", "prompt", "prompt_tokens", "tokens", "bytes", "text"},
	bits: []string{"score", "raw_score", "logprobs", "ref_logprobs", "kl", "values", "rewards",
		"advantages", "returns"},
}

// rolloutRow is a rollout's row in the order of rolloutLoad.allColumns.
func rolloutRow(attempt int64, step int, r *trimtab.Rollout) []any {
	return []any{attempt, step, r.Index, r.Ended, storableText(r.Prompt), r.PromptIDs, r.Tokens, r.Bytes,
		storableText(string(r.Bytes)),
		r.Score, r.RawScore, r.LogProbs, r.RefLogProb, r.KL, r.Values, r.Rewards, r.Advantages, r.Returns}
}

// AsStored is a rollout as Rollouts returns it: in its texts, what Postgres
// cannot store is replaced. Comparisons with a recorded one start from it.
func AsStored(r trimtab.Rollout) trimtab.Rollout {
	r.Prompt = storableText(r.Prompt)
	return r
}

// Rollouts returns the rollouts of one step of an attempt in order of index.
func (s *Store) Rollouts(ctx context.Context, attempt int64, step int) ([]trimtab.Rollout, error) {
	rows, err := queryRows(ctx, s.pool, scanRollout, `
		select index, ended, prompt, prompt_tokens, tokens, bytes, score, raw_score,
			logprobs, ref_logprobs, kl, "values", rewards, advantages, returns
		from rollout where attempt = $1 and step = $2 order by index`, attempt, step)
	return rows, wrapError(ctx, fmt.Sprintf("reading the rollouts of step %d", step), err)
}

// scanRollout reads a row of Rollouts.
func scanRollout(row pgx.CollectableRow) (r trimtab.Rollout, err error) {
	err = row.Scan(&r.Index, &r.Ended, &r.Prompt, &r.PromptIDs, &r.Tokens, &r.Bytes, &r.Score, &r.RawScore,
		&r.LogProbs, &r.RefLogProb, &r.KL, &r.Values, &r.Rewards, &r.Advantages, &r.Returns)
	return r, err
}
