package recipes

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/trimtab/trimtab"
)

// refused reads a spec that must be refused, and wants its message and its remedy.
func refused(t *testing.T, what string, err error, says, remedy string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s is accepted", what)
		return
	}
	e := trimtab.AsError(err)
	if e.Class != trimtab.Usage || e.Type != "invalid_spec" || !strings.Contains(e.Message, says) ||
		!strings.Contains(e.Remedy, remedy) {
		t.Errorf("%s: %v, %s\n%s\n  hint: %s\nwants\n%s\n  hint: %s", what, e.Class, e.Type, e.Message, e.Remedy, says,
			remedy)
	}
	if e.Remedy == "" || len(e.Message) > 1000 {
		t.Errorf("%s: a message of %d bytes with the remedy %q", what, len(e.Message), e.Remedy)
	}
}

// An integer is decimal digits. What YAML 1.1 takes beyond that is refused with what was written.
func TestIntegersAreDecimalDigits(t *testing.T) {
	for text, remedy := range map[string]string{
		"2.9": "only decimal digits", "0.5": "only decimal digits", "010": "only decimal digits",
		"0x10": "only decimal digits",
		"0b11": "only decimal digits", "0o17": "only decimal digits", "1:30": "only decimal digits",
		"three": "only decimal digits",
		"1e3":   "write 1000", "1_000": "write 1000", "+5": "write 5", "2.0": "write 2", "nan": "only decimal digits",
		".inf": "only decimal digits",
	} {
		_, err := Load(Default, "smallest", []string{"sft.num_train_epochs=" + text})
		refused(t, text, err, fmt.Sprintf("--set sft.num_train_epochs=%s: sft.num_train_epochs is %q, not a whole number in decimal digits",
			text, text), remedy)
		_, err = Read("run.yaml", []byte(minimal+"seed: "+text+"\n"), "", nil)
		refused(t, "seed "+text, err, fmt.Sprintf("run.yaml:6: seed is %q, not a whole number in decimal digits", text),
			remedy)
	}
	for set, says := range map[string]string{
		"sft.num_train_epochs=":                            "--set sft.num_train_epochs=: sft.num_train_epochs is empty",
		"sft.num_train_epochs=~":                           "sft.num_train_epochs is empty",
		`sft.num_train_epochs="3"`:                         `sft.num_train_epochs is "3", which is a string`,
		"sft.num_train_epochs=[3]":                         "sft.num_train_epochs is a list, not a number",
		"sft.num_train_epochs={a: 3}":                      "sft.num_train_epochs is a mapping, not a number",
		"sft.num_train_epochs=99999999999999999999":        "sft.num_train_epochs is 99999999999999999999, which exceeds every limit",
		"sft.num_train_epochs=" + strings.Repeat("9", 400): "exceeds every limit",
		"starter.world=18446744073709551616":               "exceeds every limit",
		"starter.world=-1":                                 "starter.world is -1, not a whole number of at least 0",
		"seed=9007199254740992":                            "seed is 9007199254740992: want 0 to 9007199254740991",
		"reward.gates=[{metric: loss, min: 1_0.5}]":        `reward.gates[0].min is "1_0.5", not a decimal number`,
		"sft.num_train_epochs=3 # three":                   "# and what follows it is a YAML comment",
		"name=run #3":                                      "# and what follows it is a YAML comment",
		"sft.num_train_epochs=#3":                          "# and what follows it is a YAML comment",
		"name=*x":                                          "unknown anchor 'x'",
		"name=a: b: c":                                     "mapping values are not allowed",
		"sft.num_train_epochs=3\n---\n4":                   "a second YAML document",
		"sft.num_train_epochs=!!int 3":                     "!!int is a YAML tag",
		"=3":                                               "needs a path and =",
		"sft":                                              "needs a path and =",
		"sft=3":                                            "sft is a whole stage",
		"model.hidden_size.deep=3":                         "hidden_size has no settings below it",
		"ppo.policy=3":                                     "ppo.policy is not a mapping",
		"data=":                                            "data is not a mapping",
		"model.hidden_size=1267650600228229401496703205376.0": "not a whole number",
	} {
		_, err := Load(Default, "smallest", []string{set})
		refused(t, set, err, says, "")
	}
	s, err := Load(Default, "smallest", []string{"sft.num_train_epochs=12", "starter.world=18446744073709551615", "name=",
		"seed=0"})
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := s.Stage("sft"); st.Config.(*SFT).Epochs != 12 || s.Starter.World != math.MaxUint64 || s.Name != "" ||
		s.Seed != 0 {
		t.Errorf("%+v", s)
	}
}

