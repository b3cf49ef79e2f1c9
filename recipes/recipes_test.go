package recipes

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/tensor"
	"go.yaml.in/yaml/v3"
)

func TestShippedRecipesAreValidAtEverySize(t *testing.T) {
	for _, name := range Names() {
		sizes, err := Sizes(name)
		if err != nil || sizes[0] != DefaultSize {
			t.Fatalf("%s: sizes %v, %v", name, sizes, err)
		}
		for _, size := range sizes {
			s, err := Load(name, size, nil)
			if err != nil {
				t.Errorf("%s at %s: %v", name, size, err)
				continue
			}
			if c := Estimate(s, nil); c.Parameters <= 0 || len(c.Stages) != len(s.Stages) {
				t.Errorf("%s at %s: estimate %+v", name, size, c)
			}
		}
		if about, err := About(name); err != nil || about == "" {
			t.Errorf("%s: about is %q, %v", name, about, err)
		}
	}
}

// minimal is a spec that passes, to be spoilt by a line.
const minimal = `model: {num_hidden_layers: 2, hidden_size: 32, num_attention_heads: 2, max_position_embeddings: 64, vocab_size: 512}
stages:
  - kind: pretrain
    tokens: 4096
    learning_rate: 1e-3
`

func TestStrictReading(t *testing.T) {
	if _, err := Read("run.yaml", []byte(minimal), "", nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ spec, wants string }{
		{minimal + "seeds: 3\n", `run.yaml:6: unknown key "seeds": did you mean "seed"?`},
		{strings.Replace(minimal, "num_hidden_layers", "hidden_layers", 1),
			`run.yaml:1: unknown key "model.hidden_layers": did you mean "num_hidden_layers"?`},
		{strings.Replace(minimal, "learning_rate:", "learning:", 1), `run.yaml:5: unknown key "pretrain.learning"`},
		// ppo reads it, pretrain does not
		{strings.Replace(minimal, "tokens: 4096", "total_episodes: 9", 1), `unknown key "pretrain.total_episodes"`},
		{strings.Replace(minimal, "pretrain", "pretain", 1),
			`run.yaml:3: unknown kind of stage "pretain": did you mean "pretrain"?`},
		{strings.Replace(minimal, "    tokens", "    tokens: 1\n    tokens", 1),
			`run.yaml:5: key "pretrain.tokens" is given twice`},
		{strings.Replace(minimal, "4096", "many", 1),
			`run.yaml:4: pretrain.tokens is "many", not a whole number in decimal digits`},
		{strings.Replace(minimal, "4096", "-4096", 1), "tokens is -4096"},
		{strings.Replace(minimal, "num_hidden_layers: 2", "num_hidden_layers: -2", 1), "layers"},
		{minimal + "seed: 9007199254740992\n", "seed is 9007199254740992"},
		{minimal + "seed: -1\n", `run.yaml:6: seed is -1, not a whole number of at least 0`},
		{minimal + "numerics: v1-bf61\n",
			`run.yaml:6: unknown numerics "v1-bf61": did you mean "v1-bf16"? (valid: v1, v1-bf16)`},
		{minimal + "numerics:\n", `run.yaml:6: unknown numerics "": valid: v1, v1-bf16`},
		{minimal + "numerics: [v1]\n", `run.yaml:6: numerics is a list, not a string`},
		{minimal + "  - kind: pretrain\n", "the name is taken"},
		{minimal + "  - kind: collect\n", "needs the starter world"},
		{minimal + "  - {kind: sft, gates: [{metric: loss}]}\n", "a gate needs a metric, and min or max"},
		{"stages: 3\n", "stages is not a list"},
		{"stages: [3]\n", "stages[0] is not a mapping"},
		{minimal + "data: {text: [a]}\n", "data.text is a list, not a string"},
		{minimal + "data:\n", "data is not a mapping"},
		{minimal + "    inputs: [text]\n", "pretrain.inputs is a list, not a mapping of name to name"},
		{minimal + "    inputs: {text: a, text: b}\n", `key "pretrain.inputs.text" is given twice`},
		{minimal + "    gates: {metric: loss, max: 3}\n", "pretrain.gates is a mapping, not a list"},
		{minimal + "    gates: [{metrik: loss, max: 3}]\n",
			`unknown key "pretrain.gates[0].metrik": did you mean "metric"?`},
		{minimal + "    gates: [{metric: loss, max: .nan}]\n", `pretrain.gates[0].max is ".nan", not a decimal number`},
		{"- 1\n", "a run spec is a mapping"},
		{"model: {num_hidden_layers: 2\n", "run.yaml"},
		{"", "a run spec is a mapping"},
		{"stages: [{name: x}]\n", "kind is missing"},
	} {
		_, err := Read("run.yaml", []byte(c.spec), "", nil)
		if err == nil || !strings.Contains(err.Error(), c.wants) {
			t.Errorf("spec\n%s\nerror %v\nwants %s", c.spec, err, c.wants)
			continue
		}
		if e := trimtab.AsError(err); e.Class != trimtab.Usage || e.Type != "invalid_spec" || e.Remedy == "" {
			t.Errorf("%v: class %v, type %s, remedy %q", err, e.Class, e.Type, e.Remedy)
		}
	}
}

