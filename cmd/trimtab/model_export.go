package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trimtab/trimtab"
	"github.com/trimtab/trimtab/checkpoint"
	"github.com/trimtab/trimtab/dataset"
)

// modelExportCmd is "trimtab model export". The folder is written completely
// or not at all, except for the proofs, which come last. The export is
// recorded as an event: the record should show who took a copy of a model.
func (a *app) modelExportCmd() *cobra.Command {
	return &cobra.Command{
		Use: "export MODEL FOLDER", Short: "export a model as a Hugging Face folder, with its papers",
		Args: argCount(2, 2),
		Long: `Write the files of a model to a new or empty folder, together with its card (README.md),
provenance (provenance.json), bill of materials (bom.json), chat template
(chat_template.jinja), sampling parameters of the run (generation_config.json) and, if a
head of the record has been signed, proofs of its origin (proofs.json; see "audit prove
--offline"). These are not part of the model: importing the folder gives the same digest.
A reward model is written such that other programs compute the same scores: its bias is
folded into the last layer norm, and it has a padding token.`,
		Example: "  trimtab model export my-assistant/ppo ./my-assistant",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, s *session) error {
				// Resolve the model and check the folder before anything is
				// computed: both fail often, and neither needs the model to
				// be read.
				art, err := resolve(ctx, s, args[0])
				if err != nil {
					return err
				}
				if err := forNewFiles(args[1]); err != nil {
					return err
				}
				beside, notes, err := exportModel(ctx, s, art.Digest, runIn(ctx, s, args[0]), args[1])
				if err != nil {
					return err
				}
				if err := s.store.RecordEvent(ctx, modelStream(art), a.actor(), trimtab.EventModelExported,
					map[string]any{"digest": art.Digest}); err != nil {
					return err
				}
				// Proofs come after the event: they may cover it.
				proved, err := a.writeProofs(ctx, s, art.Digest, args[1])
				if err != nil {
					return err
				}
				names := beside
				if proved {
					names = append(names, proofsName)
				}
				if a.wantsJSON() {
					return a.printDocument(map[string]any{
						"schema": "trimtab.export/v1", "digest": art.Digest, "folder": args[1], "papers": names,
						"notes": notes,
					})
				}
				fmt.Fprintf(a.out, "wrote %s to %s, with %s\n", art.Digest, escapeLine(args[1]),
					strings.Join(names, ", "))
				for _, note := range notes {
					fmt.Fprintln(a.out, note)
				}
				return nil
			})
		},
	}
}

// exportModel writes a model and the files that accompany it. It returns the
// names of those files, and notes about the exported form. All files are
// computed before the first is written, so that a missing fact leaves no
// folder behind.
func exportModel(
	ctx context.Context, s *session, d trimtab.Digest, run, dir string,
) (beside, notes []string, err error) {
	f, err := s.runs.Facts(ctx, d, run)
	if err != nil {
		return nil, nil, err
	}
	files, err := paperFiles(f)
	if err != nil {
		return nil, nil, err
	}
	form, err := checkpoint.ExportForm(s.files, d)
	if err != nil {
		return nil, nil, err
	}
	// The card and the chat template are not covered by the model's digest,
	// so that a folder with an edited card is still the same model.
	use, notes, err := usageFiles(ctx, s, d, run, form)
	if err != nil {
		return nil, nil, err
	}
	files = append(files, use...)
	for _, p := range files {
		beside = append(beside, p.Name)
	}
	return beside, notes, checkpoint.WriteFolder(dir, append(form.Files, files...))
}

// usageFiles are the files by which other programs use the model as it was
// trained: chat_template.jinja gives the prompt format that ppo sampled with,
// and generation_config.json the temperature and the stop tokens. The notes
// say how the exported form differs from the stored one. A model without a
// tokenizer has neither.
func usageFiles(
	ctx context.Context, s *session, d trimtab.Digest, run string, form checkpoint.Exported,
) ([]checkpoint.File, []string, error) {
	if form.Tokenizer == nil {
		return nil, nil, nil
	}
	var files []checkpoint.File
	var notes []string
	// Other programs split a text around its special tokens in ways that the
	// tokenizer's settings decide. Where no template gives the ids that
	// training used, none is better than a wrong one.
	if text, ok := dataset.ChatTemplate(form.Tokenizer); ok {
		files = append(files, checkpoint.File{Name: "chat_template.jinja", Data: text})
	} else {
		notes = append(notes,
			"no chat template was written: other programs would match the begin and end tokens differently")
	}
	if form.Padded {
		notes = append(notes, "a padding token was added, which other programs need to score batches")
	}
	switch {
	case form.KeepsBias:
		notes = append(notes, "score.bias could not be folded into the last layer norm: other programs ignore it, "+
			"and their scores differ by that constant")
	case len(form.Changed) > 0:
		notes = append(notes,
			"score.bias was folded into the last layer norm, so that other programs compute the same scores")
	}
	// A reward model is not sampled: it has no generation config.
	if form.Scalar {
		return files, notes, nil
	}
	how, err := s.runs.Sampling(ctx, d, run)
	return append(files, checkpoint.GenerationConfig(form.Tokenizer, how)), notes, err
}
