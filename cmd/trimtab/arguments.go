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

// recordedFlags are the flags whose values go into the record verbatim, each
// with the check that they must pass. Records are kept for ever and read by
// others, so that values are limited in length and free of invisible
// characters.
var recordedFlags = map[string]func(string) error{
	"name":   trimtab.CheckName,
	"actor":  trimtab.CheckName,
	"reason": func(s string) error { return trimtab.CheckText(s, trimtab.MostReason) },
	"set":    func(s string) error { return trimtab.CheckText(s, trimtab.MostSetting) },
}

// pathFlags are the flags that name files. File names may be any bytes, so
// they are not required to be UTF-8. --against names a model for eval and a
// file for audit verify.
var pathFlags = []string{"file", "config", "to", "svg", "keep", "key", "offline", "against", "input", "data-folder",
	"audit-key", "audit-copies", "openlineage-url"}

// checkArguments validates flags and arguments before anything is started:
// those that are recorded against the rules of the record, the rest as UTF-8
// without NUL, since no name with other bytes exists. Names of files may be
// any bytes.
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

// flagValues returns the values given for a flag, one for each time that a
// repeatable flag was given.
func flagValues(f *pflag.Flag) []string {
	if many, ok := f.Value.(pflag.SliceValue); ok {
		return many.GetSlice()
	}
	return []string{f.Value.String()}
}

// argumentName is the word that stands for argument i in the command's usage
// line; the last word stands for all further arguments.
func argumentName(cmd *cobra.Command, i int) string {
	_, usage, _ := strings.Cut(cmd.Use, " ")
	words := strings.Fields(strings.NewReplacer("[", "", "]", "", "…", "").Replace(usage))
	if len(words) == 0 {
		return "the argument"
	}
	return words[min(i, len(words)-1)]
}

// validText rejects text that is not UTF-8 or holds a NUL, which Postgres
// does not store. More is not required of words that are only looked up.
func validText(s string) error {
	if !utf8.ValidString(s) {
		return trimtab.CheckText(s, len(s))
	}
	if strings.Contains(s, "\x00") {
		return fmt.Errorf("it contains a NUL")
	}
	return nil
}

// invalidTextError wraps a failed check of a word on the command line, or
// returns nil.
func invalidTextError(what string, why error) error {
	if why == nil {
		return nil
	}
	return usagef("use one line of UTF-8 text without invisible characters, within the length limit",
		"%s is not valid: %w", what, why)
}

// resolveActor returns the name that events are recorded under: the setting,
// or else the user's login name, or "unknown" where the system has none.
func (a *app) resolveActor() (string, error) {
	if s := a.settings.value("actor"); s != "" {
		if err := trimtab.CheckName(s); err != nil {
			return "", usagef("give another with --actor or TRIMTAB_ACTOR",
				"setting actor (from %s) is not valid: %w", a.settings.origins["actor"], err)
		}
		return s, nil
	}
	// A container often has no entry for its user.
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "unknown", nil
	}
	if err := trimtab.CheckName(u.Username); err != nil {
		return "", usagef("give another name with --actor or TRIMTAB_ACTOR",
			"your login name cannot be recorded: %w", err)
	}
	return u.Username, nil
}
