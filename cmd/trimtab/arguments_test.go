package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/storage/storagetest"
)

// badTexts are what no name, reason or setting may hold, with what is said of it.
var badTexts = map[string]string{
	"caf\xe9":                    "is not UTF-8",
	"a\nb":                       "a line break",
	"a\tb":                       "a tab",
	"a\x1b[31mred":               "U+001B",
	"a\x7fb":                     "U+007F",
	"a\u202eb":                   "U+202E",
	"a\u2028b":                   "U+2028",
	strings.Repeat("é", 100_000): "characters, and may have",
}

// What cannot be recorded is refused by the flag that holds it, and nothing is started.
func TestBadWords(t *testing.T) {
	dir := quiet(t)
	for bad, why := range badTexts {
		for _, args := range [][]string{
			{"align", "--size", "smallest", "--name", bad},
			{"align", "--size", "smallest", "--set", "name=" + bad},
			{"align", "--actor", bad},
			{"rerun", "x", "ppo", "--reason", bad},
			{"rerun", "x", "ppo", "--set", "ppo.kl_coef=" + bad},
			{"approve", "x", "reward", "--reason", bad},
			{"skip", "x", "reward", "--reason", bad},
			{"cancel", "x", "--reason", bad},
			{"pause", "x", "--reason", bad},
			{"resume", "x", "--reason", bad},
			{"data", "erase", "demos", "--containing", "x", "--reason", bad},
			{"data", "import", "x", "--kind", "text", "f.txt", "--actor", bad},
			{"model", "import", "folder", "--name", bad},
		} {
			f := fails(t, 2, args...)
			flag := args[len(args)-2]
			if !strings.Contains(f.Message, flag+" is not valid") || !strings.Contains(f.Message, why) ||
				len(f.Message) > 300 {
				t.Errorf("%q: %.300s", args, f.Message)
			}
		}
		t.Setenv("TRIMTAB_ACTOR", bad)
		if f := fails(t, 2, "align"); !strings.Contains(f.Message,
			"setting actor (from environment TRIMTAB_ACTOR) is not valid") || !strings.Contains(f.Message, why) {
			t.Errorf("%.20q: %.300s", bad, f.Message)
		}
		os.Unsetenv("TRIMTAB_ACTOR")
	}
	write(t, filepath.Join(dir, "s.yaml"), "actor: \"a\\0b\"\n")
	if f := fails(t, 2, "align", "--config", "s.yaml"); !strings.Contains(f.Message, "a NUL") {
		t.Errorf("%+v", f)
	}
	write(t, filepath.Join(dir, "spec.yaml"), "name: \"a\\nb\"\n"+strings.TrimPrefix(sound, "name: x\n"))
	if f := fails(t, 2, "align", "-f", "spec.yaml"); !strings.Contains(f.Message,
		"the spec's name cannot be recorded: it holds a line break") {
		t.Errorf("%+v", f)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("a data folder was made: %v", err)
	}
}

// Words by which something is looked for are UTF-8 as well; names of files are what they are.
func TestUnreadableWords(t *testing.T) {
	dir := quiet(t)
	const bad = "caf\xe9"
	for _, args := range [][]string{
		{"show", bad}, {"history", "x", bad}, {"metrics", "x", "ppo", "loss", bad}, {"data", "show", bad},
		{"data", "used-by", bad},
		{"model", "show", bad}, {"generate", "x/ppo", bad}, {"compare", "x", bad}, {"doctor", "--run", bad},
		{"align", "--resume", bad},
		{"rerun", "x", "ppo", "--from-checkpoint", bad}, {"rerun", "x", "ppo", "--data", bad},
		{"eval", "x/ppo", "--data", bad},
	} {
		if f := fails(t, 2, args...); !strings.Contains(f.Message, `is not valid: byte 4, \xe9, is not UTF-8`) {
			t.Errorf("%q: %+v", args, f)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("a data folder was made: %v", err)
	}
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	write(t, filepath.Join(dir, bad+".txt"), "some text\n")
	if code, out, errs := command(t, "", "data", "import", "x", "--kind", "text", bad+".txt"); code != 0 {
		t.Errorf("a file with such a name: exit %d: %s%s", code, out, errs)
	}
}

// Names of any script are recorded whole.
func TestGoodWords(t *testing.T) {
	quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", storagetest.URLs(t).App)
	for _, name := range []string{"Zoë Müller", "李小龍", "أحمد", "👩‍🔬", `DOMAIN\ann`, strings.Repeat("é", 200)} {
		if code, out, errs := command(t, "{\"text\": \""+strings.ReplaceAll(name, `\`, `\\`)+"\"}\n", "data", "import",
			"x", "--kind", "text", "--actor", name, "-"); code != 0 {
			t.Fatalf("%s: exit %d: %s%s", name, code, out, errs)
		}
		if _, out, errs := command(t, "", "audit", "log", "dataset/x", "-o", "csv"); !strings.Contains(out, ","+name+
			",") {
			t.Errorf("the record has not %q: %s%s", name, out, errs)
		}
	}
}

// Flags of every sort are taken as they are: words, numbers, switches.
func TestOrdinaryFlags(t *testing.T) {
	quiet(t)
	t.Setenv("TRIMTAB_POSTGRES_URL", "postgres://ann@127.0.0.1:1/x")
	t.Setenv("TRIMTAB_TEMPORAL_ADDRESS", "127.0.0.1:1")
	for _, args := range [][]string{
		{"runs", "--limit", "5"}, {"align", "--detach", "--size", "smallest", "--seed", "7", "--set", "ppo.kl_coef=0.1",
			"--name", "x"},
		{"rerun", "x", "ppo", "--from-checkpoint", "latest", "--dry-run", "--force", "--data", "demos"},
		{"gc", "--dry-run", "--grace", "24h"},
	} {
		if f := fails(t, 6, args...); strings.Contains(f.Message, "is not valid") {
			t.Errorf("%q: %+v", args, f)
		}
	}
}

func TestArgumentNames(t *testing.T) {
	for _, c := range []struct {
		use  string
		i    int
		want string
	}{{"rerun RUN STAGE", 1, "STAGE"}, {"metrics RUN STAGE [NAME…]", 4, "NAME"}, {"import NAME FILE…", 3, "FILE"},
		{"align", 0, "the argument"}} {
		if got := argumentName(&cobra.Command{Use: c.use}, c.i); got != c.want {
			t.Errorf("argument %d of %q is %q, want %q", c.i, c.use, got, c.want)
		}
	}
}
