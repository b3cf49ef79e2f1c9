package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/redact"
)

// app is one invocation of the program: its streams, its settings and what
// was learned while they were resolved. Commands are methods of it. It is
// built afresh for every command line, in tests too, and is not used
// concurrently except through note and printError.
type app struct {
	// in, out and err are the standard streams, or a test's buffers.
	in       io.Reader
	out, err io.Writer
	// settings is nil until prepare has resolved them.
	settings *settings
	// folder identifies the data folder once it has been opened, so that a
	// folder that is removed and recreated meanwhile is noticed.
	folder devstack.FolderMarker
	// format is the value of -o: table, json, jsonl or csv.
	format string
	// config is the value of --config: the settings file, or empty.
	config string
	// actorName is the name that events are recorded under.
	actorName string
	// secrets removes the values of secret settings from printed text.
	secrets *redact.Redactor
	// started is set once the command's own code runs: from then on, errors
	// are no longer about the command line.
	started bool
}

// run executes one command line and returns its exit code. It never calls
// os.Exit and touches no global stream, so that tests run commands
// in-process. Errors found before the command's own code starts are usage
// errors, printed in the format that -o asks for even though flags may not
// have been parsed.
func run(args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw, format: formatTable}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return 0
	}
	if status, ok := err.(exitStatus); ok {
		return int(status)
	}
	if !a.started {
		err = usageError(cmd, err)
		a.format = formatIn(args)
	}
	a.printError(err)
	return trimtab.ExitCode(err)
}

// exitStatus is an error that ends the program with its code when everything
// there is to say has been printed already.
type exitStatus int

// Error implements error; nobody prints it.
func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// root builds the command tree. Commands are grouped by what they are about
// and listed in the order in which a newcomer needs them, not alphabetically.
func (a *app) root() *cobra.Command {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:   "trimtab",
		Short: "align a language model with human rankings, durably",
		Long: `Trimtab takes a language model through supervised fine-tuning, a reward model trained
on ranked comparisons, and PPO. Every stage is a durable workflow: it survives crashes
and produces the same bytes no matter what is killed along the way.`,
		Example: `  trimtab align                      # the starter world: from scratch to an aligned model
  trimtab runs                       # finished and current runs
  trimtab show RUN                   # its stages, and what happens next
  trimtab rerun RUN ppo --set ppo.kl_coef=0.05`,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error { return a.prepare(cmd, args) },
		RunE:              group,
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.format, "output", "o", formatTable, "output format: table, json, jsonl or csv")
	f.StringVar(&a.config, "config", "",
		"settings file (default: trimtab.yaml in the working directory, then in the user's config folder)")
	addSettingFlags(root)
	root.AddGroup(
		&cobra.Group{ID: "runs", Title: "Runs:"},
		&cobra.Group{ID: "things", Title: "Data and models:"},
		&cobra.Group{ID: "record", Title: "The record:"},
		&cobra.Group{ID: "machine", Title: "The machine:"})
	add := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add("runs", a.alignCmd(), a.runsCmd(), a.showCmd(), a.watchCmd(), a.historyCmd(), a.logsCmd(), a.metricsCmd(),
		a.compareCmd(), a.rerunCmd(), a.approveCmd(), a.skipCmd(), a.cancelCmd(), a.pauseCmd(), a.resumeCmd(),
		a.recipesCmd(), a.planCmd())
	add("record", a.auditCmd(), a.reproduceCmd())
	add("things", a.dataCmd(), a.modelCmd(), a.generateCmd(), a.chatCmd(), a.evalCmd())
	add("machine", a.devCmd(), a.workerCmd(), a.migrateCmd(), a.doctorCmd(), a.gcCmd(), a.benchCmd(), a.versionCmd())
	root.AddCommand(manCmd(root))
	root.SetHelpCommand(helpCmd(root))
	root.SetCompletionCommandGroupID("machine")
	return root
}

// helpCmd is cobra's help command, except that an unknown command is an error
// with exit code 2 and not a page of help.
func helpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "help about any command", GroupID: "machine",
		Example: "  trimtab help data import",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return group(cmd, rest)
			}
			return cmd.Help()
		},
	}
}

// prepare runs before every command. It validates -o and the arguments, and
// resolves the settings and the actor; nothing has been started or changed
// when it fails. The redactor is built twice: a first time from flags and the
// environment, so that an error about the settings file shows no secret.
func (a *app) prepare(cmd *cobra.Command, args []string) error {
	if !slices.Contains(formats, a.format) {
		return fmt.Errorf("-o is %q: use %s", a.format, strings.Join(formats, ", "))
	}
	if err := checkArguments(cmd, args); err != nil {
		return err
	}
	a.secrets = redactorOf(cmd, nil)
	s, err := readSettings(cmd, a.config)
	if err != nil {
		return err
	}
	a.settings, a.secrets = s, redactorOf(cmd, s)
	if a.actorName, err = a.resolveActor(); err != nil {
		return err
	}
	a.started = true
	return nil
}

// group is the RunE of a command that only has subcommands: help without
// arguments, and with an unknown subcommand an error that suggests those
// within two edits of it.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	msg := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	// Two edits catch a transposition, as in algin for align.
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		msg += ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return trimtab.NewError(trimtab.Usage, "usage", "see "+cmd.CommandPath()+" --help", "%s", msg)
}

// actor is the name that this invocation's events are recorded under.
func (a *app) actor() string { return a.actorName }

// note writes one line to standard error, with secrets removed and control
// characters escaped.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.err, escapeLine(a.secrets.Text(fmt.Sprintf(format, args...))))
}

// terminal reports whether w is a terminal, and its width in cells; 80 where
// the width cannot be determined.
func terminal(w io.Writer) (width int, ok bool) {
	// Tests write to buffers, which are no terminals.
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return width, true
}
