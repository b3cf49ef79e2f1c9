package runs

import (
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// warnings are what a person should know of a stage that goes on all the same.
func (s *Service) warnings(ctx context.Context, st trimtab.PlannedStage, a storage.Attempt,
	at *storage.Progress) ([]string, error) {
	metric := recipes.Watched(st.Kind)
	if metric == "" || a.ReusedFrom != 0 {
		return nil, nil
	}
	rows, err := s.store.Metrics(ctx, a.ID, metric)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	body, err := s.store.Document(ctx, st.Config)
	if err != nil {
		return nil, err
	}
	config, err := recipes.ParseDocument(body)
	if err != nil { // of a newer program: a run is shown all the same
		return nil, nil
	}
	if said := recipes.Warning(st.Kind, st.Name, config, metricSeries(rows, metric, at)); said != "" {
		return []string{said}, nil
	}
	return nil, nil
}

// metricSeries are the values of a metric in its steps so far: what the progress tells may be ahead of the rows.
func metricSeries(rows []storage.MetricRow, metric string, at *storage.Progress) []float64 {
	values := make([]float64, len(rows))
	for i, r := range rows {
		values[i] = r.Value
	}
	if at != nil && at.Step-1 > rows[len(rows)-1].Step {
		if v, ok := (trimtab.Report{Metrics: at.Metrics}).Value(metric); ok {
			values = append(values, v)
		}
	}
	return values
}
