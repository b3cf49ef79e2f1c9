package runs

import (
	"context"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/recipes"
	"github.com/trimtab/trimtab/storage"
)

// warnings returns what a person should know about a stage that keeps running,
// such as responses that never end. A warning never stops the stage. Each kind
// of stage has at most one watched metric, recipes.Watched. A reused attempt
// has no warnings, because it was watched when it ran.
func (s *Service) warnings(ctx context.Context, st trimtab.PlannedStage, a storage.Attempt,
	progress *storage.Progress) ([]string, error) {
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
	if err != nil { // a config of a newer program must not keep the run from being shown
		return nil, nil
	}
	if warning := recipes.Warning(st.Kind, st.Name, config, metricSeries(rows, metric, progress)); warning != "" {
		return []string{warning}, nil
	}
	return nil, nil
}

// metricSeries returns the values of a metric in the order of the steps. rows
// must not be empty. The progress hint of a running attempt may be ahead of the
// rows, which are written with a commit, and then adds the newest value.
func metricSeries(rows []storage.MetricRow, metric string, progress *storage.Progress) []float64 {
	values := make([]float64, len(rows))
	for i, r := range rows {
		values[i] = r.Value
	}
	// The progress counts steps, while a row has the index of its step.
	if progress != nil && progress.Step-1 > rows[len(rows)-1].Step {
		if v, ok := (trimtab.Report{Metrics: progress.Metrics}).Value(metric); ok {
			values = append(values, v)
		}
	}
	return values
}
