package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/storage"
)

// dataCmd is "trimtab data", the group of commands about datasets.
func (a *app) dataCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "data", Short: "datasets: import, split, list, show, freeze, export, prove, erase, used-by", RunE: group,
		Example: `  trimtab data import demos --kind demonstrations demos.jsonl
  trimtab data freeze demos
  trimtab data show demos`,
	}
	cmd.AddCommand(a.dataImportCmd(), a.dataListCmd(), a.dataShowCmd(), a.dataFreezeCmd(), a.dataSplitCmd(),
		a.dataExportCmd(), a.dataUsedByCmd(), a.dataProveCmd(), a.dataEraseCmd())
	return cmd
}

// datasetDocument is a dataset as data list and data show print it.
type datasetDocument struct {
	Schema string       `json:"schema,omitempty"`
	Name   string       `json:"name"`
	Kind   trimtab.Kind `json:"kind"`
	// Items is the number of items imported so far, frozen or not.
	Items     int       `json:"items"`
	CreatedAt time.Time `json:"created_at"`
	// Versions are the frozen versions, the newest first.
	Versions []datasetVersion `json:"versions"`
	// HeldOut is the number of items in the split "test" of the version
	// shown.
	HeldOut *int `json:"held_out,omitempty"`
	// Rankings summarizes the rankings of the version shown.
	Rankings *rankingSummary `json:"rankings,omitempty"`
	// Sample holds the version's first items, in the form of data export.
	Sample []any `json:"sample,omitempty"`
}

// rankingSummary says how reliable a set of rankings is.
type rankingSummary struct {
	// Pairs is the number of pairs of responses that are ordered, ties aside.
	Pairs int `json:"pairs"`
	// Labellers is the number of labellers known by name.
	Labellers int `json:"labellers"`
	// LongerWins is the accuracy of the rule "the longer response is better":
	// what a reward model has to beat.
	LongerWins float64 `json:"longer_wins"` // accuracy of "the longer one is better"
	// CommonPairs is the number of times that two labellers ordered the same
	// pair.
	CommonPairs int `json:"common_pairs"`
	// Agreement is the share of CommonPairs on which both agree.
	Agreement *float64 `json:"agreement,omitempty"`
}

// summarize converts the database's counts over the rankings of a version. It
// returns nil for other kinds, and for versions with erased items, whose
// counts would be of something else.
func summarize(v storage.DatasetVersion, counted storage.VersionSummary) *rankingSummary {
	if v.Kind != trimtab.KindRankings || v.Erased > 0 {
		return nil
	}
	s := &rankingSummary{Pairs: counted.Pairs, Labellers: counted.Labellers, CommonPairs: counted.Common}
	// Longer counts twice: a pair of equally long responses is half a
	// success.
	if counted.Pairs > 0 {
		s.LongerWins = float64(counted.Longer) / 2 / float64(counted.Pairs)
	}
	if counted.Common > 0 {
		// Without a pair that two labellers ordered there is no agreement to
		// speak of, and the field is left out.
		share := float64(counted.Agreed) / float64(counted.Common)
		s.Agreement = &share
	}
	return s
}

// String is the summary as one line.
func (s *rankingSummary) String() string {
	who := "labellers"
	if s.Labellers == 1 {
		who = "labeller"
	}
	text := fmt.Sprintf("%d pairs by %d %s; longer wins %.3f", s.Pairs, s.Labellers, who, s.LongerWins)
	if s.Agreement != nil {
		text += fmt.Sprintf("; two labellers agree on %.3f of %d common pairs", *s.Agreement, s.CommonPairs)
	}
	return text
}

// datasetVersion is a frozen version of a dataset. Its digest is the root of
// a Merkle tree over its items.
type datasetVersion struct {
	Schema string `json:"schema,omitempty"`
	// Dataset is the name of the dataset.
	Dataset string       `json:"dataset"`
	Kind    trimtab.Kind `json:"kind"`
	// Digest is the Merkle root over the digests of the items.
	Digest trimtab.Digest `json:"digest"`
	Items  int            `json:"items"`
	// Erased is the number of items whose text was erased.
	Erased int `json:"erased,omitempty"`
	// CreatedAt is when the version was frozen.
	CreatedAt time.Time `json:"created_at"`
}

// versionOf converts a stored version.
func versionOf(v storage.DatasetVersion) datasetVersion {
	return datasetVersion{Dataset: v.Dataset, Kind: v.Kind, Digest: v.Digest, Items: v.Items, Erased: v.Erased,
		CreatedAt: v.CreatedAt.UTC()}
}

// datasetOf converts a stored dataset.
func datasetOf(d storage.Dataset) datasetDocument {
	// Versions is never null in JSON.
	doc := datasetDocument{Name: d.Name, Kind: d.Kind, Items: d.Items, CreatedAt: d.CreatedAt.UTC(),
		Versions: []datasetVersion{}}
	for _, v := range d.Versions {
		doc.Versions = append(doc.Versions, versionOf(v))
	}
	return doc
}

// dataListCmd is "trimtab data list".
func (a *app) dataListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list all datasets", Args: argCount(0, 0), Example: "  trimtab data list -o csv",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				sets, err := s.store.Datasets(ctx)
				if err != nil {
					return err
				}
				var items []datasetDocument
				for _, d := range sets {
					items = append(items, datasetOf(d))
				}
				return printList(a, list[datasetDocument]{
					schema: "trimtab.datasets/v1", key: "datasets", items: items,
					empty: "no datasets yet: trimtab data import NAME --kind KIND FILE makes one",
					columns: []column[datasetDocument]{
						{name: "name", full: func(d datasetDocument) string { return d.Name }},
						{name: "kind", full: func(d datasetDocument) string { return string(d.Kind) }},
						{name: "items", full: func(d datasetDocument) string { return strconv.Itoa(d.Items) },
							right: true},
						{name: "versions",
							full: func(d datasetDocument) string { return strconv.Itoa(len(d.Versions)) }, right: true},
						{name: "newest", full: func(d datasetDocument) string { return newestOf(d, false) },
							short: func(d datasetDocument) string { return newestOf(d, true) }},
						{name: "created_at",
							full:  func(d datasetDocument) string { return d.CreatedAt.Format(time.RFC3339) },
							short: func(d datasetDocument) string { return formatAgo(d.CreatedAt) }},
					},
				})
			})
		},
	}
}

