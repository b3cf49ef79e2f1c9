package recipes

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A key of before is refused with the name that it has now, at its place.
func TestFormerKeys(t *testing.T) {
	load := func(set string) error { _, err := Load(Default, "smallest", []string{set}); return err }
	for set, now := range map[string]string{
		"model.width=64":           "model.hidden_size",
		"model.layers=2":           "model.num_hidden_layers",
		"sft.epochs=2":             "sft.num_train_epochs",
		"sft.optim.lr=1e-4":        "sft.learning_rate",
		"reward.optim.floor=0":     "reward.min_lr_ratio",
		"pretrain.row_tokens=32":   "pretrain.block_size",
		"collect.max_tokens=9":     "collect.max_new_tokens",
		"ppo.inner_epochs=1":       "ppo.num_ppo_epochs",
		"ppo.value_clip=1":         "ppo.cliprange_value",
		"ppo.policy.lr=1e-5":       "ppo.policy.learning_rate",
		"ppo.missing_eos_value=-1": "ppo.missing_eos_penalty",
		"ppo.pool=7":               "ppo.num_prompts",
	} {
		old, _, _ := strings.Cut(set, "=")
		refused(t, set, load(set), "--set "+set+": "+old+" is now called "+now, "write "+now+" instead")
	}
	refused(t, "no mapping", load("sft.optim=3"), "sft.optim.lr is now called sft.learning_rate", "write")
	spec := strings.Replace(minimal, "learning_rate: 1e-3", "optim: {lr: 1e-3}", 1)
	_, err := Read("run.yaml", []byte(spec), "", nil)
	refused(t, "a file", err, "run.yaml:5: pretrain.optim.lr is now called pretrain.learning_rate",
		"write pretrain.learning_rate instead")
}

// Every setting of every kind has one stored path and one path in a spec, and
// the translation between them finds it: the value that JSON has at the one is
// the value that YAML has at the other.
func TestKeyPairs(t *testing.T) {
	for name, k := range kinds {
		config := k.config()
		body, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		stored := map[string]string{}
		if err := flatten("", body, stored); err != nil {
			t.Fatal(err)
		}
		var doc yaml.Node
		if err := doc.Encode(config); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, p := range keyPairs(reflect.TypeOf(config).Elem()) {
			if seen[p.spec] || seen["stored "+p.stored] {
				t.Errorf("%s: %v is there twice", name, p)
			}
			seen[p.spec], seen["stored "+p.stored] = true, true
			if got := SpecPath(name, p.stored); got != p.spec {
				t.Errorf("%s: SpecPath(%q) = %q, want %q", name, p.stored, got, p.spec)
			}
			n := &doc
			for _, key := range strings.Split(p.spec, ".") {
				n = lookup(n, key)
			}
			want, ok := stored[p.stored]
			if !ok || n == nil {
				if p.spec != "rollout_shards" { // omitted while it is 0
					t.Errorf("%s: %v: %q in JSON, %v in YAML", name, p, want, n)
				}
				continue
			}
			var fromJSON, fromYAML any
			if err := json.Unmarshal([]byte(want), &fromJSON); err != nil {
				t.Fatal(err)
			}
			if err := n.Decode(&fromYAML); err != nil {
				t.Fatal(err)
			}
			if i, ok := fromYAML.(int); ok {
				fromYAML = float64(i)
			}
			if fromJSON != fromYAML {
				t.Errorf("%s: %v is %v in JSON and %v in YAML", name, p, fromJSON, fromYAML)
			}
		}
	}
	for stored, want := range map[string]string{"model.width": "model.hidden_size", "seed": "seed",
		"starter.world": "starter.world", "no.such": "no.such"} {
		if got := SpecPath("", stored); got != want {
			t.Errorf("SpecPath of the spec's %q = %q, want %q", stored, got, want)
		}
	}
	if got := SpecPath(KindPretrain, "model.heads"); got != "model.num_attention_heads" {
		t.Errorf("the shape in a pretrain config is %q", got)
	}
}
