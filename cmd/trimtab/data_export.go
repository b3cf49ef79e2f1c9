package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/dataset"
)

// dataExportCmd is "trimtab data export". Items are streamed, so that a
// dataset of any size needs little memory. Importing the file gives the same
// items, and so the same version.
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

// rankingLine is a ranking in the form that other tools read: responses are
// text, in which bytes that are not valid in text are U+FFFD. Samples has the
// token ids and exact bytes in addition, where there are any; an import of
// the line restores the ranking exactly.
type rankingLine struct {
	Prompt string `json:"prompt"`
	// Verbatim is true if the prompt must not be parsed as a conversation.
	Verbatim  bool     `json:"verbatim,omitempty"`
	Responses []string `json:"responses"`
	// Ranks has one rank for each response; 1 is the best, and equal ranks
	// are ties.
	Ranks []int `json:"ranks"`
	// Labeller is who ranked, and Guideline the instructions that they
	// followed.
	Labeller  string `json:"labeller,omitempty"`
	Guideline string `json:"guideline,omitempty"`
	Split     string `json:"split,omitempty"`
	// Group ties rankings that are not independent of one another.
	Group string `json:"group,omitempty"`
	// Samples has the exact responses, where text does not.
	Samples []trimtab.Response `json:"samples,omitempty"`
}

// promptLine is a prompt that data import would read as a conversation unless
// it is marked verbatim.
type promptLine struct {
	trimtab.Prompt
	Verbatim bool `json:"verbatim"`
}

// demonstrationLine is a demonstration whose prompt data import would read as
// a conversation unless it is marked verbatim.
type demonstrationLine struct {
	trimtab.Demonstration
	Verbatim bool `json:"verbatim"`
}

// exportItem converts an item to the field names of data files, such that
// data import reads the same item back. A prompt that holds turn markers
// would be parsed as a conversation, so it is marked verbatim. A test imports
// what was exported and compares digests.
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

// exportRanking converts a ranking. Samples is set only where text alone
// would lose something: token ids, or bytes that are not text.
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
