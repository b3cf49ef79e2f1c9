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

// metricLoad compares values by their bits, so that NaN equals itself.
// timingLoad compares nothing: a repeated step takes another time, and the
// first one that was recorded stays.
var (
	metricLoad = load{table: "metric", key: []string{"attempt", "step", "name"}, bits: []string{"value"}}
	timingLoad = load{table: "timing", key: []string{"attempt", "step", "name"}, uncompared: []string{"seconds"}}
)

// Metrics returns the metrics of an attempt with these names, or all of them
// if there are no names, in order of step and name.
func (s *Store) Metrics(ctx context.Context, attempt int64, names ...string) ([]MetricRow, error) {
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[MetricRow], `
		select step, name, value from metric
		where attempt = $1 and (coalesce(cardinality($2::text[]), 0) = 0 or name = any($2))
			order by step, name collate "C"`, attempt, names)
	return rows, wrapError(ctx, "reading the metrics of an attempt", err)
}

// StepMetrics returns the metrics of one step of an attempt in order of name.
func (s *Store) StepMetrics(ctx context.Context, attempt int64, step int) ([]trimtab.Metric, error) {
	rows, err := queryRows(ctx, s.pool, pgx.RowToStructByPos[trimtab.Metric],
		`select name, value from metric where attempt = $1 and step = $2 order by name collate "C"`, attempt, step)
	return rows, wrapError(ctx, fmt.Sprintf("reading the metrics of step %d", step), err)
}

// finiteMetrics returns the metrics that JSON can represent. NaN and the
// infinities are in the table only. The result is never nil, so that an
// event's body has a list.
func finiteMetrics(metrics []trimtab.Metric) []trimtab.Metric {
	finite := []trimtab.Metric{}
	for _, m := range metrics {
		if !math.IsNaN(m.Value) && !math.IsInf(m.Value, 0) {
			finite = append(finite, m)
		}
	}
	return finite
}
