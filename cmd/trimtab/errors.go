package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
)

// badNumber is how the flag library says that a value is no number.
var badNumber = regexp.MustCompile(`^invalid argument ("[^"]*") for "(?:-., )?(--[a-z-]+)" flag: strconv\.`)

// usageError makes an error of the command line into one that exits with 2.
func usageError(cmd *cobra.Command, err error) error {
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	msg := strings.TrimSpace(strings.ReplaceAll(err.Error(), "\n", " "))
	if m := badNumber.FindStringSubmatch(msg); m != nil {
		msg = fmt.Sprintf("%s is %s, which is not a number that it takes", m[2], m[1])
	}
	return trimtab.NewError(trimtab.Usage, "usage", "see "+cmd.CommandPath()+" --help", "%s", msg)
}

// usagef is an error in what the user typed.
func usagef(remedy, format string, args ...any) error {
	return trimtab.NewError(trimtab.Usage, "usage", remedy, format, args...)
}

// printError says what went wrong: one document on standard output where
// documents were asked for, else a line and a hint on standard error.
func (a *app) printError(err error) {
	e := *trimtab.AsError(err)
	bare := e.Message
	e.Message, e.Remedy = a.secrets.Text(e.Message), a.secrets.Text(e.Remedy)
	if a.format == formatJSON || a.format == formatJSONL {
		doc, _ := json.Marshal(e)
		fmt.Fprintf(a.out, "%s\n", escapeJSON(doc))
		return
	}
	// The message of a wrapped error holds what was being done; prefer it to the bare one.
	msg := e.Message
	if full := err.Error(); !strings.HasPrefix(full, bare) {
		msg = strings.TrimSuffix(a.secrets.Text(full), ": "+e.Remedy)
	}
	fmt.Fprintf(a.err, "trimtab: %s\n", escapeText(msg))
	if e.Remedy != "" {
		fmt.Fprintf(a.err, "  hint: %s\n", escapeText(e.Remedy))
	}
}

// formatIn finds -o in a command line that could not be parsed, so that the
// error takes the form that was asked for.
func formatIn(args []string) string {
	for i, arg := range args {
		value := ""
		switch {
		case arg == "--":
			return formatTable
		case (arg == "-o" || arg == "--output") && i+1 < len(args):
			value = args[i+1]
		case strings.HasPrefix(arg, "--output="):
			value = strings.TrimPrefix(arg, "--output=")
		case strings.HasPrefix(arg, "-o") && !strings.HasPrefix(arg, "--"):
			value = strings.TrimPrefix(strings.TrimPrefix(arg, "-o"), "=")
		}
		if slices.Contains(formats, value) {
			return value
		}
	}
	return formatTable
}

// noLimit is no limit for takes.
const noLimit = 1 << 20

// argCount checks the number of arguments, and names them when it is off.
func argCount(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		_, names, _ := strings.Cut(cmd.Use, " ")
		if names == "" {
			return fmt.Errorf("%s takes no arguments: have %q", cmd.CommandPath(), args)
		}
		return fmt.Errorf("%s takes %s: have %d of them", cmd.CommandPath(), names, len(args))
	}
}
