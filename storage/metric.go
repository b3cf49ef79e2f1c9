package storage

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/trimtab/trimtab"
)

// MetricRow is one metric of one step.
type MetricRow struct {
	Step  int
	Name  string
	Value float64
}

// TimingRow is how long a part of one step took; "step" is the whole.
type TimingRow struct {
	Step    int
	Name    string
	Seconds float64
}

var (
	metricLoad = load{table: "metric", key: []string{"attempt", "step", "name"}, bits: []string{"value"}}
	timingLoad = load{table: "timing", key: []string{"attempt", "step", "name"}, uncompared: []string{"seconds"}}
)

// Metrics returns the metrics of an attempt with these names, or all of them, ordered by step and name.
func (s *Store) Metrics(ctx context.Context, attempt int64, names ...string) ([]MetricRow, error) {
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[MetricRow], `
		select step, name, value from metric
		where attempt = $1 and (coalesce(cardinality($2::text[]), 0) = 0 or name = any($2)) order by step, name collate "C"`, attempt, names)
	return rows, wrapError(ctx, "reading the metrics of an attempt", err)
}

// StepMetrics returns the metrics of one step of an attempt, ordered by name.
func (s *Store) StepMetrics(ctx context.Context, attempt int64, step int) ([]trimtab.Metric, error) {
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[trimtab.Metric],
		`select name, value from metric where attempt = $1 and step = $2 order by name collate "C"`, attempt, step)
	return rows, wrapError(ctx, fmt.Sprintf("reading the metrics of step %d", step), err)
}

// Timings returns the timings of an attempt, ordered by step and name.
func (s *Store) Timings(ctx context.Context, attempt int64) ([]TimingRow, error) {
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[TimingRow],
		`select step, name, seconds from timing where attempt = $1 order by step, name collate "C"`, attempt)
	return rows, wrapError(ctx, "reading the timings of an attempt", err)
}

// finiteMetrics keeps the metrics that JSON can hold; the others stand in the table alone.
func finiteMetrics(metrics []trimtab.Metric) []trimtab.Metric {
	finite := []trimtab.Metric{}
	for _, m := range metrics {
		if !math.IsNaN(m.Value) && !math.IsInf(m.Value, 0) {
			finite = append(finite, m)
		}
	}
	return finite
}
