package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab/papers"
)

// modelLineageCmd is "trimtab model lineage": a tree of everything that a
// model was made from. With -o json it is the graph of nodes and edges, in
// which shared ancestors occur once.
func (a *app) modelLineageCmd() *cobra.Command {
	var picture string
	cmd := &cobra.Command{
		Use: "lineage MODEL", Short: "everything that a model was made from, back to imported files and people",
		Args: argCount(1, 1),
		Long: `Trace a model back through the attempts that made it: their config, seed, numerics and
code, the models they started from, their data, who imported it from which files, and who
wrote the rankings and demonstrations. With RUN/STAGE, the attempts of that run are
followed; otherwise, if several attempts made the same bytes, the oldest.
"trimtab data used-by" is the other direction.`,
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
					write := func(w io.Writer) error { _, err := w.Write(svg); return err }
					if err := a.writeTo(picture, write); err != nil {
						return err
					}
					a.note("wrote %s", picture)
				}
				return a.printLineage(l)
			})
		},
	}
	cmd.Flags().StringVar(&picture, "svg", "", "also write a drawing to this SVG file, which must not exist")
	return cmd
}

// lineage resolves a model and collects everything it was made from. Two
// models with the same bytes are one node, whichever runs made them.
func lineage(ctx context.Context, s *session, ref string) (papers.Lineage, error) {
	art, err := resolve(ctx, s, ref)
	if err != nil {
		return papers.Lineage{}, err
	}
	return s.runs.Lineage(ctx, art.Digest, runIn(ctx, s, ref))
}

// runIn is the id of the run that a reference to a model names, or empty if
// it names none. It decides which attempt is followed when several produced
// the same bytes. An unknown run is no error here: resolve has found the
// model, so the slash belongs to a name.
func runIn(ctx context.Context, s *session, ref string) string {
	name, _, ok := strings.Cut(ref, "/")
	if !ok {
		return ""
	}
	r, err := s.store.Run(ctx, name)
	if err != nil {
		return ""
	}
	return r.ID
}

// lineageColumns are the columns of CSV: an edge with both its ends, so that
// every line can be read by itself.
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

// lineageEdge is an edge of the graph with its two nodes.
type lineageEdge struct {
	papers.Edge
	from, to papers.Node
}

// printLineage prints a tree for people, the whole graph as JSON, or its
// edges as CSV. In the tree an ancestor that was shown above is only named
// again, since common ancestors would otherwise be repeated for every path to
// them.
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

// belowBranch is the indent for the continuation of a tree's line: the branch
// drawn in front of it, with the corners replaced so that vertical lines stay
// connected and nothing looks like a new branch.
func belowBranch(line string) string {
	branch := line[:len(line)-len(strings.TrimLeft(line, "│├└─ "))]
	return strings.NewReplacer("├", "│", "└", " ", "─", " ").Replace(branch)
}
