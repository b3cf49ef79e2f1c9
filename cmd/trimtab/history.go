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

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
	"github.com/trimtab/trimtab/storage"
)

// historyCmd is "trimtab history": the events of a run. For people they are
// sentences (see sentences.go); every other format has the events as
// recorded, whole and without anything merged.
func (a *app) historyCmd() *cobra.Command {
	var all, lineage bool
	cmd := &cobra.Command{
		Use: "history RUN [STAGE]", Short: "show what happened to a run: when, who, what and why", Args: argCount(1, 2),
		Long: `Print the history of a run, one line per event, in local time. Consecutive events of the
same kind, such as the commits of steps, are one line with the time of the last, unless
--all is given. The other output formats have every event in full. With --openlineage,
print the run's OpenLineage events instead, one JSON document per line: the same ones that
workers send where openlineage_url is set.

Digests are shortened to 12 digits, which are enough for rerun --from-checkpoint (a
checkpoint), for generate, chat, eval and model (a model), and, after NAME@sha256:,
wherever a dataset is named.`,
		Example: "  trimtab history my-assistant\n  trimtab history my-assistant ppo --all\n  trimtab history " +
			"my-assistant -o csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			if lineage && a.format != formatTable && a.format != formatJSONL {
				return usagef("leave -o out", "--openlineage prints JSON lines only")
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				stage := ""
				if len(args) == 2 {
					stage = args[1]
				}
				// History also finds the run, so that an unknown run is the
				// same error with and without --openlineage.
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
	cmd.Flags().BoolVar(&all, "all", false, "show every event, even if it says the same as the one before")
	cmd.Flags().BoolVar(&lineage, "openlineage", false, "print OpenLineage events, one JSON document per line")
	return cmd
}

// printHistory prints events as sentences, or as documents. Sentences need
// notes from the service, facts that are not in the events themselves.
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

// printOpenLineage prints the OpenLineage events of a run, or of one stage of
// it.
func (a *app) printOpenLineage(ctx context.Context, s *session, ref, stage string) error {
	// The events of the whole run are derived at once: those of a stage refer
	// to those of the run as their parent.
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

// eventRow is a recorded event as JSON and CSV have it.
type eventRow struct {
	// Sequence numbers the events of a stream from 1, without gaps.
	Sequence int64 `json:"sequence"`
	// At is the time of the database's clock, in UTC.
	At time.Time `json:"at"`
	// Actor is a person, "worker", or "trimtab" for the program itself.
	Actor string            `json:"actor"`
	Type  trimtab.EventType `json:"type"`
	// Stage and Attempt are empty for events about the run.
	Stage   string `json:"stage,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	// Body is the JSON of the event, in the form of its type.
	Body json.RawMessage `json:"body,omitempty"`
}

// eventRows converts stored events; times are in UTC.
func eventRows(in []storage.Event) []eventRow {
	var out []eventRow
	for _, e := range in {
		out = append(out, eventRow{e.Sequence, e.At.UTC(), e.Actor, e.Type, e.Stage, e.Attempt, e.Body})
	}
	return out
}

// eventColumns are the columns of CSV; people read sentences instead.
var eventColumns = []column[eventRow]{
	{name: "sequence", full: func(e eventRow) string { return strconv.FormatInt(e.Sequence, 10) }},
	{name: "at", full: func(e eventRow) string { return e.At.Format(time.RFC3339Nano) }},
	{name: "actor", full: func(e eventRow) string { return e.Actor }},
	{name: "type", full: func(e eventRow) string { return string(e.Type) }},
	{name: "stage", full: func(e eventRow) string { return e.Stage }},
	{name: "attempt", full: func(e eventRow) string { return blankIfZero(e.Attempt) }},
	{name: "body", full: func(e eventRow) string { return string(e.Body) }},
}

// historyLine is one line of the history: an event, or several that say the
// same.
type historyLine struct {
	// at is the time of the last of the events.
	at              time.Time
	actor, sentence string
}

// historyLines turns events into lines. Unless all are wanted, consecutive
// commits of steps are one line, and so are events that read the same, and a
// request is left out where its decision or refusal follows.
//
// A worker is named with the build of the attempt, which only the event
// attempt_started has: builds remembers it for the attempt's other events.
func historyLines(events []storage.Event, notes map[int64]runs.EventNote, all bool) []historyLine {
	var entries []historyLine
	// The build of each attempt at work, by subject.
	builds := map[string]string{}
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
			// Commits come every few seconds. Merged, a stage is a handful of
			// lines.
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

// matchRequests pairs requests with the decisions on them. roles maps the
// sequence of a decision to the database role that asked for it; answered
// holds the sequences of requests that a decision or a refusal answers.
func matchRequests(events []storage.Event) (roles map[int64]string, answered map[int64]bool) {
	roles, answered = map[int64]string{}, map[int64]bool{}
	asked := map[int64]storage.Event{}
	for _, e := range events {
		var body struct{ Request int64 }
		switch e.Type {
		case trimtab.EventDecisionRequested:
			asked[e.Sequence] = e
		case trimtab.EventDecision, trimtab.EventDecisionRefused:
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

// countSameEvents counts the events at the beginning that read like the first
// one; at least 1.
func countSameEvents(events []storage.Event, notes map[int64]runs.EventNote) int {
	// Sentences are compared, and not bodies, which may differ in fields that
	// the sentence does not mention.
	first := annotatedEvent{Event: events[0], note: notes[events[0].Sequence]}.sentence()
	n := 1
	for n < len(events) && events[n].Actor == events[0].Actor && events[n].Type == events[0].Type &&
		(annotatedEvent{Event: events[n], note: notes[events[n].Sequence]}).sentence() == first {
		n++
	}
	return n
}

// maxActorWidth is the width of the column of actors at most; after a longer
// name the sentence begins on a new line.
const maxActorWidth = 24

// formatHistory lays lines out: the date on a line of its own when it
// changes, then the time, the actor and the sentence. Sentences wrap under
// themselves. A width of 0 means no limit.
func formatHistory(entries []historyLine, zone *time.Location, width int) string {
	// The column of actors is as wide as the longest short name.
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
	if width > 0 && room < maxActorWidth { // a narrow terminal: sentences go below the time and the actor
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
