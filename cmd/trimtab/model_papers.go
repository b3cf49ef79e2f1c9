package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/papers"
)

// modelFacts resolves a model and collects the facts that its papers state.
// With RUN/STAGE they are about the attempt in that run, where several
// attempts made the same bytes.
func modelFacts(ctx context.Context, s *session, ref string) (*papers.Facts, error) {
	art, err := resolve(ctx, s, ref)
	if err != nil {
		return nil, err
	}
	return s.runs.Facts(ctx, art.Digest, runIn(ctx, s, ref))
}

// paperCmd completes a command that prints one paper of a model, or writes it
// to a new file. Papers have one form each, so that -o is ignored: a card is
// Markdown, the others are JSON of a published schema.
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
			// Nothing is written before the paper is complete.
			return a.writeTo(to, func(w io.Writer) error { _, err := w.Write(body); return err })
		})
	}
	cmd.Flags().StringVar(&to, "to", "", "file to write; it must not exist (default: standard output)")
	return cmd
}

// card adapts papers.Card, which cannot fail, to the type of the other
// papers.
func card(f *papers.Facts) ([]byte, error) { return papers.Card(f), nil }

// modelCardCmd is "trimtab model card". The card follows Mitchell et al.
// 2019, "Model Cards for Model Reporting", as far as the record has the
// facts.
func (a *app) modelCardCmd() *cobra.Command {
	return a.paperCmd(&cobra.Command{
		Use: "card MODEL", Short: "print the model card, in Markdown, from the record",
		Long: `Write what the record knows about a model for those who will use it: how it was made, from
which data, with whose labels and how far they agree, what was measured and what the
limitations are. The intended use is left for the owner to fill in. The same record gives
the same bytes.`,
		Example: "  trimtab model card my-assistant/ppo --to README.md",
	}, card)
}

// modelProvenanceCmd is "trimtab model provenance". It is unsigned: the
// publisher of a model signs the statement with a key of their own, for
// example with cosign.
func (a *app) modelProvenanceCmd() *cobra.Command {
	return a.paperCmd(&cobra.Command{
		Use: "provenance MODEL", Short: "print how the model was made, as an unsigned in-toto statement (SLSA v1)",
		Long: `Write an in-toto Statement v1 with an SLSA provenance v1 predicate: the model and its files
by SHA-256; the stage with its config, seed, numerics and version; the models, data,
tokenizer and code it depended on; the attempt with its times and metrics. It is not
signed. Imported models have none.`,
		Example: "  trimtab model provenance my-assistant/ppo --to provenance.json",
	}, papers.Provenance)
}

// modelBOMCmd is "trimtab model bom". A bill of materials is for programs
// that look for known problems in what a model was made of.
func (a *app) modelBOMCmd() *cobra.Command {
	return a.paperCmd(&cobra.Command{
		Use: "bom MODEL", Short: "print the model's bill of materials (CycloneDX 1.6, JSON)",
		Long: `Write a CycloneDX 1.6 ML-BOM: the model with its card and files, the models, datasets and
tokenizers behind it, and the builds that made them. The serial number is derived from the
model's digest and the time is taken from the record, so that the same record gives the
same bytes.`,
		Example: "  trimtab model bom my-assistant/ppo --to bom.json",
	}, papers.BOM)
}

// paperFiles are a model's papers as the files of an exported folder. An
// imported model has no provenance, since nobody here made it; that file is
// left out and is not an error.
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