// A number with a point or an exponent is as JSON has it, and never rounded to 0 or to infinity.
func TestDecimalNumbers(t *testing.T) {
	for text, want := range map[string]float64{"1": 1, "0.001": .001, "1e-3": .001, "1E-3": .001, "1.5e+0": 1.5,
		".5": .5, "5.": 5, "0.0": 0,
		"0.1234567890123456789": .1234567890123456789} {
		s, err := Load(Default, "smallest", []string{"sft.learning_rate=1", "sft.weight_decay=" + text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if st, _ := s.Stage("sft"); st.Config.(*SFT).Optim.WeightDecay != want {
			t.Errorf("%s is read as %v", text, st.Config.(*SFT).Optim.WeightDecay)
		}
	}
	for text, says := range map[string]string{
		"nan": "not a decimal number", ".nan": "not a decimal number", "inf": "not a decimal number",
		"-.inf":  "not a decimal number",
		"0x1p-3": "not a decimal number", "0x10": "not a decimal number", "010": "not a decimal number",
		"1_0e-3": "not a decimal number",
		"+0.5":   "not a decimal number", ".": "not a decimal number", "1e": "not a decimal number",
		"1,5":    "not a decimal number",
		"1e-999": "which is 0 in 32-bit arithmetic", "1e-60": "which is 0 in 32-bit arithmetic",
		"1e999": "exceeds the range of 32-bit arithmetic",
		"1e39":  "exceeds the range of 32-bit arithmetic", "": "is empty", "~": "is empty", `"1"`: "which is a string",
	} {
		_, err := Load(Default, "smallest", []string{"sft.learning_rate=" + text})
		refused(t, text, err, says, "")
	}
}

// A spec says at each place what holds there: aliases, merge keys and tags are
// refused in these words, and so is a second document.
func TestPlainYAML(t *testing.T) {
	bomb := "a0: &a0 [x, x]\n"
	for i := range 30 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for _, c := range []struct{ spec, says, remedy string }{
		{minimal + "  - &p {kind: sft}\n  - *p\n", "run.yaml:7: *p is a YAML alias, which specs do not allow",
			"write the value out"},
		{strings.Replace(minimal, "rate: 1e-3", "rate: &o 1e-3", 1) + "  - kind: sft\n    learning_rate: *o\n",
			"run.yaml:7: *o is a YAML alias", "write the value out"},
		{strings.Replace(minimal, "rate: 1e-3", "rate: &o 1e-3", 1) + "  - kind: sft\n    <<: *o\n",
			"run.yaml:7: << merges another mapping in", "write the keys out"},
		{minimal + bomb, "is a YAML alias", "write the value out"},
		{minimal + "name: *nothing\n", "unknown anchor 'nothing'", "specs do not allow aliases"},
		{minimal + "---\nseed: 4\n", "run.yaml:6: a second YAML document begins here", "keep one"},
		{minimal + "---\n", "a second YAML document begins here", "keep one"},
		{minimal + "...\n}\n", "run.yaml", "correct the YAML there"},
		{minimal + "name: !!python/object:os.system ls\n", "run.yaml:6: !!python/object:os.system is a YAML tag",
			"leave the tag out"},
		{minimal + "seed: !!int \"3\"\n", "run.yaml:6: !!int is a YAML tag", "leave the tag out"},
		{minimal + "name: !!binary aGk=\n", "run.yaml:6: !!binary is a YAML tag", "leave the tag out"},
		{strings.Replace(minimal, "stages:", "stages: !list", 1), "run.yaml:2: !list is a YAML tag",
			"leave the tag out"},
		{minimal + "1: 2\n", `run.yaml:6: unknown key "1"`, "valid: data, model"},
		{minimal + "? [a, b]\n: 2\n", "run.yaml:6: a key is not a word", "key: value"},
		{"model: {}\n\tstages: []\n", "run.yaml:2", "indent with spaces"},
		{minimal + "name: \"a\n", "run.yaml", "correct the YAML there"},
		{strings.Repeat("[", 20000), "run.yaml", "correct the YAML there"},
		{"name: " + strings.Repeat("x", MaxSpec), "more than 4 MiB, too large for a run spec", "files of its own"},
		{"\x00", "run.yaml", ""},
		{"name: \xff\xfe\n", "run.yaml", ""},
	} {
		_, err := Read("run.yaml", []byte(c.spec), "", nil)
		refused(t, c.spec[:min(len(c.spec), 200)], err, c.says, c.remedy)
	}
	if s, err := Read("run.yaml", []byte(minimal+"name: &n 'a text'\n"), "", nil); err != nil || s.Name != "a text" {
		t.Errorf("an anchor that nothing refers to: %v", err)
	}
}

// What is wrong is placed where the user can put it right, and what a key is called there is told.
func TestPlacesAndHints(t *testing.T) {
	printed, err := Source(Default)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := Load(Default, "smallest", nil)
	if err != nil {
		t.Fatal(err)
	}
	load := func(set string) error { _, err := Load(Default, "", []string{set}); return err }
	read := func(file string, old, new string) error {
		_, err := Read(file, []byte(strings.Replace(string(printed), old, new, 1)), "", nil)
		return err
	}
	override := func(set string) error { _, err := Override(stored, []string{set}); return err }
	for _, c := range []struct {
		what         string
		err          error
		says, remedy string
	}{
		{"a wrong override", load("ppo.lr=3"), `--set ppo.lr=3: unknown key "ppo.lr"`,
			"did you mean ppo.policy.learning_rate or ppo.value.learning_rate?"},
		{"a setting one level up", load("sft.lr=3"), `unknown key "sft.lr"`, "did you mean sft.learning_rate?"},
		{"a setting without its stage", load("epochs=3"), `unknown key "epochs"`,
			"did you mean sft.num_train_epochs or reward.num_train_epochs?"},
		{"a stage that is not there", load("dpo.beta=3"), `unknown key "dpo"`,
			"pretrain, sft, collect, reward, ppo, evaluate"},
		{"a spelling", load("ppo.kl_coeff=3"), `unknown key "ppo.kl_coeff"`, `did you mean "kl_coef"?`},
		{"a value out of range", load("ppo.kl_coef=-3"), "recipe instructgpt: stages[4] (ppo): kl_coef is -3",
			"correct it with --set, or edit a copy: `trimtab recipes instructgpt > my-run.yaml`"},
		{"a size", func() error { _, err := Load(Default, "huge", nil); return err }(),
			`recipe instructgpt has no size "huge"`, "default, smallest"},
		{"a copy", read("my.yaml", "num_train_epochs: 3", "epoch: 3"), `my.yaml:17: unknown key "sft.epoch"`, "num_train_epochs"},
		{"a copy from standard input", read("-", "epochs: 3", "epochs: 3.5"),
			`standard input, line 17: sft.num_train_epochs is "3.5"`, "decimal digits"},
		{"a rerun's key", override("sft.epoch=3"), `--set sft.epoch=3: unknown key "sft.epoch"`,
			`num_train_epochs`},
		{"a rerun's value", override("sft.num_train_epochs=0"), "the run's spec: stages[1] (sft): num_train_epochs is 0", "with --set"},
	} {
		refused(t, c.what, c.err, c.says, c.remedy)
	}
}

// Every path that a hint may name can be set: the value that is there already changes nothing.
func TestEveryPathCanBeSet(t *testing.T) {
	o, root, err := parseShipped(Default)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.applySize(root, "smallest"); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range paths(root) {
		_, err := Load(Default, "smallest", []string{path + "="})
		if err != nil && strings.Contains(err.Error(), "unknown key") {
			t.Errorf("%s: %v", path, err)
		}
		n++
	}
	if n < 100 {
		t.Errorf("there are %d paths", n)
	}
}

// Relative paths of a spec are relative to its folder, those of --set to the
// working directory; absolute ones stay, and ~/ is the home folder.
func TestPaths(t *testing.T) {
	work, elsewhere, home := t.TempDir(), t.TempDir(), t.TempDir()
	t.Chdir(work)
	t.Setenv("HOME", home)
	const spec = "model: {num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2, max_position_embeddings: 64, vocab_size: 300}\nstages: [{kind: " +
		"pretrain}]\nsources: {test_share: 0.5, %s}\n"
	for _, c := range []struct{ file, sources, set, folder, first string }{
		{"run.yaml", "rankings: [a.jsonl]", "", work, "a.jsonl"},
		{filepath.Join(elsewhere, "run.yaml"), "rankings: [a.jsonl]", "", elsewhere, "a.jsonl"},
		{filepath.Join(elsewhere, "run.yaml"), `folder: "", rankings: [/abs/a.jsonl]`, "", elsewhere, "/abs/a.jsonl"},
		{filepath.Join(elsewhere, "run.yaml"), "folder: data, rankings: [a.jsonl]", "",
			filepath.Join(elsewhere, "data"), "a.jsonl"},
		{filepath.Join(elsewhere, "run.yaml"), "folder: /data, rankings: [~/a.jsonl]", "", "/data",
			filepath.Join(home, "a.jsonl")},
		{filepath.Join(elsewhere, "run.yaml"), "folder: ~/data, rankings: [a.jsonl]", "", filepath.Join(home, "data"),
			"a.jsonl"},
		{filepath.Join(elsewhere, "run.yaml"), "folder: ~, rankings: [a.jsonl]", "", elsewhere, "a.jsonl"},
		{filepath.Join(elsewhere, "run.yaml"), "rankings: [a.jsonl]", "sources.folder=data",
			filepath.Join(work, "data"), "a.jsonl"},
		{filepath.Join(elsewhere, "run.yaml"), "rankings: [a.jsonl]", "sources.folder=~/data",
			filepath.Join(home, "data"), "a.jsonl"},
		{"-", "folder: data, rankings: [a.jsonl]", "", filepath.Join(work, "data"), "a.jsonl"},
	} {
		var sets []string
		if c.set != "" {
			sets = []string{c.set}
		}
		s, err := Read(c.file, fmt.Appendf(nil, spec, c.sources), "", sets)
		if err != nil || s.Sources.Folder != c.folder || s.Sources.Rankings[0] != c.first {
			t.Errorf("%+v: %v, %+v", c, err, s.Sources)
		}
	}
	bases := map[string]string{"./out": filepath.Join(elsewhere, "out"),
		"../out": filepath.Join(filepath.Dir(elsewhere), "out"), "~/out": filepath.Join(home, "out"),
		"gpt2": "gpt2", "/m/gpt2": "/m/gpt2"}
	for base, want := range bases {
		s, err := Read(filepath.Join(elsewhere, "run.yaml"), []byte("model: {base: "+base+"}\nstages: [{kind: sft}]\n"),
			"", nil)
		if err != nil || s.Model.Base != want {
			t.Errorf("base %s: %q, %v", base, s.Model.Base, err)
		}
	}
	_, err := Read("run.yaml", fmt.Appendf(nil, spec, "rankings: [~ann/a.jsonl]"), "", nil)
	refused(t, "another user's home", err, `run.yaml:3: "~ann/a.jsonl" begins with the home folder of another user`,
		"write the path out")
	t.Setenv("HOME", "")
	if err := os.Unsetenv("HOME"); err != nil {
		t.Fatal(err)
	}
	_, err = Read("run.yaml", fmt.Appendf(nil, spec, "rankings: [~/a.jsonl]"), "", nil)
	refused(t, "no home", err, "HOME is not set", "write the path out")
}

// Reading the worst spec of the largest size takes little memory.
func TestReadingIsBounded(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for name, spec := range map[string]string{
		"deep": "name: " + deep, "wide": "stages: [" + strings.Repeat("{kind: sft},", 1<<15) + "]",
		"aliases": "a: &a [" + strings.Repeat("x,", 1000) + "]\nb: [" + strings.Repeat("*a,", 1<<17) + "]",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read("run.yaml", []byte(spec), "", nil)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 1<<30 {
			t.Errorf("%s (%d bytes): %d MB taken, %v", name, len(spec), took>>20, err != nil)
		}
	}
}
