package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/runs"
)

// dataUsedByCmd is "trimtab data used-by": lineage from data to models. It
// answers the question that comes with a withdrawn consent or a bad labeller:
// which models have to be retrained. The answer covers models that were made
// from other models on the list.
func (a *app) dataUsedByCmd() *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use: "used-by SOURCE", Short: "list the models that were made from some data, labels or a file",
		Args: argCount(1, 1),
		Long: `List the models that a source went into, directly or through other models. SOURCE is a
dataset (its newest frozen version, or NAME@sha256:…), a labeller, a demonstrator, or a
model; or, by full digest, an item (a ranking, demonstration, prompt or text), a stage's
config, or an imported file. A name that could be several of these needs --as.
"trimtab model lineage" is the other direction.`,
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
	cmd.Flags().StringVar(&kind, "as", "", "kind of the source: "+strings.Join(runs.SourceKinds, ", "))
	_ = cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(runs.SourceKinds,
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// usedBy finds the models that ref went into. Beyond the names that the
// service knows, it accepts the name under which a run shows a model, as in
// RUN/base: the service resolves names in the record, and those are made up
// by the view of a run.
func usedBy(ctx context.Context, s *session, ref, kind string) (runs.Uses, error) {
	u, err := s.runs.UsedBy(ctx, ref, kind)
	if err == nil || trimtab.AsError(err).Class != trimtab.NotFound || kind != "" && kind != runs.SourceModel {
		return u, err
	}
	// The second error is dropped: the first one lists what else ref could
	// have been.
	art, missing := resolve(ctx, s, ref)
	if missing != nil {
		return u, err
	}
	return s.runs.UsedBy(ctx, string(art.Digest), runs.SourceModel)
}

// printUses prints the models, and for people the dataset versions by which
// the source reached them. No models is a valid answer and not an error.
func (a *app) printUses(u runs.Uses) error {
	if a.format == formatJSON {
		return a.printDocument(u)
	}
	if a.format == formatTable {
		fmt.Fprintf(a.out, "%s %s went into %s\n", u.Kind, escapeLine(u.Source), plural(len(u.Models), "model"))
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

// heldOut is a note on items that are in the split "test", or empty.
func heldOut(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d held out", n)
}

// usedColumns are the columns of data used-by: "steps" is the number of
// attempts between the source and the model, "items" how many of the source's
// items the model's data has, and "held_out" those that it was not trained
// on.
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