func TestOverrides(t *testing.T) {
	s, err := Load(Default, "smallest", []string{"seed=7", "model.hidden_size=64", "ppo.kl_coef=0.5", "reward.learning_rate=1e-5",
		"sft.name=tune"})
	if err != nil {
		t.Fatal(err)
	}
	tune, ok := s.Stage("tune")
	if !ok || s.Seed != 7 || s.Model.Width != 64 || tune.Kind != KindSFT {
		t.Errorf("%+v", s)
	}
	p, _ := s.Stage("ppo")
	if c := p.Config.(*PPO); c.KLCoef != .5 || c.Episodes != 64 {
		t.Errorf("ppo is %+v", c)
	}
	for _, set := range []string{"seed", "nothing=1", "ppo=3", "ppo.kl.coef=1", "model.width.x=1", "stages.x=1"} {
		if _, err := Load(Default, "smallest", []string{set}); err == nil {
			t.Errorf("--set %s was accepted", set)
		}
	}
}

func TestSpecRoundTrips(t *testing.T) {
	for _, name := range Names() {
		sets := []string{"sources.folder=/data"} // an empty one is the folder of the file
		if name == Default {
			sets = nil
		}
		s, err := Load(name, "smallest", sets)
		if err != nil {
			t.Fatal(err)
		}
		j, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Parse(j); err != nil || !sameSpec(back, s) {
			t.Errorf("%s: JSON: %v\n%+v\n%+v", name, err, back, s)
		}
		y, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Read(name, y, "", nil); err != nil || !sameSpec(back, s) {
			t.Errorf("%s: YAML: %v\n%s", name, err, y)
		}
	}
}

// A shipped recipe that a user printed reads as the recipe, at every size.
func TestPrintedRecipeIsASpec(t *testing.T) {
	text, err := Source(Default)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []string{"", DefaultSize, "smallest"} {
		mine, err := Read("mine.yaml", text, size, []string{"sft.pretrain_mix=0.25"})
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := Load(Default, size, []string{"sft.pretrain_mix=0.25"})
		if err != nil || !sameSpec(mine, theirs) {
			t.Errorf("size %q: %v", size, err)
		}
		mine.Data = Data{Text: "text", Demonstrations: "demos", Prompts: "prompts"}
		if in := planOf(t, mine).Stages[1].Inputs; in[len(in)-1].Name != "text" {
			t.Errorf("sft with a pretraining mix reads %v", in)
		}
	}
	if _, err := Read("mine.yaml", text, "huge", nil); err == nil || !strings.Contains(err.Error(), "smallest") {
		t.Errorf("an unknown size: %v", err)
	}
	if _, err := Read("mine.yaml", []byte(minimal), "smallest", nil); err == nil {
		t.Error("a spec without sizes took one")
	}
}

