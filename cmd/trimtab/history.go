package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

func (a *app) historyCmd() *cobra.Command {
	var all, lineage bool
	cmd := &cobra.Command{
		Use: "history RUN [STAGE]", Short: "the log book of a run: when, who, what and why", Args: argCount(1, 2),
		Long: `Read what happened to a run, a line an event, in local time. Events of one kind in a
row, such as the commits of steps, are one line with the time of the last, unless
--all is given. The other forms of output have every event, whole. With --openlineage it is the run events of OpenLineage instead, a line of JSON
each: what workers tell as it comes about, where openlineage_url is set.

A digest is shown by its first 12 digits. They are enough for rerun
--from-checkpoint (of a checkpoint), for generate, chat, eval and model (of a
model), and, behind NAME@sha256:, wherever a dataset is named.`,
		Example: "  trimtab history my-assistant\n  trimtab history my-assistant ppo --all\n  trimtab history " +
			"my-assistant -o csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			if lineage && a.format != formatTable && a.format != formatJSONL {
				return usagef("leave -o out", "--openlineage prints lines of JSON alone")
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				stage := ""
				if len(args) == 2 {
					stage = args[1]
				}
				events, err := s.runs.History(ctx, args[0], stage)
				if err != nil {
					return err
				}
				if lineage {
					return a.printOpenLineage(ctx, s, args[0], stage)
				}
				return a.printHistory(ctx, s, events, all)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "show each event, also those that tell the same as the one before")
	cmd.Flags().BoolVar(&lineage, "openlineage", false, "print events of OpenLineage, a line of JSON each")
	return cmd
}

func (a *app) printHistory(ctx context.Context, s *session, events []storage.Event, all bool) error {
	if a.format != formatTable {
		return printList(a, list[eventRow]{schema: "trimtab.history/v1", key: "events", items: eventRows(events),
			columns: eventColumns})
	}
	if len(events) == 0 {
		_, err := fmt.Fprintln(a.out, "no events")
		return err
	}
	notes, err := s.runs.EventNotes(ctx, events)
	if err != nil {
		return err
	}
	width, _ := terminal(a.out)
	_, err = fmt.Fprint(a.out, formatHistory(historyLines(events, notes, all), time.Local, width))
	return err
}

// printOpenLineage writes the OpenLineage events of a run, or of a stage of it.
func (a *app) printOpenLineage(ctx context.Context, s *session, ref, stage string) error {
	events, err := s.runs.OpenLineage(ctx, ref, a.settings.value("openlineage_namespace"))
	if err != nil {
		return err
	}
	for _, e := range events {
		if stage != "" && e.Subject.Stage != stage {
			continue
		}
		if err := a.printJSONLine(e); err != nil {
			return err
		}
	}
	return nil
}

// eventRow is a stored event as this program shows it.
type eventRow struct {
	Sequence int64           `json:"sequence"`
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"`
	Type     string          `json:"type"`
	Stage    string          `json:"stage,omitempty"`
	Attempt  int             `json:"attempt,omitempty"`
	Body     json.RawMessage `json:"body,omitempty"`
}

func eventRows(in []storage.Event) []eventRow {
	var out []eventRow
	for _, e := range in {
		out = append(out, eventRow{e.Sequence, e.At.UTC(), e.Actor, e.Type, e.Stage, e.Attempt, e.Body})
	}
	return out
}

// eventColumns are those of CSV; people read sentences instead.
var eventColumns = []column[eventRow]{
	{name: "sequence", full: func(e eventRow) string { return strconv.FormatInt(e.Sequence, 10) }},
	{name: "at", full: func(e eventRow) string { return e.At.Format(time.RFC3339Nano) }},
	{name: "actor", full: func(e eventRow) string { return e.Actor }},
	{name: "type", full: func(e eventRow) string { return e.Type }},
	{name: "stage", full: func(e eventRow) string { return e.Stage }},
	{name: "attempt", full: func(e eventRow) string { return positive(e.Attempt) }},
	{name: "body", full: func(e eventRow) string { return string(e.Body) }},
}

// historyLine is one line of the log book: an event, or several that tell the same.
type historyLine struct {
	at              time.Time // of the last
	actor, sentence string
}

