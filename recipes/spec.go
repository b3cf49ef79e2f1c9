package recipes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/model"
	"github.com/trimtab/trimtab/tensor"
	"go.yaml.in/yaml/v3"
)

// Spec describes a whole run, with every default filled in.
type Spec struct {
	Name     string          `yaml:"name" json:"name"`
	Seed     uint64          `yaml:"seed" json:"seed"`
	Numerics tensor.Numerics `yaml:"numerics" json:"numerics"` // the numeric contract of every pass of the run
	Model    Model           `yaml:"model" json:"model"`
	Starter  *Starter        `yaml:"starter,omitempty" json:"starter,omitempty"`
	Sources  *Sources        `yaml:"sources,omitempty" json:"sources,omitempty"`
	Data     Data            `yaml:"data,omitempty" json:"data"`
	Stages   []Stage         `yaml:"stages" json:"stages"`
}

// Model is the shape of a new model, or the base model that the run starts
// from.
type Model struct {
	model.Config `yaml:",inline"`
	// Base is the name or digest of a stored model; the shape is then its own.
	Base string `yaml:"base,omitempty" json:"base,omitempty"`
}

// Starter asks for the generated world: its texts, demonstrations and prompts
// become datasets, and its labellers and its judge serve the collect and
// evaluate stages.
type Starter struct {
	World          uint64 `yaml:"world" json:"world"`                   // seed of the world, apart from the run's
	Words          int    `yaml:"words" json:"words"`                   // approximate number of words in the documents
	Demonstrations int    `yaml:"demonstrations" json:"demonstrations"` // how many
	Prompts        int    `yaml:"prompts" json:"prompts"`               // for collect and ppo
	Tests          int    `yaml:"tests" json:"tests"`                   // held-out prompts of each of the two test sets
}

// Sources are files that become datasets when the run is launched.
type Sources struct {
	Folder string `yaml:"folder" json:"folder"` // what the paths below are relative to
	// Rankings are files of comparisons or rankings, split by group into train and test.
	Rankings []string `yaml:"rankings" json:"rankings"`
	Text     []string `yaml:"text" json:"text"`
	// about this share of the rankings is held out, in whole groups
	TestShare float64 `yaml:"test_share" json:"test_share"`
	// Derive is "winners" to make demonstrations and prompts from the best responses of the training groups, or "" to
	// derive nothing.
	Derive string `yaml:"derive" json:"derive"`
}

// Data names datasets: by name (the newest frozen version), as name@digest, or
// by digest.
type Data struct {
	Text           string `yaml:"text,omitempty" json:"text,omitempty"`
	Demonstrations string `yaml:"demonstrations,omitempty" json:"demonstrations,omitempty"`
	Prompts        string `yaml:"prompts,omitempty" json:"prompts,omitempty"`
	Rankings       string `yaml:"rankings,omitempty" json:"rankings,omitempty"`
}

// Ref returns a pointer to the name that is given for a kind of dataset.
func (d *Data) Ref(k trimtab.Kind) *string {
	switch k {
	case trimtab.KindText:
		return &d.Text
	case trimtab.KindDemonstrations:
		return &d.Demonstrations
	case trimtab.KindPrompts:
		return &d.Prompts
	default:
		return &d.Rankings
	}
}

// Stage is one step of the chain. Config points to the config type of its kind.
type Stage struct {
	Kind   string            `json:"kind"`
	Name   string            `json:"name"`
	Inputs map[string]string `json:"inputs,omitempty"` // input name to stage, dataset or model
	Gates  []trimtab.Gate    `json:"gates,omitempty"`
	// SegmentSteps is how many steps one activity takes, CheckpointSteps how many lie between two checkpoints; 0 means
	// the default for the kind. CheckpointSeconds is the time after which there is a checkpoint anyway; 0 means ten
	// seconds.
	SegmentSteps      int    `json:"segment_steps,omitempty"`
	CheckpointSteps   int    `json:"checkpoint_steps,omitempty"`
	CheckpointSeconds int    `json:"checkpoint_seconds,omitempty"`
	Config            Config `json:"config"`
}

