package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/papers"
)

// modelFacts resolves a model and gathers what its papers say.
func modelFacts(ctx context.Context, s *session, ref string) (*papers.Facts, error) {
	x, err := resolve(ctx, s, ref)
	if err != nil {
		return nil, err
	}
	return s.runs.Facts(ctx, x.Digest, runIn(ctx, s, ref))
}

// paperCmd is a command that prints one paper of a model, or writes it to a file.
func (a *app) paperCmd(cmd *cobra.Command, write func(*papers.Facts) ([]byte, error)) *cobra.Command {
	var to string
	cmd.Args = argCount(1, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withStore(cmd, func(ctx context.Context, s *session) error {
			f, err := modelFacts(ctx, s, args[0])
			if err != nil {
				return err
			}
			body, err := write(f)
			if err != nil {
				return err
			}
			return a.writeTo(to, func(w io.Writer) error { _, err := w.Write(body); return err })
		})
	}
	cmd.Flags().StringVar(&to, "to", "", "file to write; it must not exist (default: standard output)")
	return cmd
}

func card(f *papers.Facts) ([]byte, error) { return papers.Card(f), nil }

func (a *app) modelCardCmd() *cobra.Command {
	return a.paperCmd(&cobra.Command{
		Use: "card MODEL", Short: "the model card, in Markdown, from the record",
		Long: `Write what the record knows of a model for those who will use it: how it was made, of
which data, by whose labels and how far these agree, what was measured and within
which limits. What it is for is left to its owner. The same record gives the same bytes.`,
		Example: "  trimtab model card my-assistant/ppo --to README.md",
	}, card)
}

func (a *app) modelProvenanceCmd() *cobra.Command {
	return a.paperCmd(&cobra.Command{
		Use: "provenance MODEL", Short: "how the model was made, as an unsigned in-toto statement (SLSA v1)",
		Long: `Write an in-toto Statement v1 with SLSA's provenance v1: the model and its files by
SHA-256; the stage with its config, seed, numerics and version; the models, data,
tokenizer and code it depended on; the attempt with its times and metrics. It is not
signed. Imported models have none.`,
		Example: "  trimtab model provenance my-assistant/ppo --to provenance.json",
	}, papers.Provenance)
}

func (a *app) modelBOMCmd() *cobra.Command {
	return a.paperCmd(&cobra.Command{
		Use: "bom MODEL", Short: "the model's bill of materials (CycloneDX 1.6, JSON)",
		Long: `Write a CycloneDX 1.6 ML-BOM: the model with its card and files, the models, datasets
and tokenizers behind it, and the builds that made them. The serial number follows
from the model's digest and the time is the record's, so that the same record gives
the same bytes.`,
		Example: "  trimtab model bom my-assistant/ppo --to bom.json",
	}, papers.BOM)
}

// paperFiles are a model's papers under the names that they have in an exported folder.
func paperFiles(f *papers.Facts) ([]checkpoint.File, error) {
	var files []checkpoint.File
	for _, p := range []struct {
		name  string
		write func(*papers.Facts) ([]byte, error)
	}{{"README.md", card}, {"provenance.json", papers.Provenance}, {"bom.json", papers.BOM}} {
		body, err := p.write(f)
		if err != nil && trimtab.AsError(err).Type == "provenance_unknown" {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, checkpoint.File{Name: p.name, Data: body})
	}
	return files, nil
}