// historyLines puts events into words. Unless all are wanted, the commits of
// steps in a row are one entry, and so are events that read the same; a
// request goes without saying where its decision is told.
func historyLines(events []storage.Event, notes map[int64]runs.EventNote, all bool) []historyLine {
	var entries []historyLine
	builds := map[string]string{} // of the attempts at work
	roles, answered := matchRequests(events)
	if !all {
		events = slices.DeleteFunc(slices.Clone(events), func(e storage.Event) bool { return answered[e.Sequence] })
	}
	for len(events) > 0 {
		e := annotatedEvent{Event: events[0], note: notes[events[0].Sequence], role: roles[events[0].Sequence]}
		key := e.subject()
		if build := e.workerBuild(); build != "" {
			builds[key] = build
		}
		line := historyLine{e.At, e.actorLabel(builds[key]), e.sentence()}
		n := 1
		if !all {
			if n = countConsecutiveCommits(events); n > 1 {
				line = historyLine{events[n-1].At, line.actor, commitsSentence(events[:n])}
			} else if n = countSameEvents(events, notes); n > 1 {
				line = historyLine{events[n-1].At, line.actor, fmt.Sprintf("%s (%d times)", line.sentence, n)}
			}
		}
		entries, events = append(entries, line), events[n:]
	}
	return entries
}

// matchRequests finds the request of each decision: roles are the database roles
// that asked, by the sequence of the decision; answered are the requests of
// which a decision or a refusal tells.
func matchRequests(events []storage.Event) (roles map[int64]string, answered map[int64]bool) {
	roles, answered = map[int64]string{}, map[int64]bool{}
	asked := map[int64]storage.Event{}
	for _, e := range events {
		var body struct{ Request int64 }
		switch e.Type {
		case "decision_requested":
			asked[e.Sequence] = e
		case "decision", "decision_refused":
			if json.Unmarshal(e.Body, &body) != nil {
				continue
			}
			if q, ok := asked[body.Request]; ok && q.Stage == e.Stage {
				roles[e.Sequence], answered[q.Sequence] = q.Actor, true
			}
		}
	}
	return roles, answered
}

// countSameEvents counts the events at the beginning that read like the first, at least 1.
func countSameEvents(events []storage.Event, notes map[int64]runs.EventNote) int {
	first := annotatedEvent{Event: events[0], note: notes[events[0].Sequence]}.sentence()
	n := 1
	for n < len(events) && events[n].Actor == events[0].Actor && events[n].Type == events[0].Type &&
		(annotatedEvent{Event: events[n], note: notes[events[n].Sequence]}).sentence() == first {
		n++
	}
	return n
}

// maxActorWidth is how wide the column of actors may be. A longer name stands on a line of its own.
const maxActorWidth = 24

// formatHistory lays entries out, the date once when it changes. A width of 0 is no limit.
func formatHistory(entries []historyLine, zone *time.Location, width int) string {
	who := 0
	for i := range entries {
		entries[i].actor = escapeLine(entries[i].actor)
		if n := text.StringWidth(entries[i].actor); n <= maxActorWidth {
			who = max(who, n)
		}
	}
	const clock = "15:04:05"
	margin := len(clock) + 2 + who + 2
	room := width - margin
	if width > 0 && room < maxActorWidth { // what happened goes below
		margin, room = 4, width-4
	}
	var b strings.Builder
	day := ""
	for _, e := range entries {
		at := e.at.In(zone)
		if d := at.Format("2006-01-02"); d != day {
			day = d
			fmt.Fprintln(&b, day)
		}
		lines := []string{escapeLine(e.sentence)}
		if width > 0 {
			lines = wrapText(lines[0], room)
		}
		head := at.Format(clock) + "  " + e.actor
		if text.StringWidth(head) <= margin-2 {
			fmt.Fprintf(&b, "%s%s\n", text.Pad(head, margin, ' '), lines[0])
			lines = lines[1:]
		} else if width > 0 {
			fmt.Fprintln(&b, strings.Join(wrapHanging(head, width, strings.Repeat(" ", len(clock)+2)), "\n"))
		} else {
			fmt.Fprintf(&b, "%s  %s\n", head, lines[0])
			lines = lines[1:]
		}
		for _, line := range lines {
			fmt.Fprintf(&b, "%s%s\n", strings.Repeat(" ", margin), line)
		}
	}
	return b.String()
}
