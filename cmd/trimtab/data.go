package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
	"github.com/trimtab/trimtab/plainfile"
	"github.com/trimtab/trimtab/storage"
)

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

// dataset is a stored dataset as this program shows it.
type datasetDocument struct {
	Schema    string           `json:"schema,omitempty"`
	Name      string           `json:"name"`
	Kind      trimtab.Kind     `json:"kind"`
	Items     int              `json:"items"`
	CreatedAt time.Time        `json:"created_at"`
	Versions  []datasetVersion `json:"versions"`
	HeldOut   *int             `json:"held_out,omitempty"` // items of the split test, of the version that is shown
	Rankings  *rankingSummary  `json:"rankings,omitempty"`
	Sample    []any            `json:"sample,omitempty"`
}

// rankingSummary says how far rankings can be trusted.
type rankingSummary struct {
	Pairs       int      `json:"pairs"`
	Labellers   int      `json:"labellers"`           // known by name
	LongerWins  float64  `json:"longer_wins"`         // accuracy of "the longer one is better"
	CommonPairs int      `json:"common_pairs"`        // ordered by two labellers
	Agreement   *float64 `json:"agreement,omitempty"` // share of them ordered alike
}

// summarize is what was counted of the rankings of a version; nil where there are none.
func summarize(v storage.DatasetVersion, counted storage.VersionSummary) *rankingSummary {
	if v.Kind != trimtab.KindRankings || v.Erased > 0 {
		return nil
	}
	s := &rankingSummary{Pairs: counted.Pairs, Labellers: counted.Labellers, CommonPairs: counted.Common}
	if counted.Pairs > 0 {
		s.LongerWins = float64(counted.Longer) / 2 / float64(counted.Pairs)
	}
	if counted.Common > 0 {
		share := float64(counted.Agreed) / float64(counted.Common)
		s.Agreement = &share
	}
	return s
}

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

type datasetVersion struct {
	Schema    string         `json:"schema,omitempty"`
	Dataset   string         `json:"dataset"`
	Kind      trimtab.Kind   `json:"kind"`
	Digest    trimtab.Digest `json:"digest"`
	Items     int            `json:"items"`
	Erased    int            `json:"erased,omitempty"` // items whose text is gone
	CreatedAt time.Time      `json:"created_at"`
}

func versionOf(v storage.DatasetVersion) datasetVersion {
	return datasetVersion{Dataset: v.Dataset, Kind: v.Kind, Digest: v.Digest, Items: v.Items, Erased: v.Erased,
		CreatedAt: v.CreatedAt.UTC()}
}

func datasetOf(d storage.Dataset) datasetDocument {
	doc := datasetDocument{Name: d.Name, Kind: d.Kind, Items: d.Items, CreatedAt: d.CreatedAt.UTC(),
		Versions: []datasetVersion{}}
	for _, v := range d.Versions {
		doc.Versions = append(doc.Versions, versionOf(v))
	}
	return doc
}

func (a *app) dataListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "every dataset", Args: argCount(0, 0), Example: "  trimtab data list -o csv",
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

func newestOf(d datasetDocument, short bool) string {
	switch {
	case len(d.Versions) == 0:
		return ""
	case short:
		return d.Versions[0].Digest.Short()
	}
	return string(d.Versions[0].Digest)
}

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
	cmd.Flags().IntVar(&sample, "items", 5, "how many items of the newest version to show")
	return cmd
}

func (a *app) showDataset(ctx context.Context, store *storage.Store, ref string, sample int) error {
	name, _, _ := strings.Cut(ref, "@")
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
		if known {
			doc.Rankings = summarize(version, counted)
			doc.HeldOut = &counted.HeldOut
		}
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
	fmt.Fprintf(a.out, "%s: %d items of kind %s, made %s\n\n", escapeLine(doc.Name), doc.Items, doc.Kind,
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

var versionColumns = []column[datasetVersion]{
	{name: "version", full: func(v datasetVersion) string { return string(v.Digest) }},
	{name: "items", full: func(v datasetVersion) string { return strconv.Itoa(v.Items) }, right: true},
	{name: "erased", full: func(v datasetVersion) string { return positive(v.Erased) }, right: true},
	{name: "frozen_at", full: func(v datasetVersion) string { return v.CreatedAt.Format(time.RFC3339) },
		short: func(v datasetVersion) string { return formatAgo(v.CreatedAt) }},
}

func (a *app) dataFreezeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "freeze NAME", Short: "make everything imported so far a version that runs can name", Args: argCount(1, 1),
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
				fmt.Fprintf(a.out, "%s@%s (%d items)\n", escapeLine(v.Dataset), v.Digest, v.Items)
				return nil
			})
		},
	}
}

