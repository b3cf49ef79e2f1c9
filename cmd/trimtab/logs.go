package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// logsCmd is "trimtab logs". It prints the lines that stages logged to the
// database, which are the same on whichever machine a worker ran; a worker's
// own log on standard error is not among them.
func (a *app) logsCmd() *cobra.Command {
	var followLogs bool
	cmd := &cobra.Command{
		Use: "logs RUN", Short: "print what the stages of a run logged", Args: argCount(1, 1),
		Example: "  trimtab logs my-assistant\n  trimtab logs my-assistant --follow",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.printLogs(ctx, s, args[0], followLogs)
			})
		},
	}
	cmd.Flags().BoolVarP(&followLogs, "follow", "f", false, "wait for more until the run ends")
	return cmd
}

// logLine is a stored log line as this program shows it.
type logLine struct {
	At    time.Time `json:"at"`
	Level string    `json:"level"`
	// Stage and Attempt are empty for lines about the run.
	Stage   string `json:"stage,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	Message string `json:"message"`
}

// logColumns are the columns of logs.
var logColumns = []column[logLine]{
	{name: "at", full: func(l logLine) string { return l.At.Format(time.RFC3339Nano) },
		short: func(l logLine) string { return l.At.Local().Format("15:04:05") }},
	{name: "level", full: func(l logLine) string { return l.Level }},
	{name: "stage", full: func(l logLine) string { return l.Stage }},
	{name: "attempt", full: func(l logLine) string { return blankIfZero(l.Attempt) }, right: true},
	{name: "message", full: func(l logLine) string { return l.Message }},
}

// printLogs prints the log of a run, in pages of 1000 lines. With follow it
// prints lines as they come, until the run ends; without it, nothing is
// printed before the last line is known, since a table needs the widths of
// all cells.
func (a *app) printLogs(ctx context.Context, s *session, ref string, follow bool) error {
	var all []logLine
	for after := int64(0); ; {
		lines, next, err := s.runs.Logs(ctx, ref, after, 1000)
		if err != nil {
			return err
		}
		// next is the id of the last line, from which the next page
		// continues.
		after = next
		for _, l := range lines {
			line := logLine{l.At.UTC(), l.Level, l.Stage, l.Attempt, l.Message}
			if !follow {
				all = append(all, line)
			} else if err := a.printLogLine(line); err != nil {
				return err
			}
		}
		if len(lines) > 0 {
			continue
		}
		if !follow {
			return printList(a, list[logLine]{schema: "trimtab.logs/v1", key: "lines", items: all, columns: logColumns,
				empty: "nothing was logged"})
		}
		doc, err := s.runs.Show(ctx, ref)
		if err != nil || !doc.Status.Open() {
			return err
		}
		// Somebody is watching: keep the embedded servers from stopping as
		// idle.
		s.keepAlive()
		if !sleep(ctx, time.Second) {
			return nil
		}
	}
}

// printLogLine prints one line of a log that is being followed. A table
// cannot be laid out before its last row is known, so the columns have fixed
// widths.
func (a *app) printLogLine(l logLine) error {
	if a.format != formatTable {
		return a.printJSONLine(l)
	}
	stage := l.Stage
	if stage == "" {
		stage = "run"
	}
	_, err := fmt.Fprintf(a.out, "%s %-5s %-8s %s\n", l.At.Local().Format("15:04:05"), escapeLine(l.Level),
		escapeLine(stage), escapeLine(l.Message))
	return err
}
