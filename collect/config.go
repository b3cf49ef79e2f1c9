package collect

import "fmt"

// Version of the stage: the same version, config, inputs and seed give the same bytes.
const Version = 1

// Config says how many prompts are answered, how they are sampled, and who ranks.
type Config struct {
	Prompts int `yaml:"prompts" json:"prompts"` // ranked for training
	// HeldOut prompts are ranked too, and kept for measuring the reward model.
	HeldOut int `yaml:"held_out" json:"held_out"`
	// MinResponses and MaxResponses bound K, the number of responses to a prompt,
	// which is drawn uniformly for each (InstructGPT, section 3.5: K is 4 to 9).
	MinResponses int `yaml:"min_responses" json:"min_responses"`
	MaxResponses int `yaml:"max_responses" json:"max_responses"`
	// Temperature divides the logits. At 1 responses are drawn from the model itself.
	Temperature  float64 `yaml:"temperature" json:"temperature"`
	MaxNewTokens int     `yaml:"max_new_tokens" json:"max_tokens"` // of a response
	Batch        int     `yaml:"batch_size" json:"batch"`          // prompts a step
	Labellers    string  `yaml:"labellers" json:"labellers"`       // "simulated"
	// Agreement is the share of pairs of different texts on which two labellers should agree.
	Agreement float64 `yaml:"agreement" json:"agreement"`
	World     uint64  `yaml:"-" json:"world"` // seed of the starter world whose labellers rank
}

// Defaults are the settings of the default run. The agreement is about that of
// the labellers of InstructGPT (72.6 ± 1.5 %, section 3.4).
func Defaults() Config {
	return Config{
		Prompts: 400, HeldOut: 120, MinResponses: 4, MaxResponses: 9, Temperature: 1, MaxNewTokens: 28, Batch: 64,
		Labellers: "simulated", Agreement: .73,
	}
}

// Validate names the first field that is out of range.
func (c Config) Validate() error {
	switch {
	case c.Labellers != "simulated":
		return fmt.Errorf("labellers is %q: want simulated; rankings of people come in with `trimtab data import` as "+
			"data.rankings", c.Labellers)
	case c.MinResponses < 2 || c.MaxResponses > 9 || c.MinResponses > c.MaxResponses:
		return fmt.Errorf("responses from %d to %d: want 2 to 9", c.MinResponses, c.MaxResponses)
	case c.Agreement < .5 || c.Agreement >= 1:
		return fmt.Errorf("agreement is %g: want .5 (chance) to less than 1", c.Agreement)
	case c.Prompts < 1 || c.Prompts > 1e6:
		return fmt.Errorf("prompts is %d: want 1 to %d", c.Prompts, int(1e6))
	case c.HeldOut < 0 || c.HeldOut > 1e6:
		return fmt.Errorf("held_out is %d: want 0 to %d", c.HeldOut, int(1e6))
	case c.Batch < 1 || c.Batch > 1<<16:
		return fmt.Errorf("batch_size is %d: want 1 to %d", c.Batch, 1<<16)
	case !(c.Temperature > 0) || c.Temperature > 100: // NaN included
		return fmt.Errorf("temperature is %g: want more than 0, at most 100", c.Temperature)
	case c.MaxNewTokens < 1 || c.MaxNewTokens > 1<<16:
		return fmt.Errorf("max_new_tokens is %d: want 1 to %d", c.MaxNewTokens, 1<<16)
	}
	return nil
}
