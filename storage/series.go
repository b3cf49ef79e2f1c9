package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// SeriesSegment is the reports of an attempt for the steps From … Until-1. A
// series of metrics has several if attempts continue one another.
type SeriesSegment struct {
	Attempt     int64
	From, Until int
}

// Divergence is a metric of one step that differs between series. A value is
// nil where a series does not have the metric at that step.
type Divergence struct {
	Step   int
	Name   string
	Values []*float64 // of each series
}

// FirstDivergence compares the metrics of several series bit for bit and
// returns the first that differs, by step and then by name; nil if there is
// none. The database compares, so that equal series of a million rows are not
// sent.
func (s *Store) FirstDivergence(ctx context.Context, series ...[]SeriesSegment) (*Divergence, error) {
	var of, from, until []int
	var attempts []int64
	for i, pieces := range series {
		for _, p := range pieces {
			of, attempts, from, until = append(of, i), append(attempts, p.Attempt), append(from, p.From), append(until,
				p.Until)
		}
	}
	d := Divergence{Values: make([]*float64, len(series))}
	var have []int
	var values []float64
	err := s.pool.QueryRow(ctx, `
		select m.step, m.name, array_agg(p.series), array_agg(m.value)
		from unnest($1::integer[], $2::bigint[], $3::integer[], $4::integer[]) p (series, attempt, lowest, until)
			join metric m on m.attempt = p.attempt and m.step >= p.lowest and m.step < p.until
		group by m.step, m.name having count(*) <> $5 or count(distinct bits(m.value)) > 1
		order by m.step, m.name collate "C" limit 1`, of, attempts, from, until, len(series)).
		Scan(&d.Step, &d.Name, &have, &values)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, wrapError(ctx, "comparing metrics", err)
	}
	// have lists the series that have the metric; the others keep nil.
	for i, k := range have {
		d.Values[k] = &values[i]
	}
	return &d, nil
}
