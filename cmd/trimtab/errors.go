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

// badNumber matches the flag library's error for a value that does not parse
// as a number, bool or duration; its groups are the value and the flag.
var badNumber = regexp.MustCompile(`^invalid argument ("[^"]*") for "(?:-., )?(--[a-z-]+)" flag: strconv\.`)

// usageError turns an error about the command line into one that exits with
// 2. The flag library's errors are several lines long and speak of Go
// functions: they are put on one line, in this program's words.
func usageError(cmd *cobra.Command, err error) error {
	if e, ok := errors.AsType[*trimtab.Error](err); ok {
		return e
	}
	msg := strings.TrimSpace(strings.ReplaceAll(err.Error(), "\n", " "))
	if m := badNumber.FindStringSubmatch(msg); m != nil {
		msg = fmt.Sprintf("%s is %s: not a valid number", m[2], m[1])
	}
	return trimtab.NewError(trimtab.Usage, "usage", "see "+cmd.CommandPath()+" --help", "%s", msg)
}

// usagef returns an error in what the user typed: class Usage, exit code 2.
// The remedy comes first because every call has one.
func usagef(remedy, format string, args ...any) error {
	return trimtab.NewError(trimtab.Usage, "usage", remedy, format, args...)
}

// printError prints an error in the form that -o asks for: one JSON document
// on standard output, or else a line and a hint on standard error. A wrapped
// error is printed with its wrapping, which says what was being done.
func (a *app) printError(err error) {
	e := *trimtab.AsError(err)
	bare := e.Message
	e.Message, e.Remedy = a.secrets.Text(e.Message), a.secrets.Text(e.Remedy)
	if a.format == formatJSON || a.format == formatJSONL {
		doc, _ := json.Marshal(e)
		fmt.Fprintf(a.out, "%s\n", escapeJSON(doc))
		return
	}
	// A wrapping error's text says what was being done: prefer it to the bare message.
	msg := e.Message
	if full := err.Error(); !strings.HasPrefix(full, bare) {
		msg = strings.TrimSuffix(a.secrets.Text(full), ": "+e.Remedy)
	}
	fmt.Fprintf(a.err, "trimtab: %s\n", escapeText(msg))
	if e.Remedy != "" {
		fmt.Fprintf(a.err, "  hint: %s\n", escapeText(e.Remedy))
	}
}

// formatIn finds -o in a command line that could not be parsed, so that even
// a parse error takes the form that was asked for. It knows every spelling
// that the flag library accepts, and returns table when there is none.
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

// noLimit is the upper bound for argCount of a command that takes any number
// of arguments.
const noLimit = 1 << 20

// argCount checks the number of arguments. Unlike cobra's own checks, its
// error names the arguments as the usage line does.
func argCount(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		_, names, _ := strings.Cut(cmd.Use, " ")
		if names == "" {
			return fmt.Errorf("%s takes no arguments: got %q", cmd.CommandPath(), args)
		}
		return fmt.Errorf("%s takes %s: got %s", cmd.CommandPath(), names, plural(len(args), "argument"))
	}
}
