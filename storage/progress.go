package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// Progress is a hint for people of where an attempt is. It is overwritten by
// the next one; no event records it and the audit ignores it.
type Progress struct {
	// Step is the number of steps done, Steps that of the stage.
	Step  int `json:"step"`
	Steps int `json:"steps"`
	// Phase is the kind of the stage.
	Phase           string           `json:"phase"`
	TokensPerSecond float64          `json:"tokens_per_second"`
	Metrics         []trimtab.Metric `json:"metrics"`
	// At is when it was set, or touched; zero at SetProgress is now.
	At time.Time `json:"at"`
	// Silent is the time since At in seconds, by the database's clock.
	Silent float64 `json:"silent_seconds"`
}

// SetProgress overwrites the hint of the attempt. A zero At is the database's
// time.
func (l Lease) SetProgress(ctx context.Context, p Progress) error {
	// Metrics are parallel arrays in the row, so that one update writes all.
	names, values := make([]string, len(p.Metrics)), make([]float64, len(p.Metrics))
	for i, m := range p.Metrics {
		names[i], values[i] = storableText(m.Name), m.Value
	}
	var at *time.Time
	if !p.At.IsZero() {
		at = &p.At
	}
	return l.write(ctx, "recording the progress of an attempt", func(tx pgx.Tx, _ subject) error {
		if err := asyncCommit(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			insert into progress (attempt, step, steps, phase, tokens_per_second, metric_names, metric_values, at)
			values ($1, $2, $3, $4, $5, $6, $7, coalesce($8::timestamptz, clock_timestamp()))
			on conflict (attempt) do update set step = excluded.step, steps = excluded.steps, phase = excluded.phase,
				tokens_per_second = excluded.tokens_per_second, metric_names = excluded.metric_names,
				metric_values = excluded.metric_values, at = excluded.at`,
			l.attempt, p.Step, p.Steps, storableText(p.Phase), p.TokensPerSecond, names, values, at)
		return err
	})
}

// asyncCommit lets the transaction commit before it is on disk. A hint may be
// lost in a crash of the server; waiting for the disk would slow training
// down.
func asyncCommit(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "set local synchronous_commit = off")
	return err
}

// TouchProgress sets the time of the hint to now: the attempt is still at
// work where it was, in a step that takes long.
func (l Lease) TouchProgress(ctx context.Context) error {
	return l.write(ctx, "recording that an attempt is at work", func(tx pgx.Tx, _ subject) error {
		if err := asyncCommit(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "update progress set at = clock_timestamp() where attempt = $1", l.attempt)
		return err
	})
}

// Progress returns the last hint of an attempt, and false if there is none.
func (s *Store) Progress(ctx context.Context, attempt int64) (Progress, bool, error) {
	var p Progress
	var names []string
	var values []float64
	err := s.pool.QueryRow(ctx, `
		select step, steps, phase, tokens_per_second, metric_names, metric_values, at,
			greatest(0, extract(epoch from clock_timestamp() - at))::double precision
		from progress where attempt = $1`, attempt).
		Scan(&p.Step, &p.Steps, &p.Phase, &p.TokensPerSecond, &names, &values, &p.At, &p.Silent)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, false, nil
	}
	p.Metrics = zipMetrics(names, values)
	return p, err == nil, wrapError(ctx, "reading the progress of an attempt", err)
}