func sameSpec(a, b Spec) bool {
	x, err1 := trimtab.CanonicalJSON(a)
	y, err2 := trimtab.CanonicalJSON(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// resolved answers every name with a digest made of it.
var resolved = Resolved{
	Data: func(ref string) (trimtab.Digest, error) { return trimtab.DigestOf([]byte(ref)), nil },
	Base: func(ref string) (trimtab.Digest, error) { return trimtab.DigestOf([]byte("base " + ref)), nil },
}

func starterSpec(t *testing.T, sets ...string) Spec {
	t.Helper()
	s, err := Load(Default, "smallest", sets)
	if err != nil {
		t.Fatal(err)
	}
	s.Data = Data{Text: "text", Demonstrations: "demos", Prompts: "prompts"}
	return s
}

func planOf(t *testing.T, s Spec) trimtab.Plan {
	t.Helper()
	p, docs, err := s.Plan("run", resolved)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs[:len(docs)-1] {
		c, err := ParseDocument(d.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", d.Body, err)
		}
	}
	return p
}

func TestPlanFollowsTheChain(t *testing.T) {
	p := planOf(t, starterSpec(t))
	got := map[string]string{}
	for _, st := range p.Stages {
		for _, in := range st.Inputs {
			got[st.Name+"."+in.Name] = in.Stage
		}
	}
	for key, stage := range map[string]string{"sft.model": "pretrain", "collect.model": "sft", "reward.model": "sft",
		"reward.rankings": "collect",
		"ppo.model":       "sft", "ppo.reward": "reward", "evaluate.base": "pretrain", "evaluate.ppo": "ppo",
		"evaluate.rankings": "collect", "pretrain.text": ""} {
		if s, ok := got[key]; !ok || s != stage {
			t.Errorf("%s comes from %q (%v), want %q", key, s, ok, stage)
		}
	}
}

// The KL reference of ppo is the model that the policy begins as: then it is no
// input of its own, and no digest of a recipe shows it. Another one is an input
// like the model, a stage's or a stored one's, and part of the cache key.
func TestReferenceIsAnInput(t *testing.T) {
	s := starterSpec(t)
	plain := planOf(t, s)
	for _, ref := range []string{"pretrain", "elsewhere"} {
		s.Stages = slices.Clone(s.Stages)
		i := slices.IndexFunc(s.Stages, func(st Stage) bool { return st.Kind == KindPPO })
		s.Stages[i].Inputs = map[string]string{"model": "sft", "reference": ref}
		p := planOf(t, s)
		want := slices.Insert(slices.Clone(plain.Stages[i].Inputs), 2,
			trimtab.Input{Name: "reference", Stage: "pretrain", Output: "model"})
		if ref == "elsewhere" {
			d, err := resolved.Base(ref)
			if err != nil {
				t.Fatal(err)
			}
			want[2] = trimtab.Input{Name: "reference", Model: d}
		}
		if !slices.Equal(p.Stages[i].Inputs, want) || p.SpecDigest == plain.SpecDigest ||
			p.Stages[i].Config != plain.Stages[i].Config {
			t.Errorf("reference %s: inputs %+v, want %+v; digests %s and %s", ref, p.Stages[i].Inputs, want,
				p.SpecDigest, plain.SpecDigest)
		}
	}
	for _, in := range plain.Stages[4].Inputs {
		if plain.Stages[4].Kind != KindPPO || in.Name == "reference" {
			t.Errorf("inputs of %s without a reference: %+v", plain.Stages[4].Kind, plain.Stages[4].Inputs)
		}
	}
}

func TestPlanNeedsItsInputs(t *testing.T) {
	s := starterSpec(t)
	s.Stages = s.Stages[1:]
	if _, _, err := s.Plan("run", resolved); err == nil || !strings.Contains(err.Error(), "pretrain stage before it") {
		t.Errorf("sft without a model: %v", err)
	}
	s.Model.Base = "gpt2"
	if p := planOf(t, s); p.Stages[0].Inputs[0].Model == "" {
		t.Errorf("base is not an input: %+v", p.Stages[0])
	}
	s = starterSpec(t)
	s.Data.Demonstrations = ""
	if _, _, err := s.Plan("run", resolved); err == nil || !strings.Contains(err.Error(), "data.demonstrations") {
		t.Errorf("no demonstrations: %v", err)
	}
	s = starterSpec(t)
	s.Stages[1].Inputs = map[string]string{"teacher": "pretrain"}
	if _, _, err := s.Plan("run", resolved); err == nil || !strings.Contains(err.Error(), `no input "teacher"`) {
		t.Errorf("unknown input: %v", err)
	}
}

// numerics is v1 unless the spec or --set says otherwise, in a spec that was
// stored before there was a choice too; the plan carries it, and no other
// digest of the plan depends on it.
func TestNumerics(t *testing.T) {
	if s, err := Read("run.yaml", []byte(minimal+"numerics: v1-bf16\n"), "", nil); err != nil ||
		s.Numerics != tensor.V1BF16 {
		t.Errorf("read %q, %v", s.Numerics, err)
	}
	if s, err := Parse([]byte(`{"name":"old","seed":1}`)); err != nil || s.Numerics != tensor.V1 {
		t.Errorf("an older spec has %q, %v", s.Numerics, err)
	}
	s := starterSpec(t)
	other, err := Override(s, []string{"numerics=v1-bf16"})
	if err != nil {
		t.Fatal(err)
	}
	a, b := planOf(t, s), planOf(t, other)
	if a.Numerics != "v1" || b.Numerics != "v1-bf16" || a.SpecDigest == b.SpecDigest {
		t.Errorf("plans have %q and %q, digests %s and %s", a.Numerics, b.Numerics, a.SpecDigest, b.SpecDigest)
	}
	if x, y := stagesOf(t, a), stagesOf(t, b); x != y {
		t.Errorf("the stages are\n%s\nand\n%s", x, y)
	}
	if _, err := Override(s, []string{"numerics=v2"}); err == nil ||
		!strings.Contains(err.Error(), "valid: v1, v1-bf16") {
		t.Errorf("--set numerics=v2: %v", err)
	}
}

func stagesOf(t *testing.T, p trimtab.Plan) string {
	t.Helper()
	b, err := trimtab.CanonicalJSON(p.Stages)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The digest is over what bytes depend on: not the name of the run or its id, but any number of any stage.
func TestSpecDigest(t *testing.T) {
	digest := func(sets ...string) trimtab.Digest { return planOf(t, starterSpec(t, sets...)).SpecDigest }
	base := digest()
	named := starterSpec(t)
	named.Name = "other"
	p, _, err := named.Plan("another-run", resolved)
	if err != nil || p.SpecDigest != base {
		t.Errorf("another name gives another digest: %v", err)
	}
	seen := []trimtab.Digest{base}
	for _, set := range []string{"seed=2", "model.hidden_size=64", "ppo.kl_coef=0.3", "evaluate.temperature=0.5",
		"starter.world=2", "numerics=v1-bf16"} {
		d := digest(set)
		if slices.Contains(seen, d) {
			t.Errorf("--set %s does not change the digest", set)
		}
		seen = append(seen, d)
	}
}

func TestCacheKeyReadsEveryField(t *testing.T) {
	st := trimtab.PlannedStage{Name: "sft", Kind: "sft", Version: 1, Config: "c"}
	in := []trimtab.Named{{Name: "model", Digest: "d"}}
	key := func(st trimtab.PlannedStage, in []trimtab.Named, seed uint64, numerics string) trimtab.Digest {
		k, err := CacheKey(st, in, seed, numerics)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := key(st, in, 1, "v1")
	other := st
	other.SegmentSteps, other.CheckpointSteps, other.RolloutShards = 99, 9, 3 // where a stage is cut changes no byte
	if key(other, in, 1, "v1") != base {
		t.Error("segments are part of the key")
	}
	renamed, raised := st, st
	renamed.Name, raised.Version = "tune", 2
	for what, k := range map[string]trimtab.Digest{
		"name": key(renamed, in, 1, "v1"), "version": key(raised, in, 1, "v1"), "seed": key(st, in, 2, "v1"),
		"numerics":    key(st, in, 1, "v1-bf16"),
		"inputs":      key(st, []trimtab.Named{{Name: "model", Digest: "e"}}, 1, "v1"),
		"a reference": key(st, append(slices.Clone(in), trimtab.Named{Name: "reference", Digest: "e"}), 1, "v1"),
	} {
		if k == base {
			t.Errorf("%s is no part of the key", what)
		}
	}
}

// By how many workers rollouts are made is planned, and neither in the stage's config nor in its cache key.
func TestRolloutShards(t *testing.T) {
	stage := func(sets ...string) (trimtab.PlannedStage, trimtab.Plan) {
		s := starterSpec(t, sets...)
		again, err := Override(s, nil) // as a rerun reads it
		if err != nil || !sameSpec(s, again) {
			t.Errorf("%v does not survive being written: %v", sets, err)
		}
		b, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if s, err = Parse(b); err != nil {
			t.Fatal(err)
		}
		p := planOf(t, s)
		return p.Stages[4], p
	}
	none, plan := stage()
	for sets, want := range map[string]int{"ppo.rollout_shards=0": 0, "ppo.rollout_shards=1": 0,
		"ppo.rollout_shards=3": 3, "ppo.rollout_shards=16": 16} {
		st, p := stage(sets)
		if st.Kind != KindPPO || st.RolloutShards != want || st.Config != none.Config {
			t.Errorf("%s: planned as %+v", sets, st)
		}
		if (p.SpecDigest == plan.SpecDigest) != (want == 0) || want == 0 && stagesOf(t, p) != stagesOf(t, plan) {
			t.Errorf("%s: the spec's digest is %s, without %s", sets, p.SpecDigest.Short(), plan.SpecDigest.Short())
		}
		one, err1 := CacheKey(none, nil, 1, "v1")
		other, err2 := CacheKey(st, nil, 1, "v1")
		if err1 != nil || err2 != nil || one != other {
			t.Errorf("%s: another cache key", sets)
		}
	}
	for _, set := range []string{"ppo.rollout_shards=-1", "ppo.rollout_shards=17", "sft.rollout_shards=2",
		"ppo.rollout_shards=many"} {
		if _, err := Load(Default, "smallest", []string{set}); err == nil || trimtab.ExitCode(err) != 2 ||
			!strings.Contains(err.Error(), "rollout_shards") && !strings.Contains(err.Error(), "many") {
			t.Errorf("--set %s: %v", set, err)
		}
	}
	if _, err := Load(Default, "", []string{"ppo.rollout_shards=65"}); err == nil {
		t.Error("65 shards are accepted")
	}
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"lr", "lr", 0}, {"seeds", "seed", 1}} {
		if got := edits(c.a, c.b); got != c.want || edits(c.b, c.a) != c.want {
			t.Errorf("edits(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(minimal), "seed=2")
	f.Add([]byte("stages: [{kind: sft}]"), "sft.num_train_epochs=3")
	f.Add([]byte("a: &a [*a]"), "a.b.c=1")
	f.Add([]byte("stages: {kind: ppo}"), "ppo.x")
	f.Add([]byte(minimal+"sources: {rankings: [~/a, /b, c], test_share: .5}\n"), "sources.folder=~/x")
	f.Add([]byte(minimal+"    gates: [{metric: loss, max: 1e3}]\n---\n"), "pretrain.tokens=0x10")
	f.Fuzz(func(t *testing.T, data []byte, set string) {
		s, err := Read("fuzz.yaml", data, "", []string{set})
		if err != nil {
			return
		}
		y, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Read("again.yaml", y, "", nil); err != nil {
			t.Fatalf("%v\n%s", err, y)
		}
		if j, err := s.JSON(); err != nil || !json.Valid(j) {
			t.Fatal(err)
		}
		if !yamlValid(y) {
			t.Fatal("not YAML")
		}
	})
}

func yamlValid(b []byte) bool {
	var v any
	return yaml.Unmarshal(b, &v) == nil
}