// stageKeys are the keys that a stage of any kind has, besides those of its
// config.
type stageKeys struct {
	Kind            string            `yaml:"kind"`
	Name            string            `yaml:"name,omitempty"`
	Inputs          map[string]string `yaml:"inputs,omitempty"`
	Gates           []trimtab.Gate    `yaml:"gates,omitempty"`
	SegmentSteps    int               `yaml:"segment_steps,omitempty"`
	CheckpointSteps int               `yaml:"checkpoint_steps,omitempty"`

	CheckpointSeconds int `yaml:"checkpoint_seconds,omitempty"`
}

// UnmarshalYAML reads the common keys, then the others into the config of the
// kind, over its defaults.
func (s *Stage) UnmarshalYAML(n *yaml.Node) error {
	var common stageKeys
	if err := n.Decode(&common); err != nil {
		return err
	}
	k, ok := kinds[common.Kind]
	if !ok {
		// checked before, with a better message
		return fmt.Errorf("line %d: unknown kind of stage %q", n.Line, common.Kind)
	}
	config := k.config()
	if err := n.Decode(config); err != nil {
		return err
	}
	*s = Stage{Kind: common.Kind, Name: common.Name, Inputs: common.Inputs, Gates: common.Gates,
		SegmentSteps: common.SegmentSteps, CheckpointSteps: common.CheckpointSteps,
		CheckpointSeconds: common.CheckpointSeconds, Config: config}
	if s.Name == "" {
		s.Name = s.Kind
	}
	return nil
}

// MarshalYAML writes the common keys and those of the kind as one mapping.
func (s Stage) MarshalYAML() (any, error) {
	var common, config yaml.Node
	if err := common.Encode(stageKeys{s.Kind, s.Name, s.Inputs, s.Gates, s.SegmentSteps, s.CheckpointSteps,
		s.CheckpointSeconds}); err != nil {
		return nil, err
	}
	if err := config.Encode(s.Config); err != nil {
		return nil, err
	}
	common.Content = append(common.Content, config.Content...)
	return &common, nil
}

// UnmarshalJSON is the inverse of the default encoding. It reads the kind
// first, to know the type of Config.
func (s *Stage) UnmarshalJSON(b []byte) error {
	type plain Stage
	raw := struct {
		*plain
		Config json.RawMessage `json:"config"`
	}{plain: (*plain)(s)}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	k, ok := kinds[s.Kind]
	if !ok {
		return fmt.Errorf("unknown kind of stage %q", s.Kind)
	}
	s.Config = k.config()
	return json.Unmarshal(raw.Config, s.Config)
}

// YAML returns the spec as a user would write it, with every default visible.
func (s Spec) YAML() ([]byte, error) { return yaml.Marshal(s) }

// JSON returns the spec as it is stored with a run, under the stored names of
// its settings.
func (s Spec) JSON() ([]byte, error) { return json.Marshal(s) }

// Parse reads a spec that JSON wrote. A spec without numerics was written when
// there was only v1.
func Parse(b []byte) (Spec, error) {
	s := Spec{Numerics: tensor.V1}
	if err := json.Unmarshal(b, &s); err != nil {
		return Spec{}, fmt.Errorf("read stored spec: %w", err)
	}
	return s, nil
}

// Stage returns the stage called name, and whether there is one.
func (s Spec) Stage(name string) (Stage, bool) {
	i := slices.IndexFunc(s.Stages, func(st Stage) bool { return st.Name == name })
	if i < 0 {
		return Stage{}, false
	}
	return s.Stages[i], true
}

// StageNames lists the stages in order.
func (s Spec) StageNames() []string {
	names := make([]string, len(s.Stages))
	for i, st := range s.Stages {
		names[i] = st.Name
	}
	return names
}

// CheckNames returns an error for names that cannot be recorded and shown
// unchanged. It is called only at launch: a recorded run keeps the names that it
// has.
func (s Spec) CheckNames() error {
	const remedy = "give one line of UTF-8 text within the limit"
	if err := trimtab.CheckName(s.Name); err != nil {
		return invalid(remedy, "the spec's name cannot be recorded: %w", err)
	}
	for i, st := range s.Stages {
		if err := trimtab.CheckName(st.Name); err != nil {
			return invalid(remedy, "the name of stages[%d] cannot be recorded: %w", i, err)
		}
	}
	return nil
}

