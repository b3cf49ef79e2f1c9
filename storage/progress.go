package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Progress is a hint of where an attempt is, for people. It is overwritten, and no fact.
type Progress struct {
	Step            int              `json:"step"`
	Steps           int              `json:"steps"`
	Phase           string           `json:"phase"`
	TokensPerSecond float64          `json:"tokens_per_second"`
	Metrics         []trimtab.Metric `json:"metrics"`
	At              time.Time        `json:"at"`             // zero at SetProgress is now
	Silent          float64          `json:"silent_seconds"` // from then on, by the database's clock
}

// SetProgress overwrites the hint of an attempt; "fenced" if token is not its holder.
func (s *Store) SetProgress(ctx context.Context, attempt int64, token int64, p Progress) error {
	names, values := make([]string, len(p.Metrics)), make([]float64, len(p.Metrics))
	for i, m := range p.Metrics {
		names[i], values[i] = storableText(m.Name), m.Value
	}
	var at *time.Time
	if !p.At.IsZero() {
		at = &p.At
	}
	return s.write(ctx, "telling the progress of an attempt", func(tx pgx.Tx) error {
		if err := asyncCommit(ctx, tx); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			insert into progress (attempt, step, steps, phase, tokens_per_second, metric_names, metric_values, at)
			select f.attempt, $3, $4, $5, $6, $7, $8, coalesce($9::timestamptz, clock_timestamp())
			from fence f where f.attempt = $1 and f.token = $2
			on conflict (attempt) do update set step = excluded.step, steps = excluded.steps, phase = excluded.phase,
				tokens_per_second = excluded.tokens_per_second, metric_names = excluded.metric_names,
				metric_values = excluded.metric_values, at = excluded.at`,
			attempt, token, p.Step, p.Steps, storableText(p.Phase), p.TokensPerSecond, names, values, at)
		if err != nil || tag.RowsAffected() == 1 {
			return err
		}
		return lostFence(ctx, tx, attempt, token)
	})
}

// asyncCommit lets a transaction that writes nothing but a hint end before it is
// on the disk.
func asyncCommit(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "set local synchronous_commit = off")
	return err
}

// TouchProgress says that an attempt is still at work where it was; "fenced" if token is not its holder.
func (s *Store) TouchProgress(ctx context.Context, attempt, token int64) error {
	return s.write(ctx, "telling that an attempt is at work", func(tx pgx.Tx) error {
		if _, err := holdFence(ctx, tx, attempt, token); err != nil {
			return err
		}
		if err := asyncCommit(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "update progress set at = clock_timestamp() where attempt = $1", attempt)
		return err
	})
}

// Progress returns the last hint of an attempt, if it gave one.
func (s *Store) Progress(ctx context.Context, attempt int64) (Progress, bool, error) {
	var p Progress
	var names []string
	var values []float64
	err := s.pool.QueryRow(ctx, `
		select step, steps, phase, tokens_per_second, metric_names, metric_values, at,
			greatest(0, extract(epoch from clock_timestamp() - at))::double precision from progress where attempt = $1`, attempt).
		Scan(&p.Step, &p.Steps, &p.Phase, &p.TokensPerSecond, &names, &values, &p.At, &p.Silent)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, false, nil
	}
	p.Metrics = zipMetrics(names, values)
	return p, err == nil, wrapError(ctx, "reading the progress of an attempt", err)
}
