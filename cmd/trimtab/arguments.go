package main

import (
	"fmt"
	"os/user"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trimtab/trimtab"
)

// recordedFlags are the flags whose words go into the record as they are, each with what it has to pass.
var recordedFlags = map[string]func(string) error{
	"name":   trimtab.CheckName,
	"actor":  trimtab.CheckName,
	"reason": func(s string) error { return trimtab.CheckText(s, trimtab.MostReason) },
	"set":    func(s string) error { return trimtab.CheckText(s, trimtab.MostSetting) },
}

// pathFlags are the flags that name files, whose names may be any bytes. With
// --against, eval names a model and audit verify a file.
var pathFlags = []string{"file", "config", "to", "svg", "keep", "key", "offline", "against", "input", "data-folder",
	"audit-key", "audit-copies", "openlineage-url"}

// checkArguments refuses, before anything is started, what cannot be recorded, and
// words that are not UTF-8 where no file is named: nothing is found by them.
func checkArguments(cmd *cobra.Command, args []string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		check, ok := recordedFlags[f.Name]
		if !ok {
			check = validText
		}
		for _, value := range flagValues(f) {
			if err == nil && !slices.Contains(pathFlags, f.Name) {
				err = invalidTextError("--"+f.Name, check(value))
			}
		}
	})
	for i, arg := range args {
		if what := argumentName(cmd, i); err == nil && !strings.Contains(what, "FILE") &&
			!strings.Contains(what, "FOLDER") {
			err = invalidTextError(what, validText(arg))
		}
	}
	return err
}

// flagValues is what was given for a flag, each time that it was given.
func flagValues(f *pflag.Flag) []string {
	if many, ok := f.Value.(pflag.SliceValue); ok {
		return many.GetSlice()
	}
	return []string{f.Value.String()}
}

// argumentName is the word by which a command's usage names its argument i.
func argumentName(cmd *cobra.Command, i int) string {
	_, usage, _ := strings.Cut(cmd.Use, " ")
	words := strings.Fields(strings.NewReplacer("[", "", "]", "", "…", "").Replace(usage))
	if len(words) == 0 {
		return "the argument"
	}
	return words[min(i, len(words)-1)]
}

// validText refuses what is not UTF-8 or holds a NUL; more is not asked of words that are only looked for.
func validText(s string) error {
	if !utf8.ValidString(s) {
		return trimtab.CheckText(s, len(s))
	}
	if strings.Contains(s, "\x00") {
		return fmt.Errorf("it holds a NUL")
	}
	return nil
}

func invalidTextError(what string, why error) error {
	if why == nil {
		return nil
	}
	return usagef("give one line of UTF-8 text that is no longer than that", "%s cannot be taken: %w", what, why)
}

// resolveActor is who events are recorded under: the setting, else the user's
// login name.
func (a *app) resolveActor() (string, error) {
	if s := a.settings.value("actor"); s != "" {
		if err := trimtab.CheckName(s); err != nil {
			return "", usagef("give another with --actor or TRIMTAB_ACTOR",
				"setting actor (from %s) cannot be taken: %w", a.settings.origins["actor"], err)
		}
		return s, nil
	}
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "unknown", nil
	}
	if err := trimtab.CheckName(u.Username); err != nil {
		return "", usagef("give another name with --actor or TRIMTAB_ACTOR", "your login name cannot be recorded: %w",
			err)
	}
	return u.Username, nil
}