func (a *app) dataExportCmd() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use: "export NAME[@VERSION]", Short: "write a frozen version as JSON lines that data import reads",
		Args:    argCount(1, 1),
		Example: "  trimtab data export demos > demos.jsonl\n  trimtab data export demos@sha256:4f2a --to demos.jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				v, err := s.store.ResolveDataset(ctx, args[0])
				if err != nil {
					return err
				}
				return a.writeTo(to, func(w io.Writer) error {
					line := json.NewEncoder(w)
					line.SetEscapeHTML(false)
					return s.store.EachItem(ctx, v.Digest,
						func(item trimtab.Item) error { return line.Encode(exportItem(item)) })
				})
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "file to write; it must not exist (default: standard output)")
	return cmd
}

// writeTo writes to standard output, or whole to a new file or not at all.
func (a *app) writeTo(name string, write func(io.Writer) error) error {
	if name == "" {
		w := bufio.NewWriter(a.out)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	}
	err := plainfile.WriteNewFrom(name, 0o644, func(f io.Writer) error {
		w := bufio.NewWriter(f)
		return errors.Join(write(w), w.Flush())
	})
	if errors.Is(err, fs.ErrExist) {
		return trimtab.NewError(trimtab.Conflict, "file_exists", "remove it or choose another name", "%s exists", name)
	}
	return writeError(name, err)
}

// writeError gives an error of writing a file that the user named its exit code.
func writeError(name string, err error) error {
	if _, ok := errors.AsType[*trimtab.Error](err); err == nil || ok {
		return err
	}
	return trimtab.NewError(trimtab.Invalid, "file_unwritable", "choose another place, or make that one writable",
		"write %s: %w", name, err)
}

// rankingLine is a ranking as other tools read it: responses are texts, in
// which bytes that no text holds are U+FFFD. Token
// ids and exact bytes are added where there are any, for those who keep them.
type rankingLine struct {
	Prompt    string             `json:"prompt"`
	Verbatim  bool               `json:"verbatim,omitempty"`
	Responses []string           `json:"responses"`
	Ranks     []int              `json:"ranks"`
	Labeller  string             `json:"labeller,omitempty"`
	Guideline string             `json:"guideline,omitempty"`
	Split     string             `json:"split,omitempty"`
	Group     string             `json:"group,omitempty"`
	Samples   []trimtab.Response `json:"samples,omitempty"`
}

// promptLine is a prompt that import would read otherwise without verbatim.
type promptLine struct {
	trimtab.Prompt
	Verbatim bool `json:"verbatim"`
}

// demonstrationLine is a demonstration whose prompt import would read
// otherwise without verbatim.
type demonstrationLine struct {
	trimtab.Demonstration
	Verbatim bool `json:"verbatim"`
}

// exportItem is an item with the field names of data files. Import reads it as
// the same item: a prompt whose marks of turns would make it a conversation is
// marked as verbatim.
func exportItem(item trimtab.Item) any {
	switch item := item.(type) {
	case trimtab.Prompt:
		if !dataset.RoundTrips(item.Kind(), item.Text) {
			return promptLine{item, true}
		}
	case trimtab.Demonstration:
		if !dataset.RoundTrips(item.Kind(), item.Prompt) {
			return demonstrationLine{item, true}
		}
	case trimtab.Ranking:
		return exportRanking(item)
	}
	return item
}

func exportRanking(r trimtab.Ranking) rankingLine {
	line := rankingLine{Prompt: r.Prompt, Verbatim: !dataset.RoundTrips(r.Kind(), r.Prompt), Ranks: r.Ranks,
		Labeller:  r.Labeller,
		Guideline: r.Guideline, Split: r.Split, Group: r.Group}
	sampled := false
	for _, resp := range r.Responses {
		text := strings.ReplaceAll(strings.ToValidUTF8(string(resp.Bytes), "\ufffd"), "\x00", "\ufffd")
		line.Responses = append(line.Responses, text)
		sampled = sampled || len(resp.Tokens) > 0 || text != string(resp.Bytes)
	}
	if sampled {
		line.Samples = r.Responses
	}
	return line
}
