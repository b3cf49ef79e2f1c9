package runs

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
)

// defaultMaxTokens is the longest response, in tokens, of a model that no run
// has sampled.
const defaultMaxTokens = 64

// Sampling returns the temperature and the response length at which a model
// should be sampled: those of the stage that produced it, else those of the
// run's ppo stage, else those of the run's last stage that samples. run is as
// in Lineage.
//
// A model that no run produced is sampled at temperature 1 with responses of at
// most defaultMaxTokens tokens, or half of its context if that is shorter.
func (s *Service) Sampling(ctx context.Context, model trimtab.Digest, run string) (checkpoint.Sampling, error) {
	fallback := checkpoint.Sampling{Temperature: 1, MaxTokens: defaultMaxTokens}
	if c, ok := checkpoint.ModelConfig(s.files, model); ok {
		fallback.MaxTokens = min(defaultMaxTokens, max(1, c.Context/2))
	}
	producers, err := s.store.Producers(ctx, model)
	if err != nil {
		return fallback, err
	}
	producer, _ := chooseProducer(producers, run)
	if producer == nil {
		return fallback, nil
	}
	producerRun, err := s.store.Run(ctx, producer.Run)
	if err != nil {
		return fallback, err
	}
	// The configs are tried in order of preference; one that samples nothing is
	// passed over. A stage may be listed more than once, which does no harm.
	configs := []trimtab.Digest{producer.Config}
	stages := producerRun.Plan.Stages
	for _, st := range stages {
		if st.Kind == recipes.KindPPO {
			configs = append(configs, st.Config)
		}
	}
	for _, st := range slices.Backward(stages) {
		configs = append(configs, st.Config)
	}
	for _, config := range configs {
		if sampling, ok, err := s.samplingOf(ctx, config); ok || err != nil {
			return sampling, err
		}
	}
	return fallback, nil
}

// samplingOf reads the sampling options from a stage's config document. ok is
// false if the stage does not sample, or if its config is not in the record.
// Only two fields are decoded, so that a config of a newer program can be read
// too.
func (s *Service) samplingOf(ctx context.Context, config trimtab.Digest) (sampling checkpoint.Sampling, ok bool,
	err error) {
	body, err := s.store.Document(ctx, config)
	if err != nil {
		if trimtab.AsError(err).Class == trimtab.NotFound {
			err = nil
		}
		return sampling, false, err
	}
	var doc struct {
		Config struct {
			Temperature float64 `json:"temperature"`
			MaxTokens   int     `json:"max_tokens"`
		} `json:"config"`
	}
	err = json.Unmarshal(body, &doc)
	sampling = checkpoint.Sampling{Temperature: doc.Config.Temperature, MaxTokens: doc.Config.MaxTokens}
	return sampling, sampling.Temperature > 0 && sampling.MaxTokens > 0, err
}
