package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/papers"
	"github.com/trimtab/trimtab/runs"
)

func (a *app) modelLineageCmd() *cobra.Command {
	var picture string
	cmd := &cobra.Command{
		Use: "lineage MODEL", Short: "everything a model came from, back to imported files and people",
		Args: argCount(1, 1),
		Long: `Follow a model back through the attempts that made it: their config, seed, numerics
and code, the models they started from, their data, who imported it from which
files, who ranked and who demonstrated. With RUN/STAGE the attempts of that run
are followed; else, of several that made the same bytes, the oldest.
trimtab data used-by goes the other way.`,
		Example: `  trimtab model lineage my-assistant/ppo
  trimtab model lineage my-assistant/ppo --svg lineage.svg
  trimtab model lineage 4f2a91 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				l, err := lineage(ctx, s, args[0])
				if err != nil {
					return err
				}
				if picture != "" {
					svg := l.SVG()
					if err := a.writeTo(picture, func(w io.Writer) error {
						_,
							err := w.Write(svg)
						return err
					}); err != nil {
						return err
					}
					a.note("the picture is in %s", picture)
				}
				return a.printLineage(l)
			})
		},
	}
	cmd.Flags().StringVar(&picture, "svg", "", "also draw it into this file, which must not exist")
	return cmd
}

// lineage resolves a model and gathers what it came from.
func lineage(ctx context.Context, s *session, ref string) (papers.Lineage, error) {
	x, err := resolve(ctx, s, ref)
	if err != nil {
		return papers.Lineage{}, err
	}
	return s.runs.Lineage(ctx, x.Digest, runIn(ctx, s, ref))
}

// runIn is the id of the run that a reference to a model names, empty if it names none.
func runIn(ctx context.Context, s *session, ref string) string {
	name, _, ok := strings.Cut(ref, "/")
	if !ok {
		return ""
	}
	r, err := s.store.Run(ctx, name)
	if err != nil {
		return "" // the model was found by another name
	}
	return r.ID
}

// lineageColumns are of an edge with its two ends.
var lineageColumns = []column[lineageEdge]{
	{name: "from_kind", full: func(e lineageEdge) string { return e.from.Kind }},
	{name: "from_name", full: func(e lineageEdge) string { return e.from.Name }},
	{name: "from", full: func(e lineageEdge) string { return string(e.From) }},
	{name: "role", full: func(e lineageEdge) string { return e.Role }},
	{name: "to_kind", full: func(e lineageEdge) string { return e.to.Kind }},
	{name: "to_name", full: func(e lineageEdge) string { return e.to.Name }},
	{name: "to", full: func(e lineageEdge) string { return string(e.To) }},
	{name: "count", full: func(e lineageEdge) string { return blankIfZero(e.Count) }},
	{name: "held_out", full: func(e lineageEdge) string { return blankIfZero(e.HeldOut) }},
	{name: "guideline", full: func(e lineageEdge) string { return e.Guideline }},
}

type lineageEdge struct {
	papers.Edge
	from, to papers.Node
}

func blankIfZero(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// printLineage prints a tree, the whole graph, or its edges as CSV.
func (a *app) printLineage(l papers.Lineage) error {
	switch a.format {
	case formatJSON, formatJSONL:
		return a.printDocument(l)
	case formatCSV:
		var edges []lineageEdge
		for _, e := range l.Edges {
			edges = append(edges, lineageEdge{e, *l.Node(e.From), *l.Node(e.To)})
		}
		return printCSV(a.out, list[lineageEdge]{items: edges, columns: lineageColumns})
	}
	for _, line := range l.Tree() {
		a.printText(escapeLine(line), belowBranch(line))
	}
	return nil
}

// belowBranch is what stands before the rest of a tree's line that goes on in the next.
func belowBranch(line string) string {
	branch := line[:len(line)-len(strings.TrimLeft(line, "│├└─ "))]
	return strings.NewReplacer("├", "│", "└", " ", "─", " ").Replace(branch)
}

func (a *app) dataUsedByCmd() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use: "used-by WHAT", Short: "the models that data, a person's labels or a file went into", Args: argCount(1, 1),
		Long: `List the models that something went into, directly or through other models: a dataset
(its newest frozen version, or NAME@sha256:…), a labeller, a demonstrator, a model,
or by its whole digest an item (a ranking, a demonstration, a prompt, a text), a
stage's config, or a file that was imported. A name that may be several of these
needs --as. trimtab model lineage goes the other way.`,
		Example: `  trimtab data used-by votes
  trimtab data used-by labeller-3
  trimtab data used-by sha256:$(sha256sum demos.jsonl | cut -c1-64) -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != "" && !slices.Contains(runs.SourceKinds, kind) {
				return usagef("use "+strings.Join(runs.SourceKinds, ", "), "--as is %q", kind)
			}
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				u, err := usedBy(ctx, s, args[0], kind)
				if err != nil {
					return err
				}
				return a.printUses(u)
			})
		},
	}
	cmd.Flags().StringVar(&kind, "as", "", "what it is: "+strings.Join(runs.SourceKinds, ", "))
	_ = cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(runs.SourceKinds,
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// usedBy also knows models by the names that a run shows them under, as in RUN/base.
func usedBy(ctx context.Context, s *session, ref, kind string) (runs.Uses, error) {
	u, err := s.runs.UsedBy(ctx, ref, kind)
	if err == nil || trimtab.AsError(err).Class != trimtab.NotFound || kind != "" && kind != runs.SourceModel {
		return u, err
	}
	x, missing := resolve(ctx, s, ref)
	if missing != nil {
		return u, err
	}
	return s.runs.UsedBy(ctx, string(x.Digest), runs.SourceModel)
}

func (a *app) printUses(u runs.Uses) error {
	if a.format == formatJSON {
		return a.printDocument(u)
	}
	if a.format == formatTable {
		fmt.Fprintf(a.out, "%s %s is in %s\n", u.Kind, escapeLine(u.Source), plural(len(u.Models), "model"))
		for _, h := range u.Datasets {
			fmt.Fprintf(a.out, "  through %s@%s: %s of %s%s\n", escapeLine(h.Dataset), h.Version.Short(),
				plural(h.Items, "item"), h.Kind, heldOut(h.HeldOut))
		}
		if len(u.Models) == 0 {
			return nil
		}
		fmt.Fprintln(a.out)
	}
	return printList(a, list[runs.ModelUse]{items: u.Models, columns: usedColumns})
}

func heldOut(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d held out", n)
}

var usedColumns = []column[runs.ModelUse]{
	{name: "digest", full: func(m runs.ModelUse) string { return string(m.Digest) },
		short: func(m runs.ModelUse) string { return m.Digest.Short() }},
	{name: "name", full: func(m runs.ModelUse) string { return m.Name }},
	{name: "kind", full: func(m runs.ModelUse) string { return m.Kind }},
	{name: "run", full: func(m runs.ModelUse) string { return m.Run },
		short: func(m runs.ModelUse) string { return shortID(m.Run) }},
	{name: "stage", full: func(m runs.ModelUse) string { return m.Stage }},
	{name: "steps", full: func(m runs.ModelUse) string { return fmt.Sprint(m.Steps) }, right: true},
	{name: "items", full: func(m runs.ModelUse) string { return blankIfZero(m.Items) }, right: true},
	{name: "held_out", full: func(m runs.ModelUse) string { return blankIfZero(m.HeldOut) }, right: true},
	{name: "created_at", full: func(m runs.ModelUse) string { return m.CreatedAt.Format(time.RFC3339) },
		short: func(m runs.ModelUse) string { return formatAgo(m.CreatedAt) }},
}
