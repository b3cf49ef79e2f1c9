package runs

import (
	"context"
	"encoding/json"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/recipes"
)

// defaultMaxTokens is how many tokens an answer has at most where no run says so.
const defaultMaxTokens = 64

// Sampling is how the run that made a model sampled it: as the stage that made
// it did, or its ppo stage, or the last that samples. run is as in Lineage. A
// model that no run made is sampled at temperature 1.
func (s *Service) Sampling(ctx context.Context, model trimtab.Digest, run string) (checkpoint.Sampling, error) {
	usual := checkpoint.Sampling{Temperature: 1, MaxTokens: defaultMaxTokens}
	if c, ok := checkpoint.ModelConfig(s.files, model); ok {
		usual.MaxTokens = min(defaultMaxTokens, max(1, c.Context/2))
	}
	makers, err := s.store.Producers(ctx, model)
	if err != nil {
		return usual, err
	}
	maker, _ := chooseProducer(makers, run)
	if maker == nil {
		return usual, nil
	}
	of, err := s.store.Run(ctx, maker.Run)
	if err != nil {
		return usual, err
	}
	configs := []trimtab.Digest{maker.Config}
	for _, st := range of.Plan.Stages {
		if st.Kind == recipes.KindPPO {
			configs = append(configs, st.Config)
		}
	}
	for i := len(of.Plan.Stages) - 1; i >= 0; i-- {
		configs = append(configs, of.Plan.Stages[i].Config)
	}
	for _, config := range configs {
		if how, ok, err := s.samplingOf(ctx, config); ok || err != nil {
			return how, err
		}
	}
	return usual, nil
}

// samplingOf is what a stage's config says of sampling, if it does.
func (s *Service) samplingOf(ctx context.Context, config trimtab.Digest) (how checkpoint.Sampling, ok bool, err error) {
	body, err := s.store.Document(ctx, config)
	if err != nil {
		if trimtab.AsError(err).Class == trimtab.NotFound {
			err = nil
		}
		return how, false, err
	}
	var doc struct {
		Config struct {
			Temperature float64 `json:"temperature"`
			MaxTokens   int     `json:"max_tokens"`
		} `json:"config"`
	}
	err = json.Unmarshal(body, &doc)
	how = checkpoint.Sampling{Temperature: doc.Config.Temperature, MaxTokens: doc.Config.MaxTokens}
	return how, how.Temperature > 0 && how.MaxTokens > 0, err
}