// Validate returns an error that names the first setting with which a run could
// not work.
func (s Spec) Validate() error {
	if s.Seed > MaxSeed {
		return fmt.Errorf("seed is %d: want 0 to %d", s.Seed, uint64(MaxSeed))
	}
	if strings.Contains(s.Name, "/") {
		return fmt.Errorf("name %q has a slash, which separates a run from its stage", s.Name)
	}
	if s.Model.Base == "" {
		if err := s.Model.Config.CheckFamily(); err != nil {
			return fmt.Errorf("model: %w", err)
		}
	}
	if s.Model.Base != "" && !s.Model.Config.IsZero() {
		return fmt.Errorf("model: base and a shape are given: the base model has a shape of its own: leave " +
			"hidden_size and the like out, or --set model={base: …}")
	}
	if len(s.Stages) == 0 {
		return fmt.Errorf("stages: a run needs at least one")
	}
	for _, check := range []func() error{s.validateStarter, s.validateSources, s.validateStages} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// Bytes returns the approximate memory, in bytes, that it takes to generate and
// store the world.
func (s Starter) Bytes() int64 {
	const word, item = 40, 800
	return word*int64(s.Words) + item*int64(s.Demonstrations+s.Prompts+2*s.Tests)
}

// validateStarter checks the sizes of the starter world.
func (s Spec) validateStarter() error {
	st := s.Starter
	if st == nil {
		return nil
	}
	if s.Sources != nil {
		return fmt.Errorf("starter and sources are given: choose one")
	}
	return within("starter.", []bound{
		{"words", st.Words, 100, 1e8}, {"demonstrations", st.Demonstrations, 1, 1e6}, {"prompts", st.Prompts, 1, 1e6},
		{"tests", st.Tests, 1, 1e5},
	})
}

// bound is an integer of a spec, with its minimum and maximum.
type bound struct {
	name           string
	v, least, most int
}

// within returns an error that names the first number out of bounds, and its
// bounds.
func within(prefix string, list []bound) error {
	for _, b := range list {
		if b.v < b.least || b.v > b.most {
			return fmt.Errorf("%s%s is %d: want %d to %d", prefix, b.name, b.v, b.least, b.most)
		}
	}
	return nil
}

// validateSources checks the settings of sources; the files themselves are read
// at launch.
func (s Spec) validateSources() error {
	if s.Sources == nil {
		return nil
	}
	if s.Sources.TestShare <= 0 || s.Sources.TestShare >= 1 {
		return fmt.Errorf("sources.test_share is %g: want more than 0 and less than 1", s.Sources.TestShare)
	}
	if d := s.Sources.Derive; d != "" && d != "winners" {
		return fmt.Errorf("sources.derive is %q: want winners, or leave it out", d)
	}
	return nil
}

// validateStages checks the stages one by one: unique names without characters
// that are used in paths, intervals, their own settings, gates, and that prompts
// and answers fit the model's context.
func (s Spec) validateStages() error {
	seen := map[string]bool{}
	for i, st := range s.Stages {
		at := fmt.Sprintf("stages[%d] (%s)", i, st.Name)
		if seen[st.Name] {
			return fmt.Errorf("%s: the name is taken by an earlier stage: give it one of its own with name", at)
		}
		seen[st.Name] = true
		if strings.ContainsAny(st.Name, "/ .") {
			return fmt.Errorf("%s: a name may not contain a slash, dot or space", at)
		}
		if err := within(at+": ", []bound{
			{"segment_steps", st.SegmentSteps, 0, 1e9}, {"checkpoint_steps", st.CheckpointSteps, 0, 1e8},
			{"checkpoint_seconds", st.CheckpointSeconds, 0, 1e6},
		}); err != nil {
			return err
		}
		if err := st.Config.Validate(); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		for _, g := range st.Gates {
			if g.Metric == "" || (g.Min == nil && g.Max == nil) {
				return fmt.Errorf("%s: a gate needs a metric, and min or max", at)
			}
		}
		if s.Model.Base == "" {
			if err := CheckRoom(st, s.Model.Context); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
		if kinds[st.Kind].needsWorld && s.Starter == nil {
			return fmt.Errorf("%s: a stage of kind %s needs the starter world: only it has simulated labellers", at,
				st.Kind)
		}
	}
	return nil
}
