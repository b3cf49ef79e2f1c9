package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/runs"
)

// runsCmd is "trimtab runs": a table of the newest runs, or the document
// trimtab.runs/v1. Like everything that only reads, it needs the database but
// not Temporal.
func (a *app) runsCmd() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "runs", Short: "list runs, newest first", Args: argCount(0, 0),
		Example: "  trimtab runs\n  trimtab runs -o json --limit 5",
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Flags are checked before the database is opened, here and
			// everywhere: with the embedded servers, opening may take
			// seconds.
			if limit < 1 {
				return usagef("use 1 or more", "--limit is %d", limit)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				items, err := s.runs.List(ctx, limit)
				if err != nil {
					return err
				}
				return printList(a, list[runs.RunSummary]{
					schema: "trimtab.runs/v1", key: "runs", items: items, columns: runColumns,
					empty: "no runs yet: trimtab align starts one",
				})
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "maximum number of runs")
	return cmd
}

// runColumns are the columns of runs. "stage" is the one that the run is at,
// and "next" what a person has to do or what the run waits for.
var runColumns = []column[runs.RunSummary]{
	{name: "id", full: func(r runs.RunSummary) string { return r.ID },
		short: func(r runs.RunSummary) string { return shortID(r.ID) }},
	{name: "name", full: func(r runs.RunSummary) string { return r.Name }},
	{name: "status", full: func(r runs.RunSummary) string { return string(r.Status) }},
	{name: "stage", full: func(r runs.RunSummary) string { return r.Stage }},
	{name: "seed", full: func(r runs.RunSummary) string { return strconv.FormatUint(r.Seed, 10) }, right: true},
	{name: "created_at", full: func(r runs.RunSummary) string { return r.CreatedAt.UTC().Format(time.RFC3339) },
		short: func(r runs.RunSummary) string { return formatAgo(r.CreatedAt) }},
	{name: "seconds", full: func(r runs.RunSummary) string { return formatExact(r.Seconds) },
		short: func(r runs.RunSummary) string { return formatSeconds(r.Seconds) }, right: true},
	{name: "next", full: func(r runs.RunSummary) string { return r.Next }},
}

// shortID is the beginning of a run's id, as much as people need to type. Any
// unambiguous beginning of an id is accepted where a RUN is expected.
func shortID(id string) string { return id[:min(10, len(id))] }