// newestOf is the digest of the newest frozen version, or empty.
func newestOf(d datasetDocument, short bool) string {
	switch {
	case len(d.Versions) == 0:
		return ""
	case short:
		return d.Versions[0].Digest.Short()
	}
	return string(d.Versions[0].Digest)
}

// dataShowCmd is "trimtab data show".
func (a *app) dataShowCmd() *cobra.Command {
	var sample int
	cmd := &cobra.Command{
		Use: "show NAME[@VERSION]", Short: "one dataset: its versions and its first items", Args: argCount(1, 1),
		Example: "  trimtab data show demos --items 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				return a.showDataset(ctx, s.store, args[0], sample)
			})
		},
	}
	cmd.Flags().IntVar(&sample, "items", 5, "number of items of the newest version to show")
	return cmd
}

// showDataset prints a dataset with the version that ref names, by default
// the newest. A dataset that has never been frozen is shown too, without
// items: only frozen versions can be read, so that what is shown is what a
// run would get.
func (a *app) showDataset(ctx context.Context, store *storage.Store, ref string, sample int) error {
	name, _, _ := strings.Cut(ref, "@")
	// A dataset that was never frozen has no version, which is not an error
	// here.
	version, verr := store.ResolveDataset(ctx, ref)
	if verr == nil {
		name = version.Dataset
	}
	d, err := store.Dataset(ctx, name)
	if err != nil {
		return err
	}
	doc := datasetOf(d)
	doc.Schema = "trimtab.dataset/v1"
	if verr == nil {
		counted, known, err := store.Summary(ctx, version.Digest)
		if err != nil {
			return err
		}
		// Versions that were frozen by old builds may lack the counts.
		if known {
			doc.Rankings = summarize(version, counted)
			doc.HeldOut = &counted.HeldOut
		}
		// Erased items cannot be shown; if there are any, no items are, since
		// "the first five" would be others.
		items, err := store.FirstItems(ctx, version.Digest, sample)
		if err != nil && trimtab.AsError(err).Type != "dataset_erased" { // then its other items are not shown either
			return err
		}
		for _, item := range items {
			doc.Sample = append(doc.Sample, exportItem(item))
		}
	} else if verr != nil && trimtab.AsError(verr).Type != "dataset_not_frozen" {
		return verr
	}
	if a.wantsJSON() {
		return a.printDocument(doc)
	}
	versions := list[datasetVersion]{items: doc.Versions, columns: versionColumns,
		empty: "not frozen yet: trimtab data freeze " + escapeLine(d.Name)}
	if a.format == formatCSV {
		return printCSV(a.out, versions)
	}
	fmt.Fprintf(a.out, "%s: %s of kind %s, created %s\n\n", escapeLine(doc.Name), plural(doc.Items, "item"), doc.Kind,
		formatAgo(doc.CreatedAt))
	if err := printList(a, versions); err != nil {
		return err
	}
	if doc.HeldOut != nil && doc.Kind != trimtab.KindText {
		fmt.Fprintf(a.out, "\n%d items for training, %d held out\n", version.Items-*doc.HeldOut, *doc.HeldOut)
	}
	if doc.Rankings != nil {
		fmt.Fprintf(a.out, "\n%s\n", doc.Rankings)
	}
	return a.printSample(doc.Sample)
}

// printSample prints items, one JSON line each, wrapped on a terminal.
func (a *app) printSample(sample []any) error {
	if len(sample) > 0 {
		fmt.Fprintln(a.out)
	}
	for _, item := range sample {
		b, err := marshal(item, "")
		if err != nil {
			return err
		}
		a.printText(escapeLine(string(b)), "  ")
	}
	return nil
}

// versionColumns are the columns of a dataset's versions. The digest is never
// shortened here: it is what a spec or an audit refers to.
var versionColumns = []column[datasetVersion]{
	{name: "version", full: func(v datasetVersion) string { return string(v.Digest) }},
	{name: "items", full: func(v datasetVersion) string { return strconv.Itoa(v.Items) }, right: true},
	{name: "erased", full: func(v datasetVersion) string { return blankIfZero(v.Erased) }, right: true},
	{name: "frozen_at", full: func(v datasetVersion) string { return v.CreatedAt.Format(time.RFC3339) },
		short: func(v datasetVersion) string { return formatAgo(v.CreatedAt) }},
}

// dataFreezeCmd is "trimtab data freeze". A version's digest depends only on
// its items: freezing again without new items gives the same version.
func (a *app) dataFreezeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "freeze NAME", Short: "freeze everything imported so far as a version that runs can read",
		Args:    argCount(1, 1),
		Example: "  trimtab data freeze demos",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				v, err := s.store.Freeze(ctx, args[0], a.actor())
				if err != nil {
					return err
				}
				if a.wantsJSON() {
					doc := versionOf(v)
					doc.Schema = "trimtab.dataset_version/v1"
					return a.printDocument(doc)
				}
				// The form in which a spec names a version: it can be pasted
				// there.
				fmt.Fprintf(a.out, "%s@%s (%s)\n", escapeLine(v.Dataset), v.Digest, plural(v.Items, "item"))
				return nil
			})
		},
	}
}
