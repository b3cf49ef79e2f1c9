package recipes

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
)

// leaves are the paths of a config's fields, from the type.
func leaves(t reflect.Type, path string) (all []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		below := strings.Trim(path+"."+name, ".")
		switch {
		case f.Anonymous:
			all = append(all, leaves(f.Type, path)...)
		case f.Type.Kind() == reflect.Struct:
			all = append(all, leaves(f.Type, below)...)
		default:
			all = append(all, below)
		}
	}
	return all
}

// Every setting of every kind says what becomes of it from a checkpoint on, and why it is fixed.
func TestEverySettingIsCarried(t *testing.T) {
	for _, name := range Kinds() {
		k := kinds[name]
		want := leaves(reflect.TypeOf(k.config()).Elem(), "")
		var have []string
		for _, c := range k.carried {
			have = append(have, c.path)
			if (c.carry == fixed) != (c.why != "") {
				t.Errorf("%s.%s: fixed %v, why %q", name, c.path, c.carry == fixed, c.why)
			}
		}
		slices.Sort(want)
		slices.Sort(have)
		if !slices.Equal(want, have) {
			t.Errorf("%s has the settings\n%v\nand says of\n%v", name, want, have)
		}
		if config := k.config(); CanContinue(name, name, config, config, true) != nil {
			t.Errorf("%s: the same config cannot continue", name)
		}
	}
}

// changed is the config of a stage of the recipe with settings.
func changed(t *testing.T, stage string, sets ...string) Config {
	t.Helper()
	s, err := Load(Default, "smallest", sets)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := s.Stage(stage)
	if !ok {
		t.Fatalf("no stage %s", stage)
	}
	return st.Config
}

// What changes the meaning of a step is refused by name; what says how a step is done is not.
func TestCanContinue(t *testing.T) {
	const constant = "reward.lr_scheduler_type=constant"
	for _, c := range []struct {
		stage     string
		was, sets []string
		atEnd     bool
		want      string // "": it continues
	}{
		{"reward", nil, []string{"reward.learning_rate=1e-5", "reward.max_grad_norm=0.5", "reward.weight_decay=0"}, true,
			""},
		{"reward", nil, []string{"reward.batch_size=2"}, false,
			"reward.batch_size was 4 when the checkpoint was made and is 2: it decides which items a step reads"},
		{"reward", nil, []string{"reward.num_train_epochs=2"}, false,
			`reward.num_train_epochs was 1 when the checkpoint was made and is 2: with lr_scheduler_type "cosine" the learning rate of every step depends on the number of steps`},
		{"reward", []string{constant}, []string{constant, "reward.num_train_epochs=2"}, false, ""},
		{"reward", []string{constant}, []string{constant, "reward.num_train_epochs=2"}, true, "may have read fewer items"},
		{"reward", nil, []string{constant}, false,
			"reward.lr_scheduler_type was \"cosine\" when the checkpoint was made and is \"constant\""},
		{"reward", nil, []string{"reward.adam_beta2=0.999"}, false, "the moments in the checkpoint"},
		{"sft", nil, []string{"sft.pretrain_mix=0.25"}, false, "sft.pretrain_mix was 0 "},
		{"pretrain", nil, []string{"pretrain.block_size=16"}, false, "pretrain.block_size was "},
		{"ppo", nil, []string{"ppo.kl_coef=0.5"}, false,
			"ppo.kl_coef was 0.12 when the checkpoint was made and is 0.5: the checkpoint already holds what it sets"},
		{"ppo", nil, []string{"ppo.cliprange=0.1", "ppo.missing_eos=ignore", "ppo.rollout_shards=2", "ppo.policy.learning_rate=1e-5"},
			false, ""},
		{"ppo", nil, []string{"ppo.batch_size=8"}, false, "ppo.batch_size was 16 "},
		{"ppo", []string{"ppo.policy.lr_scheduler_type=constant", "ppo.value.lr_scheduler_type=constant"},
			[]string{"ppo.policy.lr_scheduler_type=constant", "ppo.value.lr_scheduler_type=constant", "ppo.total_episodes=128"}, true, ""},
		{"ppo", []string{"ppo.policy.lr_scheduler_type=constant"}, []string{"ppo.policy.lr_scheduler_type=constant", "ppo.total_episodes=128"},
			true, "with value.lr_scheduler_type \"linear\""},
		{"collect", nil, []string{"collect.agreement=0.8"}, false, ""},
		{"collect", nil, []string{"collect.temperature=0.5"}, false, "partly under one value"},
		{"evaluate", nil, []string{"evaluate.samples=1"}, false, ""},
	} {
		st := changed(t, c.stage, c.was...)
		err := CanContinue(c.stage, c.stage, st, changed(t, c.stage, c.sets...), c.atEnd)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%v: %v", c.sets, err)
		case c.want == "":
		case err == nil || !strings.Contains(err.Error(), c.want) ||
			trimtab.AsError(err).Type != "checkpoint_differs" || trimtab.ExitCode(err) != 2:
			t.Errorf("%v: %v, want %q", c.sets, err, c.want)
		}
	}
}
