package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/devstack"
	"github.com/trimtab/trimtab/redact"
)

// app is one invocation of the program: where it reads and writes, and what was set.
type app struct {
	in        io.Reader
	out, err  io.Writer
	settings  *settings
	folder    devstack.FolderMarker // the data folder that was opened, once one was
	format    string                // table, json, jsonl, csv
	config    string                // --config
	actorName string                // under whom events are recorded
	secrets   *redact.Redactor
	started   bool // a command's own code has begun: errors are no longer about the command line
}

// run executes one command line and returns its exit code.
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

// exitStatus ends the program with a code when everything has been said already.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func (a *app) root() *cobra.Command {
	cobra.EnableCommandSorting = false // they are listed in the order in which one needs them
	root := &cobra.Command{
		Use:   "trimtab",
		Short: "align a language model with people's rankings, durably",
		Long: `Trimtab takes a language model through supervised fine-tuning, a reward model from
ranked comparisons, and PPO, as durable workflows that end in the same bytes
whatever is killed on the way.`,
		Example: `  trimtab align                      # the starter world, from nothing to an aligned model
  trimtab runs                       # what ran, what is running
  trimtab show RUN                   # its stages, and what happens next
  trimtab rerun RUN ppo --set ppo.kl_coef=0.05`,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error { return a.prepare(cmd, args) },
		RunE:              group,
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.format, "output", "o", formatTable, "how to print: table, json, jsonl or csv")
	f.StringVar(&a.config, "config", "", "settings file (default trimtab.yaml here, then in the user's config folder)")
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
		a.compareCmd(),
		a.rerunCmd(), a.approveCmd(), a.skipCmd(), a.cancelCmd(), a.pauseCmd(), a.resumeCmd(), a.recipesCmd(),
		a.planCmd())
	add("record", a.auditCmd(), a.reproduceCmd())
	add("things", a.dataCmd(), a.modelCmd(), a.generateCmd(), a.chatCmd(), a.evalCmd())
	add("machine", a.devCmd(), a.workerCmd(), a.migrateCmd(), a.doctorCmd(), a.gcCmd(), a.benchCmd(), a.versionCmd())
	root.AddCommand(manCmd(root))
	root.SetHelpCommand(helpCmd(root))
	root.SetCompletionCommandGroupID("machine")
	return root
}

// helpCmd is cobra's, but that it refuses what is no command.
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

// prepare runs before every command: it checks the words and -o, and reads the settings.
func (a *app) prepare(cmd *cobra.Command, args []string) error {
	if !slices.Contains(formats, a.format) {
		return fmt.Errorf("-o %s: want %s", a.format, strings.Join(formats, ", "))
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

// group is the RunE of a command that only has subcommands.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	msg := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		msg += ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return trimtab.NewError(trimtab.Usage, "usage", "see "+cmd.CommandPath()+" --help", "%s", msg)
}

// programActor is the actor of what trimtab does by itself.
const programActor = "trimtab"

// actor is who an event is recorded under.
func (a *app) actor() string { return a.actorName }

// note writes one line to standard error.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.err, escapeLine(a.secrets.Text(fmt.Sprintf(format, args...))))
}

// terminal reports whether w is a terminal, and how wide it is.
func terminal(w io.Writer) (width int, ok bool) {
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

// formatSeconds prints a duration for people: 3.2s, 1m05s, 2h03m.
func formatSeconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// formatAgo prints how long ago t was.
func formatAgo(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return t.Local().Format("2006-01-02")
}
